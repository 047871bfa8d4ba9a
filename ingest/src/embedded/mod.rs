//! The embedded journal: both ports over a store on one machine's disk.
//!
//! One writer thread takes whatever was appended meanwhile, writes it as one atomic group, flushes it to the
//! disk, and only then shows it to readers and resolves receipts. So nothing that anybody saw or was promised
//! can be lost by a crash, of the process or of the machine, short of the disk itself.
//!
//! There is no retention: every lane begins at offset 0 and is dense.

mod cursor;
mod lanes;
mod store;
mod watermark;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use async_trait::async_trait;
use bursar_schemas::ids::Generation;
use bursar_schemas::ports::{Bounds, Cursor, Entry, Journal, JournalError, Outlet, OutletError, Receipt};
use bursar_schemas::position::{Lane, Topic};
use parking_lot::{Mutex, RwLock};

use cursor::EmbeddedCursor;
use lanes::Lanes;
use store::Store;
use writer::Queue;

/// Why the embedded journal could not be opened or closed.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// Another process has it open.
    #[error("failed to open the journal in {0}: another process has it open")]
    Locked(PathBuf),
    /// It was made with another number of partitions, which can never change: facts would move between lanes.
    #[error("failed to open the journal in {dir}: it has {found} partitions, not {wanted}")]
    Partitions {
        /// The journal's folder.
        dir: PathBuf,
        /// What it was made with.
        found: u32,
        /// What was asked for.
        wanted: u32,
    },
    /// It was written by a version that this one cannot read.
    #[error("failed to open the journal in {dir}: its format {found} is not known")]
    Format {
        /// The journal's folder.
        dir: PathBuf,
        /// Its format number.
        found: u32,
    },
    /// Its files do not hold what they should: restore the folder from a copy.
    #[error("failed to open the journal in {dir}: it is damaged: {detail}")]
    Damaged {
        /// The journal's folder.
        dir: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The disk or the system refused.
    #[error("failed to use the journal in {dir}: {error}")]
    Io {
        /// The journal's folder.
        dir: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A write or flush failed while it was open; what was not acknowledged may be lost.
    #[error("failed to close the journal in {dir}: {detail}")]
    Failed {
        /// The journal's folder.
        dir: PathBuf,
        /// What had failed.
        detail: String,
    },
}

/// Bounds of the embedded journal's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbeddedOptions {
    /// Bytes of entries that may wait for the writer; an append beyond it waits for the disk.
    pub queue_bytes: usize,
    /// Bytes of records that are written as one group.
    pub group_bytes: usize,
    /// Bytes of each lane's newest records that are kept in memory for readers at the end.
    pub tail_bytes: usize,
    /// Bytes of records in one batch of a cursor; a longer record comes alone.
    pub batch_bytes: usize,
    /// Records in one batch of a cursor.
    pub batch_records: usize,
    /// Bytes of the store's block cache.
    pub cache_bytes: u64,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            queue_bytes: 16 << 20,
            group_bytes: 4 << 20,
            tail_bytes: 1 << 20,
            batch_bytes: 4 << 20,
            batch_records: 4096,
            cache_bytes: 32 << 20,
        }
    }
}

/// What cursors, appenders and the writer share.
struct Shared {
    options: EmbeddedOptions,
    partitions: u32,
    generations: [Generation; Topic::ALL.len()],
    lanes: Lanes,
    queue: Queue,
    /// None once closed, so that the folder can be opened again although cursors are still around.
    store: RwLock<Option<Store>>,
}

/// The embedded journal; to be shared in an [`Arc`].
pub struct EmbeddedJournal {
    dir: PathBuf,
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for EmbeddedJournal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedJournal").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl EmbeddedJournal {
    /// Opens the journal in a folder, or makes it there, with that many partitions a topic (`policy` has one).
    ///
    /// # Errors
    /// When another process has it open, it has another number of partitions, or it is damaged.
    pub fn open(dir: impl AsRef<Path>, partitions: u32) -> Result<Self, EmbeddedError> {
        Self::open_with(dir, partitions, EmbeddedOptions::default())
    }

    /// As [`EmbeddedJournal::open`], with other bounds.
    ///
    /// # Errors
    /// As [`EmbeddedJournal::open`].
    pub fn open_with(
        dir: impl AsRef<Path>,
        partitions: u32,
        options: EmbeddedOptions,
    ) -> Result<Self, EmbeddedError> {
        let dir = dir.as_ref().to_path_buf();
        let (store, ends) = Store::open(&dir, partitions.max(1), options.cache_bytes)?;
        let shared = Arc::new(Shared {
            options,
            partitions: partitions.max(1),
            generations: store.generations(),
            lanes: Lanes::new(&ends, options.tail_bytes),
            queue: Queue::new(options.queue_bytes),
            store: RwLock::new(Some(store)),
        });
        let writer = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("journal-writer".to_owned())
                .spawn(move || writer::run(&shared))
                .map_err(|error| EmbeddedError::Io { dir: dir.clone(), error })?
        };
        Ok(Self { dir, shared, writer: Mutex::new(Some(writer)) })
    }

    /// The journal's folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Takes nothing more, writes what was taken, and gives the folder free. Blocks for the disk.
    ///
    /// Cursors deliver what is in memory and then end with an error. A second call does nothing.
    ///
    /// # Errors
    /// When a write had failed while the journal was open.
    pub fn close(&self) -> Result<(), EmbeddedError> {
        self.shared.queue.close();
        let Some(writer) = self.writer.lock().take() else { return Ok(()) };
        let panicked = writer.join().is_err();
        self.shared.lanes.end(&JournalError::Failed("the journal was closed".to_owned()));
        drop(self.shared.store.write().take());
        match self.shared.queue.failure() {
            Some(detail) => Err(EmbeddedError::Failed { dir: self.dir.clone(), detail }),
            None if panicked => Err(EmbeddedError::Failed {
                dir: self.dir.clone(),
                detail: "the writer ended unexpectedly".to_owned(),
            }),
            None => Ok(()),
        }
    }
}

impl Drop for EmbeddedJournal {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "the embedded journal did not close well");
        }
    }
}

impl Outlet for EmbeddedJournal {
    fn append(&self, entries: Vec<Entry>) -> Result<Receipt, OutletError> {
        for entry in &entries {
            if self.shared.lanes.get(entry.lane).is_none() {
                return Err(OutletError::Failed(JournalError::NoLane(entry.lane).to_string()));
            }
        }
        self.shared.queue.push(entries)
    }
}

#[async_trait]
impl Journal for EmbeddedJournal {
    async fn generation(&self, topic: Topic) -> Result<Generation, JournalError> {
        Topic::ALL
            .iter()
            .position(|known| *known == topic)
            .and_then(|index| self.shared.generations.get(index).copied())
            .ok_or(JournalError::NoLane(Lane::new(topic, 0)))
    }

    async fn partitions(&self, topic: Topic) -> Result<u32, JournalError> {
        Ok(partitions_of(topic, self.shared.partitions))
    }

    async fn bounds(&self, lane: Lane) -> Result<Bounds, JournalError> {
        let state = self.shared.lanes.get(lane).ok_or(JournalError::NoLane(lane))?;
        Ok(Bounds { start: 0, end: state.end() })
    }

    async fn read(&self, lane: Lane, from: u64) -> Result<Box<dyn Cursor>, JournalError> {
        let bounds = self.bounds(lane).await?;
        if from > bounds.end {
            return Err(JournalError::OutOfRange {
                lane,
                start: bounds.start,
                end: bounds.end,
                wanted: from,
            });
        }
        EmbeddedCursor::new(Arc::clone(&self.shared), lane, from)
            .map(|cursor| Box::new(cursor) as Box<dyn Cursor>)
            .ok_or(JournalError::NoLane(lane))
    }
}

/// Partitions of a topic where the others have `partitions`.
const fn partitions_of(topic: Topic, partitions: u32) -> u32 {
    if matches!(topic, Topic::Policy) { 1 } else { partitions }
}
