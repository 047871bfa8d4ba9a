//! Processes that are killed while they write.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use bursar_ingest::embedded::EmbeddedJournal;
use bursar_ingest::spool::{DamageKind, Spool, SpoolConfig};
use bursar_schemas::memory::MemoryJournal;
use bursar_schemas::ports::OutletError;
use bursar_schemas::producer::Recorder;

use crate::PARTITIONS;
use crate::facts::{MONEY, REQUESTS, assert_gapless, numbers, producer, recorder, whole};
use crate::support::{PATIENCE, eventually, read_all};

const FOLDER: &str = "BURSAR_TEST_CHILD_FOLDER";
const LIFE: &str = "BURSAR_TEST_CHILD_LIFE";

struct Killed {
    /// The last line that the child had written.
    last: Option<u32>,
}

/// Runs one test of this program as a child, kills it after that many lines, and reads what it still wrote.
fn run_and_kill(test: &str, folder: &Path, life: u8, lines: usize) -> Killed {
    let mut child: Child = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .env(LIFE, life.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut last = None;
    let mut seen = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        // A line may be cut short by the kill; then it was not promised either.
        let Some(number) = line
            .unwrap()
            .strip_prefix("promised ")
            .and_then(|text| text.strip_suffix('.').and_then(|digits| digits.parse().ok()))
        else {
            continue;
        };
        last = Some(number);
        seen += 1;
        if seen == lines {
            child.kill().unwrap();
        }
    }
    let status = child.wait().unwrap();
    assert!(!status.success(), "the child ended by itself");
    Killed { last }
}

fn child() -> (PathBuf, u8) {
    let folder = std::env::var_os(FOLDER).expect("is run by another test");
    (folder.into(), std::env::var(LIFE).unwrap().parse().unwrap())
}

fn promise(number: u32) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("promised {number}.\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

#[test]
#[ignore = "the child of killed_journals_lose_nothing_acknowledged"]
fn embedded_child() {
    let (folder, life) = child();
    let journal: Arc<EmbeddedJournal> = Arc::new(EmbeddedJournal::open(folder, PARTITIONS).unwrap());
    let recorder = Arc::new(recorder(life, journal));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // Several appends are on their way at once; each promise is made in the order of the numbers.
    let (send, receive) = std::sync::mpsc::sync_channel(64);
    std::thread::spawn(move || {
        for number in 0.. {
            let receipt = recorder.record(whole(number)).unwrap();
            send.send((number, receipt)).unwrap();
        }
    });
    for (number, receipt) in receive {
        runtime.block_on(receipt).unwrap();
        promise(number);
    }
}

#[tokio::test]
async fn killed_journals_lose_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    for life in 1..=12_u8 {
        let killed = run_and_kill("crash::embedded_child", dir.path(), life, usize::from(life) * 17 % 90 + 1);
        let journal = EmbeddedJournal::open(dir.path(), PARTITIONS).unwrap();
        let promised = u64::from(killed.last.unwrap()) + 1;
        for lane in [REQUESTS, MONEY] {
            let records = read_all(&journal, lane).await;
            assert!((0..).zip(&records).all(|(offset, record)| record.offset == offset), "offsets are dense");
            for past in 1..=life {
                let of_life = numbers(&records, producer(past));
                let count = u64::try_from(of_life.len()).unwrap();
                assert_eq!(of_life, (0..count).collect::<Vec<_>>(), "each once, in order, without a gap");
                // The opening fact of the producer, then two of four on each lane.
                assert!(past < life || count > promised * 2, "{count} facts, {promised} requests promised");
            }
        }
        journal.close().unwrap();
    }
}

fn refusing() -> Arc<MemoryJournal> {
    let inner = Arc::new(MemoryJournal::new(PARTITIONS));
    inner.refuse(Some(OutletError::Failed("away".to_owned())));
    inner
}

fn small() -> SpoolConfig {
    SpoolConfig {
        segment_bytes: 20_000,
        ack_patience: std::time::Duration::from_millis(1),
        ..SpoolConfig::default()
    }
}

#[test]
#[ignore = "the child of a_killed_process_loses_nothing_that_was_appended"]
fn spool_child() {
    let (folder, life) = child();
    let (spool, recovered) = Spool::open(folder, small(), producer(life), refusing()).unwrap();
    assert_eq!(recovered.predecessors.len(), usize::from(life) - 1);
    let recorder: Recorder = recorder(life, Arc::new(spool));
    for number in 0.. {
        // The append is the promise: the receipt is dropped.
        drop(recorder.record(whole(number)).unwrap());
        promise(number);
    }
}

#[test]
fn a_killed_process_loses_nothing_that_was_appended() {
    const LIVES: u8 = 6;
    let dir = tempfile::tempdir().unwrap();
    let mut promised = Vec::new();
    for life in 1..=LIVES {
        let killed = run_and_kill("crash::spool_child", dir.path(), life, usize::from(life) * 97);
        promised.push(u64::from(killed.last.unwrap()) + 1);
    }
    let inner = Arc::new(MemoryJournal::new(PARTITIONS));
    let (spool, recovered) = Spool::open(dir.path(), small(), producer(99), inner.clone()).unwrap();
    // A kill can cut a write at a page's end; that append had not returned, so nothing of it was promised.
    assert!(recovered.damages.iter().all(|one| one.kind == DamageKind::TornTail), "{:?}", recovered.damages);
    for predecessor in &recovered.predecessors {
        spool.finish(predecessor.producer).unwrap();
    }
    eventually("all is replayed and removed", || spool.figures().predecessors == 0);
    for (life, promised) in (1..=LIVES).zip(promised) {
        for lane in [REQUESTS, MONEY] {
            let count = assert_gapless(&numbers(&inner.records(lane), producer(life)));
            assert!(count > promised * 2, "{count} facts, {promised} requests promised");
        }
    }
    assert!(spool.close(PATIENCE).unwrap().removed);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
}
