//! Records of one lane that are not sealed yet, and the segment that they make.

use std::collections::VecDeque;

use bursar_schemas::archive::Footer;
use bursar_schemas::columns::{Row, Standings, batch};
use bursar_schemas::ids::{Digest, Generation};
use bursar_schemas::merkle::RootBuilder;
use bursar_schemas::ports::{Batch, Record};
use bursar_schemas::position::Lane;
use sha2::{Digest as _, Sha256};

use super::parquet::{ParquetError, SegmentWriter};
use super::plan::NotOfChain;

/// Rows, and bytes of them, decoded at a time: bounds the memory that decoding takes beside the records.
const ROWS_AT_ONCE: usize = 4096;
const BYTES_AT_ONCE: u64 = 8 * 1024 * 1024;

/// Memory that a buffered record takes beside its value.
const RECORD_OVERHEAD: u64 = 64;

/// A chain's end: where the next segment starts, and what its footer goes on from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// First offset that is not sealed.
    pub next: u64,
    /// Each producer's next number there.
    pub standings: Standings,
}

impl Head {
    /// The chain's end after a segment.
    ///
    /// # Errors
    /// When the footer's producers cannot be read.
    pub fn after(footer: &Footer) -> Result<Self, NotOfChain> {
        let standings = Standings::import(&footer.producers).map_err(|_| NotOfChain::Producer)?;
        Ok(Self { next: footer.end.saturating_add(1), standings })
    }
}

/// Records waiting to be sealed.
#[derive(Debug)]
pub struct Buffer {
    generation: Generation,
    lane: Lane,
    head: Head,
    records: VecDeque<Record>,
    /// Offsets that the journal has no record at, as rising inclusive ranges.
    skipped: VecDeque<(u64, u64)>,
    bytes: u64,
    /// The offset that comes next from the journal.
    next: u64,
}

/// What a segment is made from; cheap to clone, so that it can be built beside the lane's task.
#[derive(Debug, Clone)]
pub struct Draft {
    generation: Generation,
    lane: Lane,
    head: Head,
    end: u64,
    records: Vec<Record>,
    skipped: Vec<(u64, u64)>,
    lost: Vec<(u64, u64)>,
}

/// A segment ready to be put.
#[derive(Debug, Clone)]
pub struct Segment {
    /// What it states of itself.
    pub footer: Footer,
    /// The object's bytes.
    pub bytes: bytes::Bytes,
    /// SHA-256 of them.
    pub sha256: Digest,
}

/// SHA-256 of an object's bytes.
pub(super) fn sha256(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

fn weight(record: &Record) -> u64 {
    u64::try_from(record.value.len()).unwrap_or(u64::MAX).saturating_add(RECORD_OVERHEAD)
}

/// How many of the records to decode next: at least one.
fn at_once(records: &[Record]) -> usize {
    let mut bytes = 0;
    let fitting = records.iter().take(ROWS_AT_ONCE).take_while(|record| {
        bytes += weight(record);
        bytes <= BYTES_AT_ONCE
    });
    fitting.count().max(1).min(records.len())
}

impl Buffer {
    /// Empty, after the chain's end.
    #[must_use]
    pub fn new(generation: Generation, lane: Lane, head: Head) -> Self {
        let next = head.next;
        Self { generation, lane, head, records: VecDeque::new(), skipped: VecDeque::new(), bytes: 0, next }
    }

    /// First offset that is not sealed.
    #[must_use]
    pub const fn start(&self) -> u64 {
        self.head.next
    }

    /// The offset that comes next from the journal.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Records buffered.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records.len()
    }

    /// Bytes that they take.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    fn skip(&mut self, first: u64, last: u64) {
        match self.skipped.back_mut() {
            Some((_, end)) if end.checked_add(1) == Some(first) => *end = last,
            _ => self.skipped.push_back((first, last)),
        }
    }

    /// Takes in what a cursor gave. Records below the next offset are those that another archiver has sealed.
    pub fn push(&mut self, batch: Batch) {
        for record in batch.records {
            if record.offset < self.next {
                continue;
            }
            if record.offset > self.next {
                self.skip(self.next, record.offset - 1);
            }
            self.next = record.offset.saturating_add(1);
            self.bytes = self.bytes.saturating_add(weight(&record));
            self.records.push_back(record);
        }
        if batch.next > self.next {
            self.skip(self.next, batch.next - 1);
            self.next = batch.next;
        }
    }

    /// The first `count` records as a segment to be; all of them include the holes after the last.
    #[must_use]
    pub fn draft(&self, count: usize) -> Draft {
        let records: Vec<Record> = self.records.iter().take(count).cloned().collect();
        let whole = count >= self.records.len();
        let end = if whole {
            self.next.saturating_sub(1)
        } else {
            records.last().map_or(self.head.next, |record| record.offset)
        };
        let skipped = self.skipped.iter().copied().filter(|(first, _)| *first <= end).collect();
        Draft {
            generation: self.generation,
            lane: self.lane,
            head: self.head.clone(),
            end,
            records,
            skipped,
            lost: Vec::new(),
        }
    }

    /// What is buffered, and the statement that what comes next from the journal is gone.
    #[must_use]
    pub fn draft_of_loss(&self, through: u64) -> Draft {
        Draft { end: through, lost: vec![(self.next, through)], ..self.draft(usize::MAX) }
    }

    /// Goes on after a segment that was put, whoever put it.
    ///
    /// # Errors
    /// When its footer cannot be gone on from; nothing changes then.
    pub fn advance(&mut self, footer: &Footer) -> Result<(), NotOfChain> {
        self.head = Head::after(footer)?;
        let start = self.head.next;
        while self.records.front().is_some_and(|record| record.offset < start) {
            if let Some(record) = self.records.pop_front() {
                self.bytes = self.bytes.saturating_sub(weight(&record));
            }
        }
        while self.skipped.front().is_some_and(|(_, last)| *last < start) {
            self.skipped.pop_front();
        }
        if let Some((first, _)) = self.skipped.front_mut() {
            *first = start.max(*first);
        }
        self.next = self.next.max(start);
        Ok(())
    }
}

impl Draft {
    /// Records held.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records.len()
    }

    /// Builds the object. Takes processor time, but no IO.
    ///
    /// # Errors
    /// When the columns or the file cannot be built.
    pub fn build(self) -> Result<Segment, ParquetError> {
        let Self { generation, lane, head, end, records, skipped, lost } = self;
        let mut standings = head.standings;
        let mut root = RootBuilder::default();
        let mut times: Option<(i64, i64)> = None;
        let mut writer = SegmentWriter::new(lane.topic, records.len())?;
        let mut rest = records.as_slice();
        while let Some((chunk, after)) =
            rest.split_at_checked(at_once(rest)).filter(|(chunk, _)| !chunk.is_empty())
        {
            rest = after;
            let rows: Vec<Row> =
                chunk.iter().map(|record| Row::read(record.clone(), &mut standings)).collect();
            for row in &rows {
                root.push(&row.value);
                if let Ok(fact) = &row.fact {
                    let at = fact.at.0;
                    times = Some(times.map_or((at, at), |(first, last)| (first.min(at), last.max(at))));
                }
            }
            writer.write(&batch(lane.topic, generation, lane.partition, &rows)?)?;
        }
        let footer = Footer {
            version: 1,
            generation,
            topic: lane.topic,
            partition: lane.partition,
            start: head.next,
            end,
            rows: u64::try_from(records.len()).unwrap_or(u64::MAX),
            skipped,
            lost,
            rows_root: root.root(),
            producers: standings.export(),
            times_us: times,
        };
        let bytes = writer.finish(&footer)?;
        let sha256 = sha256(&bytes);
        Ok(Segment { footer, bytes, sha256 })
    }
}
