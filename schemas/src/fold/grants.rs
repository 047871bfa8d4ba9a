//! Rule 3: a grant debits every account of its path, all or none, and never lifts a blocking one above its limit.

use std::collections::{BTreeMap, BTreeSet};

use super::{Fold, Lease, Void};
use crate::facts::{AccountRef, LeaseGranted, LeaseId, Mode, Phase};
use crate::money::Money;

/// True for modes whose accounts void a grant above the limit.
pub(super) const fn blocks(mode: Mode) -> bool {
    matches!(mode, Mode::Hard | Mode::Bounded)
}

impl Fold {
    /// What would make a grant void now; also how a ledger decides, on top of its own pending debits.
    ///
    /// # Errors
    /// The first rule that it would break.
    pub fn check_grant(&self, lease: &LeaseId, accounts: &[AccountRef], amount: Money) -> Result<(), Void> {
        if !amount.is_positive() {
            return Err(Void::NoAmount);
        }
        if accounts.is_empty() || !accounts.is_sorted_by(|a, b| a < b) {
            return Err(Void::Path);
        }
        if self.is_used_up(lease) || self.leases.contains_key(lease) {
            return Err(Void::AnsweredBefore);
        }
        if self.ended.contains(&lease.holder) {
            return Err(Void::HolderEnded);
        }
        for account in accounts {
            let state = self.accounts.get(account).filter(|state| state.phase == Phase::Open);
            let state = state.ok_or(Void::WindowNotOpen)?;
            let (limit, mode) = self.limit_and_mode(&account.budget);
            if blocks(mode) && state.committed.plus(amount) > limit {
                return Err(Void::OverLimit);
            }
        }
        Ok(())
    }

    pub(super) fn grant(&mut self, grant: &LeaseGranted) -> Result<(), Void> {
        self.check_grant(&grant.lease, &grant.accounts, grant.amount)?;
        for account in &grant.accounts {
            if let Some(state) = self.accounts.get_mut(account) {
                state.committed = state.committed.plus(grant.amount);
            }
        }
        let lease = Lease {
            accounts: grant.accounts.clone(),
            amount: grant.amount,
            credited: BTreeMap::new(),
            revoked: false,
            numbers: BTreeSet::new(),
        };
        self.leases.insert(grant.lease, lease);
        Ok(())
    }
}
