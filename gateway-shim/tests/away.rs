//! A shim that is started while the journal is away serves by what its last run knew.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bursar_gateway_shim::{RunningShim, Shim, ShimConfig};
use bursar_schemas::facts::Role;
use bursar_schemas::ids::Generation;
use bursar_schemas::memory::{MemoryJournal, MemoryShelf};
use bursar_schemas::ports::{Bounds, Cursor, Journal, JournalError};
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::snapshot::Shelf as _;
use common::{HARD, Setting, Stage, chat, handles, recorder, until};

/// A journal behind a line that can be cut.
struct Line {
    journal: MemoryJournal,
    cut: Arc<AtomicBool>,
}

impl Line {
    fn check(&self) -> Result<(), JournalError> {
        if self.cut.load(Ordering::SeqCst) {
            return Err(JournalError::Unavailable("the line is cut".to_owned()));
        }
        Ok(())
    }
}

#[async_trait]
impl Journal for Line {
    async fn generation(&self, topic: Topic) -> Result<Generation, JournalError> {
        self.check()?;
        self.journal.generation(topic).await
    }
    async fn partitions(&self, topic: Topic) -> Result<u32, JournalError> {
        self.check()?;
        self.journal.partitions(topic).await
    }
    async fn bounds(&self, lane: Lane) -> Result<Bounds, JournalError> {
        self.check()?;
        self.journal.bounds(lane).await
    }
    async fn read(&self, lane: Lane, from: u64) -> Result<Box<dyn Cursor>, JournalError> {
        self.check()?;
        self.journal.read(lane, from).await
    }
}

/// A second run of the shim on the same shelf, with the line cut.
async fn restarted(stage: &Stage, shelf: &MemoryShelf, cut: &Arc<AtomicBool>) -> RunningShim {
    let line = Line { journal: stage.journal.clone(), cut: Arc::clone(cut) };
    let recorder = recorder(9, Role::Shim, Arc::new(stage.journal.clone()));
    let mut config = ShimConfig::new(([127, 0, 0, 1], 0).into(), 1, [1; 32], [2; 32]);
    config.lease_wait = std::time::Duration::from_millis(50);
    Shim::start(config, handles(Arc::new(line), recorder, shelf.clone())).await.unwrap()
}

async fn send(stage: &Stage, shim: &RunningShim) -> (u16, serde_json::Value) {
    let mut request = stage.request("/v1/chat/completions", chat("m", 10, ""));
    let uri = format!("http://{}/v1/chat/completions", shim.local_addr());
    *request.uri_mut() = uri.parse().unwrap();
    let answered = stage.send(request).await;
    (answered.status, answered.json())
}

async fn last_run(setting: Setting) -> (Stage, MemoryShelf) {
    let shelf = MemoryShelf::default();
    let stage = Stage::set(Setting { shelf: shelf.clone(), ..setting }).await;
    let kept = |name| shelf.take(name).is_some();
    until("what was read is kept", || kept("shim-policy") && kept("shim-limits-0")).await;
    (stage, shelf)
}

#[tokio::test]
async fn what_needs_no_lease_is_served_by_the_policy_of_the_last_run() {
    let (stage, shelf) = last_run(Setting { limits: vec![("other", 1)], ..Setting::default() }).await;
    let cut = Arc::new(AtomicBool::new(true));
    let shim = restarted(&stage, &shelf, &cut).await;
    until("it serves", || shim.readiness().ready).await;
    assert!(
        shim.readiness().degraded.iter().any(|it| it.contains("the journal is away")),
        "{:?}",
        shim.readiness()
    );
    assert_eq!(send(&stage, &shim).await.0, 200);
    cut.store(false, Ordering::SeqCst);
    until("the line is back", || shim.readiness().degraded.is_empty()).await;
    assert_eq!(send(&stage, &shim).await.0, 200);
}

#[tokio::test]
async fn a_hard_budget_does_not_pass_while_the_journal_is_away() {
    let setting =
        Setting { policy: HARD.to_owned(), limits: vec![("team-search", 1_000_000)], ..Setting::default() };
    let (stage, shelf) = last_run(setting).await;
    let cut = Arc::new(AtomicBool::new(true));
    let shim = restarted(&stage, &shelf, &cut).await;
    until("it serves", || shim.readiness().ready).await;
    let (status, body) = send(&stage, &shim).await;
    assert_eq!((status, &body["error"]["code"]), (503, &"ledger_unavailable".into()), "{body}");
}

#[tokio::test]
async fn without_a_last_run_it_waits_for_the_journal() {
    let (stage, _) = last_run(Setting { limits: vec![("other", 1)], ..Setting::default() }).await;
    let cut = Arc::new(AtomicBool::new(true));
    let shim = restarted(&stage, &MemoryShelf::default(), &cut).await;
    assert_eq!(send(&stage, &shim).await.0, 503);
    assert!(!shim.readiness().ready);
    cut.store(false, Ordering::SeqCst);
    until("the line is back", || shim.readiness().ready).await;
    assert_eq!(send(&stage, &shim).await.0, 200);
}
