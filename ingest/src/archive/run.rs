//! Starting and stopping: one task per topic, which keeps one task per lane.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bursar_schemas::archive::Footer;
use bursar_schemas::evidence::Manifest;
use bursar_schemas::ids::Generation;
use bursar_schemas::ports::Journal;
use bursar_schemas::position::{Lane, Topic};
use object_store::ObjectStore;
use object_store::path::Path;
use tokio::sync::{Mutex, OnceCell, RwLock, watch};
use tokio::task::{Id, JoinSet};

use super::delta::Delta;
use super::lane::LaneTask;
use super::log::{Clock, LogError, LogSettings, LogStatus, LogWriter};
use super::plan::Limits;
use super::reading::Turns;
use super::share::TURNS;
use super::status::{Board, LaneStatus};
use super::store::{Segments, StoreError};
use super::witness::{Pace, WitnessStatus, Witnesses};
use super::workshop::Workshop;

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
    /// Bytes of records that all lanes may buffer before the largest is sealed and nothing more is taken in; a quarter
    /// more is for lanes that have next to nothing.
    pub memory_bytes: u64,
    /// Lanes that catch up at the same time, those far behind the journal's end; each has megabytes fetched ahead.
    pub turns: usize,
    /// Segments built at the same time; a large one takes two threads.
    pub builds: usize,
    /// First wait after a failure; it doubles with each further one.
    pub retry_first: Duration,
    /// Longest wait after a failure.
    pub retry_most: Duration,
    /// Whether a Delta table over each topic's segments is kept.
    pub delta: bool,
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
            memory_bytes: 64 * 1024 * 1024,
            turns: TURNS,
            builds: 1,
            retry_first: Duration::from_millis(200),
            retry_most: Duration::from_secs(30),
            delta: false,
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
    pub(super) workshop: Workshop,
    pub(super) turns: Turns,
    /// Set once the store was seen to refuse a second put.
    pub(super) probed: OnceCell<()>,
    /// Held for reading between a segment and its checkpoint, so that an end in good order falls before or after.
    pub(super) sealing: RwLock<()>,
    log: Option<SharedLog>,
    delta: Option<Mutex<Delta>>,
}

/// The log, written by one lane at a time.
struct SharedLog {
    writer: Mutex<LogWriter>,
    clock: Clock,
    heartbeat: Option<Duration>,
    witnesses: Witnesses,
    status: parking_lot::Mutex<LogStatus>,
}

impl SharedLog {
    fn new(segments: Segments, settings: LogSettings, config: &ArchiveConfig) -> Self {
        let (clock, heartbeat) = (Arc::clone(&settings.clock), settings.heartbeat);
        let writer = LogWriter::new(segments.clone(), settings.clone());
        let witnesses = Witnesses::new(&segments, &settings, &writer.newest(), Pace::of(config));
        Self {
            writer: Mutex::new(writer),
            clock,
            heartbeat,
            witnesses,
            status: parking_lot::Mutex::default(),
        }
    }

    fn show(&self, writer: &LogWriter, error: Option<&LogError>) {
        let mut status = self.status.lock();
        let fault = error.map(ToString::to_string);
        if let Some(fault) = fault.as_ref().filter(|fault| status.fault.as_ref() != Some(fault)) {
            tracing::warn!(%fault, "the log cannot be written and will be tried again");
        }
        *status = LogStatus { size: writer.size(), published: writer.published(), fault };
    }
}

impl Shared {
    /// Makes sure once that the store refuses a second put; nothing else is put before.
    pub(super) async fn probe(&self) -> Result<(), StoreError> {
        self.probed.get_or_try_init(|| self.segments.probe()).await.map(drop)
    }

    /// The time for a leaf; none where no log is written.
    pub(super) fn log_clock(&self) -> Option<i64> {
        self.log.as_ref().map(|log| (log.clock)())
    }

    /// Names a lane's segments up to an offset in its topic's Delta table. The table is made from the segments, so what
    /// fails is told and left to the next segment.
    pub(super) async fn delta_upto(
        &self,
        generation: Generation,
        lane: Lane,
        upto: u64,
        known: Option<(&Footer, u64)>,
    ) {
        let Some(delta) = &self.delta else { return };
        if let Err(error) = delta.lock().await.upto(generation, lane, upto, known).await {
            tracing::warn!(%lane, %error, "the Delta table is behind the segments");
        }
    }

    /// Makes sure that a lane's segments up to an offset are in the log, under a published checkpoint.
    pub(super) async fn log_upto(
        &self,
        generation: Generation,
        lane: Lane,
        upto: u64,
        known: Option<Manifest>,
    ) -> Result<(), LogError> {
        let Some(log) = &self.log else { return Ok(()) };
        let size = {
            let mut writer = log.writer.lock().await;
            let logged = writer.log(generation, lane, upto, known).await;
            log.show(&writer, logged.as_ref().err());
            logged?;
            writer.size()
        };
        // Lanes that wait add their leaves first, so that one checkpoint covers them all.
        let mut writer = log.writer.lock().await;
        if writer.published() < size {
            let published = writer.publish().await;
            log.show(&writer, published.as_ref().err());
            published?;
        }
        Ok(())
    }
}

/// Writes heartbeats for as long as the archiver runs.
async fn beat(shared: Arc<Shared>) {
    let Some(log) = &shared.log else { return };
    let Some(every) = log.heartbeat else { return };
    loop {
        let wait = {
            let _sealing = shared.sealing.read().await;
            let mut writer = log.writer.lock().await;
            let beaten = match shared.probe().await {
                Ok(()) => writer.beat(every).await,
                Err(error) => Err(error.into()),
            };
            log.show(&writer, beaten.as_ref().err());
            beaten.unwrap_or(shared.config.retry_most)
        };
        tokio::time::sleep(wait.max(shared.config.retry_first)).await;
    }
}

/// Seals every topic's records as segments. Any number may run on one archive at the same time.
#[derive(Debug, Clone, Copy)]
pub struct Archiver;

impl Archiver {
    /// Starts in the background; must be called within a Tokio runtime. Waits for neither journal nor store:
    /// what fails is tried again until it works, and shown by [`ArchiverHandle::status`]. Without `log` segments are
    /// sealed all the same, but nobody can prove anything about them.
    #[must_use]
    pub fn start(
        journal: Arc<dyn Journal>,
        store: Arc<dyn ObjectStore>,
        config: ArchiveConfig,
        log: Option<LogSettings>,
    ) -> ArchiverHandle {
        let (end, ending) = watch::channel(false);
        let topics = config.topics.clone();
        let segments = Segments::new(store, config.prefix.clone());
        let unset: Clock = Arc::new(|| 0);
        let clock = log.as_ref().map_or(unset, |log| Arc::clone(&log.clock));
        let workshop = Workshop::new(config.builds, log.as_ref().map(|log| log.signer.clone()));
        let shared = Arc::new(Shared {
            journal,
            delta: config.delta.then(|| Mutex::new(Delta::new(segments.clone(), clock))),
            log: log.map(|settings| SharedLog::new(segments.clone(), settings, &config)),
            segments,
            workshop,
            turns: Turns::new(config.turns),
            board: Board::new(config.memory_bytes),
            probed: OnceCell::new(),
            sealing: RwLock::new(()),
            config,
        });
        let mut tasks = JoinSet::new();
        for topic in topics {
            tasks.spawn(keep_topic(Arc::clone(&shared), topic, ending.clone()));
        }
        let mut beside = JoinSet::new();
        beside.spawn(beat(Arc::clone(&shared)));
        if let Some(log) = &shared.log {
            log.witnesses.start(&mut beside);
        }
        ArchiverHandle { shared, end, tasks, _beside: beside }
    }
}

/// A running archiver; dropping it ends it at once, which loses nothing.
pub struct ArchiverHandle {
    shared: Arc<Shared>,
    end: watch::Sender<bool>,
    tasks: JoinSet<()>,
    /// Heartbeats and witnesses; they end with the handle.
    _beside: JoinSet<()>,
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

    /// How the log stands; none where no log is written.
    #[must_use]
    pub fn log_status(&self) -> Option<LogStatus> {
        self.shared.log.as_ref().map(|log| log.status.lock().clone())
    }

    /// What each witness was last heard of; none where none is asked.
    #[must_use]
    pub fn witnesses(&self) -> Vec<WitnessStatus> {
        self.shared.log.as_ref().map(|log| log.witnesses.status()).unwrap_or_default()
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
        // What has been put is logged first; nothing is begun any more.
        let settled =
            tokio::time::timeout(self.shared.config.stop_timeout, self.shared.sealing.write()).await;
        self.tasks.shutdown().await;
        settled.is_ok()
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
