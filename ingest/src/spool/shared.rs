//! What appenders, the forwarder and the flusher of a spool share.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bursar_schemas::ids::ProducerId;
use bursar_schemas::ports::{Entry, OutletError, Receipt};
use bursar_schemas::position::Lane;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{Notify, oneshot};

use super::SpoolConfig;
use super::frame::Kind;
use super::log::{Log, Spot};
use super::mark::Mark;
use super::recover::Replay;
use super::room::room_for;
use super::track::{Tracker, glance};

/// How often the acknowledgement mark is written while all goes well.
const MARK_EVERY: Duration = Duration::from_millis(200);

/// When a receipt resolves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resolves {
    /// Once the inner outlet has acknowledged, or a flush stood in for it.
    Safe,
    /// Once the inner outlet has acknowledged.
    Through,
}

/// A receipt that is not resolved yet.
struct Pending {
    /// One above the number of its last frame.
    end: u64,
    /// When a flush shall stand in for the inner outlet.
    due: Instant,
    done: oneshot::Sender<Result<(), OutletError>>,
}

/// Resolves those that end below a number; gives how many.
fn resolve_below(pending: &mut VecDeque<Pending>, safe: u64) -> u64 {
    let mut resolved = 0;
    while let Some(oldest) = pending.pop_front_if(|oldest| oldest.end <= safe) {
        // A dropped receipt changes nothing.
        drop(oldest.done.send(Ok(())));
        resolved += 1;
    }
    resolved
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) flushed_receipts: u64,
    pub(super) flushes: u64,
    pub(super) refused_appends: u64,
    pub(super) refused_forwards: u64,
    pub(super) carried: u64,
}

/// All that changes.
pub(super) struct State {
    pub(super) log: Log,
    pub(super) tracker: Tracker<Spot>,
    last: BTreeMap<Lane, u64>,
    pending: VecDeque<Pending>,
    /// Those for which no flush may stand in.
    through: VecDeque<Pending>,
    /// Number of the first frame that the inner outlet has not acknowledged.
    pub(super) acknowledged: u64,
    /// Number of the first frame that is not flushed.
    flushed: u64,
    /// The inner outlet did not acknowledge within the patience, and has not caught up since.
    away: bool,
    pub(super) closing: bool,
    pub(super) broken: Option<String>,
    pub(super) predecessor_bytes: u64,
    /// Predecessors whose folders are still there.
    pub(super) unfinished: BTreeSet<ProducerId>,
    /// Those whose closing facts the caller has recorded.
    finished: BTreeSet<ProducerId>,
    /// Those whose facts are all acknowledged.
    replayed: BTreeMap<ProducerId, Replay>,
    marked_at: Instant,
    pub(super) counters: Counters,
}

/// The shared part of a spool.
pub(super) struct Shared {
    pub(super) dir: PathBuf,
    pub(super) config: SpoolConfig,
    pub(super) state: Mutex<State>,
    /// Wakes the forwarder.
    pub(super) more: Notify,
    /// Wakes the flusher.
    pub(super) due: Condvar,
    /// Wakes whoever waits for the drain.
    pub(super) drained: Condvar,
    /// The lock on the folder; let go when the spool is closed.
    pub(super) lock: Mutex<Option<File>>,
}

impl State {
    pub(super) fn new(log: Log, replays: &[Replay]) -> Self {
        Self {
            log,
            tracker: Tracker::default(),
            last: BTreeMap::new(),
            pending: VecDeque::new(),
            through: VecDeque::new(),
            acknowledged: 0,
            flushed: 0,
            away: false,
            closing: false,
            broken: None,
            predecessor_bytes: replays.iter().map(|replay| replay.bytes).sum(),
            unfinished: replays.iter().map(|replay| replay.producer).collect(),
            finished: BTreeSet::new(),
            replayed: BTreeMap::new(),
            marked_at: Instant::now(),
            counters: Counters::default(),
        }
    }

    fn break_down(&mut self, detail: &str) {
        tracing::error!(detail, "the spool broke down");
        self.broken.get_or_insert_with(|| detail.to_owned());
        for pending in self.pending.drain(..).chain(self.through.drain(..)) {
            drop(pending.done.send(Err(OutletError::Failed(detail.to_owned()))));
        }
    }

    /// Resolves what is acknowledged or flushed; gives how many.
    fn resolve(&mut self) -> u64 {
        resolve_below(&mut self.through, self.acknowledged);
        resolve_below(&mut self.pending, self.acknowledged.max(self.flushed))
    }

    pub(super) fn is_drained(&self) -> bool {
        self.acknowledged >= self.log.next() && self.replayed.len() == self.unfinished.len()
    }

    fn mark(&self) -> Mark {
        Mark { acknowledged: self.acknowledged, last: self.last.clone() }
    }
}

impl Shared {
    /// Writes the entries; see [`bursar_schemas::ports::Outlet::append`].
    pub(super) fn append(&self, entries: &[Entry], resolves: Resolves) -> Result<Receipt, OutletError> {
        let size = Log::size_of(entries)?;
        // Read before the lock is taken, so that it is held for the write alone.
        let glances: Vec<_> = entries.iter().map(|entry| glance(&entry.value)).collect();
        let mut state = self.state.lock();
        if let Some(detail) = &state.broken {
            return Err(OutletError::Failed(detail.clone()));
        }
        if state.closing {
            return Err(OutletError::Closed("the spool was closed".to_owned()));
        }
        let used = state.log.bytes() + state.predecessor_bytes;
        if used.saturating_add(size) > room_for(entries, self.config.max_bytes) {
            let detail = format!("the spool holds {used} of at most {} bytes", self.config.max_bytes);
            return Err(self.make_room(state, OutletError::Full(detail)));
        }
        let spots = match state.log.append(Kind::Fact, entries) {
            Ok(Ok(spots)) => spots,
            Ok(Err(error @ OutletError::Full(_))) => return Err(self.make_room(state, error)),
            Ok(Err(error)) => {
                state.counters.refused_appends += 1;
                return Err(error);
            }
            Err(detail) => {
                state.break_down(&detail);
                return Err(OutletError::Failed(detail));
            }
        };
        for ((entry, glance), spot) in entries.iter().zip(glances).zip(spots) {
            let Some((number, sign)) = glance else { continue };
            state.last.insert(entry.lane, number);
            if let Some(sign) = sign {
                state.tracker.observe(sign, spot);
            }
        }
        let (done, acknowledged) = oneshot::channel();
        let (end, due) = (state.log.next(), Instant::now() + self.config.ack_patience);
        let pending = Pending { end, due, done };
        match resolves {
            Resolves::Safe => state.pending.push_back(pending),
            Resolves::Through => state.through.push_back(pending),
        }
        let away = state.away;
        drop(state);
        self.more.notify_one();
        if away {
            self.due.notify_one();
        }
        let ended = || Err(OutletError::Closed("the spool was closed".to_owned()));
        Ok(Box::pin(async move { acknowledged.await.unwrap_or_else(|_| ended()) }))
    }

    /// The inner outlet has everything below that number.
    pub(super) fn acknowledge(&self, end: u64) {
        let mut state = self.state.lock();
        state.acknowledged = state.acknowledged.max(end);
        state.resolve();
        let caught_up = state.acknowledged >= state.log.next();
        if caught_up {
            state.away = false;
            self.drained.notify_all();
        }
        if state.marked_at.elapsed() >= MARK_EVERY {
            state.marked_at = Instant::now();
            let mark = state.mark();
            drop(state);
            warn_of(mark.write(&self.dir));
        } else {
            drop(state);
        }
        // Neither the mark nor the space can hold up facts: a full disk must be able to drain.
        warn_of(self.tidy(false));
    }

    pub(super) fn note_refusal(&self, error: &OutletError) {
        let mut state = self.state.lock();
        state.counters.refused_forwards += 1;
        drop(state);
        if matches!(error, OutletError::Full(_)) {
            // The usual pace of an inner outlet that is slower than the writers.
            tracing::debug!(%error, "facts wait in the spool");
        } else {
            tracing::warn!(%error, "facts wait in the spool");
        }
    }

    /// Deletes the oldest segments that nobody needs; under `pressure` also one that holds what is still open.
    pub(super) fn tidy(&self, pressure: bool) -> io::Result<()> {
        loop {
            let mut state = self.state.lock();
            // What was recorded for a predecessor must be found beside its folder until that is gone.
            if !state.unfinished.is_empty() || state.log.segments().len() < 2 {
                return Ok(());
            }
            let Some(oldest) = state.log.segments().front().cloned() else { return Ok(()) };
            if oldest.end > state.acknowledged {
                return Ok(());
            }
            if state.tracker.places().any(|spot| spot.segment == oldest.index) {
                // One whole segment came after it: what is still open there will stay open for a while.
                if state.log.segments().len() < 3 && !pressure {
                    return Ok(());
                }
                carry(&mut state, oldest.index)?;
                drop(state);
                self.more.notify_one();
                self.flush();
                state = self.state.lock();
            }
            if state.broken.is_some() {
                return Ok(());
            }
            // The mark names the lanes that only deleted segments knew. On a full disk it must wait for the space.
            let marked = state.mark().write(&self.dir);
            state.log.delete_oldest()?;
            if marked.is_err() {
                state.mark().write(&self.dir)?;
            }
        }
    }

    /// Flushes all that is written, and resolves what waited for it.
    pub(super) fn flush(&self) {
        let (files, end) = {
            let state = self.state.lock();
            let flushed = state.flushed;
            let dirty = state.log.segments().iter().filter(|segment| segment.end > flushed);
            (dirty.map(|segment| Arc::clone(&segment.file)).collect::<Vec<_>>(), state.log.next())
        };
        let outcome = files
            .iter()
            .try_for_each(|file| file.sync_data())
            // The names of new segments must be as durable as what is in them.
            .and_then(|()| sync_folder(&self.dir));
        let mut state = self.state.lock();
        match outcome {
            Ok(()) => {
                state.flushed = state.flushed.max(end);
                let resolved = state.resolve();
                state.counters.flushes += 1;
                state.counters.flushed_receipts += resolved;
            }
            Err(error) => state.break_down(&format!("failed to flush the spool: {error}")),
        }
    }

    /// Stands in for the inner outlet when that is not in time; until the spool is closed.
    pub(super) fn watch_patience(&self, stop: &tokio::sync::watch::Receiver<bool>) {
        loop {
            let mut state = self.state.lock();
            if *stop.borrow() {
                return;
            }
            let now = Instant::now();
            match state.pending.front().map(|oldest| oldest.due) {
                Some(due) if due <= now || state.away => {
                    state.away = true;
                    drop(state);
                    self.flush();
                }
                Some(due) => {
                    self.due.wait_until(&mut state, due);
                }
                // Nothing that comes while it sleeps is due before it wakes, unless the inner outlet is away.
                None => {
                    self.due.wait_for(&mut state, self.config.ack_patience);
                }
            }
        }
    }

    pub(super) fn write_mark(&self) -> io::Result<()> {
        let mark = self.state.lock().mark();
        mark.write(&self.dir)
    }

    /// The forwarder can go on no more.
    pub(super) fn break_down(&self, detail: &str) {
        self.state.lock().break_down(detail);
    }

    /// A predecessor's facts are all acknowledged.
    pub(super) fn note_replayed(&self, replay: Replay) {
        self.state.lock().replayed.insert(replay.producer, replay);
        self.drained.notify_all();
        warn_of(self.remove_predecessors());
    }

    /// A predecessor's closing facts are recorded.
    pub(super) fn note_finished(&self, producer: ProducerId) -> io::Result<()> {
        self.state.lock().finished.insert(producer);
        self.remove_predecessors()
    }

    /// Removes the folders of predecessors that are replayed and finished.
    fn remove_predecessors(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        let ready: Vec<ProducerId> =
            state.finished.iter().filter(|producer| state.replayed.contains_key(producer)).copied().collect();
        for producer in ready {
            let Some(replay) = state.replayed.get(&producer) else { continue };
            std::fs::remove_dir_all(&replay.dir)?;
            let Some(replay) = state.replayed.remove(&producer) else { continue };
            state.predecessor_bytes = state.predecessor_bytes.saturating_sub(replay.bytes);
            state.unfinished.remove(&producer);
            state.finished.remove(&producer);
            drop(replay.lock);
        }
        Ok(())
    }
}

/// Copies what is still open in a segment to the log's end.
///
/// Under one lock with the look at what is open, so that whatever closes it later also stands later.
fn carry(state: &mut State, segment: u64) -> io::Result<()> {
    let spots: Vec<Spot> = state.tracker.places().filter(|spot| spot.segment == segment).copied().collect();
    let mut entries = Vec::with_capacity(spots.len());
    for spot in &spots {
        let frame = state.log.read(*spot)?;
        entries.push(Entry { lane: frame.lane, value: frame.value, at: frame.at });
    }
    let moved =
        state.log.append(Kind::Carried, &entries).map_err(io::Error::other)?.map_err(io::Error::other)?;
    let moved: BTreeMap<u64, Spot> = spots.iter().map(|spot| spot.at).zip(moved).collect();
    for spot in state.tracker.places_mut().filter(|spot| spot.segment == segment) {
        if let Some(moved) = moved.get(&spot.at) {
            *spot = *moved;
        }
    }
    state.counters.carried += u64::try_from(entries.len()).unwrap_or(0);
    Ok(())
}

/// Reports what went wrong with the upkeep of files; facts are not concerned, and it is tried again.
pub(super) fn warn_of(outcome: io::Result<()>) {
    if let Err(error) = outcome {
        tracing::warn!(%error, "the spool's files could not be tidied");
    }
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
