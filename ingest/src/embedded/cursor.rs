//! A place in a lane of the embedded journal.

use std::sync::Arc;

use async_trait::async_trait;
use bursar_schemas::ports::{Batch, Cursor, JournalError, Record};
use bursar_schemas::position::Lane;
use tokio::sync::watch;

use super::Shared;
use super::lanes::Tide;

/// Reads the newest records from memory and older ones from the store.
pub(super) struct EmbeddedCursor {
    shared: Arc<Shared>,
    lane: Lane,
    next: u64,
    tide: watch::Receiver<Tide>,
}

impl EmbeddedCursor {
    pub(super) fn new(shared: Arc<Shared>, lane: Lane, next: u64) -> Option<Self> {
        let tide = shared.lanes.get(lane)?.watch();
        Some(Self { shared, lane, next, tide })
    }

    /// Records from `next` on, below `end`.
    async fn take(&self, end: u64) -> Result<Vec<Record>, JournalError> {
        let options = self.shared.options;
        let recent = self
            .shared
            .lanes
            .get(self.lane)
            .and_then(|state| state.recent(self.next, options.batch_records, options.batch_bytes));
        if let Some(records) = recent {
            return Ok(records);
        }
        let (shared, lane, next) = (Arc::clone(&self.shared), self.lane, self.next);
        let read = move || {
            let store = shared.store.read();
            let store =
                store.as_ref().ok_or_else(|| JournalError::Failed("the journal was closed".to_owned()))?;
            store.read(lane, next, end, options.batch_records, options.batch_bytes)
        };
        // Reading may meet a slow disk, which must not hold up a runtime's thread.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => runtime
                .spawn_blocking(read)
                .await
                .map_err(|error| JournalError::Failed(format!("the read was given up: {error}")))?,
            Err(_) => read(),
        }
    }
}

#[async_trait]
impl Cursor for EmbeddedCursor {
    async fn next(&mut self) -> Result<Batch, JournalError> {
        loop {
            let Tide { end, ended } = self.tide.borrow_and_update().clone();
            if self.next < end {
                let records = self.take(end).await?;
                // Moved only here, after the last await: a dropped call has taken nothing.
                self.next = records.last().map_or(self.next, |last| last.offset + 1);
                return Ok(Batch { records, next: self.next });
            }
            if let Some(reason) = ended {
                return Err(reason);
            }
            if self.tide.changed().await.is_err() {
                return Err(JournalError::Failed("the journal was closed".to_owned()));
            }
        }
    }
}
