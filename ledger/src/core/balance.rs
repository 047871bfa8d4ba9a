//! Statements of how accounts stand, for people and refusals; and a sign of life.

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{AccountRef, BalanceStated, Fact, Phase};

use super::accounts::{AccountIndex, Balance};
use super::{Core, Effect};

/// What may be stated at once: it keeps a busy ledger from filling the log with statements.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Allowance {
    left: i64,
    at: Micros,
}

impl Allowance {
    /// Grows by `rate` a second, up to what a tenth of a second brings.
    fn refill(&mut self, now: Micros, rate: i64) {
        let passed = now.0.saturating_sub(self.at.0).clamp(0, 1_000_000);
        let more = passed.saturating_mul(rate) / 1_000_000;
        if more > 0 {
            self.left = self.left.saturating_add(more).min((rate / 10).max(1));
            self.at = now;
        }
    }
}

impl Core {
    /// States accounts that changed, in the order of their change: at once when money was settled, else each once
    /// in a while, and all within the allowance. What is left stays queued.
    pub(super) fn state_balances(&mut self, epoch: u64, out: &mut Vec<Effect>) {
        self.allowance.refill(self.now, self.config.timing.statements);
        // Each is looked at once; those that stay go to the end, behind what changed later.
        for _ in 0..self.accounts.changed.len() {
            if self.allowance.left <= 0 {
                return;
            }
            let Some(index) = self.accounts.changed.pop_front() else { return };
            let slot = self.accounts.slot(index);
            let every = self.config.timing.balance_every;
            let recent = slot.stated_at.is_some_and(|at| self.now.0.saturating_sub(at.0) < every);
            if recent && slot.balance.settled == slot.stated.settled {
                self.accounts.changed.push_back(index);
                continue;
            }
            let open = self.fold.account(&slot.account).is_some_and(|it| it.phase != Phase::Closed);
            let (account, balance, same) = (slot.account.clone(), slot.balance, slot.balance == slot.stated);
            self.accounts.unqueue(index);
            if open && !same {
                let slot = self.accounts.slot_mut(index);
                slot.stated = balance;
                slot.stated_at = Some(self.now);
                self.state(epoch, account, balance, out);
                self.raise_alerts(epoch, index, out);
                self.allowance.left -= 1;
            }
        }
    }

    /// On becoming the acting ledger: what the log states and what is so may differ anywhere.
    pub(super) fn requeue_balances(&mut self) {
        let differing = |(_, slot): &(AccountIndex, &super::accounts::Slot)| slot.balance != slot.logged;
        let due: Vec<AccountIndex> = self.accounts.open().filter(differing).map(|(index, _)| index).collect();
        for index in due {
            let slot = self.accounts.slot_mut(index);
            slot.stated = slot.logged;
            slot.stated_at = None;
            self.accounts.queue(index);
        }
    }

    /// A record every few seconds, so that a standby knows that somebody acts: a statement of the next account
    /// in turn, or of the account without a name while there is none.
    pub(super) fn beat(&mut self, epoch: u64, out: &mut Vec<Effect>) {
        let quiet = self.now.0.saturating_sub(self.appended_at.0) >= self.config.timing.heartbeat;
        if !quiet && !self.beats_now {
            return;
        }
        let open = || {
            self.fold.accounts().filter(|(_, state)| state.phase != Phase::Closed).map(|(account, _)| account)
        };
        let next = open().find(|account| Some(*account) > self.heartbeat_of.as_ref());
        let account = next.or_else(|| open().next()).cloned();
        self.heartbeat_of.clone_from(&account);
        let nameless = AccountRef { budget: String::new(), window: 0 };
        let account = account.unwrap_or(nameless);
        let balance = self.accounts.find(&account).map_or_else(Balance::default, |slot| slot.balance);
        self.state(epoch, account, balance, out);
    }

    fn state(&mut self, epoch: u64, account: AccountRef, balance: Balance, out: &mut Vec<Effect>) {
        let stated = BalanceStated {
            head: self.head(),
            epoch,
            account,
            settled: balance.settled,
            reserved: balance.reserved,
            overrun: balance.overrun,
            read: self.read,
        };
        self.appended_at = self.now;
        self.beats_now = false;
        out.push(Effect::Append(Fact::from(stated)));
    }
}
