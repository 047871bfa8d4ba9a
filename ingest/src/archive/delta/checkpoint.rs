//! Checkpoints of a Delta table: what every hundredth commit leaves in force, as one Parquet file of the same actions,
//! so that a reader need not replay all commits before it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_json::LineDelimitedWriter;
use arrow_json::reader::{Decoder, ReaderBuilder};
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema, SchemaRef};
use bursar_schemas::archive::delta_log;
use bursar_schemas::ids::Generation;
use bursar_schemas::position::Topic;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};

use crate::archive::parquet::WRITER;

/// Commits from one checkpoint to the next.
pub(super) const EVERY: u64 = 100;

/// Actions that are turned into columns at a time.
const ROWS: usize = 4096;

/// A removal is kept for a week, which is Delta's default for whoever still reads an older version.
const TOMBSTONE_MS: i64 = 7 * 86_400_000;

/// Why a checkpoint cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A commit cannot be read.
    #[error("failed to read an action: {0}")]
    Action(#[from] serde_json::Error),
    /// Actions do not fit the columns.
    #[error("failed to turn actions into columns or back: {0}")]
    Columns(#[from] ArrowError),
    /// The file of the checkpoint before cannot be read, or the new one not written.
    #[error("failed to read or write Parquet: {0}")]
    Parquet(#[from] ParquetError),
    /// The work was not done.
    #[error("failed to make a checkpoint: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Name of the checkpoint after a commit.
pub(super) fn checkpoint_key(generation: Generation, topic: Topic, version: u64) -> String {
    format!("{}/{version:020}.checkpoint.parquet", delta_log(generation, topic))
}

/// Name of the hint at the newest checkpoint.
pub(super) fn hint_key(generation: Generation, topic: Topic) -> String {
    format!("{}/_last_checkpoint", delta_log(generation, topic))
}

/// The commit that a hint speaks of; none when it cannot be read.
pub(super) fn parse_hint(hint: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Value>(hint).ok()?["version"].as_u64()
}

/// A checkpoint and the hint at it.
pub(super) struct Made {
    pub(super) file: Bytes,
    pub(super) hint: Bytes,
}

fn group(name: &str, members: Vec<Field>) -> Field {
    Field::new(name, DataType::Struct(Fields::from(members)), true)
}

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

fn long(name: &str) -> Field {
    Field::new(name, DataType::Int64, true)
}

fn flag(name: &str) -> Field {
    Field::new(name, DataType::Boolean, true)
}

fn texts_by_text(name: &str) -> Field {
    let pair = Fields::from(vec![Field::new("key", DataType::Utf8, false), text("value")]);
    Field::new(
        name,
        DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(pair), false)), false),
        true,
    )
}

fn texts(name: &str) -> Field {
    Field::new(name, DataType::List(Arc::new(text("element"))), true)
}

/// The columns of a checkpoint, one for each kind of action that these tables have.
fn schema() -> SchemaRef {
    let number = |name: &str| Field::new(name, DataType::Int32, true);
    Arc::new(Schema::new(vec![
        group("txn", vec![text("appId"), long("version"), long("lastUpdated")]),
        group(
            "add",
            vec![
                text("path"),
                texts_by_text("partitionValues"),
                long("size"),
                long("modificationTime"),
                flag("dataChange"),
                text("stats"),
            ],
        ),
        group("remove", vec![text("path"), long("deletionTimestamp"), flag("dataChange")]),
        group(
            "metaData",
            vec![
                text("id"),
                text("name"),
                text("description"),
                group("format", vec![text("provider"), texts_by_text("options")]),
                text("schemaString"),
                texts("partitionColumns"),
                texts_by_text("configuration"),
                long("createdTime"),
            ],
        ),
        group("protocol", vec![number("minReaderVersion"), number("minWriterVersion")]),
    ]))
}

fn actions(lines: &[u8]) -> impl Iterator<Item = serde_json::Result<Value>> {
    serde_json::Deserializer::from_slice(lines).into_iter()
}

/// What an action speaks of: of two about the same the later one is in force. None for what states nothing.
fn subject(action: &Value) -> Option<(&'static str, String)> {
    let of = |kind: &str, name: &str| Some(action.get(kind)?[name].as_str()?.to_owned());
    if action.get("protocol").is_some() {
        return Some(("protocol", String::new()));
    }
    if action.get("metaData").is_some() {
        return Some(("metaData", String::new()));
    }
    if let Some(application) = of("txn", "appId") {
        return Some(("txn", application));
    }
    of("add", "path").or_else(|| of("remove", "path")).map(|path| ("file", path))
}

/// Takes actions as JSON and makes the file.
struct Columns {
    decoder: Decoder,
    writer: ArrowWriter<Vec<u8>>,
    waiting: Vec<Value>,
    actions: u64,
    expired_ms: i64,
}

impl Columns {
    fn new(now_ms: i64) -> Result<Self, CheckpointError> {
        let decoder = ReaderBuilder::new(schema()).with_batch_size(ROWS).build_decoder()?;
        let properties = WriterProperties::builder()
            .set_created_by(WRITER.to_owned())
            .set_compression(Compression::SNAPPY)
            .build();
        let writer = ArrowWriter::try_new(Vec::new(), schema(), Some(properties))?;
        let expired_ms = now_ms.saturating_sub(TOMBSTONE_MS);
        Ok(Self { decoder, writer, waiting: Vec::with_capacity(ROWS), actions: 0, expired_ms })
    }

    fn push(&mut self, action: Value) -> Result<(), CheckpointError> {
        let removed_ms = action.get("remove").map(|it| it["deletionTimestamp"].as_i64().unwrap_or(0));
        if removed_ms.is_some_and(|at_ms| at_ms <= self.expired_ms) {
            return Ok(());
        }
        self.actions += 1;
        self.waiting.push(action);
        if self.waiting.len() == ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), CheckpointError> {
        self.decoder.serialize(&self.waiting)?;
        self.waiting.clear();
        if let Some(batch) = self.decoder.flush()? {
            self.writer.write(&batch)?;
        }
        Ok(())
    }

    fn finish(mut self, version: u64) -> Result<Made, CheckpointError> {
        self.flush()?;
        let file = Bytes::from(self.writer.into_inner()?);
        let hint = json!({"version": version, "size": self.actions, "sizeInBytes": file.len()}).to_string();
        Ok(Made { file, hint: Bytes::from(hint) })
    }
}

/// Makes the checkpoint after a commit from the one before, if there is one, and every commit since. Holds what these
/// commits say and one batch of the earlier checkpoint.
///
/// # Errors
/// When something of it cannot be read.
pub(super) fn make(
    before: Option<Bytes>,
    commits: &[Bytes],
    version: u64,
    now_ms: i64,
) -> Result<Made, CheckpointError> {
    let mut newest: BTreeMap<(&'static str, String), Value> = BTreeMap::new();
    for action in commits.iter().flat_map(|commit| actions(commit)) {
        let action = action?;
        if let Some(subject) = subject(&action) {
            newest.insert(subject, action);
        }
    }
    let mut columns = Columns::new(now_ms)?;
    if let Some(before) = before {
        let reader = ParquetRecordBatchReaderBuilder::try_new(before)?.with_batch_size(ROWS).build()?;
        for batch in reader {
            let mut lines = LineDelimitedWriter::new(Vec::new());
            lines.write(&batch?)?;
            lines.finish()?;
            for action in actions(&lines.into_inner()) {
                let action = action?;
                if subject(&action).is_some_and(|subject| !newest.contains_key(&subject)) {
                    columns.push(action)?;
                }
            }
        }
    }
    for action in newest.into_values() {
        columns.push(action)?;
    }
    columns.finish(version)
}
