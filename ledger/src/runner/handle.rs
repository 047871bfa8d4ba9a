//! Asking a running ledger.

use std::sync::Arc;

use bursar_schemas::ids::ProducerId;
use bursar_schemas::ports::{Journal, JournalError};
use bursar_schemas::position::{Lane, Topic};
use tokio::sync::{mpsc, oneshot, watch};

use crate::alerts::{AlertCounts, AlertState};
use crate::books::AccountBooks;
use crate::core::Standing;
use crate::holders::HolderState;

/// What a partition can be asked and told.
pub(super) enum Ask {
    /// Its books.
    Books(oneshot::Sender<Vec<AccountBooks>>),
    /// Who holds leases.
    Holders(oneshot::Sender<Vec<HolderState>>),
    /// The latest alerts.
    Alerts(oneshot::Sender<Vec<AlertState>>),
    /// The oldest deliveries that are due, at most so many for each webhook.
    Due(usize, oneshot::Sender<Vec<(AlertState, String)>>),
    /// What became of one.
    Told(Report),
}

/// What became of telling a webhook of an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The partition of the alert.
    pub partition: u32,
    /// Who raised it ...
    pub producer: ProducerId,
    /// ... and its number.
    pub number: u64,
    /// The webhook's id.
    pub webhook: String,
    /// True when it took the alert; false when it is given up.
    pub delivered: bool,
    /// How often it was tried.
    pub attempts: u32,
    /// Status of the last answer, where there was one.
    pub status: Option<u16>,
}

/// The ledger does not run (any more).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ledger does not run")]
pub struct NotRunning;

/// How one partition's ledger is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionStatus {
    /// The partition.
    pub partition: u32,
    /// What it is: catching up, claiming, acting or standing by.
    pub standing: Standing,
    /// The latest epoch in the log, whoever's it is.
    pub epoch: Option<u64>,
    /// One above the last offset of `limits` that it has read.
    pub limits_next: u64,
    /// One above the last offset of `spend` that it has read.
    pub spend_next: u64,
    /// Reservations that are neither settled nor voided.
    pub open_reservations: usize,
    /// Requests for leases without an answer.
    pub waiting_requests: usize,
    /// Alerts and their deliveries in its log.
    pub alerts: AlertCounts,
    /// Why the journal cannot be reached at the moment.
    pub trouble: Option<String>,
}

/// One partition's end of the handle.
#[derive(Debug, Clone)]
pub(super) struct Port {
    asks: mpsc::Sender<Ask>,
    status: watch::Receiver<PartitionStatus>,
}

impl Port {
    pub(super) fn new(partition: u32) -> (Self, mpsc::Receiver<Ask>, watch::Sender<PartitionStatus>) {
        let status = PartitionStatus {
            partition,
            standing: Standing::CatchingUp,
            epoch: None,
            limits_next: 0,
            spend_next: 0,
            open_reservations: 0,
            waiting_requests: 0,
            alerts: AlertCounts::default(),
            trouble: None,
        };
        let (sender, receiver) = watch::channel(status);
        let (asks, asked) = mpsc::channel(16);
        (Self { asks, status: receiver }, asked, sender)
    }
}

/// A handle to a running ledger.
#[derive(Clone)]
pub struct LedgerHandle {
    ports: Arc<[Port]>,
    journal: Arc<dyn Journal>,
}

impl std::fmt::Debug for LedgerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LedgerHandle").field("partitions", &self.ports.len()).finish_non_exhaustive()
    }
}

impl LedgerHandle {
    pub(super) fn new(ports: Vec<Port>, journal: Arc<dyn Journal>) -> Self {
        Self { ports: ports.into(), journal }
    }

    /// The books of all accounts, as of what was read; sorted by budget and window within each partition.
    ///
    /// # Errors
    /// When the ledger does not run.
    pub async fn books(&self) -> Result<Vec<AccountBooks>, NotRunning> {
        self.gather(Ask::Books).await
    }

    /// Shims that run or have left leases behind, in each partition.
    ///
    /// # Errors
    /// When the ledger does not run.
    pub async fn holders(&self) -> Result<Vec<HolderState>, NotRunning> {
        self.gather(Ask::Holders).await
    }

    /// The latest alerts of all partitions, oldest first within each.
    ///
    /// # Errors
    /// When the ledger does not run.
    pub async fn alerts(&self) -> Result<Vec<AlertState>, NotRunning> {
        self.gather(Ask::Alerts).await
    }

    /// Deliveries of alerts that are due in the partitions where it acts: the oldest, at most so many for each webhook
    /// and partition.
    ///
    /// # Errors
    /// When the ledger does not run.
    pub async fn due_deliveries(&self, most: usize) -> Result<Vec<(AlertState, String)>, NotRunning> {
        self.gather(|answer| Ask::Due(most, answer)).await
    }

    /// Has it recorded what became of a delivery; it does so while it acts, and the delivery stays due otherwise.
    ///
    /// # Errors
    /// When the ledger does not run.
    pub async fn told(&self, report: Report) -> Result<(), NotRunning> {
        let index = usize::try_from(report.partition).map_err(|_| NotRunning)?;
        let port = self.ports.get(index).ok_or(NotRunning)?;
        port.asks.send(Ask::Told(report)).await.map_err(|_| NotRunning)
    }

    async fn gather<T>(&self, ask: impl Fn(oneshot::Sender<Vec<T>>) -> Ask) -> Result<Vec<T>, NotRunning> {
        let mut all = Vec::new();
        for port in self.ports.iter() {
            let (answer, answered) = oneshot::channel();
            port.asks.send(ask(answer)).await.map_err(|_| NotRunning)?;
            all.extend(answered.await.map_err(|_| NotRunning)?);
        }
        Ok(all)
    }

    /// How each partition is, at its last tick.
    #[must_use]
    pub fn status(&self) -> Vec<PartitionStatus> {
        self.ports.iter().map(|port| port.status.borrow().clone()).collect()
    }

    /// True while every partition has read what was there at its start.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        self.ports.iter().all(|port| port.status.borrow().standing != Standing::CatchingUp)
    }

    /// Records of `spend` that were not read yet, over all partitions.
    ///
    /// # Errors
    /// When the journal cannot be asked.
    pub async fn lag(&self) -> Result<u64, JournalError> {
        let mut lag: u64 = 0;
        for status in self.status() {
            let bounds = self.journal.bounds(Lane::new(Topic::Spend, status.partition)).await?;
            lag = lag.saturating_add(bounds.end.saturating_sub(status.spend_next));
        }
        Ok(lag)
    }
}
