//! Members of budgets that give each an account of its own: a limit and a window are written for a member when a
//! lease request or a reservation first names its account.
//!
//! Invariant: a budget never has more members with a limit in the log than policy allows; what names a further one is
//! answered as of an unknown budget. A member's windows are opened only while it is active.

use std::ops::Bound;

use bursar_schemas::facts::{AccountRef, Phase};

use super::plan::member_of;
use super::{Core, Effect};

impl Core {
    /// Notes that the log has a limit of a budget.
    pub(super) fn log_limit(&mut self, budget: &str) {
        if self.logged.insert(budget.to_owned())
            && let Some((whole, _)) = member_of(budget)
        {
            *self.members.entry(whole.to_owned()).or_default() += 1;
        }
    }

    /// The members of a budget that the log has a limit of.
    pub(super) fn members_of(&self, budget: &str) -> Vec<String> {
        // The character after the one that stands between budget and member.
        let (first, after) = (format!("{budget}/"), format!("{budget}0"));
        let bounds = (Bound::Included(first.as_str()), Bound::Excluded(after.as_str()));
        self.logged.range::<str, _>(bounds).cloned().collect()
    }

    /// Every account that was ever named is looked at again.
    pub(super) fn look_at_all_members(&mut self) {
        let all: Vec<_> = self.accounts.open().map(|(index, _)| index).collect();
        self.accounts.fresh = all;
    }

    /// Opens the accounts of members that `spend` has named since the last turn.
    pub(super) fn open_members(&mut self, epoch: u64, out: &mut Vec<Effect>) {
        if self.policy_changed {
            self.look_at_all_members();
        }
        for index in std::mem::take(&mut self.accounts.fresh) {
            let account = self.accounts.slot(index).account.clone();
            // A window that is over says nothing of today.
            if self.fold.account(&account).is_none_or(|state| state.holds(self.now)) {
                self.open_member(epoch, &account, out);
            }
        }
    }

    /// Opens those accounts of a path that are members' and not open yet.
    pub(super) fn open_accounts_of(&mut self, epoch: u64, accounts: &[AccountRef], out: &mut Vec<Effect>) {
        for account in accounts {
            if self.fold.account(account).is_none() {
                self.open_member(epoch, account, out);
            }
        }
    }

    fn open_member(&mut self, epoch: u64, account: &AccountRef, out: &mut Vec<Effect>) {
        let Some(most) = self.plan.most_members(&account.budget, &self.policy) else { return };
        if !self.logged.contains(&account.budget) && !self.is_room(&account.budget, most) {
            return;
        }
        let newest = self.newest.get(&account.budget);
        let timing = self.config.timing;
        let windows = self.plan.windows_on_demand(account, newest, self.now, &timing);
        if !windows.is_empty() {
            self.set_limit(epoch, &account.budget, out);
        }
        for (account, span) in windows {
            self.move_window(epoch, (account, span.starts_at, span.ends_at), Phase::Open, out);
        }
    }

    /// True when a budget may have one member more.
    fn is_room(&self, account: &str, most: usize) -> bool {
        let Some((budget, _)) = member_of(account) else { return false };
        let known = self.members.get(budget).copied().unwrap_or(0);
        let coming = self.pending_limits.keys().filter(|it| {
            member_of(it).is_some_and(|(whole, _)| whole == budget) && !self.logged.contains(*it)
        });
        self.pending_limits.contains_key(account) || known + coming.count() < most
    }
}
