//! What becomes of a sealed segment, decided from what is known of it: no IO, no clock.

use bursar_schemas::evidence::Manifest;
use bursar_schemas::position::Topic;

const DAY: i64 = 24 * 3600 * 1_000_000;

/// What is known of a segment when its fate is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known<'a> {
    /// What the log says of it.
    pub manifest: &'a Manifest,
    /// Days for which policy keeps its topic; none for ever.
    pub days: Option<u32>,
    /// The time, in microseconds since 1970.
    pub now_us: i64,
    /// True when the journal still holds its records.
    pub in_journal: bool,
}

/// What becomes of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Policy keeps its topic for ever.
    Kept,
    /// Its newest record is within its retention until that time, in microseconds since 1970.
    Young(i64),
    /// Past its retention, but roles rebuild their state from it, and the journal holds its records no more.
    Needed,
    /// Past its retention: removed unless a hold speaks of it.
    Due,
}

/// True for topics that roles must be able to read from their start: what is in force follows from them.
const fn is_state(topic: Topic) -> bool {
    matches!(topic, Topic::Limits | Topic::Policy)
}

/// Decides a segment's fate. A record's age counts from its event time and from when it was sealed, whichever is later,
/// so a clock that was wrong never shortens its retention.
#[must_use]
pub fn fate(known: &Known<'_>) -> Fate {
    let Some(days) = known.days else { return Fate::Kept };
    let manifest = known.manifest;
    let newest = manifest.times_us.map_or(manifest.at_us, |(_, latest)| latest.max(manifest.at_us));
    let due = newest.saturating_add(i64::from(days).saturating_mul(DAY));
    if known.now_us <= due {
        return Fate::Young(due);
    }
    if is_state(manifest.topic) && !known.in_journal { Fate::Needed } else { Fate::Due }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use bursar_schemas::ids::{Digest, Generation};

    fn manifest(topic: Topic, at_us: i64, times_us: Option<(i64, i64)>) -> Manifest {
        Manifest {
            version: 1,
            at_us,
            generation: Generation([1; 16]),
            topic,
            partition: 0,
            first: 0,
            last: 9,
            rows: 10,
            key: String::new(),
            bytes: 1,
            sha256: Digest([0; 32]),
            rows_root: Digest([0; 32]),
            times_us,
            schemas: Digest([0; 32]),
        }
    }

    #[test]
    fn nothing_is_due_before_its_newest_record_is() {
        let of = |topic, at_us, times_us, days, now_us, in_journal| {
            let manifest = manifest(topic, at_us, times_us);
            fate(&Known { manifest: &manifest, days, now_us, in_journal })
        };
        let spend = |at, times, days, now| of(Topic::Spend, at, times, days, now, false);
        for (is, wanted) in [
            (spend(0, Some((0, 5)), None, i64::MAX), Fate::Kept),
            (spend(0, Some((0, 5)), Some(1), DAY + 5), Fate::Young(DAY + 5)),
            (spend(0, Some((0, 5)), Some(1), DAY + 6), Fate::Due),
            // Sealed late, or from a clock that was behind.
            (spend(7, Some((0, 5)), Some(1), DAY + 7), Fate::Young(DAY + 7)),
            (spend(7, Some((0, 5)), Some(1), DAY + 8), Fate::Due),
            (spend(7, None, Some(1), DAY + 7), Fate::Young(DAY + 7)),
            (spend(7, None, Some(1), DAY + 8), Fate::Due),
            // A forged event time in the far future keeps its segment.
            (spend(0, Some((0, i64::MAX)), Some(1), i64::MAX), Fate::Young(i64::MAX)),
            (of(Topic::Limits, 0, None, Some(1), DAY + 1, false), Fate::Needed),
            (of(Topic::Limits, 0, None, Some(1), DAY + 1, true), Fate::Due),
            (of(Topic::Policy, 0, None, Some(1), DAY + 1, false), Fate::Needed),
            (of(Topic::Requests, 0, None, Some(1), DAY + 1, false), Fate::Due),
        ] {
            assert_eq!(is, wanted);
        }
    }
}
