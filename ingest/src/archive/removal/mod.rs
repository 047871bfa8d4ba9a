//! Removing sealed records under retention, so that everybody can tell it from a loss.
//!
//! Order: the log says what is removed (a leaf under a published checkpoint), the caller records it as a fact, then a
//! *tombstone* takes the object's place: a segment of the same range and footer without rows. Each step can be
//! repeated; a crash between two is finished by the next run.
//!
//! Invariant: nothing is overwritten before the log says so.
//! Invariant: the slot stays taken, so chains are followed across what was removed as before.

mod plan;

use std::collections::BTreeMap;

use bursar_schemas::archive::{FOOTER_KEY, REMOVED_KEY, Removed};
use bursar_schemas::evidence::{LEAF_VERSION, Leaf, Manifest, Removal};
use bursar_schemas::ids::Digest;
use bytes::Bytes;
use parquet::file::metadata::ParquetMetaDataReader;

use super::buffer::sha256;
use super::delta::{Delta, DeltaError};
use super::log::{Clock, LogError, LogSettings, LogWriter};
use super::parquet::{ParquetError, SegmentWriter, entry_of};
use super::store::{Segments, StoreError};

pub use self::plan::{Fate, Known, fate};

/// Why records cannot be removed.
#[derive(Debug, thiserror::Error)]
pub enum RemovalError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log cannot be written.
    #[error("failed to log a removal: {0}")]
    Log(LogError),
    /// The object is not the one that was sealed.
    #[error("{0} is missing or altered, so it is left alone: run `bursar verify`")]
    Altered(String),
    /// The Delta table cannot be told.
    #[error("failed to take a segment out of its Delta table: {0}")]
    Delta(DeltaError),
    /// The tombstone could not be built.
    #[error("failed to build a tombstone: {0}")]
    Build(ParquetError),
}

// Their texts are in its own, so they are no sources: a chain of causes would say them twice.
impl From<LogError> for RemovalError {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

impl From<DeltaError> for RemovalError {
    fn from(error: DeltaError) -> Self {
        Self::Delta(error)
    }
}

impl From<ParquetError> for RemovalError {
    fn from(error: ParquetError) -> Self {
        Self::Build(error)
    }
}

/// A sealed segment as the log knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// The leaf that logs it.
    pub leaf: u64,
    /// What that leaf says.
    pub manifest: Manifest,
    /// The leaf that states its removal, and what it says.
    pub removal: Option<(u64, Removal)>,
}

/// The segments that leaves speak of, by leaf.
#[derive(Debug, Default)]
pub(super) struct Catalogue(BTreeMap<u64, Logged>);

impl Catalogue {
    pub(super) fn take(&mut self, index: u64, leaf: &Leaf) {
        match leaf {
            Leaf::Segment(manifest) => {
                let logged = Logged { leaf: index, manifest: manifest.clone(), removal: None };
                self.0.insert(index, logged);
            }
            Leaf::Removal(removal) => {
                let of = self.0.get_mut(&removal.leaf);
                if let Some(logged) = of.filter(|it| removal.is_of(it.leaf, &it.manifest)) {
                    logged.removal.get_or_insert((index, removal.clone()));
                }
            }
            Leaf::Keys(_) | Leaf::Heartbeat { .. } => {}
        }
    }
}

/// Removes sealed records. Any number may run beside any number of archivers.
#[derive(Debug)]
pub struct Remover {
    segments: Segments,
    log: LogWriter,
    delta: Option<Delta>,
}

impl Remover {
    /// One for an archive and its log; nothing is read yet.
    #[must_use]
    pub fn new(segments: Segments, settings: LogSettings) -> Self {
        let log = LogWriter::with_catalogue(segments.clone(), settings);
        Self { segments, log, delta: None }
    }

    /// Also takes what is removed out of the Delta tables.
    #[must_use]
    pub fn with_delta(mut self, clock: Clock) -> Self {
        self.delta = Some(Delta::new(self.segments.clone(), clock));
        self
    }

    /// Reads the log and says which segments there are, in the order of their leaves.
    ///
    /// # Errors
    /// When the log cannot be read, or is not the one that was signed.
    pub async fn logged(&mut self) -> Result<Vec<Logged>, RemovalError> {
        self.log.read_on().await?;
        Ok(self.log.catalogue().map(|catalogue| catalogue.0.values().cloned().collect()).unwrap_or_default())
    }

    /// True when a segment's records are still there although the log says that they are removed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_unfinished(&self, logged: &Logged) -> Result<bool, RemovalError> {
        if logged.removal.is_none() {
            return Ok(false);
        }
        if self.segments.size(&logged.manifest.key).await? != Some(logged.manifest.bytes) {
            return Ok(false);
        }
        match self.sealed(&logged.manifest).await {
            Ok(_) => Ok(true),
            Err(RemovalError::Altered(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// States in the log that a segment's records are removed; returns the leaf that says so.
    ///
    /// # Errors
    /// When the object is not the one that was sealed, or the log cannot be written.
    pub async fn announce(
        &mut self,
        logged: &Logged,
        retention_days: u64,
        by: &str,
    ) -> Result<u64, RemovalError> {
        let manifest = &logged.manifest;
        let footer = footer_text(&self.sealed(manifest).await?)?;
        let removal = Removal {
            version: LEAF_VERSION,
            at_us: self.log.now(),
            leaf: logged.leaf,
            key: manifest.key.clone(),
            first: manifest.first,
            last: manifest.last,
            rows: manifest.rows,
            sha256: manifest.sha256,
            rows_root: manifest.rows_root,
            footer: sha256(footer.as_bytes()),
            retention_days,
            by: by.to_owned(),
        };
        self.log.log_removal(removal).await?;
        let found = self.log.catalogue().and_then(|catalogue| catalogue.0.get(&logged.leaf));
        let stated = found.and_then(|found| found.removal.as_ref()).map(|(index, _)| *index);
        stated.ok_or_else(|| RemovalError::Altered(manifest.key.clone()))
    }

    /// Puts a tombstone in the place of a segment whose removal the log states.
    ///
    /// # Errors
    /// When the object is not the one that was sealed, or the store fails.
    pub async fn finish(&mut self, logged: &Logged, leaf: u64) -> Result<(), RemovalError> {
        let manifest = &logged.manifest;
        let bytes = self.sealed(manifest).await?;
        let removed = Removed { leaf, at_us: self.log.now() };
        let removed = serde_json::to_string(&removed).map_err(ParquetError::from)?;
        let text = footer_text(&bytes)?;
        if let Some(delta) = &mut self.delta {
            let footer =
                serde_json::from_str(&text).map_err(|error| ParquetError::NoFooter(error.to_string()))?;
            delta.remove(&footer).await?;
        }
        let entries = [(FOOTER_KEY, text), (REMOVED_KEY, removed)];
        let tombstone = SegmentWriter::new(manifest.topic, 0)?.finish_with(entries)?;
        self.segments.replace(&manifest.key, tombstone).await?;
        Ok(())
    }

    /// A segment's bytes, if they are those that were sealed.
    async fn sealed(&self, manifest: &Manifest) -> Result<Bytes, RemovalError> {
        let altered = || RemovalError::Altered(manifest.key.clone());
        let bytes = self.segments.read(&manifest.key).await?.ok_or_else(altered)?;
        let hashed = bytes.clone();
        let found: Digest = tokio::task::spawn_blocking(move || sha256(&hashed))
            .await
            .map_err(|error| StoreError::Broken(error.to_string()))?;
        if found == manifest.sha256 { Ok(bytes) } else { Err(altered()) }
    }
}

/// The statement in a segment's footer, word for word.
fn footer_text(bytes: &Bytes) -> Result<String, ParquetError> {
    let metadata = ParquetMetaDataReader::new().parse_and_finish(bytes).map_err(ParquetError::Read)?;
    entry_of(&metadata, FOOTER_KEY)
        .map(str::to_owned)
        .ok_or_else(|| ParquetError::NoFooter(format!("no entry {FOOTER_KEY}")))
}
