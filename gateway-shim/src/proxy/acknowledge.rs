//! Waiting for receipts, each once.

use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use bursar_schemas::ports::{OutletError, Receipt};

/// Receipts that must resolve before something may happen.
pub(super) struct Acknowledgement {
    pending: Vec<Receipt>,
    deadline: Instant,
    failed: Option<OutletError>,
}

impl Acknowledgement {
    pub(super) fn new(receipt: Receipt, within: Duration) -> Self {
        Self { pending: vec![receipt], deadline: Instant::now() + within, failed: None }
    }

    /// Adds a receipt.
    pub(super) fn and(&mut self, receipt: Receipt, within: Duration) {
        self.pending.push(receipt);
        self.deadline = Instant::now() + within;
    }

    /// Resolves when all are acknowledged. Cancel-safe: what resolved is not waited for again.
    ///
    /// # Errors
    /// The first failure, or that the time is over; for good.
    pub(super) async fn wait(&mut self) -> Result<(), OutletError> {
        while let (None, Some(receipt)) = (&self.failed, self.pending.last_mut()) {
            match tokio::time::timeout_at(self.deadline, receipt).await {
                Ok(Ok(())) => drop(self.pending.pop()),
                Ok(Err(error)) => self.failed = Some(error),
                Err(_) => self.failed = Some(OutletError::Failed("no acknowledgement in time".to_owned())),
            }
        }
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// What is known already, without waiting; none while something is not acknowledged.
    pub(super) async fn look(&mut self) -> Option<Result<(), OutletError>> {
        let mut wait = std::pin::pin!(self.wait());
        std::future::poll_fn(|context| match wait.as_mut().poll(context) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    /// Resolves only when they cannot all be acknowledged any more.
    pub(super) async fn fail(&mut self) {
        if self.wait().await.is_ok() {
            std::future::pending::<()>().await;
        }
    }
}
