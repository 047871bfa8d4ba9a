//! The queue of appended entries and the one thread that writes them in groups.

use std::collections::{BTreeMap, VecDeque};

use bursar_schemas::ports::{Entry, JournalError, OutletError, Receipt, Record};
use bursar_schemas::position::Lane;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::Shared;

/// What a record costs in the queue beside its bytes, so that empty ones are bounded too.
const OVERHEAD: usize = 64;

type Done = oneshot::Sender<Result<(), OutletError>>;

struct Submission {
    entries: Vec<Entry>,
    bytes: usize,
    done: Done,
}

#[derive(Default)]
struct Waiting {
    submissions: VecDeque<Submission>,
    bytes: usize,
    closing: bool,
    failure: Option<String>,
}

/// Appends on their way to the writer, bounded in bytes.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    filled: Condvar,
    room: Condvar,
    bound: usize,
}

impl Queue {
    pub(super) fn new(bound: usize) -> Self {
        Self { waiting: Mutex::default(), filled: Condvar::new(), room: Condvar::new(), bound }
    }

    /// Takes the entries, waiting for the writer when the queue is full.
    pub(super) fn push(&self, entries: Vec<Entry>) -> Result<Receipt, OutletError> {
        let bytes = entries.iter().map(|entry| entry.value.len() + OVERHEAD).sum::<usize>();
        let (done, acknowledged) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        loop {
            if let Some(failure) = &waiting.failure {
                return Err(OutletError::Failed(failure.clone()));
            }
            if waiting.closing {
                return Err(closed());
            }
            // One submission is always let in, or one above the bound could never be taken.
            if waiting.submissions.is_empty() || waiting.bytes + bytes <= self.bound {
                break;
            }
            self.room.wait(&mut waiting);
        }
        waiting.bytes += bytes;
        waiting.submissions.push_back(Submission { entries, bytes, done });
        drop(waiting);
        self.filled.notify_one();
        Ok(Box::pin(async move { acknowledged.await.unwrap_or_else(|_| Err(closed())) }))
    }

    /// The next group, waiting for one; none when closed and drained.
    fn take(&self, most_bytes: usize) -> Option<Vec<Submission>> {
        let mut waiting = self.waiting.lock();
        while waiting.submissions.is_empty() {
            if waiting.closing {
                return None;
            }
            self.filled.wait(&mut waiting);
        }
        let mut group = Vec::new();
        let mut bytes = 0;
        while let Some(first) = waiting.submissions.front() {
            if !group.is_empty() && bytes + first.bytes > most_bytes {
                break;
            }
            bytes += first.bytes;
            group.extend(waiting.submissions.pop_front());
        }
        waiting.bytes -= bytes;
        drop(waiting);
        self.room.notify_all();
        Some(group)
    }

    /// Takes nothing more; what was taken is still written.
    pub(super) fn close(&self) {
        self.waiting.lock().closing = true;
        self.filled.notify_all();
        self.room.notify_all();
    }

    /// What went wrong at the store.
    pub(super) fn failure(&self) -> Option<String> {
        self.waiting.lock().failure.clone()
    }

    /// Gives up: everything that waits fails, and so does every later append.
    fn fail(&self, detail: &str) {
        let mut waiting = self.waiting.lock();
        waiting.failure.get_or_insert_with(|| detail.to_owned());
        waiting.bytes = 0;
        let left: Vec<Submission> = waiting.submissions.drain(..).collect();
        drop(waiting);
        self.room.notify_all();
        resolve(
            left.into_iter().map(|submission| submission.done),
            &Err(OutletError::Failed(detail.to_owned())),
        );
    }
}

fn closed() -> OutletError {
    OutletError::Closed("the journal was closed".to_owned())
}

fn resolve(receipts: impl Iterator<Item = Done>, outcome: &Result<(), OutletError>) {
    for receipt in receipts {
        // The appender may have dropped its receipt, which changes nothing.
        drop(receipt.send(outcome.clone()));
    }
}

/// Writes group after group until the journal is closed or the store fails.
pub(super) fn run(shared: &Shared) {
    let guard = shared.store.read();
    let Some(store) = guard.as_ref() else { return };
    while let Some(group) = shared.queue.take(shared.options.group_bytes) {
        let mut records: BTreeMap<Lane, Vec<Record>> = BTreeMap::new();
        let mut receipts = Vec::with_capacity(group.len());
        for submission in group {
            receipts.push(submission.done);
            for entry in submission.entries {
                let Some(lane) = shared.lanes.get(entry.lane) else { continue };
                let of_lane = records.entry(entry.lane).or_default();
                let offset = of_lane.last().map_or_else(|| lane.end(), |last| last.offset + 1);
                of_lane.push(Record { offset, at: entry.at, value: entry.value });
            }
        }
        if let Err(detail) = store.commit(&records) {
            // What a failed flush left on the disk is unknown, so nothing after it can be trusted.
            shared.queue.fail(&detail);
            shared.lanes.end(&JournalError::Failed(detail.clone()));
            resolve(receipts.into_iter(), &Err(OutletError::Failed(detail)));
            return;
        }
        for (lane, written) in records {
            if let Some(state) = shared.lanes.get(lane) {
                state.publish(written);
            }
        }
        resolve(receipts.into_iter(), &Ok(()));
    }
}
