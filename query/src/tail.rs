//! Rows of one lane that are not sealed yet, in memory and bounded. Pure: [`crate::feed`] does the reading.
//!
//! Invariant: rows stand in order of offset without a hole that [`Tail::lost`] does not name, and whether one
//! is a duplicate or follows a gap goes on from the last footer, exactly as the archiver will seal it.

use std::collections::VecDeque;

use arrow::array::{Array as _, Int64Array, RecordBatch};
use bursar_schemas::columns::{self, Row, Standings};
use bursar_schemas::ports::Batch;

use crate::catalog::{Chain, LaneKey};
use crate::error::QueryError;

/// Rows and bytes of a chunk: small enough to make while a query waits, large enough that its columns do not
/// outweigh its rows.
const CHUNK_ROWS: usize = 1024;
const CHUNK_BYTES: usize = 8 * 1024 * 1024;

#[derive(Debug)]
struct Chunk {
    last: u64,
    bytes: usize,
    batch: RecordBatch,
}

/// The tail of one lane.
#[derive(Debug)]
pub(crate) struct Tail {
    key: LaneKey,
    most_rows: usize,
    most_bytes: usize,
    chunks: VecDeque<Chunk>,
    open: Vec<Row>,
    open_bytes: usize,
    open_batch: Option<RecordBatch>,
    rows: usize,
    bytes: usize,
    standings: Standings,
    position: u64,
    /// Offsets that the journal no longer holds and nobody had sealed, as inclusive ranges.
    pub(crate) lost: Vec<(u64, u64)>,
    /// Why the tail does not move at the moment.
    pub(crate) error: Option<String>,
}

impl Tail {
    /// An empty tail that goes on where a chain ends.
    pub(crate) fn new(
        key: LaneKey,
        chain: &Chain,
        most_rows: usize,
        most_bytes: usize,
    ) -> Result<Self, QueryError> {
        Ok(Self {
            key,
            most_rows,
            most_bytes,
            chunks: VecDeque::new(),
            open: Vec::new(),
            open_bytes: 0,
            open_batch: None,
            rows: 0,
            bytes: 0,
            standings: standings(chain)?,
            position: chain.next,
            lost: Vec::new(),
            error: None,
        })
    }

    /// The offset to go on from: every record below it is sealed, here, or lost.
    pub(crate) const fn position(&self) -> u64 {
        self.position
    }

    /// Rows held.
    pub(crate) const fn rows(&self) -> usize {
        self.rows
    }

    /// False once its bound is reached: nothing more is read before something is sealed.
    pub(crate) const fn has_room(&self) -> bool {
        self.rows < self.most_rows && self.bytes < self.most_bytes
    }

    /// Takes the next records; those before the position came already and are passed over.
    pub(crate) fn extend(&mut self, batch: Batch) -> Result<(), QueryError> {
        for record in batch.records {
            if record.offset < self.position {
                continue;
            }
            self.position = record.offset.saturating_add(1);
            self.rows += 1;
            self.bytes += record.value.len();
            self.open_bytes += record.value.len();
            self.open.push(Row::read(record, &mut self.standings));
            self.open_batch = None;
            if self.open.len() >= CHUNK_ROWS || self.open_bytes >= CHUNK_BYTES {
                self.close_chunk()?;
            }
        }
        self.position = self.position.max(batch.next);
        Ok(())
    }

    fn convert(&self) -> Result<RecordBatch, QueryError> {
        columns::batch(self.key.lane.topic, self.key.generation, self.key.lane.partition, &self.open)
            .map_err(|error| QueryError::Engine(error.to_string()))
    }

    fn close_chunk(&mut self) -> Result<(), QueryError> {
        let Some(last) = self.open.last().map(|row| row.offset) else { return Ok(()) };
        let batch = self.convert()?;
        // Its columns take several times what its values took.
        let bytes = batch.get_array_memory_size();
        self.bytes = (self.bytes + bytes).saturating_sub(self.open_bytes);
        self.open.clear();
        self.open_bytes = 0;
        self.chunks.push_back(Chunk { last, bytes, batch });
        Ok(())
    }

    /// Passes over offsets that nobody holds any more.
    pub(crate) fn skip_lost(&mut self, until: u64) {
        if until > self.position {
            self.lost.push((self.position, until - 1));
            self.position = until;
        }
    }

    /// Lets go of what is sealed by now.
    pub(crate) fn trim(&mut self, chain: &Chain) -> Result<(), QueryError> {
        let sealed = chain.next;
        self.lost.retain(|(_, last)| *last >= sealed);
        if sealed >= self.position {
            // The archiver is ahead, or level: go on exactly where and how it will.
            let lost = std::mem::take(&mut self.lost);
            let error = self.error.take();
            *self = Self { lost, error, ..Self::new(self.key, chain, self.most_rows, self.most_bytes)? };
            return Ok(());
        }
        while let Some(chunk) = self.chunks.pop_front_if(|chunk| chunk.last < sealed) {
            self.rows -= chunk.batch.num_rows();
            self.bytes = self.bytes.saturating_sub(chunk.bytes);
        }
        let kept = self.open.partition_point(|row| row.offset < sealed);
        for row in self.open.drain(..kept) {
            self.rows -= 1;
            self.bytes = self.bytes.saturating_sub(row.value.len());
            self.open_bytes = self.open_bytes.saturating_sub(row.value.len());
            self.open_batch = None;
        }
        Ok(())
    }

    /// The rows from an offset on.
    pub(crate) fn from(&mut self, offset: u64) -> Result<Vec<RecordBatch>, QueryError> {
        if self.open_batch.is_none() && !self.open.is_empty() {
            self.open_batch = Some(self.convert()?);
        }
        let chunks = self.chunks.iter().map(|chunk| &chunk.batch).chain(&self.open_batch);
        Ok(chunks.filter_map(|batch| cut(batch, offset)).collect())
    }
}

fn standings(chain: &Chain) -> Result<Standings, QueryError> {
    Standings::import(&chain.producers).map_err(|error| QueryError::Archive(error.to_string()))
}

/// What of a batch stands at or above an offset; offsets are the first column, rising.
fn cut(batch: &RecordBatch, offset: u64) -> Option<RecordBatch> {
    let offsets = batch.column(0).as_any().downcast_ref::<Int64Array>()?;
    let bound = i64::try_from(offset).unwrap_or(i64::MAX);
    let first = offsets.values().partition_point(|value| *value < bound);
    (first < batch.num_rows()).then(|| batch.slice(first, batch.num_rows() - first))
}
