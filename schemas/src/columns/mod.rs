//! Columns of the archive tables: one wide table a topic, the same for sealed segments and for the tail that is
//! not sealed yet.
//!
//! The table follows from the facts' Avro schemas: what every record has, what every fact begins with, the
//! attributes of the request where the topic speaks of requests, then every field of every kind that the topic
//! carries. Single records such as a lease id are spread over columns (`lease_holder`, `lease_number`).
//!
//! Invariant: a record that cannot be read has a row too, with its bytes and the reason.
//! Invariant: types are those that Delta and Iceberg share; amounts are Decimal128(38, 12), never floats.

mod builder;
mod layout;
mod shape;
mod standing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_buffer::BooleanBufferBuilder;
use arrow_schema::{ArrowError, SchemaRef};
use bytes::Bytes;

use self::builder::{Column, Runs, is_present, take_all};
use self::layout::{Layout, Step, layout};
use self::shape::Shape;
use crate::avro::{AvroError, Micros};
use crate::ids::Generation;
use crate::ports::Record;
use crate::position::Topic;
use crate::wire::{self, Front, Unreadable};

pub use self::standing::{Standing, Standings};

/// Most bytes of record values in one batch: keeps every column below Arrow's 2³¹ bytes, as a text column takes
/// at most twelve bytes for each byte of a record.
pub const LARGEST_BATCH: u64 = 128 * 1024 * 1024;

/// One record, read and placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its offset in the lane.
    pub offset: u64,
    /// When the journal took it in.
    pub at: Micros,
    /// Its bytes.
    pub value: Bytes,
    /// Which fact it is, or why it is none.
    pub fact: Result<Front, Unreadable>,
    /// Where it stands in its producer's numbering.
    pub standing: Standing,
}

impl Row {
    /// Reads the lane's next record and places it.
    #[must_use]
    pub fn read(record: Record, standings: &mut Standings) -> Self {
        let fact = wire::glance(&record.value);
        let standing = fact.as_ref().map_or(Standing::New, |fact| standings.observe(fact));
        Self { offset: record.offset, at: record.at, value: record.value, fact, standing }
    }
}

/// The table of a topic.
#[must_use]
pub fn schema(topic: Topic) -> SchemaRef {
    Arc::clone(&layout(topic).schema)
}

/// Name and documentation of every column, in the order of the schema.
#[must_use]
pub fn docs(topic: Topic) -> &'static [(String, String)] {
    &layout(topic).docs
}

/// Documentation of the topic's table.
#[must_use]
pub const fn table_doc(topic: Topic) -> &'static str {
    match topic {
        Topic::Requests => {
            "Requests opened, closed and refused; statements run over the archive; findings about streams. \
             One row for each record of the topic."
        }
        Topic::Routes => {
            "Which target each attempt went to and why, and how each attempt ended. One row for each record of \
             the topic."
        }
        Topic::Spend => {
            "What each attempt reserved, was charged or gave back, and the lease messages of the shims. One row \
             for each record of the topic; sum `amount` of kind `Settled` without duplicates."
        }
        Topic::Limits => {
            "What the ledger wrote: epochs, limits, windows, leases granted, refused, credited and closed, \
             balances, alerts. One row for each record of the topic; not every row counts, the fold decides."
        }
        Topic::Policy => {
            "Published versions of the policy document, keys issued and revoked, budgets raised. One row for \
             each record of the topic."
        }
    }
}

/// Columns of consecutive records of one partition, in the order given.
///
/// # Errors
/// When the values are larger than [`LARGEST_BATCH`] in all, a number does not fit its column, or a row's bytes
/// are not those of its fact.
pub fn batch(
    topic: Topic,
    generation: Generation,
    partition: u32,
    rows: &[Row],
) -> Result<RecordBatch, ArrowError> {
    let mut table = Table::new(topic, generation, partition)?;
    rows.iter().try_for_each(|row| table.push(row))?;
    table.take()
}

fn signed(number: u64) -> Result<i64, ArrowError> {
    i64::try_from(number).map_err(|_| ArrowError::CastError(format!("{number} is beyond 64 signed bits")))
}

/// Rows of one partition, gathered column by column as they come.
#[derive(Debug)]
pub struct Table {
    layout: &'static Layout,
    generation: String,
    partition: i32,
    rows: usize,
    bytes: u64,
    offsets: Vec<i64>,
    times: Vec<i64>,
    values: Runs,
    kinds: Column,
    reasons: Column,
    duplicates: BooleanBufferBuilder,
    missing: Vec<i64>,
    facts: Vec<Column>,
    /// Columns that say the same in every row, of as many rows as were ever needed.
    repeated: Option<(Int32Array, StringArray)>,
}

impl Table {
    /// Without rows.
    ///
    /// # Errors
    /// When the partition's number does not fit its column.
    pub fn new(topic: Topic, generation: Generation, partition: u32) -> Result<Self, ArrowError> {
        let partition =
            i32::try_from(partition).map_err(|_| ArrowError::CastError(format!("partition {partition}")))?;
        let layout = layout(topic);
        Ok(Self {
            layout,
            generation: generation.to_string(),
            partition,
            rows: 0,
            bytes: 0,
            offsets: Vec::new(),
            times: Vec::new(),
            values: Runs::new(),
            kinds: Column::new(&Shape::Text),
            reasons: Column::new(&Shape::Text),
            duplicates: BooleanBufferBuilder::new(0),
            missing: Vec::new(),
            facts: layout.columns.iter().map(|column| Column::new(&column.shape)).collect(),
            repeated: None,
        })
    }

    /// Rows gathered.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of their values.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds the next row. After an error the table is of no use any more.
    ///
    /// # Errors
    /// When the values are larger than [`LARGEST_BATCH`] in all, a number does not fit its column, or the row's bytes
    /// are not those of its fact.
    pub fn push(&mut self, row: &Row) -> Result<(), ArrowError> {
        self.bytes = self.bytes.saturating_add(u64::try_from(row.value.len()).unwrap_or(u64::MAX));
        if self.bytes > LARGEST_BATCH {
            return Err(ArrowError::InvalidArgumentError(format!(
                "{} bytes are too many for one batch",
                self.bytes
            )));
        }
        self.offsets.push(signed(row.offset)?);
        self.times.push(row.at.0);
        self.values.push(&row.value);
        self.duplicates.append(row.standing == Standing::Duplicate);
        // A forged number can be as large as it likes; the column holds what it can.
        self.missing.push(match row.standing {
            Standing::AfterGap { missing } => i64::try_from(missing).unwrap_or(i64::MAX),
            Standing::New | Standing::Duplicate => 0,
        });
        match &row.fact {
            Ok(fact) => {
                self.kinds.write(self.rows, fact.kind);
                self.read(row.offset, fact.schema_id, &row.value)?;
            }
            Err(reason) => self.reasons.write(self.rows, &reason.to_string()),
        }
        self.rows += 1;
        Ok(())
    }

    fn read(&mut self, offset: u64, schema_id: u32, value: &[u8]) -> Result<(), ArrowError> {
        let mut datum = value.get(wire::FRAME..).unwrap_or_default();
        let read = follow(self.layout.plan(schema_id), &mut self.facts, self.rows, &mut datum);
        // Of a fact that does not belong on the topic only the front is read.
        let left = if self.layout.carries(schema_id) { datum.len() } else { 0 };
        match read.err().or((left > 0).then_some(AvroError::Left(left))) {
            Some(error) => Err(ArrowError::ParseError(format!("offset {offset} is not its fact: {error}"))),
            None => Ok(()),
        }
    }

    fn repeated(&mut self) -> (Int32Array, StringArray) {
        let rows = self.rows;
        if let Some((partitions, generations)) = self.repeated.as_ref().filter(|(held, _)| held.len() >= rows)
        {
            return (partitions.slice(0, rows), generations.slice(0, rows));
        }
        let partitions = Int32Array::from(vec![self.partition; rows]);
        let generations = StringArray::from_iter_values(std::iter::repeat_n(&self.generation, rows));
        self.repeated.insert((partitions, generations)).clone()
    }

    /// The rows gathered so far; begins anew.
    ///
    /// # Errors
    /// When what was gathered does not make columns.
    pub fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        let (partitions, generations) = self.repeated();
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let times = TimestampMicrosecondArray::from(take_all(&mut self.times)).with_timezone("UTC");
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(take_all(&mut self.offsets))),
            Arc::new(partitions),
            Arc::new(generations),
            Arc::new(times),
            self.values.take_binary()?,
            self.kinds.take(rows)?,
            self.reasons.take(rows)?,
            Arc::new(BooleanArray::new(self.duplicates.finish(), None)),
            Arc::new(Int64Array::from(take_all(&mut self.missing))),
        ];
        for column in &mut self.facts {
            columns.push(column.take(rows)?);
        }
        RecordBatch::try_new(Arc::clone(&self.layout.schema), columns)
    }
}

/// Reads one fact into row `row` of the columns. Where two fields go to one column, the first that is there stays.
fn follow(steps: &[Step], columns: &mut [Column], row: usize, input: &mut &[u8]) -> Result<(), AvroError> {
    for step in steps {
        match step {
            Step::Spread(inner) => {
                if is_present(input)? {
                    follow(inner, columns, row, input)?;
                }
            }
            Step::Cell(column, shape) => {
                let column = columns.get_mut(*column).ok_or(AvroError::Range("column"))?;
                if column.has(row) {
                    Column::new(shape).read(0, shape, input)?;
                } else {
                    column.read(row, shape, input)?;
                }
            }
        }
    }
    Ok(())
}
