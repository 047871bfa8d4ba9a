//! The runner: feeds a core for each partition from a journal, and appends what it wants through a recorder.
//!
//! Every instance keeps every partition, acting or standing by: which of them decides is settled by epochs in the
//! log, so nothing here needs an assignment, a lock or a leader.

mod feed;
mod handle;
mod keeper;

pub use feed::settle;
pub use handle::{LedgerHandle, NotRunning, PartitionStatus, Report};

use std::sync::Arc;
use std::time::Duration;

use bursar_schemas::avro::Micros;
use bursar_schemas::ids::Digest;
use bursar_schemas::ports::{Journal, JournalError, OutletError};
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::producer::Recorder;
use bursar_schemas::snapshot::{Contradiction, Shelf};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::core::{Config, Core, Halt, Timing};
use handle::Port;
use keeper::Keeper;

/// The time now; given by the binary, which alone reads clocks.
pub type Clock = Arc<dyn Fn() -> Micros + Send + Sync>;

/// What a runner is told at its start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The deployment's public key, which certifies shims.
    pub deployment_key: Digest,
    /// How long things take.
    pub timing: Timing,
    /// Time between two looks at the clock.
    pub tick: Duration,
    /// Time between two signed heads.
    pub heads: Duration,
    /// How long the last heads may take to be acknowledged when it stops.
    pub goodbye: Duration,
}

impl Settings {
    /// The usual times.
    #[must_use]
    pub fn new(deployment_key: Digest) -> Self {
        Self {
            deployment_key,
            timing: Timing::default(),
            tick: Duration::from_millis(250),
            heads: Duration::from_secs(1),
            goodbye: Duration::from_secs(5),
        }
    }
}

/// Why a runner stopped, or did not start.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// The topics do not fit together.
    #[error(
        "failed to start the ledger: spend has {spend} partitions and limits has {limits}; they must agree"
    )]
    Partitions {
        /// Partitions of `spend`.
        spend: u32,
        /// Partitions of `limits`.
        limits: u32,
    },
    /// The beginning of a lane that must be read from its start is not held any more.
    #[error("failed to read {lane} from its start: its first {start} offsets are not held any more")]
    Cut {
        /// The lane.
        lane: Lane,
        /// First offset held.
        start: u64,
    },
    /// A topic is not the one that was read before.
    #[error("failed to go on from the last snapshot: {0} (if that is meant, remove the folder of snapshots)")]
    Contradiction(Contradiction),
    /// The journal cannot be read on.
    #[error("failed to read the journal: {0}")]
    Journal(JournalError),
    /// The log cannot be followed.
    #[error("partition {partition}: {halt}")]
    Halt {
        /// The partition.
        partition: u32,
        /// Why.
        halt: Halt,
    },
    /// Records could not be appended.
    #[error("failed to write the ledger's records: {0}")]
    Outlet(OutletError),
    /// The last heads were not acknowledged in time.
    #[error("failed to write the last heads within {0:?}")]
    Goodbye(Duration),
    /// A task of the runner ended by itself, which none does.
    #[error("failed to go on: a task of the ledger ended: {0}")]
    Task(String),
}

// Their texts are in its own, so they are no sources: a chain of causes would say them twice.
impl From<Contradiction> for RunnerError {
    fn from(error: Contradiction) -> Self {
        Self::Contradiction(error)
    }
}

impl From<JournalError> for RunnerError {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

impl From<OutletError> for RunnerError {
    fn from(error: OutletError) -> Self {
        Self::Outlet(error)
    }
}

/// A running ledger.
#[derive(Debug)]
pub struct Ledger {
    handle: LedgerHandle,
    task: JoinHandle<Result<(), RunnerError>>,
}

impl Ledger {
    /// Starts a ledger over all partitions, from the shelf's snapshots where it has any. It stops when `stop` becomes true or its sender is dropped, after
    /// writing its last heads; the recorder must be used by nobody else.
    ///
    /// # Errors
    /// When the topics do not fit together or the journal cannot be asked.
    pub async fn start(
        journal: Arc<dyn Journal>,
        recorder: Arc<Recorder>,
        clock: Clock,
        shelf: Arc<dyn Shelf>,
        settings: Settings,
        stop: watch::Receiver<bool>,
    ) -> Result<Self, RunnerError> {
        let spend = settle(|| journal.partitions(Topic::Spend)).await?;
        let limits = settle(|| journal.partitions(Topic::Limits)).await?;
        if spend != limits {
            return Err(RunnerError::Partitions { spend, limits });
        }
        let requests = settle(|| journal.partitions(Topic::Requests)).await?.max(1);
        // One task's failure stops the others.
        let (failing, failed) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let mut ports = Vec::new();
        for partition in 0..limits {
            let config = Config {
                partition,
                partitions: limits,
                instance: recorder.producer(),
                deployment_key: settings.deployment_key,
                timing: settings.timing,
            };
            let (port, asks, status) = Port::new(partition);
            ports.push(port);
            let keeper = Keeper {
                partition,
                findings: Lane::new(Topic::Requests, partition % requests),
                core: Core::new(config.clone()),
                config,
                shelf: Arc::clone(&shelf),
                journal: Arc::clone(&journal),
                recorder: Arc::clone(&recorder),
                clock: Arc::clone(&clock),
                tick: settings.tick,
                asks,
                status,
                receipts: JoinSet::new(),
                effects: Vec::new(),
                ticks: 0,
                fresh: 0,
                kept_at: Instant::now(),
            };
            tasks.spawn(keeper.run(stop.clone(), failed.clone()));
        }
        let handle = LedgerHandle::new(ports, Arc::clone(&journal));
        let task = tokio::spawn(supervise(tasks, failing, recorder, clock, settings));
        Ok(Self { handle, task })
    }

    /// A handle to ask it by; clones are cheap.
    #[must_use]
    pub fn handle(&self) -> LedgerHandle {
        self.handle.clone()
    }

    /// Waits until it has stopped.
    ///
    /// # Errors
    /// Why it stopped, when nobody told it to.
    pub async fn join(self) -> Result<(), RunnerError> {
        self.task.await.unwrap_or_else(|error| Err(RunnerError::Task(error.to_string())))
    }
}

/// Waits for the partitions' tasks, writes a head every second, and the last ones at the end.
async fn supervise(
    mut tasks: JoinSet<Result<(), RunnerError>>,
    failing: watch::Sender<bool>,
    recorder: Arc<Recorder>,
    clock: Clock,
    settings: Settings,
) -> Result<(), RunnerError> {
    let mut outcome = Ok(());
    let mut ticker = tokio::time::interval(settings.heads);
    ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let ended = tokio::select! {
            ended = tasks.join_next() => ended,
            _ = ticker.tick() => {
                // The receipt is not waited for: the next heads say the same, and appends report failures.
                if let Err(error) = recorder.record_heads(clock()) && outcome.is_ok() {
                    outcome = Err(error.into());
                    failing.send_replace(true);
                }
                continue;
            }
        };
        let Some(ended) = ended else { break };
        let ended = ended.unwrap_or_else(|error| Err(RunnerError::Task(error.to_string())));
        if let Err(error) = ended {
            tracing::error!(%error, "the ledger stops");
            failing.send_replace(true);
            outcome = outcome.and(Err(error));
        }
    }
    if outcome.is_ok() {
        let receipt = recorder.record_end(clock())?;
        tokio::time::timeout(settings.goodbye, receipt)
            .await
            .map_err(|_| RunnerError::Goodbye(settings.goodbye))??;
    }
    outcome
}
