//! The worst overspend of a `bounded` account, as BUDGETS.md states it, added up from what providers charged, what each
//! lease truly cost and where in `spend` the ledger had read to. What is billed is held against limit and that sum.

use bursar_schemas::facts::{AccountRef, CreditReason, LeaseCredited, LeaseGranted, LeaseId, Mode};

use super::{Broken, World};
use crate::marks::Mark;

/// What a time-out credited.
#[derive(Debug)]
struct Reclaimed {
    lease: LeaseId,
    amount: i128,
    /// What was used of the lease by the facts that the ledger had read when it last credited something of it.
    used: i128,
}

/// What an account's overspend is measured by.
#[derive(Debug)]
pub(super) struct Overspend {
    /// The limit; after a cut what was committed and spent beside leases then, if that is more.
    limit: i128,
    /// How far the ledger had read `spend` when it last granted money of the account.
    read: u64,
    reclaimed: Vec<Reclaimed>,
}

impl World {
    pub(super) fn bounded_opened(&mut self, account: &AccountRef, limit: i128) {
        self.bounded.insert(account.clone(), Overspend { limit, read: 0, reclaimed: Vec::new() });
    }

    fn committed_and_over(&self, account: &AccountRef, read: u64) -> i128 {
        let committed = self.rules.window(account).map_or(0, |window| window.committed);
        committed + self.naive.over(account, read)
    }

    /// A limit is in force; none where it does not block.
    pub(super) fn bounded_limited(&mut self, budget: &str, limit: Option<i128>) {
        let mut bounded = std::mem::take(&mut self.bounded);
        for (account, found) in bounded.iter_mut().filter(|(account, _)| account.budget == budget) {
            let held = self.committed_and_over(account, found.read);
            found.limit = limit.map_or(i128::MAX, |limit| limit.max(held));
        }
        self.bounded = bounded;
    }

    /// A grant counts. One whose writer did not know of a confused ledger's record may rest on another limit.
    pub(super) fn bounded_granted(&mut self, grant: &LeaseGranted, interferes: bool) {
        for account in &grant.accounts {
            let held = self.committed_and_over(account, grant.read);
            if let Some(found) = self.bounded.get_mut(account) {
                found.read = grant.read;
                if interferes {
                    found.limit = found.limit.max(held);
                }
            }
        }
    }

    /// A return was credited, perhaps beside a time-out's credit.
    pub(super) fn bounded_returned(&mut self, credit: &LeaseCredited) {
        let used = self.naive.used(&credit.lease, credit.read);
        for account in &credit.accounts {
            let found = self.bounded.get_mut(account).into_iter().flat_map(|it| &mut it.reclaimed);
            found.filter(|it| it.lease == credit.lease).for_each(|it| it.used = used);
        }
    }

    /// A credit counts that no return asked for.
    pub(super) fn bounded_reclaimed(&mut self, credit: &LeaseCredited) {
        // What a confused ledger gives another reason for is not measured: it may say of anyone that he has ended.
        let read = if credit.reason == CreditReason::TimedOut { credit.read } else { 0 };
        let (lease, amount, used) =
            (credit.lease, credit.amount.pico(), self.naive.used(&credit.lease, read));
        for account in &credit.accounts {
            if let Some(found) = self.bounded.get_mut(account) {
                found.reclaimed.push(Reclaimed { lease, amount, used });
            }
        }
    }

    /// Billed is at most the limit, what estimates were too low by beyond what the ledger knew at its last grant, and of
    /// each time-out's credit what its holder had spent unread, or spent later.
    pub(super) fn check_bounded(&mut self, name: &AccountRef) -> Result<(), Broken> {
        if self.rules.limit(&name.budget).1 != Mode::Bounded {
            return Ok(());
        }
        let (Some(account), Some(found)) = (self.truth.account(name), self.bounded.get(name)) else {
            return Ok(());
        };
        let billed = account.billed - account.free;
        let over = account.over - self.naive.over(name, found.read);
        let twice = |it: &Reclaimed| {
            let spent = self.truth.lease(&it.lease).map_or(0, |lease| lease.billed);
            (spent - it.used).clamp(0, it.amount)
        };
        let twice: i128 = found.reclaimed.iter().map(twice).sum();
        let most = found.limit.saturating_add(over).saturating_add(twice);
        if billed > most {
            let detail = format!(
                "{name:?}: {billed} is billed of {}, with {over} for estimates and {twice} for time-outs",
                found.limit
            );
            return Err(("billed <= the limit and the worst overspend of bounded", detail));
        }
        let beyond = billed - found.limit;
        let marks = [
            (twice > 0, Mark::BoundedTwice),
            (beyond > 0, Mark::BoundedOver),
            (beyond > 0 && 2 * beyond > over + twice, Mark::BoundedNear),
        ];
        marks.into_iter().filter(|(holds, _)| *holds).for_each(|(_, mark)| self.hit(mark));
        Ok(())
    }
}
