//! What an archiver tells about itself.

use std::collections::BTreeMap;

use bursar_schemas::ids::Generation;
use bursar_schemas::position::Lane;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

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
    lanes: Mutex<BTreeMap<Lane, LaneStatus>>,
    changes: watch::Sender<u64>,
}

impl Board {
    pub(super) fn new() -> Self {
        Self { lanes: Mutex::default(), changes: watch::Sender::new(0) }
    }

    /// Changes a lane's status and wakes whoever waits for changes.
    pub(super) fn update(&self, lane: Lane, change: impl FnOnce(&mut LaneStatus)) {
        change(self.lanes.lock().entry(lane).or_default());
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Notes what keeps a lane from going on, once each time that it changes.
    pub(super) fn fault(&self, lane: Lane, fault: String) {
        let news = {
            let mut lanes = self.lanes.lock();
            let status = lanes.entry(lane).or_default();
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
        self.lanes.lock().get(&lane).and_then(|status| status.sealed)
    }

    pub(super) fn lanes(&self) -> BTreeMap<Lane, LaneStatus> {
        self.lanes.lock().clone()
    }

    pub(super) fn bytes_and_lanes(&self) -> (u64, u64) {
        let lanes = self.lanes.lock();
        let bytes = lanes.values().map(|status| status.buffered_bytes).sum();
        (bytes, u64::try_from(lanes.len()).unwrap_or(u64::MAX))
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
