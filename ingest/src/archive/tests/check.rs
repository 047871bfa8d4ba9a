//! What a stranger finds in an archive, read with nothing but object names and Parquet.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{Array as _, RecordBatch};
use bursar_schemas::archive::{FOOTER_KEY, Footer, parse_segment_key};
use bursar_schemas::ids::Generation;
use bursar_schemas::wire;
use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sha2::{Digest as _, Sha256};

use super::journal::LANE;

/// One life's chain, with all its rows.
#[derive(Debug, Default)]
pub(super) struct Chain {
    pub(super) footers: Vec<Footer>,
    pub(super) rows: BTreeMap<u64, Bytes>,
}

impl Chain {
    pub(super) fn skipped(&self) -> Vec<(u64, u64)> {
        self.footers.iter().flat_map(|footer| footer.skipped.clone()).collect()
    }

    pub(super) fn lost(&self) -> Vec<(u64, u64)> {
        self.footers.iter().flat_map(|footer| footer.lost.clone()).collect()
    }
}

/// The definition of RFC 6962, written down naively.
pub(super) fn root(entries: &[&[u8]]) -> [u8; 32] {
    match entries {
        [] => Sha256::digest([]).into(),
        [entry] => Sha256::new().chain_update([0]).chain_update(entry).finalize().into(),
        _ => {
            let split = entries.len().next_power_of_two() / 2;
            let (left, right) = entries.split_at(split);
            Sha256::new()
                .chain_update([1])
                .chain_update(root(left))
                .chain_update(root(right))
                .finalize()
                .into()
        }
    }
}

/// Producers' next numbers, kept apart from the code under test.
#[derive(Default)]
struct Numbers(BTreeMap<String, u64>);

impl Numbers {
    fn check(&mut self, batch: &RecordBatch, row: usize, value: &[u8]) {
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let duplicate = column("duplicate").as_boolean().value(row);
        let missing = column("missing_before").as_primitive::<Int64Type>().value(row);
        let Ok(fact) = wire::decode(value) else {
            assert!(!column("unreadable").is_null(row), "an unreadable record without a reason");
            assert!((duplicate, missing) == (false, 0) && column("kind").is_null(row));
            return;
        };
        assert_eq!(column("kind").as_string::<i32>().value(row), fact.kind());
        let head = fact.head();
        let next = self.0.entry(head.producer.to_string()).or_default();
        assert_eq!(duplicate, head.number < *next, "number {} where {next} was due", head.number);
        assert_eq!(missing, i64::try_from(head.number.saturating_sub(*next)).unwrap());
        *next = (*next).max(head.number + 1);
    }
}

pub(in crate::archive) async fn objects(
    store: &Arc<dyn ObjectStore>,
    prefix: &Path,
) -> BTreeMap<String, Bytes> {
    let listed: Vec<_> = store.list(Some(prefix)).try_collect().await.unwrap();
    let mut objects = BTreeMap::new();
    for meta in listed {
        let key: Path = meta.location.prefix_match(prefix).unwrap().collect();
        let bytes = store.get(&meta.location).await.unwrap().bytes().await.unwrap();
        objects.insert(key.to_string(), bytes);
    }
    objects
}

fn read(bytes: &Bytes) -> (Footer, Vec<RecordBatch>) {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).unwrap();
    let entries = reader.metadata().file_metadata().key_value_metadata().unwrap();
    let footer = entries.iter().find(|entry| entry.key == FOOTER_KEY).unwrap().value.clone().unwrap();
    let batches = reader.build().unwrap().map(Result::unwrap).collect();
    (serde_json::from_str(&footer).unwrap(), batches)
}

/// Reads a life's segments, holding every one to the chain, its rows to their root and their standing.
pub(super) async fn chain(store: &Arc<dyn ObjectStore>, prefix: &Path, life: Generation) -> Chain {
    let keys = [super::log().unwrap().signer.verifier().clone()];
    let all = objects(store, prefix).await;
    if all.keys().any(|key| key.starts_with("segments/")) {
        super::check_log::check(&all, &keys);
    }
    let mut chain = Chain::default();
    let mut numbers = Numbers::default();
    let mut next = 0;
    for (key, bytes) in all {
        let Some((generation, lane, start)) = parse_segment_key(&key) else { continue };
        if generation != life || lane != LANE {
            continue;
        }
        let (footer, batches) = read(&bytes);
        assert_eq!(start, next, "a segment that the one before does not lead to");
        assert_eq!((footer.generation, footer.lane(), footer.start), (life, LANE, start));
        let mut values: Vec<Bytes> = Vec::new();
        for batch in &batches {
            let offsets = batch.column_by_name("offset").unwrap().as_primitive::<Int64Type>();
            let bytes = batch.column_by_name("value").unwrap().as_binary::<i32>();
            for row in 0..batch.num_rows() {
                let value = Bytes::copy_from_slice(bytes.value(row));
                numbers.check(batch, row, &value);
                let offset = u64::try_from(offsets.value(row)).unwrap();
                assert!((footer.start..=footer.end).contains(&offset));
                assert!(chain.rows.insert(offset, value.clone()).is_none(), "offset {offset} is in twice");
                values.push(value);
            }
        }
        let entries: Vec<&[u8]> = values.iter().map(AsRef::as_ref).collect();
        assert_eq!(footer.rows_root.0, root(&entries));
        assert_eq!(footer.producers, numbers.0, "after {key}");
        let held = |ranges: &[(u64, u64)]| ranges.iter().map(|(first, last)| last - first + 1).sum::<u64>();
        assert_eq!(footer.rows, u64::try_from(values.len()).unwrap());
        let covered = footer.rows + held(&footer.skipped) + held(&footer.lost);
        assert_eq!(covered, footer.end - footer.start + 1, "{footer:?}");
        next = footer.end + 1;
        chain.footers.push(footer);
    }
    chain
}
