//! Reading `limits` from its start, without a hole.

use std::sync::Arc;
use std::time::Duration;

use bursar_schemas::ports::{Journal, JournalError};
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::wire;

use super::Limits;
use crate::world::World;

/// Pause before a journal that is away is asked again.
const PAUSE: Duration = Duration::from_millis(250);

/// Reads for ever; returns only when reading must stop.
pub(crate) async fn follow(world: Arc<World>, limits: Arc<Limits>, journal: Arc<dyn Journal>) {
    let lane = Lane::new(Topic::Limits, limits.partition);
    let mut next = 0;
    loop {
        match read(&world, &limits, journal.as_ref(), lane, &mut next).await {
            Ok(()) => return,
            Err(JournalError::Unavailable(reason)) => {
                tracing::warn!(%lane, reason, "limits cannot be read at the moment");
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => {
                tracing::error!(%lane, %error, "reading limits has stopped; hard budgets refuse");
                limits.stop(error.to_string());
                return;
            }
        }
    }
}

async fn read(
    world: &World,
    limits: &Limits,
    journal: &dyn Journal,
    lane: Lane,
    next: &mut u64,
) -> Result<(), JournalError> {
    let bounds = journal.bounds(lane).await?;
    if *next >= bounds.end {
        limits.catch_up();
    }
    // An offset below the first one held is an error: what retention took could have been anything.
    let mut cursor = journal.read(lane, *next).await?;
    loop {
        let batch = cursor.next().await?;
        let now = world.now();
        let mut revoked = false;
        for record in &batch.records {
            match limits.apply(record.offset, &wire::decode(&record.value), now) {
                Ok(ours) => revoked |= ours,
                Err(error) => {
                    tracing::error!(%lane, %error, "reading limits has stopped; hard budgets refuse");
                    limits.stop(error.to_string());
                    return Ok(());
                }
            }
        }
        *next = batch.next;
        if *next >= bounds.end {
            limits.catch_up();
        }
        limits.changed.notify_waiters();
        if revoked {
            world.give_back(limits.partition, limits.give_back_stopped());
        }
    }
}
