//! Limits and windows: what policy wants and the log does not say yet.

use bursar_schemas::facts::{AccountRef, LimitSet, Phase, WindowMoved};
use bursar_schemas::fold;
use bursar_schemas::money::Money;

use super::desk::Pending;
use super::{Core, Effect};

impl Core {
    /// Writes a limit for each budget that policy wants otherwise than the log has it.
    pub(super) fn set_limits(&mut self, epoch: u64, out: &mut Vec<Effect>) {
        let mut waits = Vec::new();
        for budget in std::mem::take(&mut self.plan.due) {
            if self.plan.is_for_each(&budget) {
                waits.extend(
                    self.members_of(&budget).into_iter().filter(|it| !self.set_limit(epoch, it, out)),
                );
            }
            if !self.set_limit(epoch, &budget, out) {
                waits.push(budget);
            }
        }
        self.plan.due.extend(waits);
    }

    /// Writes a budget's limit if policy wants it otherwise; false while a record about it is under way: they are
    /// compared again once that is read back.
    pub(super) fn set_limit(&mut self, epoch: u64, budget: &str, out: &mut Vec<Effect>) -> bool {
        if self.is_setting(budget) {
            return false;
        }
        let mut wanted = self.plan.wanted(budget, &self.policy, self.now);
        let logged = self.fold.budget(budget);
        if let Some(logged) = logged.filter(|_| !self.plan.has(budget)) {
            (wanted.mode, wanted.recovery) = (logged.mode, logged.recovery);
        }
        let nothing = logged.is_none() && self.plan.is_for_each(budget);
        if nothing || !wanted.differs(logged) {
            return true;
        }
        self.pending_limits.insert(budget.to_owned(), (wanted.amount, wanted.mode));
        let set = LimitSet {
            head: self.head(),
            epoch,
            budget: budget.to_owned(),
            amount: wanted.amount,
            mode: wanted.mode,
            recovery: wanted.recovery,
            policy_version: wanted.version.0,
            step: wanted.version.1,
        };
        self.append(Pending::Limit(budget.to_owned()), set, out);
        true
    }

    /// Opens windows early, lets them drain at their end, and closes them after that.
    pub(super) fn move_windows(&mut self, epoch: u64, out: &mut Vec<Effect>) {
        for (account, span) in self.plan.windows(&self.newest, self.now, &self.config.timing) {
            let window = (account, span.starts_at, span.ends_at);
            self.move_window(epoch, window, Phase::Open, out);
        }
        let mut moves = Vec::new();
        for (account, state) in self.fold.accounts() {
            if let Some(phase) = self.next_phase(account, state) {
                moves.push(((account.clone(), state.starts_at, state.ends_at), phase));
            }
        }
        for (window, phase) in moves {
            self.move_window(epoch, window, phase, out);
        }
    }

    fn next_phase(&self, account: &AccountRef, state: &fold::Account) -> Option<Phase> {
        let end = state.ends_at?;
        let timing = &self.config.timing;
        let after = |wait: i64| self.now.0 >= end.0.saturating_add(wait);
        match state.phase {
            Phase::Open if after(0) => Some(Phase::Draining),
            Phase::Draining => {
                let reserved = self.accounts.find(account).map_or(Money::ZERO, |slot| slot.balance.reserved);
                let idle = reserved == Money::ZERO && after(timing.drain);
                (idle || after(timing.drain_at_most)).then_some(Phase::Closed)
            }
            Phase::Open | Phase::Closed => None,
        }
    }

    pub(super) fn move_window(
        &mut self,
        epoch: u64,
        (account, starts_at, ends_at): (
            AccountRef,
            bursar_schemas::avro::Micros,
            Option<bursar_schemas::avro::Micros>,
        ),
        phase: Phase,
        out: &mut Vec<Effect>,
    ) {
        let pending = Pending::Window(account.clone(), phase);
        if !self.pending.contains(&pending) {
            let moved = WindowMoved { head: self.head(), epoch, account, starts_at, ends_at, phase };
            self.append(pending, moved, out);
        }
    }
}
