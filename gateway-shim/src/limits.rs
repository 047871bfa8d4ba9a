//! What the log of limits says, and what this shim may spend by it: one partition under one lock that is held for
//! microseconds. Decisions are [`LimitsCore`]'s, which is pure; here is what waits and wakes.

mod admission;
mod core;
mod drawn;
mod follow;
mod look;
mod remaining;

pub use core::{LimitsCore, Standing, Waits, mark_fact, request_facts, return_facts};
pub use drawn::Drawn;
pub use look::{Denial, Denied, Patience, Step};
pub use remaining::Remaining;

pub(crate) use follow::follow;

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{AccountRef, Fact, LeaseId};
use bursar_schemas::fold::FoldError;
use bursar_schemas::ids::ProducerId;
use bursar_schemas::money::Money;
use bursar_schemas::policy::Draw;
use bursar_schemas::snapshot::{NotASnapshot, Place};
use bursar_schemas::wire::Unreadable;

use crate::config::LeaseSizing;
use crate::leases::{GiveBack, Raise};

/// One partition of `limits`.
pub(crate) struct Limits {
    pub(crate) partition: u32,
    inner: Mutex<LimitsCore>,
    changed: Notify,
    waiting: AtomicUsize,
}

impl Limits {
    pub(crate) fn new(partition: u32, holder: ProducerId, sizing: LeaseSizing, waits: Waits) -> Self {
        let inner = Mutex::new(LimitsCore::new(partition, holder, sizing, waits));
        Self { partition, inner, changed: Notify::new(), waiting: AtomicUsize::new(0) }
    }

    /// The accounts that these draws name at an accounting time.
    pub(crate) fn drawn(&self, draws: &[Draw<'_>], at: Micros) -> Drawn {
        self.inner.lock().drawn(draws, at)
    }

    /// How accounts stand.
    pub(crate) fn remaining(&self, draws: &[Draw<'_>], at: Micros) -> Vec<Remaining> {
        self.inner.lock().remaining(draws, at)
    }

    /// The most that one attempt on the path could reserve by what is known here.
    pub(crate) fn affordable(&self, path: &[AccountRef]) -> Money {
        self.inner.lock().affordable(path)
    }

    /// What is left of the tightest budget that can refuse.
    pub(crate) fn tightest(&self, accounts: &[AccountRef]) -> Option<Money> {
        self.inner.lock().tightest(accounts)
    }

    /// An attempt is over. What is to be given back belongs after the fact that says so.
    #[must_use]
    pub(crate) fn settle(&self, lease: LeaseId, reserved: Money, amount: Money) -> Vec<GiveBack> {
        let given = self.inner.lock().settle(lease, reserved, amount);
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.changed.notify_waiters();
        }
        given
    }

    /// Takes a record; true when a lease of this shim was revoked.
    fn apply(&self, offset: u64, fact: &Result<Fact, Unreadable>, now: Micros) -> Result<bool, FoldError> {
        self.inner.lock().apply(offset, fact, now)
    }

    pub(crate) fn turn(&self, now: Micros) -> Vec<GiveBack> {
        self.inner.lock().turn(now)
    }

    /// All that is left, given back for good.
    pub(crate) fn give_back_all(&self) -> Vec<GiveBack> {
        self.inner.lock().give_back_all()
    }

    pub(crate) fn give_back_stopped(&self) -> Vec<GiveBack> {
        self.inner.lock().give_back_stopped()
    }

    /// Returns could not be written: they are kept for the next turn.
    pub(crate) fn unsent(&self, returns: Vec<GiveBack>) {
        self.inner.lock().unsent(returns);
    }

    /// A mark was acknowledged, or was not taken. Only the first wakes those who wait: they would try the second again at
    /// once, and again.
    pub(crate) fn raised(&self, raise: Raise, acknowledged: bool) {
        self.inner.lock().raised(raise, acknowledged);
        if acknowledged {
            self.changed.notify_waiters();
        }
    }

    pub(crate) fn stop(&self, reason: String) {
        self.inner.lock().stop(reason);
        self.changed.notify_waiters();
    }

    pub(crate) fn catch_up(&self) {
        self.inner.lock().catch_up();
        self.changed.notify_waiters();
    }

    /// Why the journal cannot be read at the moment, or that it can.
    fn set_trouble(&self, trouble: Option<String>) {
        self.inner.lock().set_trouble(trouble);
    }

    /// Goes on without the journal.
    fn go_on_from_snapshot(&self) {
        self.inner.lock().go_on_from_snapshot();
    }

    fn save(&self, place: Place) -> Result<Vec<u8>, NotASnapshot> {
        self.inner.lock().save(place)
    }

    fn restore(&self, bytes: &[u8]) -> Result<Place, NotASnapshot> {
        self.inner.lock().restore(bytes)
    }

    pub(crate) fn standing(&self, now: Micros) -> Standing {
        self.inner.lock().standing(now)
    }
}

#[cfg(test)]
mod tests;
