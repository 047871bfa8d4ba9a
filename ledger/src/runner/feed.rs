//! Reading one lane, through times in which the journal cannot be reached.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bursar_schemas::ports::{Batch, Cursor, Journal, JournalError};
use bursar_schemas::position::Lane;
use tokio::time::Instant;

const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

/// 50 ms, doubled with each failure in a row, up to 5 s.
fn backoff(failures: u32) -> Duration {
    SHORTEST.saturating_mul(1 << failures.min(7)).min(LONGEST)
}

/// Asks a journal again until it can be reached.
///
/// # Errors
/// Whatever else it answers.
pub async fn settle<T, F>(mut ask: impl FnMut() -> F) -> Result<T, JournalError>
where
    F: Future<Output = Result<T, JournalError>>,
{
    let mut failures = 0;
    loop {
        match ask().await {
            Err(JournalError::Unavailable(reason)) => {
                tracing::warn!(reason, "the journal cannot be reached; asking again");
                tokio::time::sleep(backoff(failures)).await;
                failures += 1;
            }
            answer => return answer,
        }
    }
}

/// A place in a lane that survives a lost connection.
pub(super) struct Feed {
    journal: Arc<dyn Journal>,
    lane: Lane,
    /// The offset to go on from.
    pub next: u64,
    cursor: Option<Box<dyn Cursor>>,
    failures: u32,
    retry_at: Option<Instant>,
    /// Why the journal cannot be reached at the moment.
    pub trouble: Option<String>,
}

impl Feed {
    pub(super) fn new(journal: Arc<dyn Journal>, lane: Lane, next: u64) -> Self {
        Self { journal, lane, next, cursor: None, failures: 0, retry_at: None, trouble: None }
    }

    /// Waits for the next records. Cancel-safe.
    ///
    /// # Errors
    /// When the lane cannot be read on: anything but a journal that cannot be reached.
    pub(super) async fn next(&mut self) -> Result<Batch, JournalError> {
        loop {
            if let Some(at) = self.retry_at {
                tokio::time::sleep_until(at).await;
                self.retry_at = None;
            }
            let taken = match &mut self.cursor {
                Some(cursor) => cursor.next().await,
                None => match self.journal.read(self.lane, self.next).await {
                    Ok(cursor) => {
                        self.cursor = Some(cursor);
                        continue;
                    }
                    Err(error) => Err(error),
                },
            };
            match taken {
                Ok(batch) => {
                    self.next = batch.next;
                    self.failures = 0;
                    self.trouble = None;
                    return Ok(batch);
                }
                Err(JournalError::Unavailable(reason)) => {
                    tracing::warn!(lane = %self.lane, reason, "the journal cannot be reached; reading again");
                    self.cursor = None;
                    self.retry_at = Some(Instant::now() + backoff(self.failures));
                    self.failures += 1;
                    self.trouble = Some(reason);
                }
                Err(error) => return Err(error),
            }
        }
    }
}
