//! Whatever is sealed and whatever is not, the answer is the same.

use std::time::Duration;

use bursar_schemas::ids::Generation;
use bursar_schemas::memory::MemoryJournal;
use bursar_schemas::meters::Meter;
use bursar_schemas::ports::{Bounds, Cursor, Journal, JournalError};
use bursar_schemas::position::{Lane, Topic};
use bytes::Bytes;
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use proptest::prelude::*;

use crate::support::*;

const ALL: &str = "SELECT \"offset\", kind, producer, number, duplicate, missing_before, unreadable, value \
                   FROM spend ORDER BY \"offset\"";
const MONEY: &str = "SELECT count(*), sum(amount) FROM settlements";

/// A lane with a duplicate, a gap and an unreadable record among ordinary facts.
fn world() -> World {
    let mut world = World::new();
    for request in 0..12_u64 {
        let about = about(request, NOW + i64::try_from(request).unwrap() * 1000);
        let amount = 1_000_000 + i128::from(request);
        let fact = settled(&about, 1, vec![line(Meter::Input, 5, amount)]);
        match request {
            3 => {
                world.write(1, SPEND, fact.clone());
                world.write_numbered(1, 2, SPEND, fact);
            }
            6 => {
                world.skip(2, SPEND, 4);
                world.write(2, SPEND, fact);
            }
            9 => world.write_bytes(SPEND, Bytes::from_static(b"no fact"), about.accounting_at),
            _ => world.write(u8::try_from(request % 2 + 1).unwrap(), SPEND, fact),
        }
    }
    world
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn the_split_has_the_faults_it_is_meant_to_have() {
    runtime().block_on(async {
        let world = world();
        let service = service(&store(), Some(&world)).await;
        let faults =
            "SELECT count(*) FILTER (WHERE duplicate), sum(missing_before), count(unreadable) FROM spend";
        assert_eq!(run(&service, faults).await.unwrap().lines().nth(1), Some("1,4,1"));
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn any_split_between_sealed_and_tail_gives_the_same_answer(cuts in proptest::collection::btree_set(1_u64..=13, 0..4)) {
        runtime().block_on(async {
            let world = world();
            let unsealed = service(&store(), Some(&world)).await;
            let (rows, money) = (run(&unsealed, ALL).await.unwrap(), run(&unsealed, MONEY).await.unwrap());
            prop_assert_eq!(rows.lines().count(), 1 + 13);
            // Sealed before the service opens.
            let sealed = store();
            let cuts: Vec<u64> = cuts.into_iter().collect();
            seal(&sealed, &world.journal(), SPEND, &cuts).await;
            let split = service(&sealed, Some(&world)).await;
            prop_assert_eq!(&run(&split, ALL).await.unwrap(), &rows);
            prop_assert_eq!(&run(&split, MONEY).await.unwrap(), &money);
            // Sealed under a running service, one segment after the other.
            let live = store();
            let service = service(&live, Some(&world)).await;
            for count in 0..=cuts.len() {
                seal(&live, &world.journal(), SPEND, &cuts[..count]).await;
                prop_assert_eq!(&run(&service, ALL).await.unwrap(), &rows);
            }
            let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
            let last = cuts.last().copied().unwrap_or(0);
            loop {
                prop_assert_eq!(&run(&service, ALL).await.unwrap(), &rows);
                let status = service.status().await.unwrap();
                let lane = status.lanes.iter().find(|lane| lane.topic == SPEND.topic).unwrap();
                prop_assert_eq!(lane.next, 13);
                if lane.sealed_next == last {
                    prop_assert_eq!(lane.tail_rows, usize::try_from(13 - last).unwrap(), "the tail is trimmed");
                    break;
                }
                prop_assert!(tokio::time::Instant::now() < deadline, "the segment was never seen");
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_record_can_be_asked_for_as_soon_as_it_is_durable() {
    let mut world = World::new();
    let service = service(&store(), Some(&world)).await;
    for request in 0..20 {
        world.write(1, SPEND, settled(&about(request, NOW), 1, vec![line(Meter::Input, 1, 1)]));
        let count = run(&service, "SELECT count(*) FROM spend").await.unwrap();
        assert_eq!(count.lines().nth(1), Some((request + 1).to_string().as_str()));
    }
}

#[tokio::test]
async fn a_bare_archive_is_read_without_a_journal_and_foreign_objects_are_named() {
    let world = world();
    let store = store();
    seal(&store, &world.journal(), SPEND, &[4, 9]).await;
    let generation = world.journal().generation(SPEND.topic).await.unwrap();
    for foreign in [
        "segments/readme.txt".to_owned(),
        bursar_schemas::archive::segment_key(generation, SPEND, 6),
        bursar_schemas::archive::segment_key(generation, SPEND, 500),
    ] {
        store.put(&Path::from(foreign), Bytes::from_static(b"nothing").into()).await.unwrap();
    }
    let service = service(&store, None).await;
    assert_eq!(run(&service, "SELECT count(*) FROM spend").await.unwrap().lines().nth(1), Some("9"));
    let status = service.status().await.unwrap();
    assert_eq!(status.foreign_objects, 3);
    assert!(status.is_current() && status.warnings()[0].contains("3 objects"), "{:?}", status.warnings());
    seal(&store, &world.journal(), SPEND, &[4, 9, 13]).await;
    assert_eq!(run(&service, "SELECT count(*) FROM spend").await.unwrap().lines().nth(1), Some("13"));
}

#[tokio::test]
async fn an_object_that_is_no_segment_in_the_next_slot_ends_the_chain_and_is_said() {
    let world = world();
    let store = store();
    seal(&store, &world.journal(), SPEND, &[4]).await;
    let generation = world.journal().generation(SPEND.topic).await.unwrap();
    let slot = bursar_schemas::archive::segment_key(generation, SPEND, 4);
    store.put(&Path::from(slot), Bytes::from_static(b"not Parquet at all").into()).await.unwrap();
    let bare = service(&store, None).await;
    let status = bare.status().await.unwrap();
    assert!(!status.is_current(), "a broken chain is not current");
    assert_eq!(run(&bare, "SELECT count(*) FROM spend").await.unwrap().lines().nth(1), Some("4"));
    // Where the journal still holds the records, nothing is missing.
    let beside = service(&store, Some(&world)).await;
    assert_eq!(run(&beside, "SELECT count(*) FROM spend").await.unwrap().lines().nth(1), Some("13"));
}

#[tokio::test]
async fn a_tail_at_its_bound_waits_for_sealing_and_says_so() {
    let mut world = World::new();
    for request in 0..3000 {
        world.write(1, SPEND, settled(&about(request, NOW), 1, vec![line(Meter::Input, 1, 1)]));
    }
    let store = store();
    let mut config = config();
    config.tail_rows = 1500;
    config.freshness_wait = Duration::from_millis(50);
    let journal: MemoryJournal = world.journal();
    let service = bursar_query::QueryService::open(
        config,
        store.clone(),
        Some(std::sync::Arc::new(journal.clone())),
        None,
        std::sync::Arc::new(|| bursar_schemas::avro::Micros(NOW)),
    )
    .await
    .unwrap();
    let status = service.status().await.unwrap();
    let lane = |status: &bursar_query::Status| {
        status.lanes.iter().find(|lane| lane.topic == SPEND.topic).unwrap().clone()
    };
    assert!(lane(&status).waits_for_sealing && lane(&status).behind > 0, "{status:?}");
    assert!(
        status.warnings().iter().any(|line| line.contains("waits for sealing")),
        "{:?}",
        status.warnings()
    );
    seal(&store, &journal, SPEND, &[1000, 2048]).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
    while lane(&service.status().await.unwrap()).behind > 0 {
        assert!(tokio::time::Instant::now() < deadline, "the tail never went on");
    }
    let count = run(&service, "SELECT count(*), count(DISTINCT \"offset\") FROM spend").await.unwrap();
    assert_eq!(count.lines().nth(1), Some("3000,3000"));
}

/// A journal that cannot be reached for a while.
struct Away {
    journal: MemoryJournal,
    away: std::sync::atomic::AtomicBool,
}

#[async_trait::async_trait]
impl Journal for Away {
    async fn generation(&self, topic: Topic) -> Result<Generation, JournalError> {
        self.journal.generation(topic).await
    }

    async fn partitions(&self, topic: Topic) -> Result<u32, JournalError> {
        self.journal.partitions(topic).await
    }

    async fn bounds(&self, lane: Lane) -> Result<Bounds, JournalError> {
        if self.away.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(JournalError::Unavailable("no broker answers".to_owned()));
        }
        self.journal.bounds(lane).await
    }

    async fn read(&self, lane: Lane, from: u64) -> Result<Box<dyn Cursor>, JournalError> {
        self.journal.read(lane, from).await
    }
}

#[tokio::test]
async fn without_its_journal_the_service_answers_from_what_it_knows_and_says_so() {
    let journal = std::sync::Arc::new(Away { journal: world().journal(), away: false.into() });
    let clock = std::sync::Arc::new(|| bursar_schemas::avro::Micros(NOW));
    let opened = bursar_query::QueryService::open(config(), store(), Some(journal.clone()), None, clock);
    let service = opened.await.unwrap();
    assert!(service.status().await.unwrap().is_current());
    journal.away.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(run(&service, "SELECT count(*) FROM spend").await.unwrap().lines().nth(1), Some("13"));
    let status = service.status().await.unwrap();
    assert!(!status.is_current() && status.warnings()[0].contains("no broker answers"), "{status:?}");
}
