//! A journal in memory, for tests and simulation: both ports over plain vectors, no runtime needed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use async_trait::async_trait;

use crate::ids::Generation;
use crate::ports::{
    Batch, Bounds, Cursor, Entry, Journal, JournalError, Outlet, OutletError, Receipt, Record,
};
use crate::position::{Lane, Topic};
use crate::snapshot::Shelf;

/// Most records in a batch.
const BATCH: usize = 1024;

#[derive(Debug, Default)]
struct Lanes {
    records: BTreeMap<Lane, Vec<Record>>,
    wakers: Vec<Waker>,
    refusing: Option<OutletError>,
}

/// A journal in memory; clones share it.
#[derive(Debug, Clone)]
pub struct MemoryJournal {
    partitions: u32,
    lanes: Arc<Mutex<Lanes>>,
}

impl MemoryJournal {
    /// An empty journal with that many partitions a topic (`policy` always has one).
    #[must_use]
    pub fn new(partitions: u32) -> Self {
        Self { partitions: partitions.max(1), lanes: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on every append fails so; none to take facts again.
    pub fn refuse(&self, error: Option<OutletError>) {
        self.lock().refusing = error;
    }

    /// All records of a lane.
    #[must_use]
    pub fn records(&self, lane: Lane) -> Vec<Record> {
        self.lock().records.get(&lane).cloned().unwrap_or_default()
    }

    fn known(&self, lane: Lane) -> Result<(), JournalError> {
        let partitions = if lane.topic == Topic::Policy { 1 } else { self.partitions };
        if lane.partition < partitions { Ok(()) } else { Err(JournalError::NoLane(lane)) }
    }
}

/// A shelf in memory; clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemoryShelf(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Shelf for MemoryShelf {
    fn take(&self, name: &str) -> Option<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
    fn keep(&self, name: &str, snapshot: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(name.to_owned(), snapshot.to_vec());
    }
}

impl Outlet for MemoryJournal {
    fn append(&self, entries: Vec<Entry>) -> Result<Receipt, OutletError> {
        let mut lanes = self.lock();
        if let Some(error) = &lanes.refusing {
            return Err(error.clone());
        }
        for entry in entries {
            self.known(entry.lane).map_err(|error| OutletError::Failed(error.to_string()))?;
            let records = lanes.records.entry(entry.lane).or_default();
            let offset = u64::try_from(records.len()).unwrap_or(u64::MAX);
            records.push(Record { offset, at: entry.at, value: entry.value });
        }
        lanes.wakers.drain(..).for_each(Waker::wake);
        Ok(Box::pin(std::future::ready(Ok(()))))
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn generation(&self, topic: Topic) -> Result<Generation, JournalError> {
        let mut id = [0; 16];
        id[..topic.name().len()].copy_from_slice(topic.name().as_bytes());
        Ok(Generation(id))
    }

    async fn partitions(&self, topic: Topic) -> Result<u32, JournalError> {
        Ok(if topic == Topic::Policy { 1 } else { self.partitions })
    }

    async fn bounds(&self, lane: Lane) -> Result<Bounds, JournalError> {
        self.known(lane)?;
        let end = self.lock().records.get(&lane).map_or(0, Vec::len);
        Ok(Bounds { start: 0, end: u64::try_from(end).unwrap_or(u64::MAX) })
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
        Ok(Box::new(MemoryCursor { journal: self.clone(), lane, next: from }))
    }
}

struct MemoryCursor {
    journal: MemoryJournal,
    lane: Lane,
    next: u64,
}

#[async_trait]
impl Cursor for MemoryCursor {
    async fn next(&mut self) -> Result<Batch, JournalError> {
        std::future::poll_fn(|context| {
            let mut lanes = self.journal.lock();
            let from = usize::try_from(self.next).unwrap_or(usize::MAX);
            let records: Vec<Record> =
                lanes.records.get(&self.lane).into_iter().flatten().skip(from).take(BATCH).cloned().collect();
            if records.is_empty() {
                lanes.wakers.push(context.waker().clone());
                return Poll::Pending;
            }
            self.next += u64::try_from(records.len()).unwrap_or(0);
            Poll::Ready(Ok(Batch { records, next: self.next }))
        })
        .await
    }
}
