//! Following `policy`: each version that counts is indexed and takes the place of the one before. The last one
//! is kept aside, so that a shim can serve from it while the journal is away.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bursar_schemas::policy::{Directory, PolicyState, PolicyVerdict};
use bursar_schemas::ports::{Journal, JournalError};
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::price::PriceTable;
use bursar_schemas::snapshot::{self, Contradiction, Place};
use bursar_schemas::wire::{self, Unreadable};

use crate::upstream::Policy;
use crate::world::World;

const LANE: Lane = Lane::new(Topic::Policy, 0);
const PAUSE: Duration = Duration::from_millis(250);
/// Name of the snapshot of what was in force last.
pub const POLICY_SNAPSHOT: &str = "shim-policy";

struct Follower {
    world: Arc<World>,
    journal: Arc<dyn Journal>,
    prices: PriceTable,
    state: PolicyState,
    /// A place that is still to be held against the journal.
    unchecked: Option<Place>,
    next: u64,
}

/// Reads for ever; returns only when reading must stop. What is in force then stays in force.
pub(super) async fn follow(world: Arc<World>, journal: Arc<dyn Journal>, prices: PriceTable) {
    let (state, unchecked) = restore(&world);
    let next = unchecked.map_or(0, |place| place.next);
    let mut follower = Follower { world, journal, prices, state, unchecked, next };
    let mut away = false;
    loop {
        match follower.read().await {
            Err(Contradiction::Journal(JournalError::Unavailable(reason))) => {
                tracing::warn!(reason, "policy cannot be read at the moment");
                if follower.unchecked.is_some() && !away {
                    away = true;
                    tracing::warn!(version = follower.state.version, "serving by the policy of the last run");
                    follower.put_in_force();
                    follower.world.policy_read.store(true, Ordering::Release);
                }
                tokio::time::sleep(PAUSE).await;
            }
            Ok(reason) => return stop(&follower.world, reason),
            Err(error) => return stop(&follower.world, error.to_string()),
        }
    }
}

fn stop(world: &World, reason: String) {
    tracing::error!(reason, "reading policy has stopped; what is in force stays in force");
    world.policy_stopped.lock().get_or_insert(reason);
}

/// What was in force when the last run ended.
fn restore(world: &World) -> (PolicyState, Option<Place>) {
    let Some(bytes) = world.shelf.take(POLICY_SNAPSHOT) else { return (PolicyState::default(), None) };
    match snapshot::read::<(Place, PolicyState)>(&bytes) {
        Ok((place, state)) => (state, Some(place)),
        Err(error) => {
            tracing::warn!(%error, "policy is read from its start");
            (PolicyState::default(), None)
        }
    }
}

impl Follower {
    fn put_in_force(&self) {
        if self.other_partitions().is_some() {
            return;
        }
        *self.world.policy.write() = Policy::new(Directory::new(&self.state, &self.prices));
        tracing::info!(version = self.state.version, "policy in force");
    }

    /// Why nothing may be put in force: organisations would be sought in the wrong partitions.
    fn other_partitions(&self) -> Option<String> {
        let (own, recorded) = (self.world.config.partitions, self.state.partitions?);
        (own != recorded)
            .then(|| format!("this shim has {own} partitions, and the policy topic says {recorded}"))
    }

    /// Reads on; the result is why it must stop.
    async fn read(&mut self) -> Result<String, Contradiction> {
        let generation = self.journal.generation(LANE.topic).await?;
        let place = Place { lane: LANE, generation, next: self.next };
        let bounds = self.unchecked.unwrap_or(place).check(&*self.journal).await?;
        if self.unchecked.take().is_some() {
            self.put_in_force();
        }
        if self.next >= bounds.end {
            self.world.policy_read.store(true, Ordering::Release);
        }
        let mut cursor = self.journal.read(LANE, self.next).await?;
        loop {
            let batch = cursor.next().await?;
            let mut counted = false;
            for record in &batch.records {
                match wire::decode(&record.value) {
                    Ok(fact) => counted |= self.state.apply(&fact) == PolicyVerdict::Counted,
                    Err(error @ Unreadable::Schema(_)) => {
                        return Ok(format!("offset {}: {error}", record.offset));
                    }
                    // Bytes that are no fact bind nobody.
                    Err(error) => {
                        tracing::warn!(offset = record.offset, %error, "a record of policy is no fact");
                    }
                }
            }
            if let Some(reason) = self.other_partitions() {
                return Ok(reason);
            }
            self.next = batch.next;
            if counted {
                self.put_in_force();
            }
            if self.next >= bounds.end {
                self.world.policy_read.store(true, Ordering::Release);
                if counted {
                    let snapshot = snapshot::write(&(Place { next: self.next, ..place }, &self.state));
                    self.world.keep(POLICY_SNAPSHOT.to_owned(), snapshot).await;
                }
            }
        }
    }
}
