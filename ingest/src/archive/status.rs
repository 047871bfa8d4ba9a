//! What an archiver tells about itself.

use std::collections::BTreeMap;

use bursar_schemas::ids::Generation;
use bursar_schemas::position::Lane;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::share::{Load, is_crowded};

/// How a lane stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LaneStatus {
    /// The topic's life that is being archived; none before the journal answered.
    pub generation: Option<Generation>,
    /// The last offset that is sealed; none before the first segment.
    pub sealed: Option<u64>,
    /// Records taken in and not sealed.
    pub buffered_records: usize,
    /// Bytes taken in and not sealed.
    pub buffered_bytes: u64,
    /// When the oldest record that is not sealed was taken in; none when all are sealed.
    pub since: Option<Instant>,
    /// Segments that this process put.
    pub put: u64,
    /// Segments that another process had put where this one was about to.
    pub adopted: u64,
    /// Offsets stated as lost by segments that this process put.
    pub lost: u64,
    /// What keeps the lane from going on at the moment; it is tried again and again.
    pub fault: Option<String>,
}

/// The state of all lanes, shared between their tasks and whoever asks.
#[derive(Debug)]
pub(super) struct Board {
    lanes: Mutex<Lanes>,
    memory_bytes: u64,
    changes: watch::Sender<u64>,
    pressure: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Lanes {
    each: BTreeMap<Lane, LaneStatus>,
    /// Whether they held as much as they may together, when that was last looked at.
    crowded: bool,
}

impl Board {
    /// For lanes that may hold so many bytes together.
    pub(super) fn new(memory_bytes: u64) -> Self {
        let (changes, pressure) = (watch::Sender::new(0), watch::Sender::new(0));
        Self { lanes: Mutex::default(), memory_bytes, changes, pressure }
    }

    /// Changes a lane's status and wakes whoever waits for changes.
    pub(super) fn update(&self, lane: Lane, change: impl FnOnce(&mut LaneStatus)) {
        let pressed = {
            let mut lanes = self.lanes.lock();
            change(lanes.each.entry(lane).or_default());
            let crowded = is_crowded(self.memory_bytes, lanes.load(0).bytes_of_all);
            std::mem::replace(&mut lanes.crowded, crowded) || crowded
        };
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
        if pressed {
            self.pressure.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// Notes what keeps a lane from going on, once each time that it changes.
    pub(super) fn fault(&self, lane: Lane, fault: String) {
        let news = {
            let mut lanes = self.lanes.lock();
            let status = lanes.each.entry(lane).or_default();
            let news = status.fault.as_ref() != Some(&fault);
            status.fault = Some(fault.clone());
            news
        };
        if news {
            tracing::warn!(%lane, %fault, "the archiver cannot go on and will try again");
            self.changes.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    pub(super) fn sealed(&self, lane: Lane) -> Option<u64> {
        self.lanes.lock().each.get(&lane).and_then(|status| status.sealed)
    }

    pub(super) fn lanes(&self) -> BTreeMap<Lane, LaneStatus> {
        self.lanes.lock().each.clone()
    }

    /// What all lanes hold, beside one that holds so many bytes.
    pub(super) fn load(&self, bytes: u64) -> Load {
        self.lanes.lock().load(bytes)
    }

    /// Changes whenever what lanes hold does while they hold as much as they may, and when that ends.
    pub(super) fn pressure(&self) -> watch::Receiver<u64> {
        self.pressure.subscribe()
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

impl Lanes {
    fn load(&self, bytes: u64) -> Load {
        let held = || self.each.values().map(|status| status.buffered_bytes);
        Load {
            bytes,
            bytes_of_all: held().sum(),
            largest: held().max().unwrap_or(0),
            lanes: u64::try_from(self.each.len()).unwrap_or(u64::MAX),
        }
    }
}
