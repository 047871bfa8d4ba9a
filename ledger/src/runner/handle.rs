//! Asking a running ledger.

use std::sync::Arc;

use bursar_schemas::ports::{Journal, JournalError};
use bursar_schemas::position::{Lane, Topic};
use tokio::sync::{mpsc, oneshot, watch};

use crate::books::AccountBooks;
use crate::core::Standing;

pub(super) type Ask = oneshot::Sender<Vec<AccountBooks>>;

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
        let mut books = Vec::new();
        for port in self.ports.iter() {
            let (answer, answered) = oneshot::channel();
            port.asks.send(answer).await.map_err(|_| NotRunning)?;
            books.extend(answered.await.map_err(|_| NotRunning)?);
        }
        Ok(books)
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
