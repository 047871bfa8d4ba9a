//! Starting and stopping: one task per topic, which keeps one task per lane.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bursar_schemas::ports::Journal;
use bursar_schemas::position::{Lane, Topic};
use object_store::ObjectStore;
use object_store::path::Path;
use tokio::sync::{OnceCell, Semaphore, watch};
use tokio::task::{Id, JoinSet};

use super::lane::LaneTask;
use super::plan::Limits;
use super::status::{Board, LaneStatus};
use super::store::Segments;

/// What an archiver needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveConfig {
    /// Where in the store the archive begins.
    pub prefix: Path,
    /// Topics to archive.
    pub topics: Vec<Topic>,
    /// Bytes of record values after which a segment is sealed.
    pub seal_bytes: u64,
    /// How long a record may wait to be sealed, from when the archiver took it in.
    pub seal_age: Duration,
    /// Bytes of records that all lanes may buffer before each is held to its share; at most twice as many are held.
    pub memory_bytes: u64,
    /// Segments built at the same time.
    pub builds: usize,
    /// First wait after a failure; it doubles with each further one.
    pub retry_first: Duration,
    /// Longest wait after a failure.
    pub retry_most: Duration,
    /// How long a stop that flushes may take.
    pub stop_timeout: Duration,
}

impl Default for ArchiveConfig {
    fn default() -> Self {
        Self {
            prefix: Path::default(),
            topics: Topic::ALL.to_vec(),
            seal_bytes: 32 * 1024 * 1024,
            seal_age: Duration::from_secs(60),
            memory_bytes: 256 * 1024 * 1024,
            builds: 2,
            retry_first: Duration::from_millis(200),
            retry_most: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(30),
        }
    }
}

impl ArchiveConfig {
    pub(super) const fn limits(&self) -> Limits {
        Limits { seal_bytes: self.seal_bytes, seal_age: self.seal_age, memory_bytes: self.memory_bytes }
    }
}

/// What the tasks of one archiver share.
pub(super) struct Shared {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) segments: Segments,
    pub(super) config: ArchiveConfig,
    pub(super) board: Board,
    pub(super) building: Semaphore,
    /// Set once the store was seen to refuse a second put.
    pub(super) probed: OnceCell<()>,
}

/// Seals every topic's records as segments. Any number may run on one archive at the same time.
#[derive(Debug, Clone, Copy)]
pub struct Archiver;

impl Archiver {
    /// Starts in the background; must be called within a Tokio runtime. Waits for neither journal nor store:
    /// what fails is tried again until it works, and shown by [`ArchiverHandle::status`].
    #[must_use]
    pub fn start(
        journal: Arc<dyn Journal>,
        store: Arc<dyn ObjectStore>,
        config: ArchiveConfig,
    ) -> ArchiverHandle {
        let (end, ending) = watch::channel(false);
        let topics = config.topics.clone();
        let shared = Arc::new(Shared {
            journal,
            segments: Segments::new(store, config.prefix.clone()),
            building: Semaphore::new(config.builds.max(1)),
            board: Board::new(),
            probed: OnceCell::new(),
            config,
        });
        let mut tasks = JoinSet::new();
        for topic in topics {
            tasks.spawn(keep_topic(Arc::clone(&shared), topic, ending.clone()));
        }
        ArchiverHandle { shared, end, tasks }
    }
}

/// A running archiver; dropping it ends it at once, which loses nothing.
pub struct ArchiverHandle {
    shared: Arc<Shared>,
    end: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl std::fmt::Debug for ArchiverHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArchiverHandle").field("lanes", &self.status()).finish_non_exhaustive()
    }
}

impl ArchiverHandle {
    /// The last offset of a lane that is sealed; none before the first segment, or before the chain was found.
    #[must_use]
    pub fn sealed(&self, lane: Lane) -> Option<u64> {
        self.shared.board.sealed(lane)
    }

    /// How each lane stands.
    #[must_use]
    pub fn status(&self) -> BTreeMap<Lane, LaneStatus> {
        self.shared.board.lanes()
    }

    /// Changes whenever some lane's status does.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.board.changes()
    }

    /// Ends the archiver. With `flush`, what the journal holds now is sealed first, within the configured time.
    ///
    /// True when everything asked for was done; else what is not sealed is still in the journal.
    pub async fn stop(mut self, flush: bool) -> bool {
        if flush {
            self.end.send_replace(true);
            let all = async { while self.tasks.join_next().await.is_some() {} };
            if tokio::time::timeout(self.shared.config.stop_timeout, all).await.is_err() {
                tracing::warn!("the archiver was stopped before everything was sealed");
                self.tasks.shutdown().await;
                return false;
            }
            let faults = self.status().values().filter(|status| status.fault.is_some()).count();
            return faults == 0;
        }
        self.tasks.shutdown().await;
        true
    }
}

/// Keeps a task running for each lane of a topic.
async fn keep_topic(shared: Arc<Shared>, topic: Topic, ending: watch::Receiver<bool>) {
    let partitions = loop {
        match shared.journal.partitions(topic).await {
            Ok(partitions) => break partitions,
            Err(error) => shared.board.fault(Lane::new(topic, 0), error.to_string()),
        }
        tokio::time::sleep(shared.config.retry_most).await;
    };
    let mut tasks = JoinSet::new();
    let mut lanes: HashMap<Id, Lane> = HashMap::new();
    let spawn = |tasks: &mut JoinSet<()>, lanes: &mut HashMap<Id, Lane>, lane| {
        let task = LaneTask { shared: Arc::clone(&shared), lane, ending: ending.clone() };
        lanes.insert(tasks.spawn(task.run()).id(), lane);
    };
    for partition in 0..partitions {
        spawn(&mut tasks, &mut lanes, Lane::new(topic, partition));
    }
    while let Some(ended) = tasks.join_next_with_id().await {
        // A lane's task ends when told to. One that broke is begun anew from what the store holds.
        if let Err(error) = ended
            && let Some(lane) = lanes.remove(&error.id())
        {
            tracing::error!(%lane, %error, "a lane's archiver broke");
            shared.board.fault(lane, format!("the lane's archiver broke: {error}"));
            tokio::time::sleep(shared.config.retry_most).await;
            spawn(&mut tasks, &mut lanes, lane);
        }
    }
}
