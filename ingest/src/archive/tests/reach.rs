//! A journal whose start retention took is read from the archive, as one sequence with what the topic holds.

use std::collections::BTreeMap;

use bursar_schemas::archive::segment_key;
use bursar_schemas::ports::{Journal as _, JournalError};

use super::journal::{LANE, TestJournal};
use super::*;

fn reaching(journal: &TestJournal, store: &Arc<dyn ObjectStore>) -> ArchivedJournal {
    let segments = Segments::new(Arc::clone(store), config().prefix);
    ArchivedJournal::new(Arc::new(journal.clone()), Arc::new(move || Ok(segments.clone())))
}

async fn read(
    journal: &ArchivedJournal,
    from: u64,
    to: u64,
) -> Result<BTreeMap<u64, bytes::Bytes>, JournalError> {
    let mut cursor = journal.read(LANE, from).await?;
    let (mut found, mut next) = (BTreeMap::new(), from);
    while next < to {
        let batch = cursor.next().await?;
        assert!(batch.next >= next, "a cursor moves forward");
        for record in batch.records {
            assert!(record.offset >= next && record.offset < batch.next);
            assert_eq!(record.at.0, 1_700_000_000_000_000);
            found.insert(record.offset, record.value);
        }
        next = batch.next;
    }
    Ok(found)
}

#[tokio::test]
async fn what_retention_took_is_read_from_the_segments() {
    let (journal, store) = (TestJournal::default(), memory());
    journal.fill(40);
    journal.skip(3);
    journal.fill(20);
    archive(&journal, &store).await;
    journal.fill(10);
    let all = journal.records();
    let end = journal.bounds(LANE).await.unwrap().end;
    for cut in [1, 17, 42, 60] {
        journal.expire(cut);
        let reaching = reaching(&journal, &store);
        assert_eq!(reaching.bounds(LANE).await.unwrap().start, 0, "cut at {cut}");
        for from in [0, 5, cut - 1, cut] {
            let expected: BTreeMap<_, _> =
                all.range(from..).map(|(at, value)| (*at, value.clone())).collect();
            assert_eq!(read(&reaching, from, end).await.unwrap(), expected, "cut at {cut}, from {from}");
        }
    }
}

#[tokio::test]
async fn an_archive_with_a_hole_does_not_stand_in() {
    let (journal, store) = (TestJournal::default(), memory());
    journal.fill(10);
    journal.expire(4);
    archive(&journal, &store).await;
    journal.fill(10);
    journal.expire(12);
    let reaching = reaching(&journal, &store);
    assert_eq!(
        reaching.bounds(LANE).await.unwrap().start,
        12,
        "offsets 0 to 3 were lost before they were sealed"
    );
    let error = read(&reaching, 0, 20).await.unwrap_err();
    assert!(matches!(error, JournalError::OutOfRange { wanted: 0, start: 12, .. }), "{error}");
}

#[tokio::test]
async fn a_cut_that_the_archive_has_not_reached_stays_a_cut() {
    let (journal, store) = (TestJournal::default(), memory());
    journal.fill(10);
    archive(&journal, &store).await;
    journal.fill(10);
    journal.expire(15);
    assert_eq!(reaching(&journal, &store).bounds(LANE).await.unwrap().start, 15);
}

#[tokio::test]
async fn what_is_no_segment_is_said_to_be_unreadable() {
    let (journal, store) = (TestJournal::default(), memory());
    let segments = Segments::new(Arc::clone(&store), config().prefix);
    let key = segment_key(journal.life(), LANE, 0);
    let damaged: [&[u8]; 2] = [b"neither columns nor a footer", b"of another length\x07\0\0\0PAR1"];
    for bytes in damaged {
        segments.replace(&key, bytes::Bytes::from_static(bytes)).await.unwrap();
        let whole = segments.whole(journal.life(), LANE, 0).await.unwrap_err();
        let footer = segments.footer(journal.life(), LANE, 0).await.unwrap_err();
        for error in [whole, footer] {
            let text = error.to_string();
            assert!(text.starts_with(&format!("failed to read {key}: failed to read Parquet: ")), "{text}");
        }
    }
}
