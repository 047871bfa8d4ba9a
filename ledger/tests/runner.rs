//! The runner over a journal in memory: take-over, restart, repetition, and a journal that refuses.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test fails by panicking, and gives up after a time"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use bursar_ledger::core::{Standing, Timing};
use bursar_ledger::runner::{Ledger, RunnerError, Settings};
use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{AccountRef, Fact, FindingKind, LeaseId, Role};
use bursar_schemas::fold::Fold;
use bursar_schemas::memory::{MemoryJournal, MemoryShelf};
use bursar_schemas::money::Money;
use bursar_schemas::ports::{Entry, Outlet as _, OutletError};
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::producer::Recorder;
use bursar_schemas::snapshot::{self, Contradiction, Shelf as _};
use bursar_schemas::wire;
use support::shim::Shim;
use support::{Logs, SECOND, START, deployment_key, identity};
use tokio::sync::watch;

/// A ledger process: its stop, and itself.
struct Process {
    ledger: Ledger,
    stop: watch::Sender<bool>,
}

struct World {
    journal: MemoryJournal,
    now: Arc<AtomicI64>,
    shim: Shim,
    logs: Logs,
    shelf: MemoryShelf,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            journal: MemoryJournal::new(1),
            now: Arc::new(AtomicI64::new(START)),
            shim: Shim::new(1),
            logs: Logs::new(),
            shelf: MemoryShelf::default(),
        };
        let budget = r#"{"organisation":[{"id":"acme"}],"budget":[{"id":"day",
            "scope":"organisation:acme","window":"day","amount":"10"}]}"#;
        world.logs.publish(&bursar_schemas::policy::Document::from_json(budget).unwrap());
        let policy = world.logs.policy.iter().map(|fact| (Lane::new(Topic::Policy, 0), wire::encode(fact)));
        world.append(policy.collect());
        world
    }

    fn append(&self, values: Vec<(Lane, Vec<u8>)>) {
        let entry = |(lane, value): (Lane, Vec<u8>)| Entry { lane, value: value.into(), at: Micros(START) };
        let receipt = self.journal.append(values.into_iter().map(entry).collect()).unwrap();
        drop(receipt);
    }

    /// What the shim says goes into the journal.
    fn say(&mut self, speak: impl FnOnce(&mut Shim, &mut Logs)) {
        self.logs.now = self.now.load(Ordering::SeqCst);
        speak(&mut self.shim, &mut self.logs);
        let spend = Lane::new(Topic::Spend, 0);
        let said = std::mem::take(&mut self.logs.spend);
        self.append(said.into_iter().map(|value| (spend, value)).collect());
    }

    fn ask(&mut self, number: u64, cents: i128) {
        let amount = Money::from_pico(cents * 10_000_000_000);
        let window = START / SECOND / 86_400 * 86_400;
        let account = AccountRef { budget: "day".into(), window };
        self.say(|shim, logs| shim.ask(number, &[account], amount, amount, logs));
    }

    async fn start(&self, number: u8) -> Process {
        let recorder = Recorder::new(identity(number, Role::Ledger), Arc::new(self.journal.clone()));
        let mut settings = Settings::new(deployment_key());
        settings.tick = Duration::from_millis(5);
        settings.heads = Duration::from_millis(20);
        settings.timing = Timing { takeover_after: 15 * SECOND, ..Timing::default() };
        let (stop, stopped) = watch::channel(false);
        let now = Arc::clone(&self.now);
        let clock = Arc::new(move || Micros(now.load(Ordering::SeqCst)));
        let journal = Arc::new(self.journal.clone());
        let shelf = Arc::new(self.shelf.clone());
        let ledger =
            Ledger::start(journal, Arc::new(recorder), clock, shelf, settings, stopped).await.unwrap();
        Process { ledger, stop }
    }

    fn limits(&self) -> Vec<Fact> {
        let records = self.journal.records(Lane::new(Topic::Limits, 0));
        records.iter().map(|record| wire::decode(&record.value).unwrap()).collect()
    }

    /// Offsets of the statements of balances, which are the signs of life as well.
    fn statements(&self) -> Vec<u64> {
        let stated = |fact: &Fact| matches!(fact, Fact::BalanceStated(_));
        (0..).zip(self.limits()).filter(|(_, fact)| stated(fact)).map(|(offset, _)| offset).collect()
    }

    fn fold(&self) -> Fold {
        let mut fold = Fold::default();
        for record in self.journal.records(Lane::new(Topic::Limits, 0)) {
            fold.apply_record(record.offset, &wire::decode(&record.value)).unwrap();
        }
        fold
    }

    fn is_granted(&self, number: u64) -> bool {
        let lease = LeaseId { holder: self.shim.producer, number };
        self.fold().lease(&lease).is_some()
    }
}

/// Polls until something holds; a minute is for ever.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

impl Process {
    fn standing(&self) -> Standing {
        self.ledger.handle().status()[0].standing
    }

    fn acts(&self) -> bool {
        matches!(self.standing(), Standing::Acting { .. })
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        self.ledger.join().await.unwrap();
    }
}

#[tokio::test]
async fn one_of_two_ledgers_acts_and_the_other_takes_over() {
    let mut world = World::new();
    let first = world.start(100).await;
    until("the first ledger acts", || first.acts()).await;
    let second = world.start(101).await;
    until("the second ledger acts and the first stands by", || {
        second.acts() && first.standing() == Standing::Standby
    })
    .await;
    world.ask(1, 400);
    until("a grant", || world.is_granted(1)).await;
    // Time passes, and the acting ledger is heard of: the standby stays one.
    for _ in 0..10 {
        let before = world.statements().len();
        world.now.fetch_add(4 * SECOND, Ordering::SeqCst);
        until("a sign of life that the standby has read", || {
            let read = first.ledger.handle().status()[0].limits_next;
            world.statements().get(before).is_some_and(|offset| *offset < read)
        })
        .await;
    }
    assert_eq!(first.standing(), Standing::Standby);
    second.stop().await;
    world.ask(2, 300);
    until("the first ledger takes over and grants", || {
        world.now.fetch_add(SECOND / 10, Ordering::SeqCst);
        world.is_granted(2)
    })
    .await;
    until("it says so", || first.acts()).await;
    let books = first.ledger.handle().books().await.unwrap();
    assert_eq!(books[0].committed.dollars(), "7.00");
    world.ask(3, 400);
    let refused = |fact: &Fact| matches!(fact, Fact::LeaseRefused(it) if it.lease.number == 3);
    until("no more than the limit is granted", || {
        world.now.fetch_add(SECOND / 10, Ordering::SeqCst);
        world.limits().iter().any(refused)
    })
    .await;
    first.stop().await;
    let committed = world.fold().accounts().map(|(_, state)| state.committed).max();
    assert_eq!(committed.unwrap().dollars(), "7.00");
}

#[tokio::test]
async fn a_restart_answers_what_was_asked_meanwhile_and_nothing_twice() {
    let mut world = World::new();
    let first = world.start(100).await;
    world.ask(1, 100);
    until("a grant", || world.is_granted(1)).await;
    first.stop().await;
    world.ask(2, 200);
    // The whole of `spend` comes once more, as after a producer's retry.
    let spend = Lane::new(Topic::Spend, 0);
    let again = world.journal.records(spend).into_iter().map(|record| (spend, record.value.to_vec()));
    world.append(again.collect());
    let second = world.start(101).await;
    until("the second grant", || world.is_granted(2)).await;
    second.stop().await;
    let granted = |fact: &&Fact| matches!(fact, Fact::LeaseGranted(_));
    assert_eq!(world.limits().iter().filter(granted).count(), 2);
    assert_eq!(world.fold().accounts().next().unwrap().1.committed.dollars(), "3.00");
    let findings: Vec<FindingKind> = world
        .journal
        .records(Lane::new(Topic::Requests, 0))
        .iter()
        .filter_map(|record| match wire::decode(&record.value).unwrap() {
            Fact::Finding(finding) => Some(finding.kind),
            _ => None,
        })
        .collect();
    assert_eq!(findings, [FindingKind::Duplicate]);
}

#[tokio::test]
async fn the_last_record_of_a_stopped_ledger_is_its_signed_end() {
    let world = World::new();
    let first = world.start(100).await;
    until("the ledger acts", || first.acts()).await;
    first.stop().await;
    match world.limits().last() {
        Some(Fact::ProducerHead(head)) => assert!(head.ended),
        other => panic!("{other:?} is no head"),
    }
}

#[tokio::test]
async fn a_ledger_that_cannot_write_stops_and_says_so() {
    let world = World::new();
    let first = world.start(100).await;
    until("the ledger acts", || first.acts()).await;
    world.journal.refuse(Some(OutletError::Full("the disk".into())));
    // Something to write about: time passes.
    world.now.fetch_add(60 * SECOND, Ordering::SeqCst);
    let handle = first.ledger.handle();
    let error = tokio::time::timeout(Duration::from_secs(60), first.ledger.join()).await.unwrap();
    assert!(matches!(error, Err(RunnerError::Outlet(OutletError::Full(_)))), "{error:?}");
    assert!(handle.books().await.is_err(), "nobody answers any more");
}

#[tokio::test]
async fn a_log_of_an_unknown_kind_stops_the_ledger() {
    let world = World::new();
    world.append(vec![(Lane::new(Topic::Limits, 0), vec![0, 0, 0, 18, 103, 1])]);
    let first = world.start(100).await;
    let error = tokio::time::timeout(Duration::from_secs(60), first.ledger.join()).await.unwrap();
    assert!(matches!(error, Err(RunnerError::Halt { partition: 0, .. })), "{error:?}");
}

#[tokio::test]
async fn a_ledger_goes_on_from_its_snapshot_and_not_on_another_log() {
    let mut world = World::new();
    let first = world.start(100).await;
    until("the first ledger acts", || first.acts()).await;
    for number in 1..=900 {
        world.ask(number, 1);
    }
    let answered = |world: &World| {
        let answers = |fact: &Fact| matches!(fact, Fact::LeaseGranted(_) | Fact::LeaseRefused(_));
        world.limits().iter().filter(|fact| answers(fact)).count()
    };
    until("every request is answered", || answered(&world) == 900).await;
    let books = first.ledger.handle().books().await.unwrap();
    first.stop().await;
    assert!(
        world.shelf.take("ledger-0").is_some(),
        "a ledger that has read much keeps a snapshot at its end"
    );

    let second = world.start(101).await;
    until("the second ledger acts", || second.acts()).await;
    assert_eq!(second.ledger.handle().books().await.unwrap(), books);
    world.ask(901, 1);
    until("it goes on deciding", || answered(&world) == 901).await;
    second.stop().await;

    // A damaged snapshot is as good as none.
    let kept = world.shelf.take("ledger-0").unwrap();
    world.shelf.keep("ledger-0", &kept[..kept.len() - 1]);
    let third = world.start(102).await;
    until("the third ledger acts", || third.acts()).await;
    assert_eq!(third.ledger.handle().books().await.unwrap().len(), books.len());
    third.stop().await;

    // A log that is shorter than what was read is not the log that was read.
    world.shelf.keep("ledger-0", &kept);
    world.journal = MemoryJournal::new(1);
    let fourth = world.start(103).await;
    let ended = fourth.ledger.join().await.unwrap_err();
    assert!(matches!(ended, RunnerError::Contradiction(Contradiction::Shorter { .. })), "{ended}");
    assert!(snapshot::read::<u8>(&kept).is_err(), "a snapshot is read as what it is, or not at all");
}
