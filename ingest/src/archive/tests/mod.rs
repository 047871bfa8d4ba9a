//! Whatever fails, dies or races: the chain holds each record once, and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod check;
pub(super) mod check_log;
mod components;
mod delta;
mod disturbed;
mod faults;
mod forged;
mod hour;
mod journal;
mod lives;
mod races;
mod reach;
mod removal;

use std::sync::Arc;
use std::time::Duration;

use bursar_schemas::evidence::SignerKey;
use bursar_schemas::ids::Digest;
use bursar_schemas::position::Topic;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;

use super::*;
pub(super) use check::objects;

/// One topic, segments of about four records, quick tries.
fn config() -> ArchiveConfig {
    ArchiveConfig {
        prefix: Path::from("archive"),
        topics: vec![Topic::Requests],
        seal_bytes: 1000,
        seal_age: Duration::from_secs(3600),
        retry_first: Duration::from_millis(1),
        retry_most: Duration::from_millis(5),
        stop_timeout: Duration::from_secs(60),
        ..ArchiveConfig::default()
    }
}

/// The log's writer; every archiver of the tests has the same key.
fn log() -> Option<LogSettings> {
    Some(LogSettings {
        signer: SignerKey::new("log.example/test", &[1; 32]).unwrap(),
        earlier: Vec::new(),
        deployment_key: Digest([5; 32]),
        heartbeat: None,
        copy: None,
        witnesses: Vec::new(),
        clock: Arc::new(|| 1_800_000_000_000_000),
    })
}

fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

fn start(journal: &journal::TestJournal, store: &Arc<dyn ObjectStore>) -> ArchiverHandle {
    Archiver::start(Arc::new(journal.clone()), Arc::clone(store), config(), log())
}

async fn archive(journal: &journal::TestJournal, store: &Arc<dyn ObjectStore>) {
    assert!(start(journal, store).stop(true).await);
}

/// Waits until the lane's status is as asked for.
async fn until(handle: &ArchiverHandle, what: impl Fn(&LaneStatus) -> bool) -> LaneStatus {
    let mut changes = handle.changes();
    let wait = async {
        loop {
            if let Some(status) = handle.status().get(&journal::LANE).filter(|status| what(status)) {
                return status.clone();
            }
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("it never came to that")
}
