//! A journal that can lose its oldest records, skip offsets, fail, and be made anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bursar_schemas::avro::Micros;
use bursar_schemas::facts::Fact;
use bursar_schemas::ids::{Generation, ProducerId};
use bursar_schemas::ports::{Batch, Bounds, Cursor, Journal, JournalError, Record};
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::{samples, wire};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

pub(super) const LANE: Lane = Lane::new(Topic::Requests, 0);

#[derive(Debug, Default)]
struct State {
    life: u8,
    start: u64,
    end: u64,
    records: BTreeMap<u64, Record>,
    away: bool,
}

/// One lane in memory.
#[derive(Debug, Clone, Default)]
pub(super) struct TestJournal {
    state: Arc<Mutex<State>>,
    news: Arc<Notify>,
}

impl TestJournal {
    pub(super) fn append(&self, value: impl Into<Bytes>) {
        let mut state = self.state.lock();
        let offset = state.end;
        let record = Record { offset, at: Micros(1_700_000_000_000_000), value: value.into() };
        state.records.insert(offset, record);
        state.end += 1;
        drop(state);
        self.news.notify_waiters();
    }

    pub(super) fn skip(&self, offsets: u64) {
        self.state.lock().end += offsets;
        self.news.notify_waiters();
    }

    /// Retention takes everything below an offset.
    pub(super) fn expire(&self, start: u64) {
        let mut state = self.state.lock();
        state.start = start;
        state.records = state.records.split_off(&start);
        drop(state);
        self.news.notify_waiters();
    }

    pub(super) fn make_anew(&self) {
        let mut state = self.state.lock();
        *state = State { life: state.life + 1, ..State::default() };
        drop(state);
        self.news.notify_waiters();
    }

    pub(super) fn go_away(&self, away: bool) {
        self.state.lock().away = away;
        self.news.notify_waiters();
    }

    pub(super) fn life(&self) -> Generation {
        Generation([self.state.lock().life; 16])
    }

    pub(super) fn records(&self) -> BTreeMap<u64, Bytes> {
        self.state.lock().records.iter().map(|(offset, record)| (*offset, record.value.clone())).collect()
    }

    /// Facts of two producers with a repeat and a gap now and then, and bytes that are no fact.
    pub(super) fn fill(&self, count: u64) {
        let from = self.state.lock().end;
        for n in from..from + count {
            match n % 10 {
                7 => self.append(format!("not a fact {n}")),
                // The same number as four records before.
                9 => self.append(fact(1, n - 4)),
                _ => self.append(fact(u8::try_from(n % 2).unwrap(), n)),
            }
        }
    }
}

/// The record bytes of a fact by a producer with a number.
pub(super) fn fact(producer: u8, number: u64) -> Bytes {
    let mut fact: Fact = samples::facts().swap_remove(2);
    fact.head_mut().producer = ProducerId([producer; 16]);
    fact.head_mut().number = number;
    Bytes::from(wire::encode(&fact))
}

#[async_trait]
impl Journal for TestJournal {
    async fn generation(&self, _: Topic) -> Result<Generation, JournalError> {
        Ok(self.life())
    }

    async fn partitions(&self, _: Topic) -> Result<u32, JournalError> {
        Ok(1)
    }

    async fn bounds(&self, _: Lane) -> Result<Bounds, JournalError> {
        let state = self.state.lock();
        if state.away {
            return Err(JournalError::Unavailable("away".to_owned()));
        }
        Ok(Bounds { start: state.start, end: state.end })
    }

    async fn read(&self, lane: Lane, from: u64) -> Result<Box<dyn Cursor>, JournalError> {
        let bounds = self.bounds(lane).await?;
        if from < bounds.start || from > bounds.end {
            let Bounds { start, end } = bounds;
            return Err(JournalError::OutOfRange { lane, start, end, wanted: from });
        }
        let life = self.state.lock().life;
        Ok(Box::new(TestCursor { journal: self.clone(), life, next: from }))
    }
}

struct TestCursor {
    journal: TestJournal,
    life: u8,
    next: u64,
}

#[async_trait]
impl Cursor for TestCursor {
    async fn next(&mut self) -> Result<Batch, JournalError> {
        loop {
            let news = Arc::clone(&self.journal.news);
            let heard = news.notified();
            {
                let state = self.journal.state.lock();
                let State { start, end, .. } = *state;
                if state.away {
                    return Err(JournalError::Unavailable("away".to_owned()));
                }
                if state.life != self.life {
                    return Err(JournalError::NoLane(LANE));
                }
                if self.next < start {
                    return Err(JournalError::OutOfRange { lane: LANE, start, end, wanted: self.next });
                }
                let records: Vec<Record> =
                    state.records.range(self.next..).take(3).map(|(_, record)| record.clone()).collect();
                if self.next < end {
                    self.next = match records.as_slice() {
                        [.., last] if records.len() == 3 => last.offset + 1,
                        _ => end,
                    };
                    return Ok(Batch { records, next: self.next });
                }
            }
            heard.await;
        }
    }
}
