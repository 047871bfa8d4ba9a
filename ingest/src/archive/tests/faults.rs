//! Faults of an object store: it fails, or falls silent, at one chosen call, or overwrites whatever it is told.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt as _;
use futures::stream::BoxStream;
use object_store::{Error, ObjectMeta, PutOptions, Result};
use tokio::sync::Notify;

use super::disturbed::Disturbance;

/// What happens at the chosen call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing is done, and an error is answered.
    ErrorBefore,
    /// It is done, but an error is answered: the response was lost.
    ErrorAfter,
    /// Nothing is done and nothing answered, ever: the process dies here.
    DeathBefore,
    /// It is done and nothing answered: the process dies here.
    DeathAfter,
}

/// One fault, at one call.
#[derive(Debug)]
pub(super) struct Faulty {
    fault: Fault,
    at: usize,
    calls: AtomicUsize,
    pub(super) dead: Notify,
}

fn error() -> Error {
    Error::Generic { store: "faulty", source: "a fault".into() }
}

impl Faulty {
    pub(super) fn new(fault: Fault, at: usize) -> Self {
        Self { fault, at, calls: AtomicUsize::new(0), dead: Notify::new() }
    }

    pub(super) fn fired(&self) -> bool {
        self.calls() > self.at
    }

    /// Calls so far.
    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Counts a call, and says whether it is the chosen one.
    fn is_now(&self) -> bool {
        self.calls.fetch_add(1, Ordering::SeqCst) == self.at
    }
}

impl Disturbance for Faulty {
    async fn call<T: Send>(&self, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        if !self.is_now() {
            return work.await;
        }
        match self.fault {
            Fault::ErrorBefore => return Err(error()),
            Fault::ErrorAfter => {
                work.await?;
                return Err(error());
            }
            Fault::DeathBefore => {}
            Fault::DeathAfter => drop(work.await),
        }
        self.dead.notify_one();
        std::future::pending().await
    }

    fn listing(
        &self,
        listing: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        if !self.is_now() {
            return listing;
        }
        if matches!(self.fault, Fault::ErrorBefore | Fault::ErrorAfter) {
            return futures::stream::once(async { Err(error()) }).boxed();
        }
        self.dead.notify_one();
        futures::stream::pending().boxed()
    }
}

/// Overwrites whatever it is told.
#[derive(Debug)]
pub(super) struct Careless;

impl Disturbance for Careless {
    fn asked(&self, _: PutOptions) -> PutOptions {
        PutOptions::default()
    }
}
