//! The Delta table: whoever writes it, its commits name each segment once and in order.

use std::collections::BTreeMap;

use bursar_schemas::position::Lane;
use serde_json::Value;

use super::disturbed::{Disturbance, Disturbed};
use super::journal::{LANE, TestJournal};
use super::*;

/// Lets others go first, so many times before each call.
#[derive(Debug)]
struct Courteous(u32);

impl Disturbance for Courteous {
    async fn call<T: Send>(
        &self,
        work: impl Future<Output = object_store::Result<T>> + Send,
    ) -> object_store::Result<T> {
        for _ in 0..self.0 {
            tokio::task::yield_now().await;
        }
        work.await
    }
}

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
    last: Option<u64>,
    described: usize,
    commits: usize,
}

async fn read(store: &Arc<dyn ObjectStore>, journal: &TestJournal) -> Read {
    let objects = objects(store, &config().prefix).await;
    let root = format!("segments/{}/{}", journal.life(), LANE.topic);
    let mut sizes = BTreeMap::new();
    let mut read = Read { files: Vec::new(), last: None, described: 0, commits: 0 };
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
                let last = txn["version"].as_u64();
                assert!(last > read.last, "{last:?} after {:?} in commit {version}", read.last);
                read.last = last;
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
    assert_eq!(read.last, chain.footers.last().map(|footer| footer.end));
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
async fn rivals_in_any_step_name_each_segment_once() {
    for (one, two) in (0..8).flat_map(|one| (0..8).map(move |two| (one, two))) {
        let (journal, store) = (TestJournal::default(), memory());
        journal.fill(40);
        archive(&journal, &store).await;
        let mut rivals = [one, two].map(|waits| {
            let seen: Arc<dyn ObjectStore> = Disturbed::new(&store, Courteous(waits));
            delta(&seen)
        });
        let [one, two] = &mut rivals;
        for upto in [20, 40] {
            let each = [&mut *one, &mut *two].map(|rival| rival.upto(journal.life(), LANE, upto, None));
            for done in futures::future::join_all(each).await {
                done.unwrap();
            }
        }
        agrees(&store, &journal).await;
    }
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
