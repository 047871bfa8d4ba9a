//! Small helpers of the tests.

use std::time::{Duration, Instant};

use bursar_schemas::avro::Micros;
use bursar_schemas::ports::{Cursor, Entry, Journal, Record};
use bursar_schemas::position::{Lane, Topic};
use bytes::Bytes;

/// After which a test counts as hung.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const SPEND: Lane = Lane::new(Topic::Spend, 1);

/// An entry whose value says its lane and number.
pub fn entry(lane: Lane, number: u64) -> Entry {
    let at = Micros(1_700_000_000_000_000 + i64::try_from(number).unwrap() * 1000);
    Entry { lane, value: Bytes::from(format!("{lane} {number}")), at }
}

pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("did not happen in time")
}

/// Exactly that many records, in order.
pub async fn collect(cursor: &mut Box<dyn Cursor>, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while records.len() < count {
        let batch = within(cursor.next()).await.unwrap();
        assert!(!batch.records.is_empty(), "an empty batch");
        assert_eq!(batch.next, batch.records.last().unwrap().offset + 1);
        records.extend(batch.records);
    }
    assert_eq!(records.len(), count, "more records than were appended");
    records
}

pub async fn read_all(journal: &dyn Journal, lane: Lane) -> Vec<Record> {
    let bounds = journal.bounds(lane).await.unwrap();
    let mut cursor = journal.read(lane, bounds.start).await.unwrap();
    collect(&mut cursor, usize::try_from(bounds.end - bounds.start).unwrap()).await
}

pub fn texts(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8(record.value.to_vec()).unwrap()).collect()
}

/// Polls until it is so, or the test counts as hung.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "never came: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
