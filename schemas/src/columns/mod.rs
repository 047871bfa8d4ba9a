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

use arrow_array::builder::{BinaryBuilder, BooleanBuilder, Int64Builder, StringBuilder};
use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_schema::{ArrowError, SchemaRef};
use bytes::Bytes;

use self::builder::{Builder, is_present};
use self::layout::{Layout, Step, layout};
use crate::avro::{AvroError, Micros};
use crate::facts::Fact;
use crate::ids::Generation;
use crate::ports::Record;
use crate::position::Topic;
use crate::wire::{self, Unreadable};

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
    /// The fact, or why there is none.
    pub fact: Result<Fact, Unreadable>,
    /// Where it stands in its producer's numbering.
    pub standing: Standing,
}

impl Row {
    /// Reads the lane's next record and places it.
    #[must_use]
    pub fn read(record: Record, standings: &mut Standings) -> Self {
        let fact = wire::decode(&record.value);
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
    let bytes: usize = rows.iter().map(|row| row.value.len()).sum();
    if u64::try_from(bytes).unwrap_or(u64::MAX) > LARGEST_BATCH {
        return Err(ArrowError::InvalidArgumentError(format!("{bytes} bytes are too many for one batch")));
    }
    let layout = layout(topic);
    let mut columns = record_columns(generation, partition, rows)?;
    columns.extend(fact_columns(layout, rows)?);
    RecordBatch::try_new(Arc::clone(&layout.schema), columns)
}

fn signed(number: u64) -> Result<i64, ArrowError> {
    i64::try_from(number).map_err(|_| ArrowError::CastError(format!("{number} is beyond 64 signed bits")))
}

fn record_columns(generation: Generation, partition: u32, rows: &[Row]) -> Result<Vec<ArrayRef>, ArrowError> {
    let partition =
        i32::try_from(partition).map_err(|_| ArrowError::CastError(format!("partition {partition}")))?;
    let offsets = rows.iter().map(|row| signed(row.offset)).collect::<Result<Vec<_>, _>>()?;
    let mut values = BinaryBuilder::new();
    let mut kinds = StringBuilder::new();
    let mut reasons = StringBuilder::new();
    let mut duplicates = BooleanBuilder::new();
    let mut missing = Int64Builder::new();
    for row in rows {
        values.append_value(&row.value);
        kinds.append_option(row.fact.as_ref().ok().map(Fact::kind));
        reasons.append_option(row.fact.as_ref().err().map(ToString::to_string));
        duplicates.append_value(row.standing == Standing::Duplicate);
        // A forged number can be as large as it likes; the column holds what it can.
        missing.append_value(match row.standing {
            Standing::AfterGap { missing } => i64::try_from(missing).unwrap_or(i64::MAX),
            Standing::New | Standing::Duplicate => 0,
        });
    }
    let generation = generation.to_string();
    Ok(vec![
        Arc::new(Int64Array::from(offsets)),
        Arc::new(Int32Array::from(vec![partition; rows.len()])),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|_| &generation))),
        Arc::new(
            TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.at.0)).with_timezone("UTC"),
        ),
        Arc::new(values.finish()),
        Arc::new(kinds.finish()),
        Arc::new(reasons.finish()),
        Arc::new(duplicates.finish()),
        Arc::new(missing.finish()),
    ])
}

fn fact_columns(layout: &Layout, rows: &[Row]) -> Result<Vec<ArrayRef>, ArrowError> {
    let mut builders: Vec<Builder> =
        layout.columns.iter().map(|column| Builder::new(&column.shape)).collect();
    for (index, row) in rows.iter().enumerate() {
        if let Ok(fact) = &row.fact {
            let id = fact.schema_id();
            let mut datum = row.value.get(wire::FRAME..).unwrap_or_default();
            let read = follow(layout.plan(id), &mut builders, index, &mut datum);
            // Of a fact that does not belong on the topic only the front is read.
            let left = if layout.carries(id) { datum.len() } else { 0 };
            if let Some(error) = read.err().or((left > 0).then_some(AvroError::Left(left))) {
                let offset = row.offset;
                return Err(ArrowError::ParseError(format!("offset {offset} is not its fact: {error}")));
            }
        }
        for builder in builders.iter_mut().filter(|builder| builder.len() == index) {
            builder.push_null();
        }
    }
    builders.into_iter().map(Builder::finish).collect()
}

/// Reads one fact into row `row` of the columns. Where two fields go to one column, the first that is there stays.
fn follow(steps: &[Step], builders: &mut [Builder], row: usize, input: &mut &[u8]) -> Result<(), AvroError> {
    for step in steps {
        match step {
            Step::Spread(inner) => {
                if is_present(input)? {
                    follow(inner, builders, row, input)?;
                }
            }
            Step::Cell(column, shape) => {
                let inner = if let shape::Shape::Maybe(inner) = shape {
                    if !is_present(input)? {
                        continue;
                    }
                    inner
                } else {
                    shape
                };
                let builder = builders.get_mut(*column).ok_or(AvroError::Range("column"))?;
                if builder.len() == row {
                    builder.read(inner, input)?;
                } else {
                    Builder::new(inner).read(inner, input)?;
                }
            }
        }
    }
    Ok(())
}
