//! What `spend` says of each lease: how much of it is used.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{AccountRef, LeaseId};
use bursar_schemas::fold;
use bursar_schemas::ids::ProducerId;
use bursar_schemas::money::Money;

use serde::{Deserialize, Serialize};

use super::hash::Table;

/// How much of a lease is used, by facts on `spend`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Use {
    /// Settled within reservations.
    pub settled: Money,
    /// Reserved by attempts in flight.
    pub reserved: Money,
}

impl Use {
    /// Settled and reserved.
    pub(super) const fn all(self) -> Money {
        self.settled.plus(self.reserved)
    }
}

/// Leases that live, and the use of those that were met.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Leases {
    /// By holder and number.
    #[serde(with = "bursar_schemas::snapshot::pairs")]
    uses: Table<(ProducerId, u64), Use>,
    live: BTreeSet<LeaseId>,
    /// When each revoked lease was revoked, as far as this ledger saw it.
    #[serde(with = "bursar_schemas::snapshot::pairs")]
    revoked: BTreeMap<LeaseId, Micros>,
    /// How many uses were kept when they were looked through last.
    swept: usize,
}

/// Uses beyond twice those that were of use are looked through.
const SWEEP: usize = 1024;

/// Every lease that a holder could have.
pub(super) const fn all_of(holder: ProducerId) -> RangeInclusive<LeaseId> {
    LeaseId { holder, number: 0 }..=LeaseId { holder, number: u64::MAX }
}

impl Leases {
    /// A lease was revoked.
    pub(super) fn revoke(&mut self, lease: LeaseId, now: Micros) {
        if self.live.contains(&lease) {
            self.revoked.entry(lease).or_insert(now);
        }
    }

    /// When a lease was revoked.
    pub(super) fn revoked_at(&self, lease: &LeaseId) -> Option<Micros> {
        self.revoked.get(lease).copied()
    }

    /// Changes the use of a lease.
    pub(super) fn change(&mut self, lease: LeaseId, change: impl FnOnce(&mut Use)) {
        change(self.uses.entry((lease.holder, lease.number)).or_default());
    }

    /// How much of a lease is used.
    pub(super) fn used(&self, lease: &LeaseId) -> Use {
        self.uses.get(&(lease.holder, lease.number)).copied().unwrap_or_default()
    }

    /// A lease was granted.
    pub(super) fn granted(&mut self, lease: LeaseId) {
        self.live.insert(lease);
    }

    /// A lease is over, or without a holder: nothing is idle under it any more.
    pub(super) fn over(&mut self, lease: &LeaseId) {
        self.live.remove(lease);
        self.revoked.remove(lease);
    }

    /// The log has forgotten a lease.
    pub(super) fn forget(&mut self, lease: &LeaseId) {
        self.over(lease);
        if self.uses.get(&(lease.holder, lease.number)).is_some_and(|used| used.reserved == Money::ZERO) {
            self.uses.remove(&(lease.holder, lease.number));
        }
    }

    /// The live leases of a holder.
    pub(super) fn of(&self, holder: ProducerId) -> Vec<LeaseId> {
        self.live.range(all_of(holder)).copied().collect()
    }

    /// Forgets the use of leases of which nothing counts any more, once nothing is in flight under them.
    pub(super) fn sweep(&mut self, keeps: impl Fn(&LeaseId) -> bool) {
        self.uses.retain(|(holder, number), used| {
            used.reserved != Money::ZERO || keeps(&LeaseId { holder: *holder, number: *number })
        });
        self.swept = self.uses.len();
    }

    /// The same, once there are many more of them.
    pub(super) fn sweep_some(&mut self, keeps: impl Fn(&LeaseId) -> bool) {
        if self.uses.len() > 2 * self.swept + SWEEP {
            self.sweep(keeps);
        }
    }

    /// What a live lease has unused at an account.
    pub(super) fn idle(&self, id: &LeaseId, lease: &fold::Lease, account: &AccountRef) -> Money {
        let credited = lease.credited.get(account).copied().unwrap_or(Money::ZERO);
        lease.amount.minus(credited).minus_or_zero(self.used(id).all())
    }
}
