//! The spool while its process lives.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bursar_ingest::spool::{Spool, SpoolConfig};
use bursar_schemas::memory::MemoryJournal;
use bursar_schemas::ports::{Entry, Outlet, OutletError, Receipt};
use parking_lot::Mutex;

use crate::PARTITIONS;
use crate::facts::{
    MONEY, REQUESTS, assert_gapless, closed, numbers, opened, producer, recorder, reserved, whole,
};
use crate::support::{PATIENCE, SPEND, entry, eventually, texts, within};

pub fn config() -> SpoolConfig {
    SpoolConfig {
        segment_bytes: 4_000,
        ack_patience: Duration::from_millis(5),
        longest_pause: Duration::from_millis(20),
        ..SpoolConfig::default()
    }
}

pub fn memory() -> Arc<MemoryJournal> {
    Arc::new(MemoryJournal::new(PARTITIONS))
}

fn away() -> Option<OutletError> {
    Some(OutletError::Failed("away".to_owned()))
}

pub fn open(dir: &Path, number: u8, inner: &Arc<MemoryJournal>) -> Arc<Spool> {
    let (spool, recovered) = Spool::open(dir, config(), producer(number), inner.clone()).unwrap();
    assert_eq!(recovered.predecessors, Vec::new());
    Arc::new(spool)
}

fn segments(dir: &Path) -> usize {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_str().unwrap().ends_with(".log")).count()
}

fn expected(count: u64) -> Vec<String> {
    (0..count).map(|number| format!("spend/1 {number}")).collect()
}

#[tokio::test]
async fn facts_go_through_in_order_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let inner = memory();
    let spool = open(dir.path(), 1, &inner);
    for number in 0..500 {
        within(spool.append(vec![entry(SPEND, number)]).unwrap()).await.unwrap();
    }
    eventually("all is acknowledged", || spool.figures().unacknowledged == 0);
    assert_eq!(texts(&inner.records(SPEND)), expected(500));
    assert!(segments(&dir.path().join(producer(1).to_string())) <= 2, "segments that nobody needs");
    let left = spool.close(PATIENCE).unwrap();
    assert!(left.removed && left.unacknowledged == 0);
    assert!(matches!(spool.append(vec![entry(SPEND, 0)]), Err(OutletError::Closed(_))));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn while_the_inner_outlet_is_away_a_flush_stands_in_and_later_all_follows_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let inner = memory();
    let spool = open(dir.path(), 1, &inner);
    let mut next = 0;
    for round in 0..6 {
        let refuses = round % 2 == 1;
        inner.refuse(if refuses { away() } else { None });
        let refused = spool.figures().refused_forwards;
        let mut receipts = Vec::new();
        for _ in 0..100 {
            receipts.push(spool.append(vec![entry(SPEND, next), entry(SPEND, next + 1)]).unwrap());
            next += 2;
        }
        for receipt in receipts {
            within(receipt).await.unwrap();
        }
        if refuses {
            // The flush may be done before the forwarder has tried at all.
            eventually("the inner outlet refused", || spool.figures().refused_forwards > refused);
        }
    }
    let figures = spool.figures();
    assert!(figures.flushed_receipts >= 1 && figures.flushes >= 1);
    inner.refuse(None);
    eventually("the inner outlet has all", || spool.figures().unacknowledged == 0);
    // It never lost an acknowledgement, so nothing came twice.
    assert_eq!(texts(&inner.records(SPEND)), expected(next));
}

#[tokio::test]
async fn no_flush_stands_in_where_the_journal_itself_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let inner = memory();
    inner.refuse(away());
    let spool = open(dir.path(), 1, &inner);
    let mut through = spool.append_through(vec![entry(SPEND, 0)]).unwrap();
    within(spool.append(vec![entry(SPEND, 1)]).unwrap()).await.unwrap();
    assert!(spool.figures().flushed_receipts >= 1);
    assert!(futures::poll!(&mut through).is_pending(), "the journal has nothing");
    inner.refuse(None);
    within(through).await.unwrap();
    assert_eq!(texts(&inner.records(SPEND))[..1], expected(1));
    let never = spool.append_through(vec![entry(SPEND, 2)]).unwrap();
    spool.close(PATIENCE).unwrap();
    within(never).await.unwrap();
}

/// Takes everything, but fails every seventh receipt after it took the entries, and the two that follow it.
struct Doubtful {
    inner: Arc<MemoryJournal>,
    calls: AtomicU64,
}

impl Outlet for Doubtful {
    fn append(&self, entries: Vec<Entry>) -> Result<Receipt, OutletError> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let receipt = self.inner.append(entries)?;
        let fails = call % 7 > 3;
        Ok(Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            if fails { Err(OutletError::Failed("no answer".to_owned())) } else { receipt.await }
        }))
    }
}

#[tokio::test]
async fn doubtful_acknowledgements_bring_duplicates_but_no_gap() {
    let dir = tempfile::tempdir().unwrap();
    let inner = memory();
    let doubtful = Arc::new(Doubtful { inner: inner.clone(), calls: AtomicU64::new(0) });
    let (spool, _) = Spool::open(dir.path(), config(), producer(1), doubtful).unwrap();
    let spool = Arc::new(spool);
    let recorder = recorder(1, spool.clone());
    for number in 0..300 {
        drop(recorder.record(whole(number)).unwrap());
    }
    eventually("the inner outlet has all", || spool.figures().unacknowledged == 0);
    for lane in [REQUESTS, MONEY] {
        let seen = numbers(&inner.records(lane), producer(1));
        assert_eq!(assert_gapless(&seen), 601);
    }
    assert!(spool.figures().refused_forwards > 0, "the outlet never failed");
}

#[tokio::test]
async fn a_full_spool_takes_nothing_of_a_call_and_takes_again_once_drained() {
    let dir = tempfile::tempdir().unwrap();
    let inner = memory();
    inner.refuse(away());
    let bounded = SpoolConfig { max_bytes: 12_000, ..config() };
    let (spool, _) = Spool::open(dir.path(), bounded, producer(1), inner.clone()).unwrap();
    let mut taken = 0;
    let refused = loop {
        match spool.append(vec![entry(SPEND, taken), entry(SPEND, taken + 1)]) {
            Ok(_) => taken += 2,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, OutletError::Full(_)), "{refused}");
    assert!(spool.figures().bytes <= 12_000 && spool.figures().refused_appends == 1);
    inner.refuse(None);
    eventually("the inner outlet has all", || spool.figures().unacknowledged == 0);
    eventually("segments are deleted", || spool.figures().bytes < 6_000);
    within(spool.append(vec![entry(SPEND, taken)]).unwrap()).await.unwrap();
    eventually("the inner outlet has all", || spool.figures().unacknowledged == 0);
    assert_eq!(texts(&inner.records(SPEND)), expected(taken + 1));
}

#[tokio::test]
async fn a_full_spool_still_takes_the_endings_of_what_it_let_in_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let inner = memory();
    inner.refuse(away());
    // Shorter than a segment: the open one never ends by its own length.
    let bounded = SpoolConfig { max_bytes: 400_000, segment_bytes: 16 << 20, ..config() };
    let (spool, _) = Spool::open(dir.path(), bounded, producer(1), inner.clone()).unwrap();
    let spool = Arc::new(spool);
    // A number is used up by what was refused, so the refused openings have a recorder of their own.
    let (openings, endings) = (recorder(1, spool.clone()), recorder(2, spool.clone()));
    let mut let_in = 0;
    let refused = loop {
        match openings.record([opened(let_in)]) {
            Ok(_) => let_in += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, OutletError::Full(_)), "{refused}");
    assert!(let_in > 100, "only {let_in} were let in");
    for number in let_in - 50..let_in {
        drop(endings.record([closed(number)]).unwrap());
    }
    assert_eq!(spool.figures().open_requests, u64::from(let_in) - 50);
    inner.refuse(None);
    eventually("the inner outlet has all", || spool.figures().unacknowledged == 0);
    for number in 0..let_in - 50 {
        eventually("a request can be closed", || endings.record([closed(number)]).is_ok());
    }
    assert_eq!(spool.figures().open_requests, 0);
    // Many times what it can hold goes through, so drained room does come back.
    for number in 10_000..12_000 {
        eventually("a request is let in again", || openings.record(whole(number)).is_ok());
    }
    eventually("the inner outlet has all", || spool.figures().unacknowledged == 0);
}

#[tokio::test]
async fn a_request_that_stays_open_is_carried_over_and_does_not_hold_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let inner = memory();
    let spool = open(dir.path(), 1, &inner);
    let recorder = recorder(1, spool.clone());
    drop(recorder.record([opened(9_999), reserved(9_999, 1, 5)]).unwrap());
    for number in 0..400 {
        drop(recorder.record(whole(number)).unwrap());
    }
    eventually("the inner outlet has all", || spool.figures().unacknowledged == 0);
    let own = dir.path().join(producer(1).to_string());
    eventually("old segments are gone", || segments(&own) <= 3);
    assert!(spool.figures().carried >= 2);
    assert_eq!(spool.figures().open_requests, 1);
    // What was carried over is not sent again.
    assert_eq!(numbers(&inner.records(REQUESTS), producer(1)).len(), 802);
    drop(recorder);
    let left = spool.close(PATIENCE).unwrap();
    assert!(!left.removed && left.open_requests == 1);
    let (successor, recovered) = Spool::open(dir.path(), config(), producer(2), inner.clone()).unwrap();
    let orphans = &recovered.predecessors[0].orphans;
    assert_eq!(orphans.len(), 1, "exactly the one that stayed open");
    assert_eq!(orphans[0].opened.as_ref().unwrap().1.about.request, crate::facts::request(9_999));
    assert_eq!(orphans[0].reservations[0].1.amount, crate::facts::dollars(5));
    drop(successor);
}

#[tokio::test]
async fn a_request_closed_after_being_carried_over_is_no_orphan() {
    let dir = tempfile::tempdir().unwrap();
    let inner = memory();
    let spool = open(dir.path(), 1, &inner);
    let recorder = recorder(1, spool.clone());
    drop(recorder.record([opened(9_999)]).unwrap());
    for number in 0..200 {
        drop(recorder.record(whole(number)).unwrap());
    }
    eventually("it was carried over", || spool.figures().carried > 0);
    drop(recorder.record([closed(9_999), opened(10_000)]).unwrap());
    drop(recorder);
    spool.close(PATIENCE).unwrap();
    let (_successor, recovered) = Spool::open(dir.path(), config(), producer(2), inner).unwrap();
    let orphans = &recovered.predecessors[0].orphans;
    assert_eq!(orphans.len(), 1);
    assert_eq!(orphans[0].opened.as_ref().unwrap().1.about.request, crate::facts::request(10_000));
}

/// Never answers, and says how much was handed to it.
#[derive(Default)]
struct Silent(Mutex<VecDeque<(u64, tokio::sync::oneshot::Sender<()>)>>);

impl Outlet for Silent {
    fn append(&self, entries: Vec<Entry>) -> Result<Receipt, OutletError> {
        let (send, receive) = tokio::sync::oneshot::channel();
        self.0.lock().push_back((u64::try_from(entries.len()).unwrap(), send));
        Ok(Box::pin(async move { receive.await.map_err(|_| OutletError::Failed("gone".to_owned())) }))
    }
}

#[tokio::test]
async fn what_is_on_its_way_stays_bounded_while_the_inner_outlet_is_silent() {
    let dir = tempfile::tempdir().unwrap();
    let silent = Arc::new(Silent::default());
    let (spool, _) = Spool::open(dir.path(), config(), producer(1), silent.clone()).unwrap();
    for number in 0..2_000 {
        within(spool.append(vec![entry(SPEND, number)]).unwrap()).await.unwrap();
    }
    assert_eq!(spool.figures().unacknowledged, 2_000);
    assert!(silent.0.lock().len() <= 32, "too many parcels on their way");
    eventually("the rest follows as the first are answered", || {
        for (_, answer) in silent.0.lock().drain(..) {
            answer.send(()).unwrap();
        }
        spool.figures().unacknowledged == 0
    });
}
