//! A journal that reaches further back than its topics: what retention took is read from the sealed segments.
//!
//! State is rebuilt from the start of `limits`, `policy` and `spend`. Where a topic no longer holds its start, its
//! chain of segments does, and both are one sequence of offsets.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{Array as _, RecordBatch};
use async_trait::async_trait;
use bursar_schemas::avro::Micros;
use bursar_schemas::ids::Generation;
use bursar_schemas::ports::{Batch, Bounds, Cursor, Journal, JournalError, Record};
use bursar_schemas::position::{Lane, Topic};
use bytes::Bytes;
use parking_lot::Mutex;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::store::{Segments, StoreError};

/// Rows taken out of a segment at once.
const BATCH: usize = 4096;

/// Opens the archive; called only once a lane turns out to be cut.
pub type OpenSegments = Arc<dyn Fn() -> Result<Segments, StoreError> + Send + Sync>;

/// Ranges of the segments before the cut, without a hole from offset 0 on, by lane.
type Chains = BTreeMap<(Generation, Lane), Vec<Range<u64>>>;

/// A journal whose cut lanes begin in the archive.
#[derive(Clone)]
pub struct ArchivedJournal {
    journal: Arc<dyn Journal>,
    open: OpenSegments,
    chains: Arc<Mutex<Chains>>,
}

impl std::fmt::Debug for ArchivedJournal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArchivedJournal").finish_non_exhaustive()
    }
}

fn trouble(error: &StoreError) -> JournalError {
    match error {
        StoreError::Store(_) => JournalError::Unavailable(error.to_string()),
        _ => JournalError::Failed(error.to_string()),
    }
}

impl ArchivedJournal {
    /// A journal over another and the archive of its topics.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>, open: OpenSegments) -> Self {
        Self { journal, open, chains: Arc::default() }
    }

    fn segments(&self) -> Result<Segments, JournalError> {
        (self.open)().map_err(|error| trouble(&error))
    }

    /// The range of the segment that holds an offset; none when the chain from offset 0 does not reach it, or
    /// when something before it was lost or removed.
    async fn segment_of(&self, lane: Lane, offset: u64) -> Result<Option<Range<u64>>, JournalError> {
        let generation = self.journal.generation(lane.topic).await?;
        let mut chain = self.chains.lock().get(&(generation, lane)).cloned().unwrap_or_default();
        let segments = self.segments()?;
        let known = chain.len();
        loop {
            let next = chain.last().map_or(0, |range| range.end);
            if next > offset {
                break;
            }
            let stated = segments.statement(generation, lane, next).await.map_err(|error| trouble(&error))?;
            match stated {
                Some((footer, false)) if footer.lost.is_empty() => {
                    chain.push(next..footer.end.saturating_add(1))
                }
                _ => break,
            }
        }
        let found = chain.partition_point(|range| range.end <= offset);
        let found = chain.get(found).cloned();
        if chain.len() > known {
            self.chains.lock().insert((generation, lane), chain);
        }
        Ok(found)
    }

    /// The rows of a segment.
    async fn rows(&self, lane: Lane, range: &Range<u64>) -> Result<ParquetRecordBatchReader, JournalError> {
        let generation = self.journal.generation(lane.topic).await?;
        let object = self.segments()?.object(generation, lane, range.start).await;
        let object = object.map_err(|error| trouble(&error))?;
        let reader = || {
            let builder = ParquetRecordBatchReaderBuilder::try_new(object)?;
            let columns = ["offset", "recorded_at", "value"];
            let mask = ProjectionMask::columns(builder.parquet_schema(), columns);
            builder.with_projection(mask).with_batch_size(BATCH).build()
        };
        let broken = |error| format!("the segment of {lane} at {} cannot be read: {error}", range.start);
        reader().map_err(|error: parquet::errors::ParquetError| JournalError::Failed(broken(error)))
    }
}

#[async_trait]
impl Journal for ArchivedJournal {
    async fn generation(&self, topic: Topic) -> Result<Generation, JournalError> {
        self.journal.generation(topic).await
    }

    async fn partitions(&self, topic: Topic) -> Result<u32, JournalError> {
        self.journal.partitions(topic).await
    }

    async fn bounds(&self, lane: Lane) -> Result<Bounds, JournalError> {
        let bounds = self.journal.bounds(lane).await?;
        match bounds.start.checked_sub(1) {
            Some(before) if self.segment_of(lane, before).await?.is_some() => {
                Ok(Bounds { start: 0, ..bounds })
            }
            _ => Ok(bounds),
        }
    }

    async fn read(&self, lane: Lane, from: u64) -> Result<Box<dyn Cursor>, JournalError> {
        if from >= self.journal.bounds(lane).await?.start {
            return self.journal.read(lane, from).await;
        }
        let cursor = ArchivedCursor { journal: self.clone(), lane, next: from, rows: None, live: None };
        Ok(Box::new(cursor))
    }
}

/// Reads segments until the topic itself holds what comes next.
struct ArchivedCursor {
    journal: ArchivedJournal,
    lane: Lane,
    next: u64,
    /// The segment being read: its rows, and the offset after it.
    rows: Option<(ParquetRecordBatchReader, u64)>,
    live: Option<Box<dyn Cursor>>,
}

impl ArchivedCursor {
    /// The next rows of the segment being read; none when it is over.
    fn take_rows(&mut self) -> Result<Option<Batch>, JournalError> {
        let Some((reader, end)) = &mut self.rows else { return Ok(None) };
        let end = *end;
        let broken = |error: String| JournalError::Failed(format!("a segment cannot be read: {error}"));
        let Some(rows) = reader.next() else {
            self.rows = None;
            let more = end > self.next;
            self.next = end;
            return Ok(more.then_some(Batch { records: Vec::new(), next: end }));
        };
        let rows = rows.map_err(|error| broken(error.to_string()))?;
        let mut records = records_of(&rows).ok_or_else(|| broken("its columns are others".to_owned()))?;
        records.retain(|record| record.offset >= self.next);
        if let Some(last) = records.last() {
            self.next = last.offset.saturating_add(1);
        }
        Ok(Some(Batch { records, next: self.next }))
    }
}

fn records_of(rows: &RecordBatch) -> Option<Vec<Record>> {
    let offsets = rows.column_by_name("offset")?.as_primitive_opt::<Int64Type>()?;
    let times = rows.column_by_name("recorded_at")?.as_primitive_opt::<TimestampMicrosecondType>()?;
    let values = rows.column_by_name("value")?.as_binary_opt::<i32>()?;
    let record = |row: usize| {
        let offset = u64::try_from(offsets.value(row)).ok()?;
        let value = Bytes::copy_from_slice(values.value(row));
        Some(Record { offset, at: Micros(times.value(row)), value })
    };
    (0..values.len()).map(record).collect()
}

#[async_trait]
impl Cursor for ArchivedCursor {
    async fn next(&mut self) -> Result<Batch, JournalError> {
        loop {
            if let Some(live) = &mut self.live {
                return live.next().await;
            }
            match self.take_rows()? {
                Some(batch) if batch.records.is_empty() && self.rows.is_some() => {}
                Some(batch) => return Ok(batch),
                None => {
                    let bounds = self.journal.journal.bounds(self.lane).await?;
                    if self.next >= bounds.start {
                        self.live = Some(self.journal.journal.read(self.lane, self.next).await?);
                        continue;
                    }
                    let Some(range) = self.journal.segment_of(self.lane, self.next).await? else {
                        let (start, end) = (bounds.start, bounds.end);
                        return Err(JournalError::OutOfRange {
                            lane: self.lane,
                            start,
                            end,
                            wanted: self.next,
                        });
                    };
                    let rows = self.journal.rows(self.lane, &range).await?;
                    self.rows = Some((rows, range.end));
                }
            }
        }
    }
}
