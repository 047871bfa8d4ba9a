//! All lanes as one state: per lane its sealed chain and its tail, joined at one offset.
//!
//! Invariant: a chain grows and its tail is trimmed under one lock, and a snapshot is taken under the same
//! lock, so every record is in a snapshot exactly once: sealed below the chain's end, from the tail above.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use bursar_schemas::avro::Micros;
use bursar_schemas::ports::Batch;
use bursar_schemas::position::Topic;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::catalog::{Chain, Foreign, LaneKey, Segment};
use crate::config::QueryConfig;
use crate::error::QueryError;
use crate::status::{LaneStatus, Status};
use crate::tail::Tail;

#[derive(Debug, Default)]
struct LaneState {
    chain: Chain,
    tail: Option<Tail>,
}

#[derive(Debug, Default)]
struct Inner {
    lanes: BTreeMap<LaneKey, LaneState>,
    foreign: Foreign,
    problem: Option<String>,
}

/// The state of all lanes.
#[derive(Debug)]
pub(crate) struct Lanes {
    inner: Mutex<Inner>,
    /// Some tail moved on.
    moved: Notify,
    /// Some tail has room again.
    room: Notify,
    most_rows: usize,
    most_bytes: usize,
}

/// Everything that one query sees of one topic.
#[derive(Debug, Clone, Default)]
pub(crate) struct TopicRows {
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) tail: Vec<RecordBatch>,
}

/// Everything that one query sees.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) topics: BTreeMap<Topic, TopicRows>,
    pub(crate) status: Status,
}

impl Lanes {
    pub(crate) fn new(config: &QueryConfig) -> Self {
        Self {
            inner: Mutex::default(),
            moved: Notify::new(),
            room: Notify::new(),
            most_rows: config.tail_rows.max(1),
            most_bytes: config.tail_bytes.max(1),
        }
    }

    /// What is known of all chains.
    pub(crate) fn chains(&self) -> BTreeMap<LaneKey, Chain> {
        self.inner.lock().lanes.iter().map(|(key, state)| (*key, state.chain.clone())).collect()
    }

    /// Takes longer chains, and trims the tails by what they hold now.
    pub(crate) fn apply(
        &self,
        chains: BTreeMap<LaneKey, Chain>,
        foreign: Option<Foreign>,
    ) -> Result<(), QueryError> {
        let mut inner = self.inner.lock();
        if let Some(foreign) = foreign {
            inner.foreign = foreign;
        }
        for (key, chain) in chains {
            let state = inner.lanes.entry(key).or_default();
            if chain.next < state.chain.next {
                continue;
            }
            state.chain = chain;
            if let Some(tail) = &mut state.tail {
                tail.trim(&state.chain)?;
            }
        }
        drop(inner);
        self.room.notify_waiters();
        self.moved.notify_waiters();
        Ok(())
    }

    /// Says why the archive could not be looked at, or that it could again.
    pub(crate) fn set_problem(&self, problem: Option<String>) {
        self.inner.lock().problem = problem;
    }

    /// Begins a tail where the lane's chain ends; false when it has one.
    pub(crate) fn begin_tail(&self, key: LaneKey) -> Result<bool, QueryError> {
        let mut inner = self.inner.lock();
        let state = inner.lanes.entry(key).or_default();
        if state.tail.is_some() {
            return Ok(false);
        }
        state.tail = Some(Tail::new(key, &state.chain, self.most_rows, self.most_bytes)?);
        Ok(true)
    }

    fn with_tail<T>(&self, key: LaneKey, act: impl FnOnce(&mut Tail) -> T) -> Option<T> {
        self.inner.lock().lanes.get_mut(&key).and_then(|state| state.tail.as_mut()).map(act)
    }

    /// Waits until the tail has room, then says where it goes on; none when there is no such tail.
    pub(crate) async fn wait_for_room(&self, key: LaneKey) -> Option<u64> {
        loop {
            // Made before the look: from then on no change is missed.
            let room = self.room.notified();
            let (has_room, position) = self.with_tail(key, |tail| (tail.has_room(), tail.position()))?;
            if has_room {
                return Some(position);
            }
            room.await;
        }
    }

    /// Hands records to the tail.
    pub(crate) fn extend(&self, key: LaneKey, batch: Batch) -> Result<(), QueryError> {
        let done = self.with_tail(key, |tail| {
            tail.error = None;
            tail.extend(batch)
        });
        self.moved.notify_waiters();
        done.unwrap_or(Ok(()))
    }

    /// Records below that offset are held by nobody any more.
    pub(crate) fn skip_lost(&self, key: LaneKey, until: u64) {
        self.with_tail(key, |tail| tail.skip_lost(until));
        self.moved.notify_waiters();
    }

    /// The tail does not move, for that reason.
    pub(crate) fn stall(&self, key: LaneKey, reason: String) {
        self.with_tail(key, |tail| tail.error = Some(reason));
    }

    /// True while some tail is at its bound.
    pub(crate) fn is_full(&self) -> bool {
        let inner = self.inner.lock();
        inner.lanes.values().any(|state| state.tail.as_ref().is_some_and(|tail| !tail.has_room()))
    }

    /// Waits until every lane has reached an offset; false when time runs out first.
    pub(crate) async fn wait_for(
        &self,
        ends: &BTreeMap<LaneKey, u64>,
        deadline: tokio::time::Instant,
    ) -> bool {
        loop {
            let moved = self.moved.notified();
            if self.has_reached(ends) {
                return true;
            }
            if tokio::time::timeout_at(deadline, moved).await.is_err() {
                return self.has_reached(ends);
            }
        }
    }

    fn has_reached(&self, ends: &BTreeMap<LaneKey, u64>) -> bool {
        let inner = self.inner.lock();
        ends.iter().all(|(key, end)| {
            inner.lanes.get(key).is_some_and(|state| {
                state.chain.next.max(state.tail.as_ref().map_or(0, Tail::position)) >= *end
            })
        })
    }

    /// Everything as it stands at one instant. `ends` are the journal's ends as the query began.
    pub(crate) fn snapshot(
        &self,
        as_of: Micros,
        ends: &BTreeMap<LaneKey, u64>,
    ) -> Result<Snapshot, QueryError> {
        let mut inner = self.inner.lock();
        let mut topics: BTreeMap<Topic, TopicRows> =
            Topic::ALL.into_iter().map(|topic| (topic, TopicRows::default())).collect();
        let mut lanes = Vec::new();
        let Inner { lanes: states, foreign, problem } = &mut *inner;
        for (key, state) in states.iter_mut() {
            let rows = topics.entry(key.lane.topic).or_default();
            let (mut removed_rows, mut removed_until_us) = (0_u64, None);
            for segment in &state.chain.segments {
                if segment.removed {
                    removed_rows = removed_rows.saturating_add(segment.rows);
                    removed_until_us =
                        removed_until_us.max(segment.times_us.map(|(_, latest)| Micros(latest)));
                } else {
                    rows.segments.push(Arc::clone(segment));
                }
            }
            let mut lost: Vec<(u64, u64)> =
                state.chain.segments.iter().flat_map(|segment| segment.lost.iter().copied()).collect();
            let (mut tail_rows, mut next, mut full, mut stalled) = (0, state.chain.next, false, None);
            if let Some(tail) = &mut state.tail {
                rows.tail.extend(tail.from(state.chain.next)?);
                lost.extend(&tail.lost);
                tail_rows = tail.rows();
                next = next.max(tail.position());
                full = !tail.has_room();
                stalled.clone_from(&tail.error);
            }
            let journal_end = ends.get(key).copied();
            lanes.push(LaneStatus {
                topic: key.lane.topic,
                partition: key.lane.partition,
                generation: key.generation,
                segments: state.chain.segments.len(),
                sealed_next: state.chain.next,
                next,
                tail_rows,
                behind: journal_end.map_or(0, |end| end.saturating_sub(next)),
                waits_for_sealing: full,
                lost,
                removed_rows,
                removed_until_us,
                broken: state.chain.broken.clone(),
                stalled,
            });
        }
        let status = Status {
            as_of,
            lanes,
            foreign_objects: foreign.count,
            foreign: foreign.named.clone(),
            problem: problem.clone(),
            journal_problem: None,
        };
        Ok(Snapshot { topics, status })
    }
}
