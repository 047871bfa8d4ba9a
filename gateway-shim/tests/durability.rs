//! What waits for the acknowledgement of the opening facts, and what happens when it never comes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use bursar_gateway_shim::OnSpoolFull;
use bursar_schemas::facts::{Basis, Durability, Ending, VoidReason};
use bursar_schemas::memory::MemoryJournal;
use bursar_schemas::ports::{Entry, Outlet, OutletError, Receipt};
use bursar_schemas::position::Topic;
use common::ledger::micro_dollars;
use common::{HARD, Setting, Stage, chat, kinds, until};
use tokio::sync::watch;

/// Takes facts at once and acknowledges them only when told to.
struct Held {
    journal: Arc<parking_lot_free::Slot>,
    released: watch::Receiver<bool>,
}

/// A place for the journal, which exists only once the stage is set.
mod parking_lot_free {
    use super::MemoryJournal;
    #[derive(Default)]
    pub struct Slot(pub std::sync::OnceLock<MemoryJournal>);
}

impl Outlet for Held {
    fn append(&self, entries: Vec<Entry>) -> Result<Receipt, OutletError> {
        let journal = self.journal.0.get().expect("facts before the stage is set");
        let taken = journal.append(entries)?;
        let mut released = self.released.clone();
        Ok(Box::pin(async move {
            released
                .wait_for(|released| *released)
                .await
                .map_err(|_| OutletError::Failed("gone".to_owned()))?;
            taken.await
        }))
    }
}

async fn stage(durability: Durability, ack_timeout: Duration) -> (Stage, watch::Sender<bool>) {
    let (release, released) = watch::channel(false);
    let slot = Arc::new(parking_lot_free::Slot::default());
    let held = Held { journal: Arc::clone(&slot), released };
    let setting = Setting {
        outlet: Some(Arc::new(held)),
        config: Box::new(move |config| {
            config.durability = durability;
            config.ack_timeout = ack_timeout;
        }),
        ..Setting::default()
    };
    (Stage::set_with(setting, |journal| assert!(slot.0.set(journal.clone()).is_ok())).await, release)
}

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn overlapped_calls_at_once_and_lets_nothing_out_before_the_acknowledgement() {
    let (stage, release) = stage(Durability::Overlapped, LONG).await;
    let request = stage.request("/v1/chat/completions", chat("m", 10, ""));
    let mut answering = tokio::spawn(stage.client.request(request));
    until("the provider has answered", || stage.provider.seen().len() == 1).await;
    let early = tokio::time::timeout(Duration::from_millis(100), &mut answering).await;
    assert!(early.is_err(), "something left before the opening facts were acknowledged");
    assert_eq!(kinds(&stage.journal, Topic::Requests), ["RequestOpened"]);
    release.send_replace(true);
    assert_eq!(answering.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn acked_calls_nobody_before_the_acknowledgement() {
    let (stage, release) = stage(Durability::Acked, LONG).await;
    let request = stage.request("/v1/chat/completions", chat("m", 10, ""));
    let mut answering = tokio::spawn(stage.client.request(request));
    until("it is opened", || !kinds(&stage.journal, Topic::Requests).is_empty()).await;
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut answering).await.is_err());
    assert!(stage.provider.seen().is_empty());
    release.send_replace(true);
    assert_eq!(answering.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn relaxed_never_waits() {
    let (stage, release) = stage(Durability::Relaxed, LONG).await;
    assert_eq!(stage.chat(&chat("m", 10, "")).await.status, 200);
    assert!(!*release.borrow());
}

#[tokio::test]
async fn an_acknowledgement_that_never_comes_is_a_503_and_the_attempt_is_settled() {
    for durability in [Durability::Overlapped, Durability::Acked] {
        let (stage, _release) = stage(durability, SHORT).await;
        let answer = stage.chat(&chat("m", 10, "")).await;
        let code = answer.json()["error"]["code"].clone();
        assert_eq!((answer.status, code.as_str()), (503, Some("journal_unavailable")), "{durability}");
        let closed = &all_of!(stage.journal, Requests, RequestClosed);
        assert_eq!((closed.len(), closed[0].ending, closed[0].status), (1, Ending::Failed, 503));
        if durability == Durability::Acked {
            assert!(stage.provider.seen().is_empty());
            assert_eq!(all_of!(stage.journal, Spend, Voided)[0].reason, VoidReason::NotSent);
        } else {
            let settled = &all_of!(stage.journal, Spend, Settled)[0];
            assert_eq!((settled.amount, settled.basis), (micro_dollars(117), Basis::Reservation));
        }
    }
}

#[tokio::test]
async fn a_full_spool_refuses_or_passes_as_told_but_never_passes_a_hard_budget() {
    let full = OutletError::Full("for the test".to_owned());
    for (pass, hard, status) in [(false, false, 503), (true, false, 200), (true, true, 503)] {
        let stage = Stage::set(Setting {
            policy: if hard { HARD.to_owned() } else { String::new() },
            limits: if hard { vec![("team-search", 10_000)] } else { Vec::new() },
            config: Box::new(move |config| {
                config.on_spool_full = if pass { OnSpoolFull::Pass } else { OnSpoolFull::Refuse };
            }),
            ..Setting::default()
        })
        .await;
        if hard {
            assert_eq!(stage.chat(&chat("m", 10, "")).await.status, 200, "a lease is there");
        }
        stage.journal.refuse(Some(full.clone()));
        let answer = stage.chat(&chat("m", 10, "")).await;
        assert_eq!(answer.status, status, "pass {pass}, hard {hard}");
        if status == 503 {
            assert_eq!(answer.json()["error"]["code"], "spool_full");
        } else {
            assert!(stage.shim.metrics().contains("bursar_unrecorded_requests_total 1"));
        }
        stage.journal.refuse(None);
        assert_eq!(stage.chat(&chat("m", 10, "")).await.status, 200, "it serves again");
    }
}
