#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;

use bursar_schemas::facts::{Fact, LeaseRequested, Phase, Role};
use bursar_schemas::memory::MemoryShelf;
use bursar_schemas::ports::{Entry, Outlet, OutletError, Receipt};
use bursar_schemas::producer::{Identity, Recorder};
use bursar_schemas::wire;
use parking_lot::Mutex;

use super::*;
use crate::config::{SecretError, ShimConfig};
use crate::leases::GiveBack;
use crate::limits::Waits;
use crate::limits::tests::{HOLDER, Log, account, money};
use crate::upstream::{self, Keys};

/// A journal that does something with what is written, before the writer goes on.
struct At<F>(F);

impl<F: Fn(&[Entry]) -> Result<(), OutletError> + Send + Sync> Outlet for At<F> {
    fn append(&self, entries: Vec<Entry>) -> Result<Receipt, OutletError> {
        (self.0)(&entries).map(|()| -> Receipt { Box::pin(std::future::ready(Ok(()))) })
    }
}

fn config() -> ShimConfig {
    ShimConfig::new(([127, 0, 0, 1], 0).into(), 1, [1; 32], [2; 32])
}

fn world(journal: impl Fn(&[Entry]) -> Result<(), OutletError> + Send + Sync + 'static) -> World {
    let config = config();
    let identity = Identity::new(HOLDER, Role::Shim, [7; 32], &[9; 32]);
    let recorder = Arc::new(Recorder::new(identity, Arc::new(At(journal))));
    let no_secret = |reference: &str| {
        Err(SecretError { reference: reference.to_owned(), reason: "there is none".to_owned() })
    };
    let keys = Keys::new(Arc::new(no_secret));
    let client = upstream::client(config.connect_timeout, &config.authorities).unwrap();
    let around = (keys, Arc::new(|| Micros(0)) as _, Arc::new(|_: &mut [u8]| ()) as _);
    World::new(config, recorder, (around.0, around.1, around.2, Arc::new(MemoryShelf::default())), client)
}

/// A partition that has read of one budget with a limit and a window that is open; and the path of it.
fn opened() -> (Arc<Limits>, Log, Path) {
    let waits = Waits { lease: config().lease_wait, silence: config().ledger_silence };
    let limits = Limits::new(0, HOLDER, config().leases, waits);
    let mut core = limits.inner.lock();
    let mut log = Log::begun(&mut core);
    log.limit(&mut core, "a", 100);
    log.window(&mut core, account("a", 0), Phase::Open);
    drop(core);
    (Arc::new(limits), log, [account("a", 0)].into())
}

fn question(entries: &[Entry]) -> LeaseRequested {
    let asked = entries.iter().find_map(|entry| match wire::decode(&entry.value).unwrap() {
        Fact::LeaseRequested(asked) => Some(*asked),
        _ => None,
    });
    asked.unwrap()
}

#[tokio::test]
async fn a_grant_that_comes_before_the_wait_for_it_has_begun_is_not_missed() {
    let (limits, log, path) = opened();
    let (ledger, log) = (Arc::clone(&limits), Mutex::new(log));
    let world = world(move |entries| {
        let asked = question(entries);
        log.lock().grant(&mut ledger.inner.lock(), asked.lease, &asked.accounts, 40);
        ledger.changed.notify_waiters();
        Ok(())
    });
    limits.lease(&world, &path, money(10)).await.unwrap();
}

#[tokio::test]
async fn what_was_to_go_back_with_a_question_that_was_not_taken_goes_back_later() {
    let (limits, mut log, path) = opened();
    {
        let mut core = limits.inner.lock();
        let mut patience = Patience::default();
        let Step::Wait(_, Some(ask)) = core.look(&path, money(35), Micros(0), &mut patience) else {
            panic!("it asks first")
        };
        log.grant(&mut core, ask.lease, &path, 40);
        let step = core.look(&path, money(35), Micros(0), &mut patience);
        assert!(matches!(step, Step::Got(lease, _) if lease == ask.lease), "{step:?}");
    }
    // Too little is left for the next, and goes back with the question for more.
    let full = world(|_| Err(OutletError::Full("no space".to_owned())));
    assert_eq!(limits.lease(&full, &path, money(35)).await, Err(Denied::Spool));
    let given = limits.turn(Micros(0));
    assert!(
        matches!(given.as_slice(), [GiveBack { number: 1, amount, .. }] if *amount == money(5)),
        "{given:?}"
    );
    assert_eq!(limits.turn(Micros(0)), []);
}
