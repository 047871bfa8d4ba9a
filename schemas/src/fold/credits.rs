//! Rule 4: what goes back goes back once, never more than was granted, and only for a reason that each
//! account allows.

use super::{Fold, Lease, Void};
use crate::facts::{AccountRef, CreditReason, LeaseCredited, Mode, Phase, Recovery};
use crate::money::Money;

/// True for reasons that give back what a holder has left unused at its end.
#[must_use]
pub const fn is_recovery(reason: CreditReason) -> bool {
    matches!(reason, CreditReason::Journal | CreditReason::Retired)
}

impl Lease {
    /// True once what its dead holder left has come back.
    #[must_use]
    pub fn is_recovered(&self) -> bool {
        self.numbers.iter().any(|(reason, _)| is_recovery(*reason))
    }
}

impl Fold {
    /// True when an account may take a credit for that reason: its window is not closed, a time-out reclaims
    /// nothing that is hard, a journal only what is set to be recovered by it.
    #[must_use]
    pub fn may_credit(&self, account: &AccountRef, reason: CreditReason) -> bool {
        let open = self.accounts.get(account).is_some_and(|state| state.phase != Phase::Closed);
        let mode = self.mode(&account.budget);
        let recovery = self.budget(&account.budget).map_or(Recovery::Forfeit, |budget| budget.recovery);
        open && match reason {
            CreditReason::Returned | CreditReason::Retired => true,
            CreditReason::Journal => mode != Mode::Hard || recovery == Recovery::Journal,
            CreditReason::TimedOut => mode != Mode::Hard,
        }
    }

    pub(super) fn credit(&mut self, credit: &LeaseCredited) -> Result<(), Void> {
        if !credit.amount.is_positive() {
            return Err(Void::NoAmount);
        }
        let lease = self.leases.get(&credit.lease).ok_or(Void::NoLease)?;
        let recovers = is_recovery(credit.reason);
        // What a dead holder left comes back once, for whichever reason.
        if lease.numbers.contains(&(credit.reason, credit.number)) || (recovers && lease.is_recovered()) {
            return Err(Void::CreditedBefore);
        }
        // A holder that lives may use it yet.
        if recovers && !self.ended.contains(&credit.lease.holder) {
            return Err(Void::CreditForbidden);
        }
        let sorted = credit.accounts.is_sorted_by(|a, b| a < b);
        if !sorted || !credit.accounts.iter().all(|account| lease.accounts.contains(account)) {
            return Err(Void::Path);
        }
        let taking: Vec<&AccountRef> =
            credit.accounts.iter().filter(|account| self.may_credit(account, credit.reason)).collect();
        if taking.is_empty() {
            return Err(Void::CreditForbidden);
        }
        let credited = |account: &AccountRef| lease.credited.get(account).copied().unwrap_or(Money::ZERO);
        if taking.iter().any(|account| credited(account).plus(credit.amount) > lease.amount) {
            return Err(Void::OverCredit);
        }
        let taking: Vec<AccountRef> = taking.into_iter().cloned().collect();
        for account in &taking {
            if let Some(state) = self.accounts.get_mut(account) {
                state.committed = state.committed.minus(credit.amount);
            }
        }
        if let Some(lease) = self.leases.get_mut(&credit.lease) {
            lease.numbers.insert((credit.reason, credit.number));
            for account in taking {
                let sum = lease.credited.entry(account).or_insert(Money::ZERO);
                *sum = sum.plus(credit.amount);
            }
        }
        Ok(())
    }
}
