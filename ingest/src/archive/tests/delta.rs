//! The Delta table: whoever writes it, its commits name each segment once and in order.

use std::collections::BTreeMap;

use bursar_schemas::position::Lane;
use serde_json::Value;

use super::journal::{LANE, TestJournal};
use super::*;

fn with_delta() -> ArchiveConfig {
    ArchiveConfig { delta: true, ..config() }
}

fn run(journal: &TestJournal, store: &Arc<dyn ObjectStore>) -> ArchiverHandle {
    Archiver::start(Arc::new(journal.clone()), Arc::clone(store), with_delta(), log())
}

fn delta(store: &Arc<dyn ObjectStore>) -> Delta {
    Delta::new(Segments::new(Arc::clone(store), config().prefix), Arc::new(|| 1_800_000_000_000_000))
}

/// What a reader makes of the commits: the files in force with their rows, the transaction, how often it was described.
struct Read {
    files: Vec<(String, u64)>,
    last: u64,
    described: usize,
    commits: usize,
}

async fn read(store: &Arc<dyn ObjectStore>, journal: &TestJournal) -> Read {
    let objects = objects(store, &config().prefix).await;
    let root = format!("segments/{}/{}", journal.life(), LANE.topic);
    let mut sizes = BTreeMap::new();
    let mut read = Read { files: Vec::new(), last: 0, described: 0, commits: 0 };
    for version in 0.. {
        let Some(commit) = objects.get(&format!("{root}/_delta_log/{version:020}.json")) else { break };
        read.commits += 1;
        for line in std::str::from_utf8(commit).unwrap().lines() {
            let action: Value = serde_json::from_str(line).unwrap();
            if let Some(add) = action.get("add") {
                let path = add["path"].as_str().unwrap().to_owned();
                let stats: Value = serde_json::from_str(add["stats"].as_str().unwrap()).unwrap();
                assert!(read.files.iter().all(|(known, _)| *known != path), "{path} is named twice");
                sizes.insert(path.clone(), add["size"].as_u64().unwrap());
                read.files.push((path, stats["numRecords"].as_u64().unwrap()));
            } else if let Some(remove) = action.get("remove") {
                let path = remove["path"].as_str().unwrap();
                let before = read.files.len();
                read.files.retain(|(known, _)| known != path);
                assert_eq!(read.files.len(), before - 1, "{path} was not named");
            } else if let Some(txn) = action.get("txn") {
                assert_eq!(txn["appId"], format!("bursar/{LANE}"));
                assert!(txn["version"].as_u64().unwrap() > read.last);
                read.last = txn["version"].as_u64().unwrap();
            }
            read.described += usize::from(action.get("metaData").is_some());
        }
    }
    for (path, _) in &read.files {
        let object = &objects[&format!("{root}/{path}")];
        assert_eq!(sizes[path], u64::try_from(object.len()).unwrap(), "{path}");
    }
    let logs = objects.keys().filter(|key| key.contains("_delta_log")).count();
    assert_eq!(logs, read.commits, "a commit stands behind a hole");
    read
}

async fn agrees(store: &Arc<dyn ObjectStore>, journal: &TestJournal) -> Read {
    let chain = check::chain(store, &config().prefix, journal.life()).await;
    let read = read(store, journal).await;
    let rows: u64 = read.files.iter().map(|(_, rows)| rows).sum();
    assert_eq!(rows, u64::try_from(chain.rows.len()).unwrap());
    assert_eq!(read.last, chain.footers.last().unwrap().end);
    let with_rows = chain.footers.iter().filter(|footer| footer.rows > 0).count();
    assert_eq!((read.files.len(), read.described), (with_rows, 1));
    read
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rivals_write_one_table() {
    let (journal, store) = (TestJournal::default(), memory());
    journal.fill(60);
    let (one, two) = (run(&journal, &store), run(&journal, &store));
    let (one, two) = futures::future::join(one.stop(true), two.stop(true)).await;
    assert!(one && two);
    agrees(&store, &journal).await;
    journal.skip(3);
    journal.fill(20);
    assert!(run(&journal, &store).stop(true).await);
    agrees(&store, &journal).await;
}

#[tokio::test]
async fn what_was_sealed_without_it_is_caught_up_with_and_it_can_be_made_anew() {
    let (journal, store) = (TestJournal::default(), memory());
    journal.fill(40);
    // This archiver keeps no table, or died before its commit.
    archive(&journal, &store).await;
    journal.fill(9);
    let running = run(&journal, &store);
    assert!(running.stop(true).await);
    let caught_up = agrees(&store, &journal).await;
    assert!(caught_up.commits < caught_up.files.len(), "what was behind is one commit");
    let made = delta(&store).rebuild_all().await.unwrap();
    assert_eq!(made.len(), 1);
    assert_eq!(agrees(&store, &journal).await.commits, 1);
    // Writers that knew the table before go on after it.
    let mut old = delta(&store);
    old.upto(journal.life(), LANE, 1, None).await.unwrap();
    journal.fill(30);
    assert!(run(&journal, &store).stop(true).await);
    delta(&store).rebuild_all().await.unwrap();
    old.upto(journal.life(), LANE, 79, None).await.unwrap();
    assert_eq!(agrees(&store, &journal).await.commits, 1);
}

#[tokio::test]
async fn what_is_removed_leaves_the_table_and_a_stranger_stops_it() {
    let (journal, store) = (TestJournal::default(), memory());
    journal.fill(40);
    assert!(run(&journal, &store).stop(true).await);
    let before = read(&store, &journal).await;
    let segments = Segments::new(Arc::clone(&store), config().prefix);
    let mut remover = Remover::new(segments.clone(), log().unwrap()).with_delta(Arc::new(|| 5_000_000));
    let logged = remover.logged().await.unwrap();
    let leaf = remover.announce(&logged[1], 30, "ops").await.unwrap();
    remover.finish(&logged[1], leaf).await.unwrap();
    let after = read(&store, &journal).await;
    assert_eq!(after.files.len(), before.files.len() - 1);
    delta(&store).rebuild_all().await.unwrap();
    assert_eq!(read(&store, &journal).await.files, after.files);
    let key = format!("segments/{}/{}/_delta_log/{:020}.json", journal.life(), LANE.topic, 1);
    segments.put(&key, bytes::Bytes::from_static(b"{\"commitInfo\":{}}\n")).await.unwrap();
    let error = delta(&store).upto(journal.life(), Lane::new(LANE.topic, 0), 99, None).await.unwrap_err();
    assert!(matches!(error, DeltaError::Foreign(_)), "{error}");
    // Sealing goes on all the same.
    journal.fill(10);
    assert!(run(&journal, &store).stop(true).await);
}
