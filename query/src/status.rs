//! What an answer was made from, and what it could not see.

use bursar_schemas::avro::Micros;
use bursar_schemas::ids::Generation;
use bursar_schemas::position::Topic;
use serde::Serialize;

/// What an answer was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// When the answer's view of the records was taken, in microseconds since 1970.
    pub as_of: Micros,
    /// Every lane found in the archive or the journal.
    pub lanes: Vec<LaneStatus>,
    /// Objects beside the segments that are in no chain; they are never read from.
    pub foreign_objects: u64,
    /// Names of the first of them.
    pub foreign: Vec<String>,
    /// Why the archive could not be looked at just before; what is shown is what was known.
    pub problem: Option<String>,
    /// Why the journal could not be asked how far it goes; the answer may miss its newest records.
    pub journal_problem: Option<String>,
}

/// One partition in one life of its topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LaneStatus {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: u32,
    /// The topic's life.
    pub generation: Generation,
    /// Sealed segments.
    pub segments: usize,
    /// One above the last sealed offset.
    pub sealed_next: u64,
    /// The answer saw every record below this offset.
    pub next: u64,
    /// Rows that are not sealed yet.
    pub tail_rows: usize,
    /// Records that the journal held as the query began and that the answer did not see.
    pub behind: u64,
    /// True when the tail is at its bound and goes on once something is sealed.
    pub waits_for_sealing: bool,
    /// Offsets that were gone before they could be sealed, as inclusive ranges.
    pub lost: Vec<(u64, u64)>,
    /// Records that were removed under retention.
    pub removed_rows: u64,
    /// Event time of the newest of them, in microseconds since 1970.
    pub removed_until_us: Option<Micros>,
    /// Why the chain ends although an object stands in the next slot.
    pub broken: Option<String>,
    /// Why the tail does not move.
    pub stalled: Option<String>,
}

impl Status {
    /// True when the answer saw everything that was there as the query began.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let asked = self.problem.is_none() && self.journal_problem.is_none();
        asked && self.lanes.iter().all(|lane| lane.behind == 0 && lane.broken.is_none())
    }

    /// What the answer could not see, one line each; empty when it saw all.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .problem
            .iter()
            .map(|problem| format!("the archive was not looked at anew: {problem}"))
            .collect();
        if let Some(reason) = &self.journal_problem {
            lines.push(format!("the newest records may not be in the answer: {reason}"));
        }
        for lane in &self.lanes {
            let place = format!("{}/{}", lane.topic, lane.partition);
            if lane.behind > 0 {
                let why = match (&lane.stalled, lane.waits_for_sealing) {
                    (Some(reason), _) => format!(": {reason}"),
                    (None, true) => ": the tail is at its bound and waits for sealing".to_owned(),
                    (None, false) => String::new(),
                };
                lines.push(format!("{place}: {} newest records are not in the answer{why}", lane.behind));
            }
            if let Some(reason) = &lane.broken {
                lines.push(format!("{place}: the chain of segments breaks off: {reason}"));
            }
            if lane.removed_rows > 0 {
                let until = lane.removed_until_us.and_then(|at| jiff::Timestamp::from_microsecond(at.0).ok());
                let until = until.map(|at| format!(", the newest of {at}")).unwrap_or_default();
                lines.push(format!(
                    "{place}: {} records were removed under retention{until}",
                    lane.removed_rows
                ));
            }
            if !lane.lost.is_empty() {
                let count = lane.lost.iter().fold(0_u64, |sum, (first, last)| {
                    sum.saturating_add(last.saturating_sub(*first)).saturating_add(1)
                });
                lines.push(format!("{place}: {count} offsets were lost before they could be sealed"));
            }
        }
        if self.foreign_objects > 0 {
            lines.push(format!("{} objects in the archive belong to no chain", self.foreign_objects));
        }
        lines
    }
}
