//! How an account stands, for people.

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{AccountRef, Mode};
use bursar_schemas::money::Money;
use bursar_schemas::policy::Scope;
use serde::Serialize;

/// The books of one account. They add up: limit = settled + reserved + leased idle + stranded + available.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccountBooks {
    /// The budget.
    pub budget: String,
    /// The window's id.
    pub window: i64,
    /// The organisation; none when policy never had the budget.
    pub organisation: Option<String>,
    /// What the budget limits.
    pub scope: Option<Scope>,
    /// What it promises.
    pub mode: Mode,
    /// First instant of the window.
    pub starts_at: Micros,
    /// First instant after it; none for `total`.
    pub ends_at: Option<Micros>,
    /// True when the window has ended and takes no new grants.
    pub draining: bool,
    /// The limit in force.
    pub limit: Money,
    /// Charged.
    pub settled: Money,
    /// Set aside for attempts in flight.
    pub reserved: Money,
    /// Leased to shims and unused.
    pub leased_idle: Money,
    /// Leased to shims that have ended, and unused: back when the window ends.
    pub stranded: Money,
    /// What is left; below nothing after a cut, an overrun or soft spending above the limit.
    pub available: Money,
    /// Σ grants − Σ credits, from the log alone.
    pub committed: Money,
    /// Of the settled, what exceeded reservations.
    pub overrun: Money,
    /// Attempts settled without a known price.
    pub unpriced: u64,
}

impl AccountBooks {
    /// The account.
    #[must_use]
    pub fn account(&self) -> AccountRef {
        AccountRef { budget: self.budget.clone(), window: self.window }
    }
}
