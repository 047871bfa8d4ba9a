//! The Merkle log beside the segments: one leaf for each, written before the lane goes on.
//!
//! Invariant: leaf n is claimed by put-if-absent after reading leaves 0…n−1, so writers share one log and cannot fork
//! it; who was second reads what the first one wrote.
//! Invariant: a checkpoint is put only when every tile of its size is there.
//! Invariant: nothing is signed on top of a log that contradicts a checkpoint signed before.
//! Invariant: no leaf is signed for that a holder of the log's key did not claim, unless a checkpoint covers it; none is
//! written for a segment that no such holder built. Others may write to the store too.

mod open;
mod publish;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bursar_schemas::archive::segment_key;
use bursar_schemas::evidence::{
    Checkpoint, Keys, LEAF_VERSION, Leaf, LeafError, LogState, Manifest, Removal, SignerKey, StateError,
    Tile, VerifierKey, claim_leaf, is_claimed, leaf_key,
};
use bursar_schemas::ids::{Digest, Generation};
use bursar_schemas::position::Lane;
use bytes::Bytes;
use tokio::sync::watch;

use super::removal::Catalogue;
use super::signature;
use super::store::{Put, Segments, StoreError};
use super::witness::Witness;

/// Tiles that are put at the same time.
pub(super) const PUTS: usize = 8;

/// Says the time in microseconds since 1970.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Who writes the log.
#[derive(Clone)]
pub struct LogSettings {
    /// The key that signs checkpoints; its name is the log's origin.
    pub signer: SignerKey,
    /// Public keys that have signed this log before; the signer's own need not be among them.
    pub earlier: Vec<VerifierKey>,
    /// Public key of the deployment, whose certificates producers show.
    pub deployment_key: Digest,
    /// After so long without a leaf one is written that says so; none for never.
    pub heartbeat: Option<Duration>,
    /// A second place that checkpoints are pushed to: outside the archive, so that it can tell when the archive was
    /// rolled back.
    pub copy: Option<Segments>,
    /// Who is asked to cosign checkpoints.
    pub witnesses: Vec<Witness>,
    /// The clock.
    pub clock: Clock,
}

impl LogSettings {
    /// Every key that may have signed the log.
    pub(super) fn keys(&self) -> Vec<VerifierKey> {
        self.earlier.iter().chain([self.signer.verifier()]).cloned().collect()
    }
}

impl std::fmt::Debug for LogSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogSettings").field("signer", &self.signer).finish_non_exhaustive()
    }
}

/// Why the log cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A leaf in the log is none, or does not fit.
    #[error("the log is broken: {0}")]
    State(StateError),
    /// A leaf could not be made.
    #[error("failed to make a leaf: {0}")]
    Leaf(LeafError),
    /// A checkpoint signed before says otherwise.
    #[error("the log was changed: with {size} leaves it had another root when its checkpoint was signed")]
    Changed {
        /// The checkpoint's size.
        size: u64,
    },
    /// A leaf that no checkpoint covers was put by somebody else.
    #[error("{key} holds a leaf that no holder of the log's key claimed: look who put it, and move it away")]
    Unclaimed {
        /// The object.
        key: String,
    },
    /// A segment that has no leaf was put by somebody else, or altered.
    #[error("{key} is not as a holder of the log's key built it: look who put it, and move it away")]
    Unsigned {
        /// The object.
        key: String,
    },
    /// A checkpoint kept outside has seen more leaves.
    #[error(
        "the log was rolled back: a checkpoint kept outside the archive has {signed} leaves, the archive {found}"
    )]
    RolledBack {
        /// Leaves of the checkpoint.
        signed: u64,
        /// Leaves found.
        found: u64,
    },
    /// The chain does not reach as far as the lane says.
    #[error("{generation}/{lane} has no segment from offset {start}")]
    NoSegment {
        /// The topic's life.
        generation: Generation,
        /// The lane.
        lane: Lane,
        /// Where it should begin.
        start: u64,
    },
}

// Their texts are in its own, so they are no sources: a chain of causes would say them twice.
impl From<StateError> for LogError {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

impl From<LeafError> for LogError {
    fn from(error: LeafError) -> Self {
        Self::Leaf(error)
    }
}

/// How the log stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogStatus {
    /// Leaves read or written.
    pub size: u64,
    /// Leaves under the newest checkpoint that this process knows to be published.
    pub published: u64,
    /// What keeps it from going on at the moment.
    pub fault: Option<String>,
}

/// A published checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signed {
    pub(super) checkpoint: Checkpoint,
    /// The signed note.
    pub(super) note: String,
}

/// The log as one writer sees it.
#[derive(Debug)]
pub(super) struct LogWriter {
    segments: Segments,
    settings: LogSettings,
    keys: Vec<VerifierKey>,
    opened: bool,
    state: LogState,
    /// Roots that were signed for sizes not reached yet.
    signed: BTreeMap<u64, Digest>,
    /// Full tiles that may not be in the store yet.
    full: Vec<Tile>,
    published: u64,
    /// The checkpoint of that size, for whoever has it cosigned; none before the log was read.
    newest: watch::Sender<Option<Arc<Signed>>>,
    /// The segments that leaves speak of; for whoever asks, as it grows with the log.
    catalogue: Option<Catalogue>,
}

impl LogWriter {
    /// One that knows the segments of all leaves.
    pub(super) fn with_catalogue(segments: Segments, settings: LogSettings) -> Self {
        Self { catalogue: Some(Catalogue::default()), ..Self::new(segments, settings) }
    }

    pub(super) const fn catalogue(&self) -> Option<&Catalogue> {
        self.catalogue.as_ref()
    }

    /// The time by the log's clock, in microseconds since 1970.
    pub(super) fn now(&self) -> i64 {
        (self.settings.clock)()
    }

    /// Reads the log to its end.
    pub(super) async fn read_on(&mut self) -> Result<(), LogError> {
        self.open().await?;
        self.catch_up().await
    }

    /// Logs a removal, once, under a published checkpoint.
    pub(super) async fn log_removal(&mut self, removal: Removal) -> Result<(), LogError> {
        self.read_on().await?;
        let of = removal.leaf;
        self.append(&Leaf::Removal(removal), |state| state.is_removed(of)).await?;
        self.publish().await
    }

    pub(super) fn new(segments: Segments, settings: LogSettings) -> Self {
        let keys = settings.keys();
        Self {
            segments,
            settings,
            keys,
            opened: false,
            state: LogState::default(),
            signed: BTreeMap::new(),
            full: Vec::new(),
            published: 0,
            newest: watch::Sender::new(None),
            catalogue: None,
        }
    }

    pub(super) const fn size(&self) -> u64 {
        self.state.size()
    }

    pub(super) const fn published(&self) -> u64 {
        self.published
    }

    /// Told of each checkpoint that is published.
    pub(super) fn newest(&self) -> watch::Receiver<Option<Arc<Signed>>> {
        self.newest.subscribe()
    }

    /// Takes a leaf that stands in the store, in an object of that name.
    fn absorb(&mut self, entry: &[u8], object: &str) -> Result<(), LogError> {
        let index = self.state.size();
        // What a checkpoint says of all leaves up to its own is looked at as soon as they are there.
        let is_covered = self.signed.last_key_value().is_some_and(|(size, _)| index < *size);
        if !is_covered && !is_claimed(entry, index, &self.keys) {
            // One that is no leaf at all is told as such.
            Leaf::parse(entry).map_err(|error| StateError::Leaf { index, error })?;
            return Err(LogError::Unclaimed { key: object.to_owned() });
        }
        self.state.absorb(entry, &mut self.full)?;
        if let Some(catalogue) = &mut self.catalogue {
            catalogue.take(index, &Leaf::parse(entry)?);
        }
        let size = self.state.size();
        let signed = self.signed.remove(&size);
        let Some(root) = signed.filter(|root| *root != self.state.root()) else { return Ok(()) };
        // The next try reads all of it anew: nothing is added to what was found changed.
        self.signed.insert(size, root);
        self.state = LogState::default();
        self.full.clear();
        self.catalogue = self.catalogue.take().map(|_| Catalogue::default());
        Err(LogError::Changed { size })
    }

    /// Reads on to the log's end.
    async fn catch_up(&mut self) -> Result<(), LogError> {
        loop {
            let key = leaf_key(self.state.size());
            let Some(entry) = self.segments.read(&key).await? else { return Ok(()) };
            self.absorb(&entry, &key)?;
        }
    }

    /// Claims the next slot for a leaf, unless what it says has come to stand in the log.
    async fn append(
        &mut self,
        leaf: &Leaf,
        is_there: impl Fn(&LogState) -> bool + Send + Sync,
    ) -> Result<(), LogError> {
        let statement = leaf.encode()?;
        while !is_there(&self.state) {
            let index = self.state.size();
            let entry = Bytes::from(claim_leaf(&statement, index, &self.settings.signer));
            let key = leaf_key(index);
            match self.segments.put(&key, entry.clone()).await? {
                Put::Created => return self.absorb(&entry, &key),
                Put::Taken => self.catch_up().await?,
            }
        }
        Ok(())
    }

    /// Logs a lane's segments up to an offset; `known` is the manifest of the last one, where it is at hand.
    pub(super) async fn log(
        &mut self,
        generation: Generation,
        lane: Lane,
        upto: u64,
        known: Option<Manifest>,
    ) -> Result<(), LogError> {
        self.open().await?;
        loop {
            let start = self.state.next(generation, lane);
            if start >= upto {
                return Ok(());
            }
            let manifest = match known.as_ref().filter(|known| known.first == start) {
                Some(known) => known.clone(),
                None => self.manifest_of(generation, lane, start).await?,
            };
            let leaf = Leaf::Segment(manifest);
            self.append(&leaf, |state| state.next(generation, lane) > start).await?;
        }
    }

    /// The manifest of a segment that stands in the store, from all of its bytes, if it was built by a holder of the
    /// log's key.
    async fn manifest_of(
        &self,
        generation: Generation,
        lane: Lane,
        start: u64,
    ) -> Result<Manifest, LogError> {
        let found = self.segments.whole(generation, lane, start).await?;
        let (footer, bytes) = found.ok_or(LogError::NoSegment { generation, lane, start })?;
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        // Beside the runtime: it may be 64 MiB.
        let keys = self.keys.clone();
        let hash = move || signature::is_signed(&bytes, &keys).then(|| super::buffer::sha256(&bytes));
        let hashed = tokio::task::spawn_blocking(hash).await;
        let sha256 = hashed.map_err(|error| StoreError::Broken(error.to_string()))?;
        let unsigned = || LogError::Unsigned { key: segment_key(generation, lane, start) };
        let sha256 = sha256.ok_or_else(unsigned)?;
        Ok(Manifest::new(&footer, size, sha256, (self.settings.clock)()))
    }

    /// Writes a heartbeat when nothing was logged for long enough; says how long to wait until the next one is due.
    pub(super) async fn beat(&mut self, every: Duration) -> Result<Duration, LogError> {
        self.open().await?;
        self.catch_up().await?;
        let now = (self.settings.clock)();
        let due = |state: &LogState| {
            let since = now.saturating_sub(state.at_us().unwrap_or(0));
            Duration::from_micros(u64::try_from(since).unwrap_or(0))
        };
        if due(&self.state) >= every {
            let leaf = Leaf::Heartbeat { version: LEAF_VERSION, at_us: now };
            self.append(&leaf, |state| due(state) < every).await?;
        }
        self.publish().await?;
        Ok(every.saturating_sub(due(&self.state)))
    }

    /// States the keys in use, once.
    async fn state_keys(&mut self) -> Result<(), LogError> {
        let keys = Keys {
            version: LEAF_VERSION,
            at_us: (self.settings.clock)(),
            origin: self.settings.signer.verifier().name().to_owned(),
            log_key: self.settings.signer.verifier().to_string(),
            deployment_key: self.settings.deployment_key,
        };
        let (log_key, deployment_key) = (keys.log_key.clone(), keys.deployment_key);
        self.append(&Leaf::Keys(keys), |state| state.has_stated(&log_key, &deployment_key)).await
    }
}
