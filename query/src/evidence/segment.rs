//! One object, held to its leaf: its bytes' hash, its footer, the root over its rows.

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::Int64Type;
use bursar_schemas::archive::{FOOTER_KEY, Footer, REMOVED_KEY, Removed, segment_key};
use bursar_schemas::evidence::Removal;
use bursar_schemas::ids::{Digest, Generation};
use bursar_schemas::merkle::RootBuilder;
use bursar_schemas::position::Lane;
use bursar_schemas::wire;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use sha2::{Digest as _, Sha256};

use super::log::Sealed;

/// Rows decoded at a time: few, as each may be as long as a record can be.
const BATCH: usize = 64;

/// The most bytes that a segment's records may have once they are decoded: a few kilobytes of Parquet can claim gigabytes.
const MOST_DECODED: usize = 256 << 20;

/// The largest metadata of a segment that is parsed: structures in it take up many times its bytes.
const LARGEST_METADATA: u32 = 16 << 20;

/// The rows of a segment that holds.
#[derive(Debug, Default)]
pub(super) struct Rows {
    batches: Vec<RecordBatch>,
    /// Offsets that were gone before they could be sealed.
    pub(super) lost: Vec<(u64, u64)>,
}

impl Rows {
    /// Offset and bytes of each record.
    pub(super) fn each(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.batches.iter().flat_map(|batch| {
            let offsets = batch.column(0).as_primitive::<Int64Type>();
            let values = batch.column(1).as_binary::<i32>();
            // A negative offset was refused when the rows were read.
            (0..batch.num_rows())
                .map(move |row| (u64::try_from(offsets.value(row)).unwrap_or(u64::MAX), values.value(row)))
        })
    }
}

/// Two plain columns need none of the types that are noted for the others.
fn plain() -> ArrowReaderOptions {
    ArrowReaderOptions::new().with_skip_arrow_metadata(true)
}

/// Reads the metadata, if it is not too large for a segment's.
fn metadata_of(bytes: &Bytes) -> Result<ArrowReaderMetadata, String> {
    // The last eight bytes are its length and a magic word, which is the reader's to check.
    let length = bytes.last_chunk::<8>().map(|[a, b, c, d, ..]| u32::from_le_bytes([*a, *b, *c, *d]));
    if let Some(length) = length.filter(|length| *length > LARGEST_METADATA) {
        return Err(format!(
            "its metadata has {length} bytes, of which a segment's has at most {LARGEST_METADATA}"
        ));
    }
    ArrowReaderMetadata::load(bytes, plain()).map_err(|error| error.to_string())
}

/// Reads the statement of a segment's footer.
pub(super) fn footer_of(bytes: &Bytes) -> Result<Footer, String> {
    statement(&metadata_of(bytes)?)
}

fn statement(metadata: &ArrowReaderMetadata) -> Result<Footer, String> {
    let text = entry(metadata, FOOTER_KEY).ok_or("it has no footer of a segment")?;
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn entry<'a>(metadata: &'a ArrowReaderMetadata, key: &str) -> Option<&'a str> {
    let entries = metadata.metadata().file_metadata().key_value_metadata();
    entries.into_iter().flatten().find(|entry| entry.key == key)?.value.as_deref()
}

/// Reads the statement, and the rows' offsets and bytes.
fn decode(bytes: &Bytes) -> Result<(Footer, Vec<RecordBatch>), String> {
    let metadata = metadata_of(bytes)?;
    let footer = statement(&metadata)?;
    let mask = ProjectionMask::columns(metadata.parquet_schema(), ["offset", "value"]);
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes.clone(), metadata)
        .with_projection(mask)
        .with_batch_size(BATCH)
        .build()
        .map_err(|error| error.to_string())?;
    let (mut batches, mut decoded) = (Vec::new(), 0_usize);
    for batch in reader {
        let batch = batch.map_err(|error| error.to_string())?;
        let typed = batch.num_columns() == 2
            && batch.column(0).as_primitive_opt::<Int64Type>().is_some()
            && batch.column(1).as_binary_opt::<i32>().is_some()
            && batch.columns().iter().all(|column| column.null_count() == 0);
        if !typed {
            return Err("its columns offset and value are not those of a segment".to_owned());
        }
        decoded = decoded.saturating_add(batch.get_array_memory_size());
        if decoded > MOST_DECODED {
            return Err(format!("its records decode to more than {MOST_DECODED} bytes"));
        }
        batches.push(batch);
    }
    Ok((footer, batches))
}

/// What is wrong with an object.
#[derive(Debug)]
pub(super) enum Fault {
    /// Its bytes are others.
    Altered {
        /// SHA-256 of them.
        sha256: Digest,
        /// What differs.
        detail: String,
    },
    /// Its bytes are those logged, but they contradict the leaf or themselves.
    Contradiction(String),
}

/// Checks an object's bytes against its leaf. Takes processor time, but no IO.
pub(super) fn check(
    generation: Generation,
    lane: Lane,
    sealed: &Sealed,
    bytes: &Bytes,
) -> Result<Rows, Fault> {
    let sha256 = Digest(Sha256::digest(bytes).into());
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if sha256 != sealed.sha256 {
        let detail = if size == sealed.bytes {
            format!("SHA-256 is {sha256}, logged was {}", sealed.sha256)
        } else {
            format!("it has {size} bytes, logged were {}", sealed.bytes)
        };
        return Err(Fault::Altered { sha256, detail });
    }
    if size != sealed.bytes {
        let detail = format!("it has {size} bytes, and its leaf says {}", sealed.bytes);
        return Err(Fault::Contradiction(detail));
    }
    let (footer, batches) = decode(bytes).map_err(Fault::Contradiction)?;
    let wrong = |what: &str| Err(Fault::Contradiction(format!("its footer and its leaf differ: {what}")));
    if (footer.generation, footer.lane()) != (generation, lane) {
        return wrong("another lane");
    }
    if (footer.start, footer.end) != (sealed.first, sealed.last) {
        return wrong("another range of offsets");
    }
    if footer.rows != sealed.rows || footer.rows_root != sealed.rows_root {
        return wrong("other rows");
    }
    if footer.times_us != sealed.times_us {
        return wrong("other event times");
    }
    let rows = Rows { batches, lost: footer.lost.clone() };
    check_rows(&footer, &rows).map_err(Fault::Contradiction)?;
    check_times(sealed, &rows).map_err(Fault::Contradiction)?;
    Ok(rows)
}

/// Checks what stands in the place of a segment whose removal the log states: its footer, word for word, and no rows.
pub(super) fn check_tombstone(removal: &Removal, bytes: &Bytes) -> Result<Footer, Fault> {
    let wrong =
        |what: &str| Fault::Contradiction(format!("its records are removed, and in its place stands {what}"));
    let metadata = metadata_of(bytes).map_err(|_| wrong("what is no segment"))?;
    let footer = entry(&metadata, FOOTER_KEY).unwrap_or_default();
    if Digest(Sha256::digest(footer.as_bytes()).into()) != removal.footer {
        return Err(wrong("another footer"));
    }
    let removed = entry(&metadata, REMOVED_KEY).and_then(|text| serde_json::from_str::<Removed>(text).ok());
    if removed.is_none() || metadata.metadata().file_metadata().num_rows() != 0 {
        return Err(wrong("what is no tombstone"));
    }
    statement(&metadata).map_err(|_| wrong("what is no segment"))
}

/// The event times are those of the rows: who asks for a time or a request passes over segments by them.
fn check_times(sealed: &Sealed, rows: &Rows) -> Result<(), String> {
    let times = rows.each().filter_map(|(_, value)| wire::glance(value).ok().map(|front| front.at.0));
    let found = times.fold(None, |found: Option<(i64, i64)>, at| {
        Some(found.map_or((at, at), |(first, last)| (first.min(at), last.max(at))))
    });
    // Another version may read more records than this one, and so know of earlier and later times.
    let encloses = match (sealed.times_us, found) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(stated), Some(found)) => stated.0 <= found.0 && found.1 <= stated.1,
    };
    let agrees = if sealed.contract { found == sealed.times_us } else { encloses };
    if agrees {
        return Ok(());
    }
    Err("the event times stated are not those of its records".to_owned())
}

/// Offsets rise within the range and leave out only what is stated; the root is that of the footer.
fn check_rows(footer: &Footer, rows: &Rows) -> Result<(), String> {
    let mut root = RootBuilder::default();
    let mut holes: Vec<(u64, u64)> = footer.skipped.iter().chain(&footer.lost).copied().collect();
    holes.sort_unstable();
    let mut holes = holes.into_iter().peekable();
    let mut due = footer.start;
    for (offset, value) in rows.each() {
        while let Some((_, last)) = holes.next_if(|(first, last)| *first == due && first <= last) {
            due = last.saturating_add(1);
        }
        if offset != due {
            return Err(format!("it holds offset {offset} where {due} was due"));
        }
        due = offset.saturating_add(1);
        root.push(value);
    }
    while let Some((_, last)) = holes.next_if(|(first, last)| *first == due && first <= last) {
        due = last.saturating_add(1);
    }
    if due != footer.end.saturating_add(1) || holes.next().is_some() {
        let key = segment_key(footer.generation, footer.lane(), footer.start);
        return Err(format!("{key} ends at offset {due}, stated is {}", footer.end));
    }
    if root.len() != footer.rows {
        return Err(format!("it holds {} rows, stated are {}", root.len(), footer.rows));
    }
    if root.root() != footer.rows_root {
        return Err("the root over its rows is not the one stated".to_owned());
    }
    Ok(())
}
