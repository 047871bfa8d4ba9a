//! The columns of a segment, made anew from its records: what a query reads is what was recorded.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray as _, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;
use bursar_schemas::avro::Micros;
use bursar_schemas::columns::{Row, Standings, Table, schema};
use bursar_schemas::ids::Generation;
use bursar_schemas::ports::Record;
use bursar_schemas::position::Lane;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::segment::footer_of;

/// Rows, and bytes of their records, made anew at a time.
const ROWS: usize = 2048;
const BYTES: u64 = 16 << 20;

/// Columns that follow from the records of earlier segments as well.
const OF_STANDING: [&str; 2] = ["duplicate", "missing_before"];

/// One lane's columns, compared segment by segment in the order of offsets.
#[derive(Debug)]
pub(super) struct Columns {
    generation: Generation,
    lane: Lane,
    /// Each producer's next number where the next segment begins; none where that is not known.
    standings: Option<Standings>,
}

impl Columns {
    /// At the lane's start.
    pub(super) fn new(generation: Generation, lane: Lane) -> Self {
        Self { generation, lane, standings: Some(Standings::new()) }
    }

    /// The next segment is not the one after the last, or was not looked into.
    pub(super) fn interrupt(&mut self) {
        self.standings = None;
    }

    /// Goes on after records that were removed.
    pub(super) fn pass_over(&mut self, producers: &BTreeMap<String, u64>) {
        self.standings = Standings::import(producers).ok();
    }

    /// Compares the next segment, whose bytes are those logged. Takes processor time, but no IO.
    ///
    /// # Errors
    /// The first column and offset that differ, or why nothing can be compared.
    pub(super) fn check(&mut self, bytes: &Bytes) -> Result<(), String> {
        let mut standings = self.standings.take();
        let known = standings.is_some();
        let outcome = self.compare(bytes, standings.get_or_insert_default(), known);
        let stated = footer_of(bytes)?.producers;
        if known && outcome.is_ok() && standings.is_some_and(|standings| standings.export() != stated) {
            return Err("its footer states other next numbers of producers than its records have".to_owned());
        }
        self.pass_over(&stated);
        outcome
    }

    fn compare(&self, bytes: &Bytes, standings: &mut Standings, known: bool) -> Result<(), String> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.clone());
        let reader = reader.and_then(|reader| reader.with_batch_size(ROWS).build());
        let made = |error: ArrowError| format!("its columns cannot be made anew: {error}");
        let mut table = Table::new(self.lane.topic, self.generation, self.lane.partition).map_err(made)?;
        for batch in reader.map_err(|error| error.to_string())? {
            let batch = batch.map_err(|error| error.to_string())?;
            let (offsets, times, values) = self.front(&batch)?;
            let mut first = 0;
            for row in 0..batch.num_rows() {
                if table.bytes() > BYTES {
                    same(&batch.slice(first, row - first), &table.take().map_err(made)?, known)?;
                    first = row;
                }
                let record = Record {
                    offset: u64::try_from(offsets.as_primitive::<Int64Type>().value(row)).unwrap_or(u64::MAX),
                    at: Micros(times.as_primitive::<TimestampMicrosecondType>().value(row)),
                    value: Bytes::copy_from_slice(values.as_binary::<i32>().value(row)),
                };
                table.push(&Row::read(record, standings)).map_err(made)?;
            }
            same(&batch.slice(first, batch.num_rows() - first), &table.take().map_err(made)?, known)?;
        }
        Ok(())
    }

    /// Offsets, times and bytes of records, from which all else follows.
    fn front(&self, batch: &RecordBatch) -> Result<(ArrayRef, ArrayRef, ArrayRef), String> {
        let schema = schema(self.lane.topic);
        let named = |fields: &arrow::datatypes::Fields| -> Vec<_> {
            fields.iter().map(|it| (it.name().clone(), it.data_type().clone())).collect()
        };
        if named(batch.schema_ref().fields()) != named(schema.fields()) {
            return Err(format!("its columns are not those of topic {}", self.lane.topic));
        }
        let column = |name: &str| {
            let found = batch.column_by_name(name).filter(|column| column.null_count() == 0);
            found.cloned().ok_or_else(|| format!("its column {name} has rows without a value"))
        };
        Ok((column("offset")?, column("recorded_at")?, column("value")?))
    }
}

/// Holds stored columns to those made anew.
fn same(stored: &RecordBatch, made: &RecordBatch, known: bool) -> Result<(), String> {
    let fields = stored.schema_ref().fields();
    for ((field, stored_column), made_column) in fields.iter().zip(stored.columns()).zip(made.columns()) {
        let skipped = !known && OF_STANDING.contains(&field.name().as_str());
        if skipped || stored_column == made_column {
            continue;
        }
        let differs = |row: &usize| stored_column.slice(*row, 1) != made_column.slice(*row, 1);
        let row = (0..stored.num_rows()).find(differs).unwrap_or(0);
        let offset =
            stored.column_by_name("offset").map_or(0, |it| it.as_primitive::<Int64Type>().value(row));
        let name = field.name();
        return Err(format!("column {name} at offset {offset} is not what its record says"));
    }
    Ok(())
}
