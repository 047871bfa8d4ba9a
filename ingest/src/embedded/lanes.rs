//! What is known of each lane in memory: how far it is durable, and its newest records.

use std::collections::{BTreeMap, VecDeque};

use bursar_schemas::ports::{JournalError, Record};
use bursar_schemas::position::Lane;
use parking_lot::Mutex;
use tokio::sync::watch;

/// How far a lane has come.
#[derive(Debug, Clone)]
pub(super) struct Tide {
    /// One above the last durable offset.
    pub(super) end: u64,
    /// Why nothing more will come.
    pub(super) ended: Option<JournalError>,
}

/// A lane's newest records, dense up to its end.
#[derive(Debug)]
struct Tail {
    records: VecDeque<Record>,
    bytes: usize,
    bound: usize,
}

/// One lane in memory.
#[derive(Debug)]
pub(super) struct LaneState {
    tail: Mutex<Tail>,
    tide: watch::Sender<Tide>,
}

impl LaneState {
    fn new(end: u64, bound: usize) -> Self {
        Self {
            tail: Mutex::new(Tail { records: VecDeque::new(), bytes: 0, bound }),
            tide: watch::Sender::new(Tide { end, ended: None }),
        }
    }

    /// One above the last durable offset.
    pub(super) fn end(&self) -> u64 {
        self.tide.borrow().end
    }

    pub(super) fn watch(&self) -> watch::Receiver<Tide> {
        self.tide.subscribe()
    }

    /// Shows durable records to readers.
    pub(super) fn publish(&self, records: Vec<Record>) {
        let Some(end) = records.last().map(|last| last.offset + 1) else { return };
        {
            let mut tail = self.tail.lock();
            for record in records {
                tail.bytes += record.value.len();
                tail.records.push_back(record);
            }
            while tail.bytes > tail.bound {
                let Some(oldest) = tail.records.pop_front() else { break };
                tail.bytes -= oldest.value.len();
            }
        }
        self.tide.send_modify(|tide| tide.end = end);
    }

    /// Records from that offset on, as far as the bounds allow; none when memory does not go back so far.
    pub(super) fn recent(&self, from: u64, most: usize, most_bytes: usize) -> Option<Vec<Record>> {
        let tail = self.tail.lock();
        let first = tail.records.front()?.offset;
        let skip = usize::try_from(from.checked_sub(first)?).ok()?;
        let mut bytes = 0_usize;
        let mut taken = Vec::new();
        for record in tail.records.range(skip.min(tail.records.len())..).take(most) {
            bytes += record.value.len();
            if bytes > most_bytes && !taken.is_empty() {
                break;
            }
            taken.push(record.clone());
        }
        (!taken.is_empty()).then_some(taken)
    }
}

/// All lanes of the journal.
#[derive(Debug)]
pub(super) struct Lanes(BTreeMap<Lane, LaneState>);

impl Lanes {
    pub(super) fn new(ends: &BTreeMap<Lane, u64>, tail_bytes: usize) -> Self {
        Self(ends.iter().map(|(lane, end)| (*lane, LaneState::new(*end, tail_bytes))).collect())
    }

    pub(super) fn get(&self, lane: Lane) -> Option<&LaneState> {
        self.0.get(&lane)
    }

    /// Tells all readers that nothing more will come; the first reason stands.
    pub(super) fn end(&self, reason: &JournalError) {
        for state in self.0.values() {
            state.tide.send_modify(|tide| {
                tide.ended.get_or_insert_with(|| reason.clone());
            });
        }
    }
}
