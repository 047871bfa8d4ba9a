//! How much a query service and one query may use.

use std::path::PathBuf;
use std::time::Duration;

/// What a query service may use, over all its queries.
#[derive(Debug, Clone)]
pub struct QueryConfig {
    /// Memory of all running queries together, in bytes; what needs more spills or fails.
    pub memory_bytes: usize,
    /// Disk for spilling, in bytes; 0 for none.
    pub spill_bytes: u64,
    /// Folder for spilling; the operating system's temporary folder when absent.
    pub spill_folder: Option<PathBuf>,
    /// Queries that run at once.
    pub concurrent_queries: usize,
    /// How long a query waits for its turn.
    pub turn_wait: Duration,
    /// How long a query waits for the tail to reach what the journal held when the query began.
    pub freshness_wait: Duration,
    /// How often new segments are looked for without a query.
    pub refresh: Duration,
    /// How often the whole archive is listed, which finds new lanes and foreign objects.
    pub listing: Duration,
    /// Rows of the unsealed tail kept in memory, per partition.
    pub tail_rows: usize,
    /// Bytes of memory that the unsealed tail may take, per partition.
    pub tail_bytes: usize,
    /// How long a query waits for its own recording to be acknowledged.
    pub record_wait: Duration,
    /// Bounds of a statement that comes over HTTP.
    pub http: Limits,
}

impl Default for QueryConfig {
    fn default() -> Self {
        Self {
            memory_bytes: 256 * 1024 * 1024,
            spill_bytes: 4 * 1024 * 1024 * 1024,
            spill_folder: None,
            concurrent_queries: 4,
            turn_wait: Duration::from_secs(5),
            freshness_wait: Duration::from_secs(2),
            refresh: Duration::from_secs(5),
            listing: Duration::from_secs(60),
            tail_rows: 200_000,
            tail_bytes: 96 * 1024 * 1024,
            record_wait: Duration::from_secs(10),
            http: Limits::default(),
        }
    }
}

/// What one query may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From its start to its last row.
    pub time: Duration,
    /// Rows of its answer; one more is an error, never a silent cut.
    pub rows: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { time: Duration::from_secs(60), rows: 1_000_000 }
    }
}
