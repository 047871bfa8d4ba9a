//! What one sealed segment states of itself, read from the end of its Parquet file.

use std::sync::Arc;

use bursar_schemas::archive::{FOOTER_KEY, Footer, REMOVED_KEY};
use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt as _};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::statistics::Statistics;

use crate::error::QueryError;

/// Read first from a file's end: holds the metadata of most segments.
const FIRST_READ: u64 = 128 * 1024;

/// The column that months and windows follow.
const ACCOUNTING: &str = "accounting_at";

/// A segment's statement, and what its own statistics say.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    /// The object.
    pub(crate) object: ObjectMeta,
    /// Its statement.
    pub(crate) footer: Footer,
    /// Earliest and latest accounting time in microseconds; none when no row has one.
    pub(crate) accounting_us: Option<(i64, i64)>,
    /// True when its records were removed under retention.
    pub(crate) removed: bool,
}

/// Reads a segment's statement; none when there is no such object.
pub(crate) async fn read(store: &Arc<dyn ObjectStore>, key: &str) -> Result<Option<Sealed>, QueryError> {
    match store.head(&Path::from(key)).await {
        Ok(object) => read_object(store, object).await.map(Some),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(QueryError::Archive(error.to_string())),
    }
}

/// Reads the statement of a segment that is there.
pub(crate) async fn read_object(
    store: &Arc<dyn ObjectStore>,
    object: ObjectMeta,
) -> Result<Sealed, QueryError> {
    let broken = |error: String| QueryError::Archive(format!("segment {}: {error}", object.location));
    let metadata = read_metadata(store, &object).await.map_err(broken)?;
    let entries = metadata.file_metadata().key_value_metadata();
    let entry = |key: &str| {
        let found = entries.into_iter().flatten().find(|entry| entry.key == key);
        found.and_then(|entry| entry.value.as_deref())
    };
    let text = entry(FOOTER_KEY).ok_or_else(|| broken(format!("it has no {FOOTER_KEY} entry")))?;
    let footer: Footer = serde_json::from_str(text).map_err(|error| broken(error.to_string()))?;
    if footer.version != 1 {
        return Err(broken(format!("its statement has version {}, which is not known", footer.version)));
    }
    let accounting_us = accounting(&metadata);
    let removed = entry(REMOVED_KEY).is_some();
    Ok(Sealed { object, footer, accounting_us, removed })
}

async fn read_metadata(store: &Arc<dyn ObjectStore>, object: &ObjectMeta) -> Result<ParquetMetaData, String> {
    let mut wanted = FIRST_READ.min(object.size);
    loop {
        let from = object.size.saturating_sub(wanted);
        let tail: Bytes =
            store.get_range(&object.location, from..object.size).await.map_err(|error| error.to_string())?;
        let mut reader = ParquetMetaDataReader::new();
        match reader.try_parse_sized(&tail, object.size) {
            Ok(()) => return reader.finish().map_err(|error| error.to_string()),
            Err(ParquetError::NeedMoreData(more)) => {
                let more = u64::try_from(more).unwrap_or(u64::MAX);
                if more <= wanted || more > object.size {
                    return Err("its Parquet metadata is longer than the file".to_owned());
                }
                wanted = more;
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Range of accounting times; all of time when the statistics do not say.
fn accounting(metadata: &ParquetMetaData) -> Option<(i64, i64)> {
    const ALL_OF_TIME: (i64, i64) = (i64::MIN, i64::MAX);
    let columns = metadata.file_metadata().schema_descr().columns();
    let index = columns.iter().position(|column| column.path().string() == ACCOUNTING)?;
    let mut range: Option<(i64, i64)> = None;
    for group in metadata.row_groups() {
        let Some(Statistics::Int64(values)) = group.column(index).statistics() else {
            return Some(ALL_OF_TIME);
        };
        let rows = u64::try_from(group.num_rows()).unwrap_or(0);
        match (values.min_opt(), values.max_opt()) {
            (Some(least), Some(most)) => {
                let (low, high) = range.unwrap_or((*least, *most));
                range = Some((low.min(*least), high.max(*most)));
            }
            _ if values.null_count_opt() == Some(rows) => {}
            _ => return Some(ALL_OF_TIME),
        }
    }
    range
}
