//! The spool: a checksummed file queue on the shim's own disk, in front of another outlet.
//!
//! An append is one write to a local file, with no flush: a killed process loses nothing. A forwarder thread
//! reads that file and hands the facts to the inner outlet in order, for as long as it takes; the file *is*
//! the queue, so memory stays bounded while the inner outlet is away. A receipt resolves when the inner outlet
//! acknowledges or, when that takes longer than the patience, when a flush of the file covers it.
//!
//! | Path | Holds |
//! |---|---|
//! | `INCARNATION/lock` | the lock that its process holds for life |
//! | `INCARNATION/NNNNNNNN.log` | frames, each with a checksum and a number |
//! | `INCARNATION/acknowledged.json` | how far the inner outlet acknowledged, which limits what is sent twice |
//! | `corrupt/` | damaged files of dead incarnations, kept as they were found |
//!
//! Segments are deleted oldest first once all of them is acknowledged. What they say of requests that are
//! still open is first carried over to the newest segment, so that a successor finds it and can close them.

mod closing;
mod feeds;
mod forward;
mod frame;
mod log;
mod mark;
mod newest;
mod recover;
mod room;
mod scan;
mod shared;
mod track;

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bursar_schemas::ids::ProducerId;
use bursar_schemas::ports::{Entry, Outlet, OutletError, Receipt};
use parking_lot::{Condvar, Mutex};
use tokio::sync::{Notify, watch};

pub use closing::{Damage, DamageKind, OpenRequest, Predecessor, Recovered, closing_facts, damage_facts};
use feeds::{Own, Predecessors};
use forward::{Pump, Ran};
use log::Log;
use recover::{LOCK, Replay};
use shared::{Resolves, Shared, State, sync_folder};

/// Why a spool could not be opened or closed.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The disk or the system refused.
    #[error("failed to use the spool at {path}: {error}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The incarnation has a spool already: its id was not fresh.
    #[error("failed to open the spool: {0} has been used before")]
    Used(ProducerId),
}

impl SpoolError {
    fn io(path: &Path, error: std::io::Error) -> Self {
        Self::Io { path: path.to_path_buf(), error }
    }
}

/// Bounds of a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolConfig {
    /// Bytes on disk, dead incarnations' included; an append beyond it is refused as full.
    pub max_bytes: u64,
    /// Bytes after which a new segment is begun.
    pub segment_bytes: u64,
    /// How long a receipt waits for the inner outlet before a flush stands in.
    pub ack_patience: Duration,
    /// Longest pause between tries while the inner outlet refuses.
    pub longest_pause: Duration,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self {
            max_bytes: 4 << 30,
            segment_bytes: 16 << 20,
            ack_patience: Duration::from_millis(50),
            longest_pause: Duration::from_secs(1),
        }
    }
}

/// How a spool is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolFigures {
    /// Bytes on disk of this incarnation.
    pub bytes: u64,
    /// Bytes on disk of dead incarnations.
    pub predecessor_bytes: u64,
    /// Dead incarnations whose folders are still there.
    pub predecessors: u64,
    /// Facts of this incarnation that the inner outlet has not acknowledged.
    pub unacknowledged: u64,
    /// Requests that are open, or have an open reservation.
    pub open_requests: u64,
    /// Receipts that a flush resolved, since the inner outlet was not in time.
    pub flushed_receipts: u64,
    /// Flushes.
    pub flushes: u64,
    /// Appends that were refused, as full or failed.
    pub refused_appends: u64,
    /// Times that the inner outlet refused.
    pub refused_forwards: u64,
    /// Facts of open requests that were carried over from a deleted segment.
    pub carried: u64,
}

/// How a spool was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolLeft {
    /// Facts that the inner outlet has not acknowledged; a successor sends them.
    pub unacknowledged: u64,
    /// Requests left open; a successor closes them.
    pub open_requests: u64,
    /// True when nothing was left and the folder is gone.
    pub removed: bool,
}

/// The spool of one incarnation.
pub struct Spool {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spool").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}

impl Spool {
    /// Opens a fresh spool for an incarnation, and takes over those whose processes are gone: their facts are
    /// forwarded first, under their own names.
    ///
    /// # Errors
    /// When the folder cannot be used, or the incarnation's id is not fresh.
    pub fn open(
        dir: impl AsRef<Path>,
        config: SpoolConfig,
        producer: ProducerId,
        inner: Arc<dyn Outlet>,
    ) -> Result<(Self, Recovered), SpoolError> {
        let root = dir.as_ref();
        std::fs::create_dir_all(root).map_err(|error| SpoolError::io(root, error))?;
        let (own, lock) = claim(root, producer)?;
        let (replays, recovered) = recover::recover(root, producer)?;
        let log = Log::create(&own, config.segment_bytes).map_err(|error| SpoolError::io(&own, error))?;
        sync_folder(&own).and_then(|()| sync_folder(root)).map_err(|error| SpoolError::io(root, error))?;
        let shared = Arc::new(Shared {
            dir: own,
            config,
            state: Mutex::new(State::new(log, &replays)),
            more: Notify::new(),
            due: Condvar::new(),
            drained: Condvar::new(),
            lock: Mutex::new(Some(lock)),
        });
        let (stop, stopped) = watch::channel(false);
        let spool = Self { shared: Arc::clone(&shared), stop, threads: Mutex::default() };
        let flusher = (Arc::clone(&shared), stopped.clone());
        spool.start("spool-flusher", move || flusher.0.watch_patience(&flusher.1))?;
        spool.start("spool-forwarder", move || forward(&shared, inner.as_ref(), stopped, replays))?;
        Ok((spool, recovered))
    }

    fn start(&self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), SpoolError> {
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .map_err(|error| SpoolError::io(&self.shared.dir, error))?;
        self.threads.lock().push(thread);
        Ok(())
    }

    /// States that a predecessor's closing facts are recorded; its folder is removed once its own facts are
    /// acknowledged too. Until then no segment of this spool is deleted.
    ///
    /// # Errors
    /// When the folder cannot be removed.
    pub fn finish(&self, predecessor: ProducerId) -> Result<(), SpoolError> {
        self.shared.note_finished(predecessor).map_err(|error| SpoolError::io(&self.shared.dir, error))
    }

    /// How it is doing.
    #[must_use]
    pub fn figures(&self) -> SpoolFigures {
        let state = self.shared.state.lock();
        let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        SpoolFigures {
            bytes: state.log.bytes(),
            predecessor_bytes: state.predecessor_bytes,
            predecessors: wide(state.unfinished.len()),
            unacknowledged: state.log.next().saturating_sub(state.acknowledged),
            open_requests: wide(state.tracker.len()),
            flushed_receipts: state.counters.flushed_receipts,
            flushes: state.counters.flushes,
            refused_appends: state.counters.refused_appends,
            refused_forwards: state.counters.refused_forwards,
            carried: state.counters.carried,
        }
    }

    /// Takes nothing more, waits up to `patience` for the inner outlet, flushes, and ends the threads. Blocks.
    ///
    /// The folder is removed when nothing is left in it that a successor would need.
    ///
    /// # Errors
    /// When the last flush or the removal fails.
    pub fn close(&self, patience: Duration) -> Result<SpoolLeft, SpoolError> {
        let deadline = Instant::now() + patience;
        {
            let mut state = self.shared.state.lock();
            state.closing = true;
            while !state.is_drained() && state.broken.is_none() {
                if self.shared.drained.wait_until(&mut state, deadline).timed_out() {
                    break;
                }
            }
        }
        self.stop.send_replace(true);
        self.shared.due.notify_all();
        let threads: Vec<_> = self.threads.lock().drain(..).collect();
        let first = !threads.is_empty();
        let mut panicked = false;
        for thread in threads {
            panicked |= thread.join().is_err();
        }
        if panicked {
            self.shared.break_down("a thread of the spool ended unexpectedly");
        }
        let io = |error| SpoolError::io(&self.shared.dir, error);
        if first {
            self.shared.flush();
            self.shared.write_mark().map_err(io)?;
        }
        let state = self.shared.state.lock();
        let unacknowledged = state.log.next().saturating_sub(state.acknowledged);
        let open_requests = u64::try_from(state.tracker.len()).unwrap_or(u64::MAX);
        if let Some(detail) = &state.broken {
            drop(self.shared.lock.lock().take());
            return Err(io(std::io::Error::other(detail.clone())));
        }
        let removed = unacknowledged == 0 && open_requests == 0 && state.unfinished.is_empty();
        if removed && first {
            std::fs::remove_dir_all(&self.shared.dir).map_err(io)?;
        }
        // A successor may take over what is left although this value is still around.
        drop(self.shared.lock.lock().take());
        Ok(SpoolLeft { unacknowledged, open_requests, removed })
    }
}

impl Outlet for Spool {
    fn append(&self, entries: Vec<Entry>) -> Result<Receipt, OutletError> {
        self.shared.append(&entries, Resolves::Safe)
    }

    fn append_through(&self, entries: Vec<Entry>) -> Result<Receipt, OutletError> {
        self.shared.append(&entries, Resolves::Through)
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if self.threads.lock().is_empty() {
            return;
        }
        if let Err(error) = self.close(Duration::ZERO) {
            tracing::error!(%error, "the spool did not close well");
        }
    }
}

/// Makes and locks an incarnation's folder; it gets its name only once it is locked.
fn claim(root: &Path, producer: ProducerId) -> Result<(PathBuf, File), SpoolError> {
    let own = root.join(producer.to_string());
    if own.exists() {
        return Err(SpoolError::Used(producer));
    }
    let fresh = root.join(format!(".{producer}.new"));
    let io = |error| SpoolError::io(&fresh, error);
    std::fs::create_dir_all(&fresh).map_err(io)?;
    let lock =
        OpenOptions::new().write(true).create(true).truncate(false).open(fresh.join(LOCK)).map_err(io)?;
    lock.try_lock().map_err(|error| SpoolError::io(&fresh, error.into()))?;
    std::fs::rename(&fresh, &own).map_err(|error| SpoolError::io(&own, error))?;
    Ok((own, lock))
}

/// The forwarder thread: predecessors first, then the own spool.
fn forward(shared: &Arc<Shared>, inner: &dyn Outlet, stop: watch::Receiver<bool>, replays: Vec<Replay>) {
    let outcome = tokio::runtime::Builder::new_current_thread().enable_time().build().and_then(|runtime| {
        let longest_pause = shared.config.longest_pause;
        let mut pump = Pump { inner, more: &shared.more, stop, longest_pause };
        runtime.block_on(async {
            for replay in replays {
                let mut feed = Predecessors::new(Arc::clone(shared), replay);
                if pump.run(&mut feed, false).await? == Ran::Stopped {
                    return Ok(());
                }
                shared.note_replayed(feed.into_replay());
            }
            pump.run(&mut Own::new(Arc::clone(shared)), true).await.map(drop)
        })
    });
    if let Err(error) = outcome {
        shared.break_down(&format!("failed to forward from the spool: {error}"));
    }
}
