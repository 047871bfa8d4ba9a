//! What journals do to an archive: holes, retention, outages, topics made anew; and what strangers do.

use bursar_schemas::archive::segment_key;
use bursar_schemas::avro::Micros;
use bursar_schemas::ports::{Batch, Record};
use bytes::Bytes;
use object_store::{ObjectStoreExt as _, PutPayload};
use tokio::time::Instant;

use super::journal::{LANE, TestJournal, fact};
use super::*;
use crate::archive::buffer::Buffer;
use crate::archive::workshop::Scribe;

#[tokio::test]
async fn records_are_sealed_by_age() {
    let journal = TestJournal::default();
    journal.fill(1);
    let store = memory();
    let config = ArchiveConfig { seal_age: Duration::from_millis(20), ..config() };
    let handle = Archiver::start(Arc::new(journal.clone()), Arc::clone(&store), config, log());
    until(&handle, |status| status.sealed == Some(0)).await;
    journal.fill(1);
    until(&handle, |status| status.sealed == Some(1)).await;
    assert!(handle.stop(false).await);
}

#[tokio::test]
async fn skipped_offsets_are_stated() {
    let journal = TestJournal::default();
    journal.skip(2);
    journal.fill(3);
    journal.skip(1);
    journal.fill(9);
    journal.skip(4);
    let store = memory();
    archive(&journal, &store).await;
    journal.fill(1);
    archive(&journal, &store).await;
    let chain = check::chain(&store, &config().prefix, journal.life()).await;
    assert_eq!(chain.rows, journal.records());
    let skipped: Vec<u64> = chain.skipped().into_iter().flat_map(|(first, last)| first..=last).collect();
    assert_eq!(skipped, [0, 1, 5, 15, 16, 17, 18]);
    assert!(chain.lost().is_empty());
}

#[tokio::test]
async fn what_retention_took_is_stated_as_lost() {
    let journal = TestJournal::default();
    journal.fill(30);
    journal.expire(10);
    let store = memory();
    archive(&journal, &store).await;
    let chain = check::chain(&store, &config().prefix, journal.life()).await;
    assert_eq!((chain.lost(), chain.rows), (vec![(0, 9)], journal.records()));
    assert_eq!((chain.footers[0].start, chain.footers[0].end, chain.footers[0].rows), (0, 9, 0));
    // Behind the back of an archiver that runs, with records buffered.
    let handle = start(&journal, &store);
    journal.append(fact(0, 100));
    until(&handle, |status| status.buffered_records == 1).await;
    journal.go_away(true);
    until(&handle, |status| status.fault.is_some()).await;
    journal.fill(10);
    journal.expire(36);
    journal.go_away(false);
    assert!(handle.stop(true).await);
    let chain = check::chain(&store, &config().prefix, journal.life()).await;
    assert_eq!(chain.lost(), [(0, 9), (31, 35)]);
    assert_eq!(chain.rows.get(&30), Some(&fact(0, 100)), "what was taken in before is sealed");
    assert_eq!(chain.rows.last_key_value().map(|(offset, _)| *offset), Some(40));
}

#[tokio::test]
async fn a_topic_made_anew_begins_another_chain() {
    let journal = TestJournal::default();
    journal.fill(12);
    let (first_life, first) = (journal.life(), journal.records());
    let store = memory();
    let handle = start(&journal, &store);
    until(&handle, |status| {
        status.sealed.unwrap_or(0) + u64::try_from(status.buffered_records).unwrap() >= 11
    })
    .await;
    journal.make_anew();
    journal.fill(7);
    until(&handle, |status| status.generation == Some(journal.life())).await;
    assert!(handle.stop(true).await);
    assert_ne!(first_life, journal.life());
    assert_eq!(check::chain(&store, &config().prefix, first_life).await.rows, first);
    assert_eq!(check::chain(&store, &config().prefix, journal.life()).await.rows, journal.records());
}

#[tokio::test]
async fn a_stop_says_when_the_journal_could_not_be_read() {
    let journal = TestJournal::default();
    journal.fill(2);
    let store = memory();
    let handle = start(&journal, &store);
    until(&handle, |status| status.buffered_records == 2).await;
    journal.go_away(true);
    until(&handle, |status| status.fault.is_some()).await;
    assert!(!handle.stop(true).await);
    let chain = check::chain(&store, &config().prefix, journal.life()).await;
    assert_eq!(chain.rows, journal.records(), "what was buffered is sealed all the same");
}

#[tokio::test]
async fn an_object_that_is_no_segment_stops_its_lane_and_stays() {
    let journal = TestJournal::default();
    journal.fill(5);
    let store = memory();
    let path = Path::from(format!("archive/{}", segment_key(journal.life(), LANE, 0)));
    store.put(&path, PutPayload::from_static(b"PAR1 but not really PAR1")).await.unwrap();
    let handle = start(&journal, &store);
    let status = until(&handle, |status| status.fault.is_some()).await;
    assert!(status.fault.unwrap().contains("failed to read segments/"));
    assert!(handle.stop(false).await);
    let held = store.get(&path).await.unwrap().bytes().await.unwrap();
    assert_eq!(held, &b"PAR1 but not really PAR1"[..]);
}

#[tokio::test]
async fn a_segment_outside_the_chain_is_not_followed() {
    let journal = TestJournal::default();
    journal.fill(20);
    let store = memory();
    archive(&journal, &store).await;
    // A stranger's segment far ahead: true to its name, but no other leads to it.
    let life = journal.life();
    let mut stray = Buffer::new(life, LANE, Head { next: 700, ..Head::default() });
    let record = Record { offset: 700, at: Micros(0), value: fact(1, 1) };
    stray.push(Batch { records: vec![record], next: 701 }, Instant::now());
    let bytes = stray.draft().build(&Scribe::start().unwrap(), None).unwrap().bytes;
    let ahead = Path::from(format!("archive/{}", segment_key(life, LANE, 700)));
    store.put(&ahead, PutPayload::from(bytes)).await.unwrap();
    journal.fill(20);
    archive(&journal, &store).await;
    store.delete(&ahead).await.unwrap();
    assert_eq!(check::chain(&store, &config().prefix, life).await.rows, journal.records());
}

#[tokio::test]
async fn what_is_too_large_for_one_put_is_split() {
    let journal = TestJournal::default();
    // 70 records of a million bytes that no compression shrinks.
    let mut seed = 1_u64;
    for _ in 0..70 {
        let mut value = Vec::with_capacity(1_000_000);
        while value.len() < 1_000_000 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            value.extend_from_slice(&seed.to_le_bytes());
        }
        journal.append(Bytes::from(value));
    }
    let store = memory();
    let config = ArchiveConfig { seal_bytes: u64::MAX, memory_bytes: u64::MAX, ..config() };
    assert!(Archiver::start(Arc::new(journal.clone()), Arc::clone(&store), config, log()).stop(true).await);
    let chain = check::chain(&store, &Path::from("archive"), journal.life()).await;
    assert_eq!(chain.rows, journal.records());
    assert!(chain.footers.len() >= 2);
}

#[test]
fn records_below_the_chains_end_are_not_taken_in_again() {
    let life = TestJournal::default().life();
    let mut buffer = Buffer::new(life, LANE, Head { next: 5, ..Head::default() });
    let batch = |offsets: std::ops::Range<u64>| Batch {
        records: offsets
            .clone()
            .map(|offset| Record { offset, at: Micros(0), value: fact(1, offset) })
            .collect(),
        next: offsets.end,
    };
    buffer.push(batch(3..8), Instant::now());
    buffer.push(batch(6..9), Instant::now());
    assert_eq!((buffer.start(), buffer.next(), buffer.records()), (5, 9, 4));
    let footer = buffer.draft().first(2).build(&Scribe::start().unwrap(), None).unwrap().footer;
    assert_eq!((footer.start, footer.end, footer.rows), (5, 6, 2));
    buffer.advance(&footer).unwrap();
    assert_eq!((buffer.start(), buffer.next(), buffer.records()), (7, 9, 2));
}

#[tokio::test]
async fn a_large_segment_holds_every_record_in_order() {
    let journal = TestJournal::default();
    // Several batches of columns, the last of them not full.
    journal.fill(5000);
    let store = memory();
    let config = ArchiveConfig { seal_bytes: u64::MAX, memory_bytes: u64::MAX, ..config() };
    assert!(Archiver::start(Arc::new(journal.clone()), Arc::clone(&store), config, log()).stop(true).await);
    let chain = check::chain(&store, &Path::from("archive"), journal.life()).await;
    assert_eq!((chain.footers.len(), chain.rows), (1, journal.records()));
}
