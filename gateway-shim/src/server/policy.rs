//! Following `policy`: each version that counts is indexed and takes the place of the one before.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bursar_schemas::policy::{Directory, PolicyState, PolicyVerdict};
use bursar_schemas::ports::{Journal, JournalError};
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::price::PriceTable;
use bursar_schemas::wire::{self, Unreadable};

use crate::upstream::Policy;
use crate::world::World;

const LANE: Lane = Lane::new(Topic::Policy, 0);
const PAUSE: Duration = Duration::from_millis(250);

/// Reads for ever; returns only when reading must stop. What is in force then stays in force.
pub(super) async fn follow(world: Arc<World>, journal: Arc<dyn Journal>, prices: PriceTable) {
    let mut state = PolicyState::default();
    let mut next = 0;
    loop {
        match read(&world, journal.as_ref(), &prices, &mut state, &mut next).await {
            Err(JournalError::Unavailable(reason)) => {
                tracing::warn!(reason, "policy cannot be read at the moment");
                tokio::time::sleep(PAUSE).await;
            }
            Ok(reason) => return stop(&world, reason),
            Err(error) => return stop(&world, error.to_string()),
        }
    }
}

fn stop(world: &World, reason: String) {
    tracing::error!(reason, "reading policy has stopped; what is in force stays in force");
    world.policy_stopped.lock().get_or_insert(reason);
}

/// Reads on; the result is why it must stop.
async fn read(
    world: &World,
    journal: &dyn Journal,
    prices: &PriceTable,
    state: &mut PolicyState,
    next: &mut u64,
) -> Result<String, JournalError> {
    let bounds = journal.bounds(LANE).await?;
    if *next >= bounds.end {
        world.policy_read.store(true, Ordering::Release);
    }
    let mut cursor = journal.read(LANE, *next).await?;
    loop {
        let batch = cursor.next().await?;
        let mut counted = false;
        for record in &batch.records {
            match wire::decode(&record.value) {
                Ok(fact) => counted |= state.apply(&fact) == PolicyVerdict::Counted,
                Err(error @ Unreadable::Schema(_)) => {
                    return Ok(format!("offset {}: {error}", record.offset));
                }
                // Bytes that are no fact bind nobody.
                Err(error) => tracing::warn!(offset = record.offset, %error, "a record of policy is no fact"),
            }
        }
        *next = batch.next;
        if counted {
            *world.policy.write() = Policy::new(Directory::new(state, prices));
            tracing::info!(version = state.version, "policy in force");
        }
        if *next >= bounds.end {
            world.policy_read.store(true, Ordering::Release);
        }
    }
}
