//! From a path and an amount to a lease that covers it, waiting a bounded time for the ledger.

use std::sync::atomic::Ordering;

use tokio::time::Instant;

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::LeaseId;
use bursar_schemas::money::Money;
use bursar_schemas::policy::Draw;

use super::{Denied, Drawn, Limits, Patience, Step};
use crate::leases::Path;
use crate::world::World;

impl Limits {
    /// Sets money aside on a path, asking the ledger for a lease and waiting for it if need be.
    pub(crate) async fn lease(&self, world: &World, path: &Path, amount: Money) -> Result<LeaseId, Denied> {
        let deadline = Instant::now() + world.config.lease_wait;
        let mut patience = Patience::default();
        let mut place: Option<Place<'_>> = None;
        loop {
            // Made before the look: from then on no change is missed.
            let changed = self.changed.notified();
            // Not within the match: the lock is not held while the answer is written.
            let (step, raises) = {
                let mut inner = self.inner.lock();
                (inner.look(path, amount, world.now(), &mut patience), inner.take_raises())
            };
            world.raise(self, raises);
            match step {
                Step::Got(lease, ahead) => {
                    if let Some(ask) = ahead
                        && !world.ask(self, Vec::new(), &ask)
                    {
                        self.inner.lock().unask(&ask);
                    }
                    return Ok(lease);
                }
                Step::Deny(denied) => return Err(denied),
                Step::Wait(given, Some(ask)) => {
                    if !world.ask(self, given, &ask) {
                        self.inner.lock().unask(&ask);
                        return Err(Denied::Spool);
                    }
                }
                Step::Wait(given, None) => world.give_back(self, given),
            }
            if place.is_none() {
                place = Some(Place::take(self, world.config.max_waiting).ok_or(Denied::Crowded)?);
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return Err(self.inner.lock().late(path, amount, world.now()));
            }
        }
    }

    /// As [`Limits::drawn`], but waits a bounded time for the window of a blocking budget.
    pub(crate) async fn drawn_in_time(
        &self,
        draws: &[Draw<'_>],
        at: Micros,
        wait: std::time::Duration,
    ) -> Drawn {
        let first = self.drawn(draws, at);
        if first.missing.is_none() {
            return first;
        }
        let deadline = Instant::now() + wait;
        loop {
            let changed = self.changed.notified();
            let drawn = self.drawn(draws, at);
            if drawn.missing.is_none() || tokio::time::timeout_at(deadline, changed).await.is_err() {
                return drawn;
            }
        }
    }
}

/// A place in the bounded queue.
struct Place<'a>(&'a Limits);

impl<'a> Place<'a> {
    fn take(limits: &'a Limits, most: usize) -> Option<Self> {
        let taken = limits.waiting.fetch_add(1, Ordering::Relaxed);
        let place = Self(limits);
        (taken < most).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
