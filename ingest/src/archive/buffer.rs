//! Records of one lane that are not sealed yet, and the segment that they make.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_array::RecordBatch;
use bursar_schemas::archive::Footer;
use bursar_schemas::columns::{Row, Standings, Table};
use bursar_schemas::evidence::SignerKey;
use bursar_schemas::ids::{Digest, Generation};
use bursar_schemas::merkle::RootBuilder;
use bursar_schemas::ports::{Batch, Record};
use bursar_schemas::position::Lane;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::parquet::{ParquetError, SegmentWriter};
use super::plan::NotOfChain;
use super::workshop::Scribe;

/// Rows, and bytes of them, decoded at a time: bounds the memory that decoding takes beside the records.
const ROWS_AT_ONCE: usize = 2048;
const BYTES_AT_ONCE: u64 = 8 * 1024 * 1024;

/// Records that a chunk takes in one after the other.
const CHUNK_RECORDS: usize = 4096;

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

/// Records that were taken in together, or one soon after the other; shared with the drafts that hold them.
#[derive(Debug, Clone)]
struct Chunk {
    records: Arc<Vec<Record>>,
    /// How many of them are sealed.
    sealed: usize,
    /// When the first was taken in.
    since: Instant,
}

impl Chunk {
    fn open(&self) -> &[Record] {
        self.records.get(self.sealed..).unwrap_or_default()
    }
}

/// Records waiting to be sealed.
#[derive(Debug)]
pub struct Buffer {
    generation: Generation,
    lane: Lane,
    head: Head,
    /// None of them without an open record.
    chunks: VecDeque<Chunk>,
    records: usize,
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
    chunks: Vec<Chunk>,
    /// How many of the chunks' open records it holds.
    records: usize,
    skipped: Vec<(u64, u64)>,
    lost: Vec<(u64, u64)>,
}

/// What the records say beside their columns.
struct Gathered {
    standings: Standings,
    root: RootBuilder,
    times: Option<(i64, i64)>,
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

impl Buffer {
    /// Empty, after the chain's end.
    #[must_use]
    pub fn new(generation: Generation, lane: Lane, head: Head) -> Self {
        let next = head.next;
        let (chunks, skipped) = (VecDeque::new(), VecDeque::new());
        Self { generation, lane, head, chunks, records: 0, skipped, bytes: 0, next }
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
    pub const fn records(&self) -> usize {
        self.records
    }

    /// Bytes that they take.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// When the oldest of them was taken in, or one shortly before it; none when there are none.
    #[must_use]
    pub fn since(&self) -> Option<Instant> {
        self.chunks.front().map(|chunk| chunk.since)
    }

    fn skip(&mut self, first: u64, last: u64) {
        match self.skipped.back_mut() {
            Some((_, end)) if end.checked_add(1) == Some(first) => *end = last,
            _ => self.skipped.push_back((first, last)),
        }
    }

    /// Takes in what a cursor gave, and when it did. Records below the next offset are those that another archiver has
    /// sealed.
    pub fn push(&mut self, batch: Batch, at: Instant) {
        let mut records = batch.records;
        records.retain(|record| {
            if record.offset < self.next {
                return false;
            }
            if record.offset > self.next {
                self.skip(self.next, record.offset - 1);
            }
            self.next = record.offset.saturating_add(1);
            self.bytes = self.bytes.saturating_add(weight(record));
            true
        });
        self.keep(records, at);
        if batch.next > self.next {
            self.skip(self.next, batch.next - 1);
            self.next = batch.next;
        }
    }

    fn keep(&mut self, mut records: Vec<Record>, at: Instant) {
        if records.is_empty() {
            return;
        }
        self.records += records.len();
        // Of records that come one by one, a chunk for each would take more memory than they do.
        if let Some(held) = self.chunks.back_mut().and_then(|chunk| Arc::get_mut(&mut chunk.records))
            && held.len() + records.len() <= CHUNK_RECORDS
        {
            held.append(&mut records);
            return;
        }
        records.shrink_to_fit();
        self.chunks.push_back(Chunk { records: Arc::new(records), sealed: 0, since: at });
    }

    /// All records as a segment to be, the holes after the last included.
    #[must_use]
    pub fn draft(&self) -> Draft {
        Draft {
            generation: self.generation,
            lane: self.lane,
            head: self.head.clone(),
            end: self.next.saturating_sub(1),
            chunks: self.chunks.iter().cloned().collect(),
            records: self.records,
            skipped: self.skipped.iter().copied().collect(),
            lost: Vec::new(),
        }
    }

    /// What is buffered, and the statement that what comes next from the journal is gone.
    #[must_use]
    pub fn draft_of_loss(&self, through: u64) -> Draft {
        Draft { end: through, lost: vec![(self.next, through)], ..self.draft() }
    }

    /// Goes on after a segment that was put, whoever put it.
    ///
    /// # Errors
    /// When its footer cannot be gone on from; nothing changes then.
    pub fn advance(&mut self, footer: &Footer) -> Result<(), NotOfChain> {
        self.head = Head::after(footer)?;
        let start = self.head.next;
        while let Some(chunk) = self.chunks.front_mut() {
            let sealed = chunk.open().partition_point(|record| record.offset < start);
            let bytes: u64 = chunk.open().iter().take(sealed).map(weight).sum();
            self.bytes = self.bytes.saturating_sub(bytes);
            self.records -= sealed;
            chunk.sealed += sealed;
            if !chunk.open().is_empty() {
                break;
            }
            self.chunks.pop_front();
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
    pub const fn records(&self) -> usize {
        self.records
    }

    /// The first `count` records alone.
    #[must_use]
    pub fn first(mut self, count: usize) -> Self {
        if count < self.records {
            self.records = count;
            self.end = self.iter().last().map_or(self.head.next, |record| record.offset);
            self.skipped.retain(|(first, _)| *first <= self.end);
            self.lost = Vec::new();
        }
        self
    }

    fn iter(&self) -> impl Iterator<Item = &Record> {
        self.chunks.iter().flat_map(Chunk::open).take(self.records)
    }

    /// Builds the object, signed where there is a key. Takes processor time, the scribe's as well where there is much to do, but no IO.
    ///
    /// # Errors
    /// When the columns or the file cannot be built.
    pub(super) fn build(self, scribe: &Scribe, signer: Option<&SignerKey>) -> Result<Segment, ParquetError> {
        let (generation, lane) = (self.generation, self.lane);
        let mut writer = SegmentWriter::new(lane.topic, self.records)?;
        let gathered = if self.records <= ROWS_AT_ONCE {
            self.gather(&mut |batch| writer.write(&batch))?
        } else {
            let (gathered, written) = scribe.write_beside(writer, |take| self.gather(take))?;
            writer = written;
            gathered
        };
        let Gathered { standings, root, times } = gathered;
        let footer = Footer {
            version: 1,
            generation,
            topic: lane.topic,
            partition: lane.partition,
            start: self.head.next,
            end: self.end,
            rows: u64::try_from(self.records).unwrap_or(u64::MAX),
            skipped: self.skipped,
            lost: self.lost,
            rows_root: root.root(),
            producers: standings.export(),
            times_us: times,
        };
        let (bytes, sha256) = writer.finish(&footer, signer)?;
        Ok(Segment { footer, bytes, sha256 })
    }

    /// Gathers the columns, a batch at a time, and what the footer says of the records.
    fn gather(
        &self,
        take: &mut dyn FnMut(RecordBatch) -> Result<(), ParquetError>,
    ) -> Result<Gathered, ParquetError> {
        let mut standings = self.head.standings.clone();
        let mut root = RootBuilder::default();
        let mut times: Option<(i64, i64)> = None;
        let mut table = Table::new(self.lane.topic, self.generation, self.lane.partition)?;
        for record in self.iter() {
            let bytes = table.bytes().saturating_add(weight(record));
            if table.rows() >= ROWS_AT_ONCE || (table.rows() > 0 && bytes > BYTES_AT_ONCE) {
                take(table.take()?)?;
            }
            let row = Row::read(record.clone(), &mut standings);
            root.push(&row.value);
            if let Ok(fact) = &row.fact {
                let at = fact.at.0;
                times = Some(times.map_or((at, at), |(first, last)| (first.min(at), last.max(at))));
            }
            table.push(&row)?;
        }
        if table.rows() > 0 {
            take(table.take()?)?;
        }
        Ok(Gathered { standings, root, times })
    }
}
