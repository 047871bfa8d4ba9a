//! Checking an archive without believing it: plain Parquet, SHA-256 and Ed25519, no query engine.
//!
//! | Module | Holds |
//! |---|---|
//! | `inventory` | the names that the archive holds, and those that it should not |
//! | `log` | leaves, tiles and checkpoints held to each other and to the keys given |
//! | `presence` | segments that are missing, foreign or not logged; topics made anew |
//! | `segment` | one object: its hash, its footer, its rows' root |
//! | `producers` | numbers, running hashes, certificates and signed heads of each producer |
//! | `limits` | the fold of `limits`, and what each record of it answers |
//! | `columns` | a segment's columns, made anew from its records |
//! | `lanes` | the chains of segments, walked in order |
//! | `objects`, `plain` | an object's bytes, within its kind's bounds; text for a terminal |
//! | `report` | what was found, for people and for programs |
//! | `prove`, `bundle` | evidence of one request, written and checked |
//!
//! Invariant: nothing is trusted but the keys and checkpoints that the caller hands in.
//! Invariant: memory grows with the number of segments by some two hundred bytes each, never with their rows.

mod bundle;
mod columns;
mod inventory;
mod lanes;
mod limits;
mod log;
mod objects;
mod plain;
mod presence;
mod producers;
mod prove;
mod report;
mod segment;

use std::sync::Arc;
use std::time::Duration;

use bursar_schemas::causes::with_causes;
use bursar_schemas::evidence::VerifierKey;
use object_store::ObjectStore;

pub use self::bundle::{Bundle, BundleReport, verify_bundle};
pub use self::prove::prove;
pub use self::report::{Finding, Kind, RemovedRecords, Report, Witnessed};

/// What cannot be checked at all.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// The store failed.
    #[error("failed to read the archive: {}", with_causes(.0))]
    Store(object_store::Error),
    /// Work within the process was broken off.
    #[error("failed to finish a check: {0}")]
    Broken(String),
    /// There is no log, or none of its checkpoints is signed by a key that was given.
    #[error("the archive has no log that a given key has signed: {0}")]
    NoLog(String),
    /// A trusted checkpoint is none, or not of this log.
    #[error("the trusted checkpoint cannot be used: {0}")]
    Trusted(String),
    /// The archive holds nothing about the request.
    #[error("the archive holds no fact about request {0}")]
    NoFacts(String),
    /// What is to be proved is damaged.
    #[error("the archive is damaged, run `bursar verify`: {0}")]
    Damaged(String),
    /// A bundle cannot be read.
    #[error("failed to read the bundle: {0}")]
    Bundle(String),
}

// The text has the other's, so that is no source: a chain of causes would say it twice.
impl From<object_store::Error> for EvidenceError {
    fn from(error: object_store::Error) -> Self {
        Self::Store(error)
    }
}

/// How often the names are looked at while an archiver seems to be between two puts, and how long in between.
const LOOKS: u32 = 3;
const SETTLING: Duration = Duration::from_secs(1);

/// How far a check has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Segments checked.
    pub segments: u64,
    /// Segments to check.
    pub of_segments: u64,
    /// Their bytes checked.
    pub bytes: u64,
    /// Their bytes to check.
    pub of_bytes: u64,
}

/// Told after each segment.
pub type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// What to check, and what to believe.
#[derive(Clone, Default)]
pub struct VerifyOptions {
    /// Keys that may have signed the log, and witnesses'; they come from outside the archive.
    pub keys: Vec<VerifierKey>,
    /// A signed checkpoint kept outside the archive, which it must contain.
    pub trusted: Option<Vec<u8>>,
    /// Look only into segments logged from this time on, in microseconds since 1970.
    pub since_us: Option<i64>,
    /// Look into so many segments alone.
    pub sample: Option<usize>,
    /// Make each segment's columns anew from its records, too.
    pub columns: bool,
    /// Told how far the check has come.
    pub progress: Option<OnProgress>,
}

impl std::fmt::Debug for VerifyOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifyOptions").field("keys", &self.keys).finish_non_exhaustive()
    }
}

/// Checks an archive: everything that lies in the store.
///
/// # Errors
/// When the store fails, or there is nothing that could be checked. What is wrong with an archive is no error but a
/// finding of the report.
pub async fn verify(store: Arc<dyn ObjectStore>, options: &VerifyOptions) -> Result<Report, EvidenceError> {
    let mut looks = 0;
    loop {
        let mut report = Report::default();
        let inventory = inventory::Inventory::take(&store, &mut report).await?;
        let log = log::read(&store, &inventory, options, &mut report).await?;
        presence::check(&store, &inventory, &log, &mut report).await?;
        looks += 1;
        // An archiver that is at work is between two puts for a moment; what stays so is a finding.
        if report.is_unsettled() && looks < LOOKS {
            tokio::time::sleep(SETTLING).await;
            continue;
        }
        lanes::check(&store, &inventory, &log, options, &mut report).await?;
        report.finish(&log, options);
        return Ok(report);
    }
}
