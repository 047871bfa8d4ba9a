//! The columns that queries read, held to the records that are proved.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use bursar_query::evidence::{Kind, Report};
use bursar_schemas::archive::FOOTER_KEY;
use bursar_schemas::evidence::Leaf;
use bursar_schemas::ids::Digest;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;
use sha2::{Digest as _, Sha256};

use super::fixture::{Copy, World, assert_named, signer};

/// Writes a segment anew and signs the log again over it, as whoever holds the log's key could.
fn forge(copy: &Copy, name: &str, change: impl FnOnce(RecordBatch) -> RecordBatch) {
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(copy.read(name))).unwrap();
    let entries = reader.metadata().file_metadata().key_value_metadata().unwrap().clone();
    let footer = entries.into_iter().filter(|entry| entry.key == FOOTER_KEY).collect();
    let schema = Arc::clone(reader.schema());
    let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    let batch = change(concat_batches(&schema, &batches).unwrap());
    let properties = WriterProperties::builder().set_key_value_metadata(Some(footer)).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    let bytes = writer.into_inner().unwrap();
    copy.write(name, &bytes);
    let log_again = |entry: Vec<u8>| match Leaf::parse(&entry).unwrap() {
        Leaf::Segment(mut manifest) if manifest.key == name => {
            manifest.bytes = u64::try_from(bytes.len()).unwrap();
            manifest.sha256 = Digest(Sha256::digest(&bytes).into());
            Leaf::Segment(manifest).encode().unwrap()
        }
        _ => entry,
    };
    let entries: Vec<Vec<u8>> = copy.entries().into_iter().map(log_again).collect();
    copy.rebuild_log(&entries, &signer(1), &[entries.len()]);
}

/// The batch with another column of that name.
fn with(batch: &RecordBatch, name: &str, column: ArrayRef) -> RecordBatch {
    let mut columns = batch.columns().to_vec();
    columns[batch.schema().index_of(name).unwrap()] = column;
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}

async fn with_columns(copy: &Copy) -> Report {
    copy.verify_with(|options| options.columns = true).await
}

#[tokio::test]
async fn the_columns_of_an_honest_archive_follow_from_its_records() {
    let (world, _) = World::honest().await;
    let report = with_columns(&world.copy()).await;
    assert!(report.complete, "{}", report.to_text());
    assert_eq!((report.columns_checked, report.columns_of_others), (report.segments, 0));
    assert!(report.to_text().contains("segments were held to their records"), "{}", report.to_text());
    // A part of them, too: there it is not known what came before.
    let copy = world.copy();
    let part = copy.verify_with(|options| (options.columns, options.sample) = (true, Some(3))).await;
    assert!(part.holds() && part.columns_checked == 3, "{}", part.to_text());
}

#[tokio::test]
async fn a_column_that_contradicts_its_record_is_named_though_the_log_vouches_for_it() {
    let (world, _) = World::honest().await;
    let first = |values: Vec<&'static str>, batch: &RecordBatch| -> ArrayRef {
        Arc::new(StringArray::from_iter((0..batch.num_rows()).map(|row| values.get(row).copied())))
    };
    let team = |batch: RecordBatch| {
        let column = first(vec!["another-team"], &batch);
        with(&batch, "team", column)
    };
    let duplicate = |batch: RecordBatch| {
        let column = BooleanArray::from(vec![true; batch.num_rows()]);
        with(&batch, "duplicate", Arc::new(column))
    };
    let missing = |batch: RecordBatch| {
        let column = Int64Array::from(vec![1; batch.num_rows()]);
        with(&batch, "missing_before", Arc::new(column))
    };
    let dropped = |batch: RecordBatch| {
        let left: Vec<usize> =
            (0..batch.num_columns()).filter(|at| batch.schema().field(*at).name() != "team").collect();
        batch.project(&left).unwrap()
    };
    type Change<'a> = &'a dyn Fn(RecordBatch) -> RecordBatch;
    let cases: [(&str, Change<'_>); 4] = [
        ("column team at offset", &team),
        ("column duplicate at offset", &duplicate),
        ("column missing_before at offset", &missing),
        ("not those of topic spend", &dropped),
    ];
    for (words, change) in cases {
        let copy = world.copy();
        let name = copy.segments("spend")[1].clone();
        forge(&copy, &name, change);
        let report = copy.verify().await;
        assert!(report.complete, "the records are what they were: {}", report.to_text());
        assert!(report.to_text().contains("not the columns beside them"), "{}", report.to_text());
        assert_named(&with_columns(&copy).await, Kind::Altered, &name, words);
    }
    // Written anew with nothing changed it holds.
    let copy = world.copy();
    let name = copy.segments("spend")[1].clone();
    forge(&copy, &name, |batch| batch);
    let report = with_columns(&copy).await;
    assert!(report.complete, "{}", report.to_text());
}
