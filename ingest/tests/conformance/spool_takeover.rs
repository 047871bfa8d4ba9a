//! What a successor does with the spool of an incarnation that is gone.

use std::path::Path;
use std::sync::Arc;

use bursar_ingest::spool::{Recovered, Spool, closing_facts};
use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{AttemptOutcome, Basis, Confidence, Ending, Fact};
use bursar_schemas::memory::MemoryJournal;
use bursar_schemas::ports::OutletError;
use bursar_schemas::position::{Lane, Topic};

use crate::facts::{
    MONEY, REQUESTS, assert_gapless, closed, decode, dollars, numbers, opened, producer, recorder, request,
    reserved, settled, whole,
};
use crate::spool::{config, memory, open};
use crate::support::{PATIENCE, eventually, within};

const NOW: Micros = Micros(1_700_000_009_000_000);

fn take_over(dir: &Path, number: u8, inner: &Arc<MemoryJournal>) -> (Arc<Spool>, Recovered) {
    let (spool, recovered) = Spool::open(dir, config(), producer(number), inner.clone()).unwrap();
    (Arc::new(spool), recovered)
}

/// A shim that dies with one finished request, one with a settled and an open attempt, one whose reservation
/// alone is open, and one just opened.
fn die(dir: &Path, number: u8, inner: &Arc<MemoryJournal>) {
    let spool = open(dir, number, inner);
    let recorder = recorder(number, spool.clone());
    drop(recorder.record(whole(1)).unwrap());
    drop(recorder.record([opened(2), reserved(2, 1, 3), settled(2, 1, 2), reserved(2, 2, 7)]).unwrap());
    drop(recorder.record([opened(3), reserved(3, 1, 4), closed(3)]).unwrap());
    drop(recorder.record([opened(4)]).unwrap());
}

#[tokio::test]
async fn orphans_are_settled_closed_and_the_end_is_stated_last() {
    let dir = tempfile::tempdir().unwrap();
    let inner = memory();
    die(dir.path(), 1, &inner);
    let (spool, recovered) = take_over(dir.path(), 2, &inner);
    let predecessor = &recovered.predecessors[0];
    assert_eq!((predecessor.producer, predecessor.orphans.len()), (producer(1), 3));
    assert_eq!(predecessor.last.get(&REQUESTS), Some(&6));
    assert_eq!(predecessor.last.get(&MONEY), Some(&6));
    let facts: Vec<(Lane, Fact)> =
        closing_facts(predecessor, NOW).into_iter().map(|draft| (draft.lane, draft.fact)).collect();
    let routes = Lane::new(Topic::Routes, MONEY.partition);
    let kinds: Vec<(Lane, &str)> = facts.iter().map(|(lane, fact)| (*lane, fact.kind())).collect();
    assert_eq!(
        kinds,
        [
            (MONEY, "Settled"),
            (routes, "AttemptEnded"),
            (REQUESTS, "RequestClosed"),
            (MONEY, "Settled"),
            (routes, "AttemptEnded"),
            (REQUESTS, "RequestClosed"),
            (MONEY, "ShimEnded"),
        ]
    );
    let Fact::Settled(money) = &facts[0].1 else { panic!() };
    assert_eq!((money.about.request, money.attempt), (request(2), 2));
    assert_eq!((money.amount, money.reserved, money.overrun), (dollars(7), dollars(7), dollars(0)));
    assert_eq!((money.confidence, money.basis), (Confidence::Estimated, Basis::Reservation));
    assert_eq!(money.reserved_by, Some(producer(1)));
    let Fact::AttemptEnded(attempt) = &facts[1].1 else { panic!() };
    assert_eq!((attempt.attempt, attempt.outcome), (2, AttemptOutcome::Lost));
    let Fact::RequestClosed(end) = &facts[2].1 else { panic!() };
    assert_eq!((end.ending, end.settled, end.attempts), (Ending::Recovered, dollars(9), 2));
    assert_eq!(end.opened_by, Some(producer(1)));
    let Fact::Settled(alone) = &facts[3].1 else { panic!() };
    assert_eq!((alone.about.request, alone.amount), (request(3), dollars(4)));
    let Fact::ShimEnded(ended) = &facts[6].1 else { panic!() };
    assert_eq!(ended.incarnation, producer(1));

    let recorder = recorder(2, spool.clone());
    let own = dir.path().join(producer(1).to_string());
    within(recorder.record(closing_facts(predecessor, NOW)).unwrap()).await.unwrap();
    assert!(own.exists(), "nobody said that the closing facts are recorded");
    spool.finish(producer(1)).unwrap();
    eventually("the folder is gone", || !own.exists());
    assert!(spool.close(PATIENCE).unwrap().removed);
}

#[tokio::test]
async fn predecessors_go_first_and_under_their_own_names() {
    let dir = tempfile::tempdir().unwrap();
    let inner = memory();
    inner.refuse(Some(OutletError::Failed("away".to_owned())));
    for number in 1..=3 {
        let (spool, _) = take_over(dir.path(), number, &inner);
        let recorder = recorder(number, spool);
        for request in 0..20 {
            drop(recorder.record(whole(u32::from(number) * 100 + request)).unwrap());
        }
    }
    let (spool, recovered) = take_over(dir.path(), 4, &inner);
    assert!(recovered.predecessors.iter().all(|one| one.unacknowledged == 82 && one.orphans.is_empty()));
    let recorder = recorder(4, spool.clone());
    drop(recorder.record(whole(400)).unwrap());
    inner.refuse(None);
    eventually("all is there", || inner.records(MONEY).len() == 3 * 41 + 3);
    let producers: Vec<_> = decode(&inner.records(MONEY)).iter().map(|fact| fact.head().producer).collect();
    let expected: Vec<_> =
        (1..=3).flat_map(|number| [producer(number); 41]).chain([producer(4); 3]).collect();
    assert_eq!(producers, expected);
    for number in 1..=3 {
        assert_eq!(numbers(&inner.records(MONEY), producer(number)), (0..41).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_successor_that_dies_too_leaves_nothing_to_be_closed_twice() {
    let dir = tempfile::tempdir().unwrap();
    let inner = memory();
    die(dir.path(), 1, &inner);
    {
        let (spool, recovered) = take_over(dir.path(), 2, &inner);
        let recorder = recorder(2, spool);
        within(recorder.record(closing_facts(&recovered.predecessors[0], NOW)).unwrap()).await.unwrap();
        drop(recorder.record([opened(50), reserved(50, 1, 1)]).unwrap());
        // It dies before it can say that it has finished with the first.
    }
    let (spool, recovered) = take_over(dir.path(), 3, &inner);
    let orphans: Vec<_> =
        recovered.predecessors.iter().map(|one| (one.producer, one.orphans.len())).collect();
    assert_eq!(orphans, [(producer(1), 0), (producer(2), 1)]);
    let recorder = recorder(3, spool.clone());
    for predecessor in &recovered.predecessors {
        within(recorder.record(closing_facts(predecessor, NOW)).unwrap()).await.unwrap();
        spool.finish(predecessor.producer).unwrap();
    }
    eventually("both folders are gone", || spool.figures().predecessors == 0);
    eventually("the inner outlet has all", || spool.figures().unacknowledged == 0);
    for number in 1..=3 {
        assert_gapless(&numbers(&inner.records(MONEY), producer(number)));
    }
    let mut settlements: Vec<_> = decode(&inner.records(MONEY))
        .iter()
        .filter_map(|fact| match fact {
            Fact::Settled(one) => Some((one.head.producer, one.head.number, one.about.request, one.attempt)),
            _ => None,
        })
        .collect();
    // The same fact may have been sent twice, but no attempt was settled by two facts.
    settlements.sort();
    settlements.dedup();
    let mut attempts: Vec<_> =
        settlements.iter().map(|(.., request, attempt)| (*request, *attempt)).collect();
    attempts.sort();
    let all = attempts.len();
    attempts.dedup();
    assert_eq!((attempts.len(), all), (5, 5));
}

#[tokio::test]
async fn a_living_process_keeps_its_spool() {
    let dir = tempfile::tempdir().unwrap();
    let inner = memory();
    let living = open(dir.path(), 1, &inner);
    let recorder = recorder(1, living.clone());
    drop(recorder.record([opened(1)]).unwrap());
    let (_other, recovered) = take_over(dir.path(), 2, &inner);
    assert_eq!(recovered, Recovered::default());
    drop(recorder.record([closed(1)]).unwrap());
    drop(recorder);
    assert!(living.close(PATIENCE).unwrap().removed);
}

#[tokio::test]
async fn an_incarnation_is_never_used_twice() {
    let dir = tempfile::tempdir().unwrap();
    let inner = memory();
    let spool = open(dir.path(), 1, &inner);
    let error = Spool::open(dir.path(), config(), producer(1), inner.clone()).unwrap_err();
    assert!(error.to_string().contains("used before"), "{error}");
    drop(spool);
}
