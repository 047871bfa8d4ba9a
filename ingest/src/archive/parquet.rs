//! A segment as Parquet: its columns compressed, its footer's statement as a key-value entry.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use bursar_schemas::archive::{FOOTER_KEY, Footer, SIGNATURE_KEY};
use bursar_schemas::columns;
use bursar_schemas::evidence::SignerKey;
use bursar_schemas::ids::Digest;
use bursar_schemas::position::Topic;
use bytes::Bytes;
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{KeyValue, ParquetMetaData, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::buffer::sha256;
use super::signature;

/// Who writes the archive's files.
pub(super) const WRITER: &str = concat!("bursar ", env!("CARGO_PKG_VERSION"));

/// A segment could not be built or read.
#[derive(Debug, thiserror::Error)]
pub enum ParquetError {
    /// The columns could not be made.
    #[error("failed to make columns: {0}")]
    Columns(ArrowError),
    /// The file could not be written.
    #[error("failed to write Parquet: {0}")]
    Write(parquet::errors::ParquetError),
    /// The file could not be read.
    #[error("failed to read Parquet: {0}")]
    Read(parquet::errors::ParquetError),
    /// The footer could not be written.
    #[error("failed to write a footer: {0}")]
    Footer(serde_json::Error),
    /// The file has no place for its signature.
    #[error("failed to sign a segment")]
    NoSignature,
    /// No thread could be had to write in.
    #[error("failed to start a thread: {0}")]
    Thread(std::io::Error),
    /// The thread that writes is gone.
    #[error("writing stopped")]
    Stopped,
    /// The object is not a segment.
    #[error("failed to read a footer: {0}")]
    NoFooter(String),
}

// Their texts are in its own, so they are no sources: a chain of causes would say them twice.
impl From<ArrowError> for ParquetError {
    fn from(error: ArrowError) -> Self {
        Self::Columns(error)
    }
}

impl From<parquet::errors::ParquetError> for ParquetError {
    fn from(error: parquet::errors::ParquetError) -> Self {
        Self::Write(error)
    }
}

impl From<serde_json::Error> for ParquetError {
    fn from(error: serde_json::Error) -> Self {
        Self::Footer(error)
    }
}

impl From<std::io::Error> for ParquetError {
    fn from(error: std::io::Error) -> Self {
        Self::Thread(error)
    }
}

/// Numbers and times that rise, or nearly so, from row to row: their differences are small, and none comes twice.
const RISING: [&str; 5] = ["offset", "recorded_at", "number", "at", "accounting_at"];

/// Numbers that stay the same for long: their differences are nothing, which is told sooner than that they are known.
const STEADY: [&str; 4] = ["partition", "missing_before", "policy_version", "attempt"];

/// Texts of which nearly every one is another.
const DISTINCT: [&str; 5] = ["request", "body_digest", "provider_request", "head_hash", "head_signature"];

/// Rows up to which a segment is tiny: its pages are as fast to read as an index of them.
const TINY: usize = 1000;

/// Writes one segment.
pub struct SegmentWriter {
    writer: ArrowWriter<Vec<u8>>,
}

impl std::fmt::Debug for SegmentWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentWriter").finish_non_exhaustive()
    }
}

fn properties(topic: Topic, rows: usize) -> Result<WriterProperties, ParquetError> {
    let value = ColumnPath::from("value");
    let mut properties = WriterProperties::builder()
        .set_created_by(WRITER.to_owned())
        // Columns are small by their encoding; a higher level takes a third more time and saves nothing to speak of.
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_statistics_enabled(if rows > TINY { EnabledStatistics::Page } else { EnabledStatistics::Chunk })
        .set_sorting_columns(Some(vec![SortingColumn {
            column_idx: 0,
            descending: false,
            nulls_first: false,
        }]))
        // Every record differs, and no one asks for a range of raw bytes.
        .set_column_dictionary_enabled(value.clone(), false)
        .set_column_statistics_enabled(value, EnabledStatistics::None);
    for name in RISING.into_iter().chain(STEADY) {
        let column = ColumnPath::from(name);
        properties = properties
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
    }
    for name in DISTINCT {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(name), false);
    }
    // No one asks for a range of what is nested, and no engine would look.
    let nested = ArrowSchemaConverter::new().convert(&columns::schema(topic))?;
    for column in nested.columns().iter().filter(|column| column.path().parts().len() > 1) {
        properties = properties.set_column_statistics_enabled(column.path().clone(), EnabledStatistics::None);
    }
    // Who asks for one request looks into every segment of its time; a filter of 10 bits a row spares most.
    // Where a topic does not speak of requests, or a segment is tiny, the pages are as fast to read.
    if rows > TINY && columns::schema(topic).field_with_name("request").is_ok() {
        let request = ColumnPath::from("request");
        properties = properties
            .set_column_bloom_filter_enabled(request.clone(), true)
            .set_column_bloom_filter_fpp(request.clone(), 0.01)
            .set_column_bloom_filter_max_ndv(request, u64::try_from(rows).unwrap_or(u64::MAX));
    }
    Ok(properties.build())
}

impl SegmentWriter {
    /// A writer for a topic's table and about that many rows.
    ///
    /// # Errors
    /// When the properties are not accepted.
    pub fn new(topic: Topic, rows: usize) -> Result<Self, ParquetError> {
        let schema = columns::schema(topic);
        let writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), Some(properties(topic, rows)?))?;
        Ok(Self { writer })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// When they cannot be encoded.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), ParquetError> {
        Ok(self.writer.write(batch)?)
    }

    /// The object's bytes, with the footer's statement, signed where there is a key; and their SHA-256.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn finish(
        self,
        footer: &Footer,
        signer: Option<&SignerKey>,
    ) -> Result<(Bytes, Digest), ParquetError> {
        let statement = (FOOTER_KEY, serde_json::to_string(footer)?);
        let Some(signer) = signer else {
            let bytes = self.finish_with([statement])?;
            let sha256 = sha256(&bytes);
            return Ok((bytes, sha256));
        };
        let mut bytes = self.write_out([statement, (SIGNATURE_KEY, signature::unsigned())])?;
        let sha256 = signature::sign(&mut bytes, signer).ok_or(ParquetError::NoSignature)?;
        Ok((Bytes::from(bytes), sha256))
    }

    /// The object's bytes, with those key-value entries.
    pub(super) fn finish_with<const N: usize>(
        self,
        entries: [(&str, String); N],
    ) -> Result<Bytes, ParquetError> {
        Ok(Bytes::from(self.write_out(entries)?))
    }

    fn write_out<const N: usize>(mut self, entries: [(&str, String); N]) -> Result<Vec<u8>, ParquetError> {
        for (key, value) in entries {
            self.writer.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
        }
        Ok(self.writer.into_inner()?)
    }
}

/// Reads a footer's statement from Parquet metadata.
///
/// # Errors
/// When the metadata is not that of a segment.
pub fn footer_of(metadata: &ParquetMetaData) -> Result<Footer, ParquetError> {
    let value = entry_of(metadata, FOOTER_KEY);
    let value = value.ok_or_else(|| ParquetError::NoFooter(format!("no entry {FOOTER_KEY}")))?;
    serde_json::from_str(value).map_err(|error| ParquetError::NoFooter(error.to_string()))
}

/// A key-value entry of Parquet metadata.
pub(super) fn entry_of<'a>(metadata: &'a ParquetMetaData, key: &str) -> Option<&'a str> {
    let entries = metadata.file_metadata().key_value_metadata().into_iter().flatten();
    entries.filter(|entry| entry.key == key).find_map(|entry| entry.value.as_deref())
}
