//! Reading `limits` from its start, or from a snapshot on, without a hole.

use std::sync::Arc;
use std::time::Duration;

use bursar_schemas::ports::{Journal, JournalError};
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::snapshot::{Contradiction, Place};
use bursar_schemas::wire;
use tokio::time::Instant;

use super::Limits;
use crate::world::World;

/// Pause before a journal that is away is asked again.
const PAUSE: Duration = Duration::from_millis(250);

/// Time between two snapshots.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(60);

struct Follower {
    world: Arc<World>,
    limits: Arc<Limits>,
    journal: Arc<dyn Journal>,
    lane: Lane,
    /// A place that is still to be held against the journal.
    unchecked: Option<Place>,
    next: u64,
    /// When this run kept a snapshot last.
    kept_at: Option<Instant>,
}

/// Reads for ever; returns only when reading must stop.
pub(crate) async fn follow(world: Arc<World>, limits: Arc<Limits>, journal: Arc<dyn Journal>) {
    let lane = Lane::new(Topic::Limits, limits.partition);
    let unchecked = restore(&world, &limits, lane);
    let next = unchecked.map_or(0, |place| place.next);
    let mut follower = Follower { world, limits, journal, lane, unchecked, next, kept_at: None };
    loop {
        match follower.read().await {
            Ok(()) => return,
            Err(Contradiction::Journal(JournalError::Unavailable(reason))) => {
                tracing::warn!(%lane, reason, "limits cannot be read at the moment");
                follower.limits.set_trouble(Some(reason));
                if follower.unchecked.is_some() {
                    follower.limits.go_on_from_snapshot();
                }
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => {
                tracing::error!(%lane, %error, "reading limits has stopped; hard budgets refuse");
                follower.limits.stop(error.to_string());
                return;
            }
        }
    }
}

fn snapshot_name(lane: Lane) -> String {
    format!("shim-limits-{}", lane.partition)
}

/// Goes on from the last snapshot, if there is one that can be used.
fn restore(world: &World, limits: &Limits, lane: Lane) -> Option<Place> {
    let bytes = world.shelf.take(&snapshot_name(lane))?;
    match limits.restore(&bytes) {
        Ok(place) => Some(place),
        Err(error) => {
            tracing::warn!(%lane, %error, "limits are read from their start");
            None
        }
    }
}

impl Follower {
    async fn read(&mut self) -> Result<(), Contradiction> {
        let generation = self.journal.generation(self.lane.topic).await?;
        let place = Place { lane: self.lane, generation, next: self.next };
        let bounds = self.unchecked.unwrap_or(place).check(&*self.journal).await?;
        self.unchecked = None;
        if self.next >= bounds.end {
            self.limits.catch_up();
        }
        // An offset below the first one held is an error: what retention took could have been anything.
        let mut cursor = self.journal.read(self.lane, self.next).await?;
        self.limits.set_trouble(None);
        loop {
            let batch = cursor.next().await?;
            let now = self.world.now();
            let mut revoked = false;
            for record in &batch.records {
                match self.limits.apply(record.offset, &wire::decode(&record.value), now) {
                    Ok(ours) => revoked |= ours,
                    Err(error) => {
                        tracing::error!(lane = %self.lane, %error, "reading limits has stopped; hard budgets refuse");
                        self.limits.stop(error.to_string());
                        return Ok(());
                    }
                }
            }
            self.next = batch.next;
            if self.next >= bounds.end {
                self.limits.catch_up();
            }
            self.limits.changed.notify_waiters();
            if revoked {
                self.world.give_back(&self.limits, self.limits.give_back_stopped());
            }
            let due = self.kept_at.is_none_or(|at| at.elapsed() >= SNAPSHOT_EVERY);
            if due && self.next >= bounds.end {
                self.kept_at = Some(Instant::now());
                let snapshot = self.limits.save(Place { next: self.next, ..place });
                self.world.keep(snapshot_name(self.lane), snapshot).await;
            }
        }
    }
}
