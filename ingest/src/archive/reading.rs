//! What a lane reads through. A cursor far from the journal's end has megabytes fetched ahead, so only a few lanes catch
//! up at a time; the others wait for their turn without one. A lane near the end needs no turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bursar_schemas::ports::{Batch, Cursor, Journal, JournalError};
use bursar_schemas::position::Lane;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::share::{BEHIND, is_behind, turn_is_over};

/// Records after which a lane that needed no turn looks whether it has fallen behind.
const LOOK: u64 = 4 * BEHIND;

/// Turns of catching up; whoever asks first gets the next one.
#[derive(Debug)]
pub(super) struct Turns {
    free: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

/// Counts whoever waits, also when it gives up waiting.
struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

type Turn = Result<OwnedSemaphorePermit, AcquireError>;

impl Turns {
    /// So many at a time, but at least one.
    pub(super) fn new(count: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(count.max(1))), waiting: Arc::default() }
    }

    fn others_wait(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    fn take(&self) -> BoxFuture<'static, Turn> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let (waiting, free) = (Waiting(Arc::clone(&self.waiting)), Arc::clone(&self.free));
        let take = async move {
            let _waiting = waiting;
            free.acquire_owned().await
        };
        take.boxed()
    }
}

/// A cursor, and the turn that it is held in.
pub(super) struct Open {
    cursor: Box<dyn Cursor>,
    turn: Option<OwnedSemaphorePermit>,
    /// The journal's end when it was looked for last.
    seen_end: u64,
    /// A segment was sealed since.
    has_sealed: bool,
    /// Records taken since somebody looked how far behind the lane is.
    taken: u64,
}

/// What a lane reads through at the moment.
#[derive(Default)]
pub(super) enum Reading {
    /// Nothing.
    #[default]
    Closed,
    /// Nothing until its turn comes; its place among those who wait is kept.
    Waiting { seen_end: u64, turn: BoxFuture<'static, Turn> },
    /// A cursor.
    Open(Open),
}

impl Reading {
    /// Gives up the cursor and the turn.
    pub(super) fn close(&mut self) {
        *self = Self::Closed;
    }

    /// Notes that a segment was sealed.
    pub(super) const fn sealed(&mut self) {
        if let Self::Open(open) = self {
            open.has_sealed = true;
        }
    }

    /// What comes next from an offset on, when it is there and it is the lane's turn. A call that is dropped has taken
    /// nothing.
    pub(super) async fn next(
        &mut self,
        journal: &dyn Journal,
        turns: &Turns,
        lane: Lane,
        from: u64,
    ) -> Result<Batch, JournalError> {
        loop {
            match self {
                Self::Closed => {
                    let seen_end = journal.bounds(lane).await?.end;
                    *self = if is_behind(from, seen_end) {
                        Self::Waiting { seen_end, turn: turns.take() }
                    } else {
                        Self::Open(Open::new(journal.read(lane, from).await?, None, seen_end))
                    };
                }
                Self::Waiting { seen_end, turn } => {
                    let turn = turn.await;
                    let seen_end = *seen_end;
                    // What was waited for is used up, whatever comes of it.
                    *self = Self::Closed;
                    let turn = turn.map_err(|error| JournalError::Failed(error.to_string()))?;
                    *self = Self::Open(Open::new(journal.read(lane, from).await?, Some(turn), seen_end));
                }
                Self::Open(open) => {
                    if !open.is_over(journal, turns, lane, from).await? {
                        return open.next().await;
                    }
                    *self = Self::Closed;
                }
            }
        }
    }

    /// What comes next through the cursor that is there; nothing ever without one.
    pub(super) async fn next_open(&mut self) -> Result<Batch, JournalError> {
        match self {
            Self::Open(open) => open.next().await,
            Self::Closed | Self::Waiting { .. } => std::future::pending().await,
        }
    }
}

impl Open {
    fn new(cursor: Box<dyn Cursor>, turn: Option<OwnedSemaphorePermit>, seen_end: u64) -> Self {
        Self { cursor, turn, seen_end, has_sealed: false, taken: 0 }
    }

    /// Whether another cursor is to be opened, in a turn or without one.
    async fn is_over(
        &mut self,
        journal: &dyn Journal,
        turns: &Turns,
        lane: Lane,
        from: u64,
    ) -> Result<bool, JournalError> {
        if self.turn.is_some() {
            return Ok(turn_is_over(from, self.seen_end, self.has_sealed, turns.others_wait()));
        }
        if self.taken < LOOK {
            return Ok(false);
        }
        self.seen_end = journal.bounds(lane).await?.end;
        self.taken = 0;
        Ok(is_behind(from, self.seen_end))
    }

    async fn next(&mut self) -> Result<Batch, JournalError> {
        let batch = self.cursor.next().await?;
        self.taken = self.taken.saturating_add(u64::try_from(batch.records.len()).unwrap_or(u64::MAX));
        Ok(batch)
    }
}
