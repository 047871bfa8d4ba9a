//! What is left of budgets, for those who draw on them and have not been refused yet.

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{AccountRef, Mode};
use bursar_schemas::money::Money;
use bursar_schemas::policy::Draw;

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
    /// How the accounts stand that are in the log, and those of members that are still to be opened; by budget.
    #[must_use]
    pub fn remaining(&self, draws: &[Draw<'_>], at: Micros) -> Vec<Remaining> {
        let mut all: Vec<Remaining> = draws.iter().filter_map(|draw| self.standing_of(draw, at)).collect();
        all.sort_by(|a, b| a.budget.cmp(&b.budget));
        all
    }

    fn standing_of(&self, draw: &Draw<'_>, at: Micros) -> Option<Remaining> {
        let budget = draw.id.clone().into_owned();
        let known = self.fold.budget(&budget);
        let (mode, limit) = known.map_or((draw.budget.mode, draw.budget.amount), |it| (it.mode, it.amount));
        let Some((account, found)) = self.fold.account_at(&budget, at) else {
            draw.on_demand(at)?;
            let (settled, set_aside) = (Money::ZERO, Money::ZERO);
            let resets_at = draw.ends_at(at);
            return Some(Remaining { budget, mode, limit, settled, set_aside, resets_at });
        };
        let settled = self.settled(account);
        let set_aside = found.committed.minus_or_zero(settled);
        Some(Remaining { budget, mode, limit, settled, set_aside, resets_at: found.ends_at })
    }

    /// What is left of the tightest budget that can refuse; none where none can.
    #[must_use]
    pub fn tightest(&self, accounts: &[AccountRef]) -> Option<Money> {
        let known = accounts.iter().filter(|account| self.fold.budget(&account.budget).is_some());
        let refusing = known.filter(|account| super::core::blocks(self.fold.mode(&account.budget)));
        refusing.map(|account| self.fold.limit(account).minus_or_zero(self.settled(account))).min()
    }

    /// The most that one attempt on the path could reserve, by what is known here: what is uncommitted at each
    /// blocking account and what is idle there in own leases, which can be granted anew in one piece.
    #[must_use]
    pub fn affordable(&self, path: &[AccountRef]) -> Money {
        let blocks = |account: &&AccountRef| super::core::blocks(self.fold.mode(&account.budget));
        let free = |account: &AccountRef| {
            let committed = self.fold.committed(account);
            let held = self.book.held().filter(|held| !held.stopped && held.path.contains(account));
            let idle: Money = held
                .map(|held| {
                    held.granted.minus(held.settled).minus(held.reserved).minus_or_zero(held.returned)
                })
                .sum();
            self.fold.limit(account).minus(committed).plus(idle)
        };
        path.iter().filter(blocks).map(free).min().unwrap_or(Money::ZERO)
    }
}
