//! Who holds leases, for people: read off the fold, and off what `spend` says of producers.

use std::collections::BTreeMap;

use bursar_schemas::facts::LeaseId;
use bursar_schemas::fold;
use bursar_schemas::ids::ProducerId;
use bursar_schemas::money::Money;

use super::Core;
use crate::holders::HolderState;

impl Core {
    /// Shims that run, and those that have ended and left leases behind; by incarnation.
    #[must_use]
    pub fn holders(&self) -> Vec<HolderState> {
        let mut all: BTreeMap<ProducerId, HolderState> =
            self.producers.running().map(|producer| (producer, self.holder(producer))).collect();
        for (id, lease) in self.fold.leases() {
            let state = all.entry(id.holder).or_insert_with(|| self.holder(id.holder));
            let (leased, recoverable) = self.left_of(id, lease);
            state.leases += 1;
            state.leased = state.leased.plus(leased);
            state.recoverable = state.recoverable.plus(recoverable);
        }
        all.into_values().collect()
    }

    fn holder(&self, incarnation: ProducerId) -> HolderState {
        let partition = self.config.partition;
        HolderState {
            partition,
            incarnation,
            seen_at: self.producers.seen_at(&incarnation),
            ended: self.fold.has_ended(&incarnation),
            retired: self.policy.retired.get(&partition).is_some_and(|it| it.contains_key(&incarnation)),
            leases: 0,
            leased: Money::ZERO,
            recoverable: Money::ZERO,
        }
    }

    /// What did not come back of a lease, at the account that got back least; and what lies above its mark.
    fn left_of(&self, id: &LeaseId, lease: &fold::Lease) -> (Money, Money) {
        let credited = |account| lease.credited.get(account).copied().unwrap_or(Money::ZERO);
        let least = lease.accounts.iter().map(credited).min().unwrap_or(Money::ZERO);
        let above = |mark: Money| lease.amount.minus_or_zero(mark);
        let recoverable = self.marks.mark(id).filter(|_| !lease.is_recovered()).map_or(Money::ZERO, above);
        (lease.amount.minus(least), recoverable)
    }
}
