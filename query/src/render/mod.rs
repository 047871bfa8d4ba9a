//! Answers as text or bytes, a batch at a time.

mod cell;
mod table;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::ipc::writer::StreamWriter;

use crate::answer::columns_of;
use crate::error::QueryError;
use crate::status::Status;

pub(crate) use cell::csv_field;
pub(crate) use table::TextTable;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Columns of text for people.
    Table,
    /// Comma-separated values with a header line, as RFC 4180 has them.
    Csv,
    /// One JSON object; amounts and all other decimals are strings, as JSON numbers are floats to most readers.
    Json,
    /// An Arrow IPC stream.
    Arrow,
}

impl std::str::FromStr for Format {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        match text {
            "table" => Ok(Self::Table),
            "csv" => Ok(Self::Csv),
            "json" => Ok(Self::Json),
            "arrow" => Ok(Self::Arrow),
            _ => Err(QueryError::Parameter("format is table, csv, json or arrow".to_owned())),
        }
    }
}

impl Format {
    /// The media type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Table => "text/plain; charset=utf-8",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Json => "application/json",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// Writes one answer.
pub(crate) enum Renderer {
    Table { table: TextTable, headed: bool },
    Csv { headed: bool, header: String },
    Json { head: Option<String>, first: bool },
    Arrow(Box<StreamWriter<Vec<u8>>>),
}

fn failed(error: impl std::fmt::Display) -> QueryError {
    QueryError::Write(error.to_string())
}

impl Renderer {
    pub(crate) fn new(format: Format, schema: &SchemaRef) -> Result<Self, QueryError> {
        let names = || schema.fields().iter().map(|field| field.name().clone());
        Ok(match format {
            Format::Table => {
                let right = schema.fields().iter().map(|field| is_number(field.data_type())).collect();
                Self::Table { table: TextTable::new(names().collect(), right), headed: false }
            }
            Format::Csv => {
                let header: Vec<String> = names().map(|name| csv_field(&name)).collect();
                Self::Csv { headed: false, header: format!("{}\r\n", header.join(",")) }
            }
            Format::Json => {
                let columns = serde_json::to_string(&columns_of(schema)).map_err(failed)?;
                Self::Json { head: Some(format!("{{\"columns\":{columns},\"rows\":[")), first: true }
            }
            Format::Arrow => {
                Self::Arrow(Box::new(StreamWriter::try_new(Vec::new(), schema).map_err(failed)?))
            }
        })
    }

    /// Appends rows.
    pub(crate) fn rows(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), QueryError> {
        match self {
            Self::Table { table, headed } => {
                for row in 0..batch.num_rows() {
                    let cells = batch.columns().iter().map(|column| cell::text(column, row));
                    table.push(cells.collect::<Result<_, _>>()?);
                }
                // Widths are set by the first rows; later ones are laid out as they come.
                out.extend_from_slice(table.flush(!*headed).as_bytes());
                *headed = true;
            }
            Self::Csv { headed, header } => {
                if !std::mem::replace(headed, true) {
                    out.extend_from_slice(header.as_bytes());
                }
                for row in 0..batch.num_rows() {
                    let cells = batch.columns().iter().map(|column| cell::csv(column, row));
                    out.extend_from_slice(cells.collect::<Result<Vec<_>, _>>()?.join(",").as_bytes());
                    out.extend_from_slice(b"\r\n");
                }
            }
            Self::Json { head, first } => {
                out.extend_from_slice(head.take().unwrap_or_default().as_bytes());
                for row in 0..batch.num_rows() {
                    if !std::mem::replace(first, false) {
                        out.push(b',');
                    }
                    out.push(b'\n');
                    cell::json_row(batch, row, out)?;
                }
            }
            Self::Arrow(writer) => {
                writer.write(batch).map_err(failed)?;
                out.append(writer.get_mut());
            }
        }
        Ok(())
    }

    /// Appends what follows the last row.
    pub(crate) fn end(&mut self, rows: u64, status: &Status, out: &mut Vec<u8>) -> Result<(), QueryError> {
        match self {
            Self::Table { table, headed } => {
                out.extend_from_slice(table.flush(!*headed).as_bytes());
                let plural = if rows == 1 { "row" } else { "rows" };
                out.extend_from_slice(format!("({rows} {plural})\n").as_bytes());
                for warning in status.warnings() {
                    out.extend_from_slice(format!("note: {warning}\n").as_bytes());
                }
            }
            Self::Csv { headed, header } => {
                if !*headed {
                    out.extend_from_slice(header.as_bytes());
                }
            }
            Self::Json { head, .. } => {
                out.extend_from_slice(head.take().unwrap_or_default().as_bytes());
                let notes = serde_json::to_string(&status.warnings()).map_err(failed)?;
                let as_of = status.as_of.0;
                let end = format!("\n],\"row_count\":{rows},\"as_of_us\":{as_of},\"notes\":{notes}}}\n");
                out.extend_from_slice(end.as_bytes());
            }
            Self::Arrow(writer) => {
                writer.finish().map_err(failed)?;
                out.append(writer.get_mut());
            }
        }
        Ok(())
    }
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric()
}
