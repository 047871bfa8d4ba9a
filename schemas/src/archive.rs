//! Sealed segments: the sole author of their object names, and the facts that a footer states.
//!
//! A segment's key is generation / topic / partition / start offset and nothing else, so that the slot is a
//! compare-and-swap: whoever creates it first defines the end, which stands in its footer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{Digest, Generation, ProducerId};
use crate::position::{Lane, Topic};

/// Folder of all segments under a store's root.
pub const SEGMENTS: &str = "segments";

/// Key of the Parquet key-value entry that holds the [`Footer`] as JSON.
pub const FOOTER_KEY: &str = "bursar.segment";

/// Key of the Parquet key-value entry that shows who built a segment: a signature by the log's key over the whole object.
pub const SIGNATURE_KEY: &str = "bursar.signature";

/// Key of the Parquet key-value entry that an object has in the place of a segment whose records were removed: the
/// leaf of the log that says so, as JSON ([`Removed`]). Its [`FOOTER_KEY`] entry is the segment's own, word for word.
pub const REMOVED_KEY: &str = "bursar.removed";

/// The largest segment, in bytes of Parquet: one PUT.
pub const LARGEST_SEGMENT: u64 = 64 * 1024 * 1024;

/// Folder of a lane's segments.
#[must_use]
pub fn lane_prefix(generation: Generation, lane: Lane) -> String {
    format!("{SEGMENTS}/{generation}/{}/{:05}", lane.topic, lane.partition)
}

/// Name of the segment that starts at an offset.
#[must_use]
pub fn segment_key(generation: Generation, lane: Lane, start: u64) -> String {
    format!("{}/{start:020}.parquet", lane_prefix(generation, lane))
}

/// Reads a segment's name back; none for a foreign object.
#[must_use]
pub fn parse_segment_key(key: &str) -> Option<(Generation, Lane, u64)> {
    let mut parts = key.strip_prefix(SEGMENTS)?.strip_prefix('/')?.split('/');
    let generation = parts.next()?.parse().ok()?;
    let topic = Topic::from_name(parts.next()?)?;
    let partition = parts.next()?.parse().ok()?;
    let start = parts.next()?.strip_suffix(".parquet")?.parse().ok()?;
    let lane = Lane::new(topic, partition);
    let found = (generation, lane, start);
    (parts.next().is_none() && segment_key(generation, lane, start) == key).then_some(found)
}

/// Folder of the commits and checkpoints of the Delta table over the segments of a topic's life. The table's root is the folder above it.
#[must_use]
pub fn delta_log(generation: Generation, topic: Topic) -> String {
    format!("{SEGMENTS}/{generation}/{topic}/_delta_log")
}

/// True for the name of a Delta table's commit, of a checkpoint of it or of the hint at the newest one.
#[must_use]
pub fn is_delta_key(key: &str) -> bool {
    let place = || {
        let rest = key.strip_prefix(SEGMENTS)?.strip_prefix('/')?;
        let (generation, rest) = rest.split_once('/')?;
        let (topic, rest) = rest.split_once('/')?;
        let name = rest.strip_prefix("_delta_log/")?;
        let folder = delta_log(generation.parse().ok()?, Topic::from_name(topic)?);
        if name == "_last_checkpoint" {
            return Some(format!("{folder}/{name}") == key);
        }
        let (version, kind) = name.split_once('.')?;
        let version: u64 = version.parse().ok()?;
        let is_known = matches!(kind, "json" | "checkpoint.parquet");
        Some(is_known && format!("{folder}/{version:020}.{kind}") == key)
    };
    place().unwrap_or(false)
}

/// What a segment states of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Footer {
    /// Version of this statement: 1.
    pub version: u32,
    /// The topic's life.
    pub generation: Generation,
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: u32,
    /// First offset covered: the object's name.
    pub start: u64,
    /// Last offset covered; the next segment starts one above it.
    pub end: u64,
    /// Rows held; `end - start + 1` less what was skipped or lost.
    pub rows: u64,
    /// Offsets within the range that the journal holds no record at, as inclusive ranges.
    pub skipped: Vec<(u64, u64)>,
    /// Offsets that were gone before they could be sealed (retention, a wiped topic), as inclusive ranges.
    pub lost: Vec<(u64, u64)>,
    /// RFC 6962 root over the raw value bytes in offset order.
    pub rows_root: Digest,
    /// Per producer seen so far on the lane, the number that comes next after this segment.
    pub producers: BTreeMap<String, u64>,
    /// Earliest and latest event time among the rows, in microseconds; none without readable rows.
    pub times_us: Option<(i64, i64)>,
}

/// What stands in the place of a segment whose records were removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Removed {
    /// The leaf that states the removal.
    pub leaf: u64,
    /// When, in microseconds since 1970.
    pub at_us: i64,
}

impl Footer {
    /// The lane.
    #[must_use]
    pub const fn lane(&self) -> Lane {
        Lane::new(self.topic, self.partition)
    }

    /// The number that comes next for a producer.
    #[must_use]
    pub fn next_number(&self, producer: ProducerId) -> Option<u64> {
        self.producers.get(&producer.to_string()).copied()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_foreign_ones_do_not() {
        let generation = Generation([7; 16]);
        let key = segment_key(generation, Lane::new(Topic::Spend, 3), 42);
        assert_eq!(parse_segment_key(&key).unwrap(), (generation, Lane::new(Topic::Spend, 3), 42));
        for foreign in
            [key.replace("spend", "spent"), key.replace("00003", "3"), format!("{key}/x"), format!("x{key}")]
        {
            assert_eq!(parse_segment_key(&foreign), None, "{foreign}");
        }
        let commit = format!("{}/{:020}.json", delta_log(generation, Topic::Spend), 7);
        let checkpoint = commit.replace(".json", ".checkpoint.parquet");
        let hint = format!("{}/_last_checkpoint", delta_log(generation, Topic::Spend));
        for known in [&commit, &checkpoint, &hint] {
            assert!(is_delta_key(known) && parse_segment_key(known).is_none(), "{known}");
        }
        for foreign in [
            commit.replace("spend", "spent"),
            commit.replace("007", "7"),
            commit.replace(".json", ".parquet"),
            checkpoint.replace("007", "7"),
            format!("{commit}x"),
            format!("{hint}s"),
            key,
        ] {
            assert!(!is_delta_key(&foreign), "{foreign}");
        }
    }
}
