//! What the embedded journal promises beyond the suite.

use std::path::Path;
use std::sync::Arc;

use bursar_ingest::embedded::{EmbeddedError, EmbeddedJournal, EmbeddedOptions};
use bursar_schemas::ids::Generation;
use bursar_schemas::ports::{Journal as _, Outlet as _, OutletError};
use bursar_schemas::position::{Lane, Topic};

use crate::support::{SPEND, collect, entry, read_all, texts, within};
use crate::{PARTITIONS, Subject};

pub async fn subject() -> Option<Subject> {
    let dir = tempfile::tempdir().unwrap();
    // Little memory, so that readers meet the store as well.
    let options = EmbeddedOptions { tail_bytes: 2_000, queue_bytes: 10_000, ..EmbeddedOptions::default() };
    let journal = Arc::new(EmbeddedJournal::open_with(dir.path(), PARTITIONS, options).unwrap());
    Some(Subject { outlet: journal.clone(), journal, keep: Box::new(dir) })
}

fn open(dir: &Path) -> EmbeddedJournal {
    EmbeddedJournal::open(dir, PARTITIONS).unwrap()
}

async fn generations(journal: &EmbeddedJournal) -> Vec<Generation> {
    let mut all = Vec::new();
    for topic in Topic::ALL {
        all.push(journal.generation(topic).await.unwrap());
    }
    all
}

#[tokio::test]
async fn a_restart_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    let mut lives = Vec::new();
    for life in 0..4 {
        let journal = open(dir.path());
        lives.push(generations(&journal).await);
        assert_eq!(texts(&read_all(&journal, SPEND).await), expected, "life {life}");
        for number in life * 100..life * 100 + 100 {
            expected.push(format!("spend/1 {number}"));
            // Not waited for: closing writes what was taken.
            drop(journal.append(vec![entry(SPEND, number)]).unwrap());
        }
        journal.close().unwrap();
    }
    assert!(lives.iter().all(|life| *life == lives[0]));
    let other = tempfile::tempdir().unwrap();
    assert_ne!(generations(&open(other.path())).await, lives[0], "two journals share their generations");
}

#[tokio::test]
async fn a_second_opening_names_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let error = EmbeddedJournal::open(dir.path(), PARTITIONS).unwrap_err();
    assert!(matches!(&error, EmbeddedError::Locked(path) if path == dir.path()), "{error}");
    assert!(error.to_string().contains(dir.path().to_str().unwrap()));
    journal.close().unwrap();
    open(dir.path());
}

#[tokio::test]
async fn another_number_of_partitions_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).close().unwrap();
    let error = EmbeddedJournal::open(dir.path(), PARTITIONS + 1).unwrap_err();
    assert!(matches!(error, EmbeddedError::Partitions { found: 3, wanted: 4, .. }), "{error}");
}

#[tokio::test]
async fn a_closed_journal_takes_nothing_and_gives_the_folder_free() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    within(journal.append(vec![entry(SPEND, 0)]).unwrap()).await.unwrap();
    let mut cursor = journal.read(SPEND, 0).await.unwrap();
    let mut waiting = journal.read(SPEND, 1).await.unwrap();
    let waiter = tokio::spawn(async move { waiting.next().await });
    journal.close().unwrap();
    assert!(matches!(journal.append(vec![entry(SPEND, 1)]), Err(OutletError::Closed(_))));
    assert!(within(waiter).await.unwrap().is_err(), "a waiting reader must not hang");
    let again = open(dir.path());
    assert_eq!(again.bounds(SPEND).await.unwrap().end, 1);
    // What was in memory is still handed out, then the end is told.
    assert_eq!(texts(&collect(&mut cursor, 1).await), ["spend/1 0"]);
    assert!(within(cursor.next()).await.is_err());
}

#[tokio::test]
async fn batches_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    for tail_bytes in [1, 1 << 20] {
        let options =
            EmbeddedOptions { batch_bytes: 100, batch_records: 7, tail_bytes, ..EmbeddedOptions::default() };
        let journal = EmbeddedJournal::open_with(dir.path(), PARTITIONS, options).unwrap();
        let lane = Lane::new(Topic::Routes, 0);
        let before = journal.bounds(lane).await.unwrap().end;
        within(journal.append((0..100).map(|n| entry(lane, n)).collect()).unwrap()).await.unwrap();
        let mut cursor = journal.read(lane, before).await.unwrap();
        let mut seen = 0;
        while seen < 100 {
            let batch = within(cursor.next()).await.unwrap();
            let bytes: usize = batch.records.iter().map(|record| record.value.len()).sum();
            assert!(batch.records.len() <= 7 && bytes <= 100);
            seen += batch.records.len();
        }
        journal.close().unwrap();
    }
}

/// Every file of the store, in turn, with a byte changed somewhere in it: the journal may still open and read
/// right, or say that it is damaged, but it never reads wrong and never panics.
#[tokio::test]
async fn damage_is_told_and_never_read() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    for number in 0..200 {
        within(journal.append(vec![entry(SPEND, number)]).unwrap()).await.unwrap();
    }
    journal.close().unwrap();
    let expected: Vec<String> = (0..200).map(|number| format!("spend/1 {number}")).collect();
    let (mut told, mut harmless) = (0, 0);
    for file in files(&dir.path().join("store")) {
        let bytes = std::fs::read(dir.path().join("store").join(&file)).unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        for part in 0..3 {
            let at = end * part / 3;
            if at >= bytes.len() {
                continue;
            }
            let copy = tempfile::tempdir().unwrap();
            copy_folder(dir.path(), copy.path());
            let mut changed = bytes.clone();
            changed[at] ^= 0xff;
            std::fs::write(copy.path().join("store").join(&file), &changed).unwrap();
            match EmbeddedJournal::open(copy.path(), PARTITIONS) {
                Err(EmbeddedError::Damaged { .. } | EmbeddedError::Io { .. }) => told += 1,
                Err(other) => panic!("{}: {other}", file.display()),
                Ok(journal) => {
                    let end = journal.bounds(SPEND).await.unwrap().end;
                    assert_eq!(end, 200, "{} at {at}: records vanished unseen", file.display());
                    let mut cursor = journal.read(SPEND, 0).await.unwrap();
                    let mut seen = Vec::new();
                    while seen.len() < 200 {
                        match within(cursor.next()).await {
                            Ok(batch) => seen.extend(texts(&batch.records)),
                            Err(_) => break,
                        }
                    }
                    assert_eq!(seen, expected[..seen.len()], "{} at {at}", file.display());
                    if seen.len() == 200 { harmless += 1 } else { told += 1 }
                }
            }
        }
    }
    assert!(told > 0, "no damage was ever told ({harmless} harmless)");
}

fn files(root: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(root).unwrap().to_path_buf());
            }
        }
    }
    found.sort();
    found
}

pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
