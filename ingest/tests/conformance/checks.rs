//! What every journal promises.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bursar_schemas::ports::{Bounds, Entry, JournalError};
use bursar_schemas::position::{Lane, Topic};
use bytes::Bytes;

use crate::support::{SPEND, collect, entry, read_all, texts, within};
use crate::{PARTITIONS, Subject};

async fn fill(subject: &Subject, lane: Lane, numbers: std::ops::Range<u64>) {
    let entries = numbers.map(|number| entry(lane, number)).collect();
    within(subject.outlet.append(entries).unwrap()).await.unwrap();
}

pub async fn order_holds_per_lane(subject: &Subject) {
    let lanes =
        [SPEND, Lane::new(Topic::Spend, 0), Lane::new(Topic::Requests, 2), Lane::new(Topic::Policy, 0)];
    let mut receipts = Vec::new();
    for number in 0..500 {
        // Each append touches all lanes, in a changing order.
        let mut entries: Vec<Entry> = lanes.iter().map(|lane| entry(*lane, number)).collect();
        entries.rotate_left(usize::try_from(number % 4).unwrap());
        receipts.push(subject.outlet.append(entries).unwrap());
    }
    for receipt in receipts {
        within(receipt).await.unwrap();
    }
    for lane in lanes {
        let records = read_all(subject.journal.as_ref(), lane).await;
        let expected: Vec<Entry> = (0..500).map(|number| entry(lane, number)).collect();
        assert_eq!(records.len(), expected.len());
        for (offset, (record, expected)) in (0..).zip(records.iter().zip(&expected)) {
            assert_eq!((record.offset, record.at, &record.value), (offset, expected.at, &expected.value));
        }
    }
}

pub async fn a_reader_wakes_on_append(subject: &Subject) {
    let mut cursor = subject.journal.read(SPEND, 0).await.unwrap();
    let (waiting, waits) = tokio::sync::oneshot::channel();
    let reader = tokio::spawn(async move {
        let mut waiting = Some(waiting);
        let mut next = cursor.next();
        let batch = poll_fn(|context| {
            let polled = next.as_mut().poll(context);
            if let Some(waiting) = waiting.take() {
                assert!(polled.is_pending(), "there was nothing to read");
                waiting.send(()).unwrap();
            }
            polled
        });
        batch.await.unwrap()
    });
    within(waits).await.unwrap();
    fill(subject, SPEND, 0..1).await;
    let batch = within(reader).await.unwrap();
    assert_eq!((texts(&batch.records), batch.next), (vec!["spend/1 0".to_owned()], 1));
}

pub async fn bounds_follow_acknowledgement(subject: &Subject) {
    assert_eq!(subject.journal.bounds(SPEND).await.unwrap(), Bounds { start: 0, end: 0 });
    for end in 1..=20 {
        fill(subject, SPEND, end - 1..end).await;
        assert_eq!(subject.journal.bounds(SPEND).await.unwrap(), Bounds { start: 0, end });
    }
    let untouched = Lane::new(Topic::Limits, 1);
    assert_eq!(subject.journal.bounds(untouched).await.unwrap(), Bounds { start: 0, end: 0 });
}

pub async fn reading_begins_anywhere(subject: &Subject) {
    fill(subject, SPEND, 0..100).await;
    for from in [0, 1, 50, 99] {
        let mut cursor = subject.journal.read(SPEND, from).await.unwrap();
        let records = collect(&mut cursor, usize::try_from(100 - from).unwrap()).await;
        assert_eq!(records.first().map(|record| record.offset), Some(from));
        assert_eq!(records.last().map(|record| record.offset), Some(99));
    }
    let mut at_the_end = subject.journal.read(SPEND, 100).await.unwrap();
    fill(subject, SPEND, 100..101).await;
    assert_eq!(texts(&collect(&mut at_the_end, 1).await), ["spend/1 100"]);
}

pub async fn an_offset_beyond_the_end_is_an_error(subject: &Subject) {
    fill(subject, SPEND, 0..10).await;
    let error = subject.journal.read(SPEND, 11).await.err().unwrap();
    assert_eq!(error, JournalError::OutOfRange { lane: SPEND, start: 0, end: 10, wanted: 11 });
}

pub async fn an_unknown_lane_is_an_error(subject: &Subject) {
    for lane in [Lane::new(Topic::Spend, PARTITIONS), Lane::new(Topic::Policy, 1)] {
        assert_eq!(subject.journal.bounds(lane).await, Err(JournalError::NoLane(lane)));
        assert_eq!(subject.journal.read(lane, 0).await.err(), Some(JournalError::NoLane(lane)));
        // Whether an outlet knows at once or learns it from the broker, nobody is told that it was written.
        match subject.outlet.append(vec![entry(lane, 0)]) {
            Err(_) => {}
            Ok(receipt) => assert!(within(receipt).await.is_err()),
        }
    }
    assert_eq!(subject.journal.partitions(Topic::Spend).await.unwrap(), PARTITIONS);
    assert_eq!(subject.journal.partitions(Topic::Policy).await.unwrap(), 1);
}

pub async fn concurrent_appends_arrive_once_and_in_order(subject: &Subject) {
    const WRITERS: u64 = 8;
    const APPENDS: u64 = 100;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let outlet = Arc::clone(&subject.outlet);
            std::thread::spawn(move || {
                let numbers = (0..APPENDS).map(|append| writer * 1_000_000 + append * 3);
                numbers
                    .map(|first| {
                        outlet.append((first..first + 3).map(|n| entry(SPEND, n)).collect()).unwrap()
                    })
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    for writer in writers {
        for receipt in writer.join().unwrap() {
            within(receipt).await.unwrap();
        }
    }
    let records = read_all(subject.journal.as_ref(), SPEND).await;
    let numbers: Vec<u64> =
        texts(&records).iter().map(|text| text.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    for writer in 0..WRITERS {
        let of_writer: Vec<u64> = numbers.iter().filter(|n| *n / 1_000_000 == writer).copied().collect();
        let expected: Vec<u64> = (0..APPENDS * 3).map(|n| writer * 1_000_000 + n).collect();
        assert_eq!(of_writer, expected);
    }
}

pub async fn a_dropped_next_has_taken_nothing(subject: &Subject) {
    const COUNT: usize = 300;
    let outlet = Arc::clone(&subject.outlet);
    let writer = std::thread::spawn(move || {
        for number in 0..u64::try_from(COUNT).unwrap() {
            drop(outlet.append(vec![entry(SPEND, number)]).unwrap());
        }
    });
    let mut cursor = subject.journal.read(SPEND, 0).await.unwrap();
    let mut records = Vec::new();
    let all = async {
        while records.len() < COUNT {
            // Polled once and dropped, whatever it was about to do.
            let mut next = cursor.next();
            let polled = poll_fn(|context| Poll::Ready(next.as_mut().poll(context))).await;
            drop(next);
            match polled {
                Poll::Ready(batch) => records.extend(batch.unwrap().records),
                Poll::Pending => tokio::task::yield_now().await,
            }
            // A read from the store needs its thread's time: every so often a call is let through.
            if let Ok(batch) = tokio::time::timeout(std::time::Duration::from_millis(1), cursor.next()).await
            {
                records.extend(batch.unwrap().records);
            }
        }
    };
    within(all).await;
    writer.join().unwrap();
    let expected: Vec<String> = (0..COUNT).map(|number| format!("spend/1 {number}")).collect();
    assert_eq!(texts(&records), expected);
}

pub async fn big_records_pass(subject: &Subject) {
    let big: Vec<Bytes> = [0_u8, 1, 2, 3, 4, 5, 6, 7]
        .iter()
        .map(|seed| (0..990_000_u32).map(|n| u8::try_from(n * 31 % 251).unwrap() ^ seed).collect())
        .collect();
    for value in &big {
        let at = entry(SPEND, 0).at;
        let entries = vec![Entry { lane: SPEND, value: value.clone(), at }, entry(SPEND, 1)];
        within(subject.outlet.append(entries).unwrap()).await.unwrap();
    }
    let records = read_all(subject.journal.as_ref(), SPEND).await;
    let values: Vec<&Bytes> = records.iter().map(|record| &record.value).step_by(2).collect();
    assert!(values.iter().zip(&big).all(|(found, expected)| *found == expected));
    assert_eq!(records.len(), 16);
}

pub async fn generations_are_stable_and_unique(subject: &Subject) {
    let mut seen = BTreeSet::new();
    for topic in Topic::ALL {
        let generation = subject.journal.generation(topic).await.unwrap();
        assert_eq!(subject.journal.generation(topic).await.unwrap(), generation);
        assert!(seen.insert(generation), "{topic} shares its generation");
    }
}

pub async fn an_empty_append_is_acknowledged(subject: &Subject) {
    within(subject.outlet.append(Vec::new()).unwrap()).await.unwrap();
    fill(subject, SPEND, 0..1).await;
    assert_eq!(subject.journal.bounds(SPEND).await.unwrap().end, 1);
}

pub async fn a_dropped_receipt_changes_nothing(subject: &Subject) {
    for number in 0..50 {
        drop(subject.outlet.append(vec![entry(SPEND, number)]).unwrap());
    }
    fill(subject, SPEND, 50..51).await;
    let expected: Vec<String> = (0..51).map(|number| format!("spend/1 {number}")).collect();
    assert_eq!(texts(&read_all(subject.journal.as_ref(), SPEND).await), expected);
}

pub async fn many_readers_see_the_same(subject: &Subject) {
    let mut readers = Vec::new();
    for _ in 0..4 {
        let mut cursor = subject.journal.read(SPEND, 0).await.unwrap();
        readers.push(tokio::spawn(async move { collect(&mut cursor, 200).await }));
    }
    for first in (0..200).step_by(10) {
        fill(subject, SPEND, first..first + 10).await;
    }
    let expected = read_all(subject.journal.as_ref(), SPEND).await;
    for reader in readers {
        assert_eq!(within(reader).await.unwrap(), expected);
    }
}
