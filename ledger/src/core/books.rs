//! The books that people are shown: limit = settled + reserved + leased idle + stranded + available.

use bursar_schemas::facts::{AccountRef, Phase};
use bursar_schemas::money::Money;

use super::Core;
use crate::books::AccountBooks;

impl Core {
    /// The books of every account whose window is open or draining, sorted by budget and window.
    #[must_use]
    pub fn books(&self) -> Vec<AccountBooks> {
        let mut books = Vec::new();
        for (account, state) in self.fold.accounts().filter(|(_, state)| state.phase != Phase::Closed) {
            let owner = self.plan.owner(&account.budget);
            let slot = self.accounts.find(account);
            let balance = slot.map(|slot| slot.balance).unwrap_or_default();
            let live = slot.into_iter().flat_map(|slot| &slot.live);
            let idle: Money =
                live.filter_map(|id| Some(self.leases.idle(id, self.fold.lease(id)?, account))).sum();
            let leased = slot.map_or(Money::ZERO, |slot| slot.leased);
            let limit = self.fold.limit(account);
            let stranded = state.committed.minus(leased).minus_or_zero(idle);
            let taken = balance.settled.plus(balance.reserved).plus(idle).plus(stranded);
            books.push(AccountBooks {
                budget: account.budget.clone(),
                window: account.window,
                organisation: owner.map(|owner| owner.organisation.clone()),
                scope: owner.map(|owner| owner.scope.clone()),
                mode: self.fold.mode(&account.budget),
                starts_at: state.starts_at,
                ends_at: state.ends_at,
                draining: state.phase == Phase::Draining,
                limit,
                settled: balance.settled,
                reserved: balance.reserved,
                leased_idle: idle,
                stranded,
                available: limit.minus(taken),
                committed: state.committed,
                overrun: balance.overrun,
                unpriced: slot.map_or(0, |slot| slot.unpriced),
            });
        }
        books
    }
}

impl Core {
    /// Of an account's settled and reserved: what leases cover, and what is beside every lease.
    pub(crate) fn leased_and_beside(&self, account: &AccountRef) -> (Money, Money) {
        self.accounts.find(account).map_or((Money::ZERO, Money::ZERO), |slot| (slot.leased, slot.beside()))
    }

    /// What may still be granted over an account.
    pub(crate) fn grantable(&self, account: &AccountRef) -> Money {
        self.available(account)
    }
}
