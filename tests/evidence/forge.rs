//! What can be written into the journal before it is sealed: the archiver seals it, and the check names it.

use std::sync::Arc;

use async_trait::async_trait;
use bursar_query::evidence::Kind;
use bursar_schemas::facts::{Fact, LeaseId, Role};
use bursar_schemas::ids::{Generation, ProducerId};
use bursar_schemas::memory::MemoryJournal;
use bursar_schemas::ports::{Bounds, Cursor, Entry, Journal, JournalError, Outlet as _, Record};
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::wire;

use super::fixture::{LIMITS, REQUESTS, SPEND, World, assert_named, dollars, recorder};

fn append(journal: &MemoryJournal, lane: Lane, fact: &Fact) {
    let at = fact.head().at;
    drop(journal.append(vec![Entry { lane, value: wire::encode(fact).into(), at }]).unwrap());
}

/// A fact in the shim's name, with the number that is due, by someone without its key.
fn forged(world: &World) -> Fact {
    let last = world.journal.records(REQUESTS).iter().rev().find_map(|record| {
        let fact = wire::decode(&record.value).unwrap();
        (fact.head().producer == ProducerId([7; 16])).then(|| fact.head().number)
    });
    let mut fact = world.fact("RequestOpened", bursar_schemas::samples::REQUEST);
    let head = fact.head_mut();
    (head.producer, head.role, head.number) = (ProducerId([7; 16]), Role::Shim, last.unwrap() + 1);
    fact
}

#[tokio::test]
async fn a_forged_fact_is_named_by_the_next_signed_head() {
    let mut world = World::new();
    world.round().await;
    append(&world.journal, REQUESTS, &forged(&world));
    world.round().await;
    let report = world.copy().verify().await;
    assert_named(&report, Kind::Forged, "requests/0", "are not those that it signed for");
}

#[tokio::test]
async fn facts_without_a_certificate_or_a_right_are_named() {
    let mut world = World::new();
    world.round().await;
    let mut stranger = forged(&world);
    stranger.head_mut().producer = ProducerId([66; 16]);
    stranger.head_mut().number = 0;
    append(&world.journal, REQUESTS, &stranger);
    // Certified, but by a deployment that is not this one.
    let other = recorder(&world.journal, Role::Shim, 67, &[41; 32]);
    world.request(&other, 1);
    // A shim's certificate gives no right to `limits`.
    let shim = recorder(&world.journal, Role::Shim, 68, &[40; 32]);
    let grant = bursar_schemas::samples::facts().into_iter().find(|it| it.kind() == "LeaseGranted").unwrap();
    drop(shim.record([bursar_schemas::producer::Draft { lane: LIMITS, fact: grant }]).unwrap());
    world.seal().await;
    let report = world.copy().verify().await;
    assert_named(&report, Kind::Forged, "requests/0", "writes without a certificate");
    assert_named(&report, Kind::Forged, "requests/0", "which the log does not name");
    assert_named(&report, Kind::Forged, "limits/0", "has no right to this topic");
}

#[tokio::test]
async fn forged_grants_are_named_even_by_the_ledgers_own_key() {
    let mut world = World::new();
    world.round().await;
    let before = world.end_of(LIMITS);
    // Nobody asked: the offset that it answers holds a settlement.
    let lease = |number| LeaseId { holder: ProducerId([7; 16]), number };
    world.grant(lease(70), world.end_of(SPEND) - 2, dollars(1));
    // More than the budget has.
    world.grant(lease(71), 1, dollars(100_000));
    // A second time.
    world.grant(lease(1), 1, dollars(10));
    world.round().await;
    let report = world.copy().verify().await;
    let place = |n: u64| format!("limits/0 offset {}", before + n);
    assert_named(&report, Kind::Unacceptable, &place(0), "asks for nothing of the kind");
    assert_named(&report, Kind::Unacceptable, &place(1), "OverLimit");
    assert_named(&report, Kind::Unacceptable, &place(2), "AnsweredBefore");
    assert_eq!(report.findings.len(), 3, "{}", report.to_text());
}

/// A journal of which some records never come.
struct Dropping {
    inner: MemoryJournal,
    keep: fn(&Record, Topic) -> bool,
    life: Option<Generation>,
}

struct DroppingCursor {
    inner: Box<dyn Cursor>,
    keep: fn(&Record, Topic) -> bool,
    topic: Topic,
}

#[async_trait]
impl Cursor for DroppingCursor {
    async fn next(&mut self) -> Result<bursar_schemas::ports::Batch, JournalError> {
        let mut batch = self.inner.next().await?;
        batch.records.retain(|record| (self.keep)(record, self.topic));
        Ok(batch)
    }
}

#[async_trait]
impl Journal for Dropping {
    async fn generation(&self, topic: Topic) -> Result<Generation, JournalError> {
        match self.life {
            Some(life) if topic == Topic::Spend => Ok(life),
            _ => self.inner.generation(topic).await,
        }
    }

    async fn partitions(&self, topic: Topic) -> Result<u32, JournalError> {
        self.inner.partitions(topic).await
    }

    async fn bounds(&self, lane: Lane) -> Result<Bounds, JournalError> {
        self.inner.bounds(lane).await
    }

    async fn read(&self, lane: Lane, from: u64) -> Result<Box<dyn Cursor>, JournalError> {
        let inner = self.inner.read(lane, from).await?;
        Ok(Box::new(DroppingCursor { inner, keep: self.keep, topic: lane.topic }))
    }
}

pub fn dropping(world: &World, keep: fn(&Record, Topic) -> bool) -> Arc<dyn Journal> {
    Arc::new(Dropping { inner: world.journal.clone(), keep, life: None })
}

#[tokio::test]
async fn a_fact_that_was_dropped_from_the_midst_is_a_gap() {
    let mut world = World::new();
    world.lease();
    for number in 1..4 {
        world.request(&world.shim, number);
    }
    world.heads();
    world
        .seal_journal(dropping(&world, |record, topic| topic != Topic::Requests || record.offset != 2))
        .await;
    let report = world.copy().verify().await;
    assert_named(&report, Kind::Gap, "requests/0 offset 3", "numbers 2 to 2 of producer 0707");
}

#[tokio::test]
async fn the_dropped_tail_of_a_dead_producer_is_an_open_end() {
    let mut world = World::new();
    world.lease();
    world.request(&world.shim, 1);
    world.heads();
    let covered = world.end_of(REQUESTS);
    world.request(&world.shim, 2);
    // It dies here: no last head. Somebody takes its last fact.
    world.seal_journal(dropping(&world, |record, topic| topic != Topic::Requests || record.offset < 5)).await;
    let report = world.copy().verify().await;
    assert!(report.holds(), "{}", report.to_text());
    let open = report.open_ends.iter().find(|open| open.lane == "requests/0").unwrap();
    assert_eq!(open.producer, "07".repeat(16));
    assert_eq!((open.unproven_from, open.unproven_facts), (covered, 1), "{open:?}");
    assert!(report.to_text().contains("tail unproven since"), "{}", report.to_text());
}

#[tokio::test]
async fn the_dropped_tail_of_a_producer_that_ended_is_named() {
    let (world, _) = World::honest().await;
    let copy = world.copy();
    let last = copy.segments("requests").pop().unwrap();
    let entries: Vec<Vec<u8>> =
        copy.entries().into_iter().filter(|it| !String::from_utf8_lossy(it).contains(&last)).collect();
    copy.delete(&last);
    copy.rebuild_log(&entries, &super::fixture::signer(1), &[entries.len()]);
    let report = copy.verify().await;
    let open = report.open_ends.iter().find(|open| open.lane == "requests/0").unwrap();
    assert_eq!(open.producer, "07".repeat(16), "its last word is gone, and that shows");
}

#[tokio::test]
async fn a_topic_made_anew_is_named() {
    let mut world = World::new();
    world.round().await;
    let again =
        Dropping { inner: world.journal.clone(), keep: |_, _| true, life: Some(Generation([99; 16])) };
    world.seal_journal(Arc::new(again)).await;
    let report = world.copy().verify().await;
    assert_named(&report, Kind::Recreated, "spend/0", &Generation([99; 16]).to_string());
}

#[tokio::test]
async fn repeats_and_nonsense_are_told_and_harm_nothing() {
    let mut world = World::new();
    world.round().await;
    let again = world.journal.records(REQUESTS)[1].clone();
    drop(world.journal.append(vec![Entry { lane: REQUESTS, value: again.value, at: again.at }]).unwrap());
    drop(
        world
            .journal
            .append(vec![Entry { lane: REQUESTS, value: b"nonsense"[..].into(), at: again.at }])
            .unwrap(),
    );
    world.round().await;
    let report = world.copy().verify().await;
    assert!(report.complete, "{}", report.to_text());
    assert!(
        report.notes.iter().any(|note| note.contains("1 facts came more than once")),
        "{:?}",
        report.notes
    );
    assert!(report.notes.iter().any(|note| note.contains("1 records are no facts")), "{:?}", report.notes);
}
