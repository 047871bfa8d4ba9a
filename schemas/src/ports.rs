//! The two ports: a [`Journal`] one reads facts from, an [`Outlet`] one appends facts to.
//!
//! Implementations: Kafka, the embedded journal and the spool in `ingest`; [`crate::memory`] for tests and
//! simulation. One conformance suite runs against all journals.

use std::future::Future;
use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;

use crate::avro::Micros;
use crate::ids::Generation;
use crate::position::{Lane, Topic};

/// A record as it stands in a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its offset in the lane.
    pub offset: u64,
    /// When the journal took it in, by the writer's clock.
    pub at: Micros,
    /// The record bytes; empty for a tombstone, which no fact is.
    pub value: Bytes,
}

/// Some consecutive records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// The records, by rising offset. Offsets may have lawful holes (a broker's control records).
    pub records: Vec<Record>,
    /// The offset to go on from: above every record of the batch and every hole passed over.
    pub next: u64,
}

/// First offset held, and the offset that the next record will get, among durable records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// First offset still held.
    pub start: u64,
    /// One above the last durable offset.
    pub end: u64,
}

/// What went wrong at a journal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// The offset asked for is not held (any more, or yet): retention, or a topic made anew.
    #[error("{lane} holds offsets {start} to {end}, not {wanted}")]
    OutOfRange {
        /// The lane.
        lane: Lane,
        /// First offset held.
        start: u64,
        /// One above the last.
        end: u64,
        /// The offset asked for.
        wanted: u64,
    },
    /// There is no such topic or partition.
    #[error("{0} does not exist")]
    NoLane(Lane),
    /// The journal cannot be reached at the moment; reading may go on later.
    #[error("journal unavailable: {0}")]
    Unavailable(String),
    /// The journal cannot go on.
    #[error("journal failed: {0}")]
    Failed(String),
}

/// A durable, totally ordered sequence of records per lane.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Which life of the topic this is.
    async fn generation(&self, topic: Topic) -> Result<Generation, JournalError>;
    /// How many partitions the topic has.
    async fn partitions(&self, topic: Topic) -> Result<u32, JournalError>;
    /// What is held of a lane.
    async fn bounds(&self, lane: Lane) -> Result<Bounds, JournalError>;
    /// A cursor from that offset on. An offset below the start is an error, one at the end waits.
    async fn read(&self, lane: Lane, from: u64) -> Result<Box<dyn Cursor>, JournalError>;
}

/// A place in a lane, moving forward.
#[async_trait]
pub trait Cursor: Send {
    /// Waits for the next records and takes them; never an empty batch without progress of `next`.
    ///
    /// Cancel-safe: a call that is dropped before it resolves has taken nothing.
    async fn next(&mut self) -> Result<Batch, JournalError>;
}

/// A record to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub lane: Lane,
    /// The record bytes.
    pub value: Bytes,
    /// Event time.
    pub at: Micros,
}

/// What went wrong at an outlet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutletError {
    /// Its bounded space is used up; nothing of the call was taken.
    #[error("no space left for facts: {0}")]
    Full(String),
    /// It was closed, or fenced by a successor.
    #[error("outlet closed: {0}")]
    Closed(String),
    /// It cannot go on; what was not acknowledged may be lost.
    #[error("failed to append facts: {0}")]
    Failed(String),
}

/// Resolves when everything of an append is acknowledged, each record once and in order.
pub type Receipt = Pin<Box<dyn Future<Output = Result<(), OutletError>> + Send>>;

/// A place to append facts: first in, first out per lane.
pub trait Outlet: Send + Sync {
    /// Takes the entries, all or none, in order. Does not wait for acknowledgement: the receipt does, and
    /// dropping it changes nothing. May block for a local write, never for the network.
    ///
    /// # Errors
    /// When nothing was taken.
    fn append(&self, entries: Vec<Entry>) -> Result<Receipt, OutletError>;

    /// As `append`, but the receipt resolves only when the journal itself has everything: nothing local stands in for
    /// it, however long that takes.
    ///
    /// # Errors
    /// When nothing was taken.
    fn append_through(&self, entries: Vec<Entry>) -> Result<Receipt, OutletError> {
        self.append(entries)
    }
}
