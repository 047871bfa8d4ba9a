//! What was found, one line for each, and what the whole of it means.

use std::collections::BTreeMap;

use bursar_schemas::evidence::{Checkpoint, Removal};
use bursar_schemas::position::Lane;
use serde::Serialize;

use super::VerifyOptions;
use super::log::Log;
use super::plain::plain;

/// Findings kept word for word; the rest is counted.
const KEPT: usize = 10_000;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It should be there and is not.
    Missing,
    /// Its bytes are not those that were logged.
    Altered,
    /// It is there more than once.
    Doubled,
    /// It is not where it belongs in the order.
    Reordered,
    /// Nothing accounts for it.
    Foreign,
    /// It follows the chain, but no leaf vouches for it.
    Unlogged,
    /// A leaf that no checkpoint covers.
    Unsigned,
    /// A checkpoint signed for another history.
    Forked,
    /// The archive has fewer leaves than a checkpoint that is trusted.
    RolledBack,
    /// A signature, certificate or running hash that does not hold.
    Forged,
    /// Numbers of a producer that never came.
    Gap,
    /// Offsets that were gone before they could be sealed.
    Lost,
    /// A topic was deleted and made anew.
    Recreated,
    /// A record of `limits` that the ledger should not have written.
    Unacceptable,
    /// A time that goes back.
    Backdated,
    /// A witness whose key was given has cosigned nothing.
    Unwitnessed,
}

impl Kind {
    /// The word that reports use.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Altered => "altered",
            Self::Doubled => "doubled",
            Self::Reordered => "reordered",
            Self::Foreign => "foreign",
            Self::Unlogged => "unlogged",
            Self::Unsigned => "unsigned",
            Self::Forked => "forked",
            Self::RolledBack => "rolled back",
            Self::Forged => "forged",
            Self::Gap => "gap",
            Self::Lost => "lost",
            Self::Recreated => "recreated",
            Self::Unacceptable => "unacceptable",
            Self::Backdated => "backdated",
            Self::Unwitnessed => "unwitnessed",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// The object, or the place in a lane.
    pub what: String,
    /// How it shows.
    pub detail: String,
}

/// A producer whose last facts nobody has signed for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct OpenEnd {
    /// The lane.
    pub lane: String,
    /// The producer.
    pub producer: String,
    /// Its role.
    pub role: String,
    /// First number that no signed head covers.
    pub unproven_from: u64,
    /// Facts that it covers none of.
    pub unproven_facts: u64,
    /// When its last signed head was written, or its first fact when there is none.
    pub since: String,
}

/// Records of a lane that were removed under retention, by word of the log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct RemovedRecords {
    /// The lane.
    pub lane: String,
    /// Segments removed.
    pub segments: u64,
    /// Records removed.
    pub rows: u64,
    /// Days that policy kept them.
    pub retention_days: u64,
    /// Event time of the newest.
    pub until: Option<String>,
    /// Who had them removed.
    pub by: String,
}

/// What a witness whose key was given says of the log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Witnessed {
    /// Its name.
    pub name: String,
    /// Its key.
    pub key: String,
    /// The most leaves that it cosigned.
    pub leaves: u64,
    /// When it did so last, by its own clock.
    pub at: String,
}

/// What a check found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// True when everything was looked at and nothing was found.
    pub complete: bool,
    /// What the result means, in sentences.
    pub verdict: Vec<String>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// How many findings there are of each kind, also of those that are not listed.
    pub counts: BTreeMap<&'static str, u64>,
    /// Producers whose last facts nobody has signed for: still at work, or ended by force.
    pub open_ends: Vec<OpenEnd>,
    /// What is worth knowing and not wrong.
    pub notes: Vec<String>,
    /// What the witnesses say whose keys were given.
    pub witnesses: Vec<Witnessed>,
    /// Leaves of the log.
    pub leaves: u64,
    /// The newest checkpoint that holds.
    #[serde(skip)]
    pub checkpoint: Option<Checkpoint>,
    /// Records removed under retention: no fault, and stated by the log before they were.
    pub removed: Vec<RemovedRecords>,
    /// Segments that the log names.
    pub segments: u64,
    /// Segments looked into.
    pub segments_checked: u64,
    /// Of these, those whose columns were made anew from their records.
    pub columns_checked: u64,
    /// Of these, those whose columns were not, as they are of another version's schemas.
    pub columns_of_others: u64,
    /// Rows looked at.
    pub rows: u64,
    /// Bytes of the segments looked into.
    pub bytes: u64,
    /// Facts whose running hash a signed head confirms.
    pub proven_facts: u64,
}

impl Report {
    pub(super) fn add(&mut self, kind: Kind, what: impl Into<String>, detail: impl Into<String>) {
        let count = self.counts.entry(kind.word()).or_default();
        *count += 1;
        if self.findings.len() < KEPT {
            self.findings.push(Finding { kind, what: what.into(), detail: detail.into() });
        }
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Notes a removal that the log states, beside those of its kind.
    pub(super) fn remove(&mut self, lane: Lane, removal: &Removal, times_us: Option<(i64, i64)>) {
        let (lane, until) = (lane.to_string(), times_us.map(|(_, newest)| time(newest)));
        let same = |it: &&mut RemovedRecords| {
            it.lane == lane && it.retention_days == removal.retention_days && it.by == removal.by
        };
        if let Some(known) = self.removed.iter_mut().find(same) {
            known.segments += 1;
            known.rows += removal.rows;
            known.until = known.until.take().max(until);
            return;
        }
        let (retention_days, by) = (removal.retention_days, removal.by.clone());
        self.removed.push(RemovedRecords {
            lane,
            segments: 1,
            rows: removal.rows,
            retention_days,
            until,
            by,
        });
    }

    /// Takes in what was found elsewhere.
    pub(super) fn merge(&mut self, other: Self) {
        for (kind, count) in other.counts {
            *self.counts.entry(kind).or_default() += count;
        }
        let room = KEPT.saturating_sub(self.findings.len());
        self.findings.extend(other.findings.into_iter().take(room));
        self.notes.extend(other.notes);
        self.open_ends.extend(other.open_ends);
        self.removed.extend(other.removed);
        self.rows += other.rows;
        self.bytes += other.bytes;
        self.segments_checked += other.segments_checked;
        self.columns_checked += other.columns_checked;
        self.columns_of_others += other.columns_of_others;
        self.proven_facts += other.proven_facts;
    }

    /// True when something may merely be under way.
    pub(super) fn is_unsettled(&self) -> bool {
        [Kind::Unlogged, Kind::Unsigned].iter().any(|kind| self.counts.contains_key(kind.word()))
    }

    /// True when nothing is wrong with what was looked at.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.counts.is_empty()
    }

    pub(super) fn finish(&mut self, log: &Log, options: &VerifyOptions) {
        self.findings.sort();
        self.open_ends.sort();
        self.leaves = log.size;
        self.segments = log.segments();
        self.checkpoint.clone_from(&log.newest);
        let partly = options.sample.is_some() || options.since_us.is_some();
        // Columns that were asked for and not looked at are a part, too.
        let unread = options.columns && self.columns_of_others > 0;
        self.complete = self.holds() && !partly && !unread;
        let removed = self.removed.iter().fold((0, 0), |sum, it| (sum.0 + it.segments, sum.1 + it.rows));
        let until = log.last_at_us.map_or_else(|| "no time".to_owned(), time);
        self.verdict.push(match (self.holds(), partly) {
            (true, false) => format!(
                "Everything that the log names is there and unaltered, and every object is named: {} segments, {} rows, \
                 up to {until}.{}",
                self.segments - removed.0,
                self.rows,
                if removed.0 == 0 {
                    String::new()
                } else {
                    format!(" {} more segments, {} rows, were removed under retention.", removed.0, removed.1)
                }
            ),
            (true, true) => format!(
                "Nothing wrong was found in {} of {} segments. The others were not looked into, so this does not show \
                 that the archive is whole.",
                self.segments_checked, self.segments
            ),
            (false, _) => format!("{} findings.", self.counts.values().sum::<u64>()),
        });
        self.verdict.push(match (options.columns, self.columns_of_others) {
            (false, _) => "Records were checked, and not the columns beside them that queries read (--columns).".to_owned(),
            (true, 0) => format!("The columns of {} segments were held to their records.", self.columns_checked),
            (true, others) => format!(
                "The columns of {} segments were held to their records; those of {others} more follow the schemas of \
                 another version and were not.",
                self.columns_checked
            ),
        });
        self.verdict.push(match (&log.trusted, log.witnesses.newest()) {
            (Some(trusted), _) => format!(
                "The history up to the trusted checkpoint of {} leaves{}; of what came after {}, nothing is excluded but \
                 what is shown here.",
                trusted.size,
                if log.contains_trusted { " is contained" } else { " is NOT contained" },
                log.trusted_at_us.map_or_else(|| "it".to_owned(), time),
            ),
            (None, Some((name, leaves, at))) => format!(
                "No trusted checkpoint was given. {name} cosigned {leaves} leaves at {at}, and they are {}here: what it had \
                 seen by then is not cut off. Of what came after that, nothing is excluded but what is shown here.",
                if leaves <= log.size && !self.counts.contains_key(Kind::Forked.word()) { "" } else { "NOT all " },
                at = seconds(at),
            ),
            (None, None) => format!(
                "No trusted checkpoint was given: the newest part may have been cut off. Nothing after {until} is \
                 excluded."
            ),
        });
    }

    /// For people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Names come from whoever wrote the archive: none may end a line or move the cursor.
        let mut line = |line: String| {
            text.push_str(&plain(&line));
            text.push('\n');
        };
        for finding in &self.findings {
            line(format!("{:<12}  {}  {}", finding.kind.word(), finding.what, finding.detail));
        }
        let listed = u64::try_from(self.findings.len()).unwrap_or(u64::MAX);
        let all: u64 = self.counts.values().sum();
        if all > listed {
            line(format!("… and {} more findings", all - listed));
        }
        for open in &self.open_ends {
            line(format!(
                "open end      {} producer {} ({}): no last head; tail unproven since {} ({} facts from number {})",
                open.lane, open.producer, open.role, open.since, open.unproven_facts, open.unproven_from
            ));
        }
        for removed in &self.removed {
            line(format!(
                "removed       {}: {} segments, {} rows up to {}, under retention of {} days, by {}; no fault",
                removed.lane,
                removed.segments,
                removed.rows,
                removed.until.as_deref().unwrap_or("no time"),
                removed.retention_days,
                removed.by
            ));
        }
        for note in &self.notes {
            line(format!("note          {note}"));
        }
        if let Some(checkpoint) = &self.checkpoint {
            line(format!(
                "log           {}: {} leaves, root {}",
                checkpoint.origin, checkpoint.size, checkpoint.root
            ));
        }
        line(format!(
            "checked       {} of {} segments, {} bytes, {} rows, {} facts under signed heads",
            self.segments_checked, self.segments, self.bytes, self.rows, self.proven_facts
        ));
        self.verdict.iter().for_each(|sentence| line(sentence.clone()));
        text
    }
}

/// An instant in UTC, from seconds.
pub(super) fn seconds(seconds: u64) -> String {
    time(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000))
}

/// An instant in UTC.
pub(super) fn time(micros: i64) -> String {
    jiff::Timestamp::from_microsecond(micros).map_or_else(|_| format!("{micros} µs"), |time| time.to_string())
}
