//! The Delta table: whoever writes it, its commits name each segment once and in order.

use std::collections::BTreeMap;

use ::parquet::file::reader::{FileReader as _, SerializedFileReader};
use ::parquet::record::{Field, RowAccessor as _};
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
    let logs = objects.keys().filter(|key| key.contains("_delta_log/") && key.ends_with(".json")).count();
    assert_eq!(logs, read.commits, "a commit stands behind a hole");
    read
}

/// The names of files that a checkpoint adds and removes, its transactions and how often it says the rest.
#[derive(Debug, Default, PartialEq)]
struct Checkpoint {
    added: BTreeMap<String, (i64, String)>,
    removed: Vec<String>,
    transactions: BTreeMap<String, i64>,
    described: usize,
    protocols: usize,
}

/// A checkpoint by the columns that Delta's protocol names.
fn checkpoint(file: bytes::Bytes) -> Checkpoint {
    let mut found = Checkpoint::default();
    for row in SerializedFileReader::new(file).unwrap().get_row_iter(None).unwrap() {
        let row = row.unwrap();
        let mut actions = 0;
        for (name, field) in row.get_column_iter() {
            let Field::Group(action) = field else { continue };
            actions += 1;
            match name.as_str() {
                "add" => {
                    let size = action.get_long(2).unwrap();
                    let stats = action.get_string(5).unwrap().clone();
                    found.added.insert(action.get_string(0).unwrap().clone(), (size, stats));
                }
                "remove" => found.removed.push(action.get_string(0).unwrap().clone()),
                "txn" => {
                    let application = action.get_string(0).unwrap().clone();
                    found.transactions.insert(application, action.get_long(1).unwrap());
                }
                "metaData" => found.described += 1,
                "protocol" => found.protocols += 1,
                other => panic!("{other}"),
            }
        }
        assert_eq!(actions, 1, "a row is one action");
    }
    found
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

/// What commits up to one leave in force, by the naive way.
async fn replayed(store: &Arc<dyn ObjectStore>, log: &str, upto: u64) -> Checkpoint {
    let objects = objects(store, &config().prefix).await;
    let mut found = Checkpoint::default();
    for version in 0..=upto {
        let commit = std::str::from_utf8(&objects[&format!("{log}/{version:020}.json")]).unwrap();
        for line in commit.lines() {
            let action: Value = serde_json::from_str(line).unwrap();
            let text = |it: &Value| it.as_str().unwrap().to_owned();
            if let Some(add) = action.get("add") {
                found.added.insert(text(&add["path"]), (add["size"].as_i64().unwrap(), text(&add["stats"])));
            } else if let Some(remove) = action.get("remove") {
                found.added.remove(&text(&remove["path"])).unwrap();
                // The one of the year 1970 is of no use to anybody any more.
                if remove["deletionTimestamp"].as_i64().unwrap() > 5000 {
                    found.removed.push(text(&remove["path"]));
                }
            } else if let Some(txn) = action.get("txn") {
                found.transactions.insert(text(&txn["appId"]), txn["version"].as_i64().unwrap());
            }
            found.described += usize::from(action.get("metaData").is_some());
            found.protocols += usize::from(action.get("protocol").is_some());
        }
    }
    found
}

#[tokio::test]
async fn every_hundredth_commit_gets_a_checkpoint_of_what_is_in_force() {
    let (journal, store) = (TestJournal::default(), memory());
    let segments = Segments::new(Arc::clone(&store), config().prefix);
    let log_folder = format!("segments/{}/{}/_delta_log", journal.life(), LANE.topic);
    let hint = format!("{log_folder}/_last_checkpoint");
    let mut commits = 0;
    while commits < 210 {
        journal.fill(2);
        assert!(run(&journal, &store).stop(true).await);
        commits += 1;
        for (at, us) in [(130, 5_000_000), (140, 1_800_000_000_000_000)] {
            if commits == at {
                let mut remover =
                    Remover::new(segments.clone(), log().unwrap()).with_delta(Arc::new(move || us));
                let logged = remover.logged().await.unwrap();
                let segment = logged.iter().find(|it| it.manifest.first == at).unwrap();
                let leaf = remover.announce(segment, 30, "ops").await.unwrap();
                remover.finish(segment, leaf).await.unwrap();
                commits += 1;
            }
        }
        // A hint that nobody can use, or that speaks of what is not there, is none.
        for (at, words) in [(50, "{}"), (60, "{\"version\":7000}"), (150, "{\"version\":120}")] {
            if commits == at {
                segments.replace(&hint, bytes::Bytes::from_static(words.as_bytes())).await.unwrap();
            }
        }
    }
    let objects = objects(&store, &config().prefix).await;
    let made: Vec<&String> = objects.keys().filter(|key| key.contains("checkpoint.parquet")).collect();
    assert_eq!(made.len(), 2, "{made:?}");
    let mut actions = 0;
    for version in [100, 200] {
        let file = objects[&format!("{log_folder}/{version:020}.checkpoint.parquet")].clone();
        let found = checkpoint(file);
        assert_eq!(found, replayed(&store, &log_folder, version).await);
        assert_eq!(found.removed.len(), usize::from(version == 200));
        actions = found.added.len() + found.removed.len() + found.transactions.len() + 2;
    }
    let hint: Value = serde_json::from_slice(&objects[&hint]).unwrap();
    assert_eq!((&hint["version"], &hint["size"]), (&Value::from(200), &Value::from(actions)));
    assert_eq!(read(&store, &journal).await.commits, 210);
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
