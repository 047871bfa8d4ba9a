//! What is left of budgets, for those who draw on them and have not been refused yet.

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{AccountRef, Mode};
use bursar_schemas::money::Money;

use super::LimitsCore;

/// How one account stands, by the log of limits and the ledger's last statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remaining {
    /// The budget.
    pub budget: String,
    /// What it promises.
    pub mode: Mode,
    /// The limit in force.
    pub limit: Money,
    /// What was charged.
    pub settled: Money,
    /// What is set aside beside that: in flight, or idle in leases.
    pub set_aside: Money,
    /// When the window ends; none for `total`.
    pub resets_at: Option<Micros>,
}

impl Remaining {
    /// What was not charged yet; never below nothing.
    #[must_use]
    pub fn left(&self) -> Money {
        self.limit.minus_or_zero(self.settled)
    }
}

impl LimitsCore {
    /// How the accounts stand that are in the log.
    #[must_use]
    pub fn remaining(&self, accounts: &[AccountRef]) -> Vec<Remaining> {
        let one = |account: &AccountRef| {
            let found = self.fold.account(account)?;
            let settled = self.settled(account);
            Some(Remaining {
                budget: account.budget.clone(),
                mode: self.fold.mode(&account.budget),
                limit: self.fold.limit(account),
                settled,
                set_aside: found.committed.minus_or_zero(settled),
                resets_at: found.ends_at,
            })
        };
        accounts.iter().filter_map(one).collect()
    }

    /// What is left of the tightest budget that can refuse; none where none can.
    #[must_use]
    pub fn tightest(&self, accounts: &[AccountRef]) -> Option<Money> {
        let refusing = accounts.iter().filter(|account| super::core::blocks(self.fold.mode(&account.budget)));
        refusing.map(|account| self.fold.limit(account).minus_or_zero(self.settled(account))).min()
    }
}
