//! One value as text, as a field of CSV, or as JSON.

use arrow::array::{Array, ArrayRef, AsArray as _, RecordBatch};
use arrow::datatypes::{
    DataType, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bursar_schemas::ids::hex;

use crate::error::QueryError;

fn failed(error: impl std::fmt::Display) -> QueryError {
    QueryError::Write(error.to_string())
}

fn display(array: &dyn Array, row: usize) -> Result<String, QueryError> {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(array, &options).map_err(failed)?;
    formatter.value(row).try_to_string().map_err(failed)
}

/// For people: no control characters, nothing for null.
pub(super) fn text(array: &ArrayRef, row: usize) -> Result<String, QueryError> {
    if array.is_null(row) {
        return Ok(String::new());
    }
    let plain = plain(array, row)?;
    if plain.chars().any(char::is_control) {
        // A value must not be able to drive the terminal it is shown on.
        let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
        return Ok(plain.chars().map(escape).collect());
    }
    Ok(plain)
}

/// As a field of CSV.
pub(super) fn csv(array: &ArrayRef, row: usize) -> Result<String, QueryError> {
    if array.is_null(row) { Ok(String::new()) } else { Ok(csv_field(&plain(array, row)?)) }
}

/// Quotes a field where it must be.
pub(crate) fn csv_field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) || text.starts_with(' ') || text.ends_with(' ') {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

fn plain(array: &ArrayRef, row: usize) -> Result<String, QueryError> {
    match array.data_type() {
        DataType::Utf8 => Ok(array.as_string::<i32>().value(row).to_owned()),
        DataType::Binary => Ok(hex(array.as_binary::<i32>().value(row))),
        kind if kind.is_nested() => {
            let mut out = Vec::new();
            json(array.as_ref(), row, &mut out)?;
            String::from_utf8(out).map_err(failed)
        }
        _ => display(array.as_ref(), row),
    }
}

/// A row as a JSON object.
pub(super) fn json_row(batch: &RecordBatch, row: usize, out: &mut Vec<u8>) -> Result<(), QueryError> {
    let schema = batch.schema_ref();
    let fields = schema.fields().iter().map(|field| field.name().as_str());
    members(fields.zip(batch.columns()), row, out)
}

fn members<'a>(
    fields: impl Iterator<Item = (&'a str, &'a ArrayRef)>,
    row: usize,
    out: &mut Vec<u8>,
) -> Result<(), QueryError> {
    out.push(b'{');
    for (index, (name, column)) in fields.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        serde_json::to_writer(&mut *out, name).map_err(failed)?;
        out.push(b':');
        json(column.as_ref(), row, out)?;
    }
    out.push(b'}');
    Ok(())
}

/// A value as JSON: integers as numbers, decimals, times and bytes as strings.
fn json(array: &dyn Array, row: usize, out: &mut Vec<u8>) -> Result<(), QueryError> {
    if array.is_null(row) {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    macro_rules! integer {
        ($kind:ty) => {
            out.extend_from_slice(array.as_primitive::<$kind>().value(row).to_string().as_bytes())
        };
    }
    match array.data_type() {
        DataType::Null => out.extend_from_slice(b"null"),
        DataType::Boolean => {
            out.extend_from_slice(if array.as_boolean().value(row) { b"true" } else { b"false" });
        }
        DataType::Int8 => integer!(Int8Type),
        DataType::Int16 => integer!(Int16Type),
        DataType::Int32 => integer!(Int32Type),
        DataType::Int64 => integer!(Int64Type),
        DataType::UInt8 => integer!(UInt8Type),
        DataType::UInt16 => integer!(UInt16Type),
        DataType::UInt32 => integer!(UInt32Type),
        DataType::UInt64 => integer!(UInt64Type),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            let shown = display(array, row)?;
            // JSON has no word for what is not a number.
            let number = serde_json::from_str::<serde_json::Number>(&shown).is_ok();
            if number {
                out.extend_from_slice(shown.as_bytes());
            } else {
                serde_json::to_writer(&mut *out, &shown).map_err(failed)?;
            }
        }
        DataType::Utf8 => {
            serde_json::to_writer(&mut *out, array.as_string::<i32>().value(row)).map_err(failed)?
        }
        DataType::Binary => {
            serde_json::to_writer(&mut *out, &hex(array.as_binary::<i32>().value(row))).map_err(failed)?;
        }
        DataType::List(_) => items(&array.as_list::<i32>().value(row), out)?,
        DataType::LargeList(_) => items(&array.as_list::<i64>().value(row), out)?,
        DataType::FixedSizeList(..) => items(&array.as_fixed_size_list().value(row), out)?,
        DataType::Struct(fields) => {
            let names = fields.iter().map(|field| field.name().as_str());
            members(names.zip(array.as_struct().columns()), row, out)?;
        }
        DataType::Map(..) => entries(array, row, out)?,
        _ => serde_json::to_writer(&mut *out, &display(array, row)?).map_err(failed)?,
    }
    Ok(())
}

fn items(values: &ArrayRef, out: &mut Vec<u8>) -> Result<(), QueryError> {
    out.push(b'[');
    for index in 0..values.len() {
        if index > 0 {
            out.push(b',');
        }
        json(values.as_ref(), index, out)?;
    }
    out.push(b']');
    Ok(())
}

fn entries(array: &dyn Array, row: usize, out: &mut Vec<u8>) -> Result<(), QueryError> {
    let entries = array.as_map().value(row);
    out.push(b'{');
    for index in 0..entries.len() {
        if index > 0 {
            out.push(b',');
        }
        let key = display(entries.column(0).as_ref(), index)?;
        serde_json::to_writer(&mut *out, &key).map_err(failed)?;
        out.push(b':');
        json(entries.column(1).as_ref(), index, out)?;
    }
    out.push(b'}');
    Ok(())
}
