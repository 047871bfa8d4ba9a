//! The start of a publisher: partitions held to, a journal that is away waited for.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicBool, Ordering};

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::Role;
use bursar_schemas::ids::{Generation, ProducerId};
use bursar_schemas::memory::MemoryJournal;
use bursar_schemas::ports::{Bounds, Cursor};
use bursar_schemas::producer::Identity;

use super::*;

async fn start(journal: &Arc<MemoryJournal>, number: u8) -> Outcome<Publisher> {
    start_by(Arc::clone(journal) as _, journal, number).await
}

/// Starts one that reads another journal than it writes.
async fn start_by(read: Arc<dyn Journal>, journal: &Arc<MemoryJournal>, number: u8) -> Outcome<Publisher> {
    let identity = Identity::new(ProducerId([number; 16]), Role::Policy, [number; 32], &[9; 32]);
    let recorder = Arc::new(Recorder::new(identity, Arc::clone(journal) as _));
    let clock: Clock = Arc::new(|| Micros(0));
    Publisher::start(read, recorder, clock, Pseudonyms::new(&[0; 32])).await
}

/// Cannot be reached every other time.
struct Flickering(Arc<MemoryJournal>, AtomicBool);

impl Flickering {
    fn reach(&self) -> Result<&MemoryJournal, JournalError> {
        let away = !self.1.fetch_xor(true, Ordering::SeqCst);
        if away { Err(JournalError::Unavailable("it flickers".to_owned())) } else { Ok(&self.0) }
    }
}

#[async_trait::async_trait]
impl Journal for Flickering {
    async fn generation(&self, topic: Topic) -> Result<Generation, JournalError> {
        self.reach()?.generation(topic).await
    }

    async fn partitions(&self, topic: Topic) -> Result<u32, JournalError> {
        self.reach()?.partitions(topic).await
    }

    async fn bounds(&self, lane: Lane) -> Result<Bounds, JournalError> {
        self.reach()?.bounds(lane).await
    }

    async fn read(&self, lane: Lane, from: u64) -> Result<Box<dyn Cursor>, JournalError> {
        self.reach()?.read(lane, from).await
    }
}

#[tokio::test]
async fn a_journal_that_goes_away_during_the_start_is_waited_for() {
    let journal = Arc::new(MemoryJournal::new(4));
    drop(start(&journal, 1).await.expect("it starts"));
    let flickering = Arc::new(Flickering(Arc::clone(&journal), AtomicBool::new(false)));
    let started = start_by(flickering, &journal, 2).await.expect("it waits");
    assert_eq!(started.state().partitions, Some(4));
}

#[tokio::test]
async fn the_number_of_partitions_is_recorded_once_and_held_to() {
    let journal = Arc::new(MemoryJournal::new(4));
    for number in 1..=2 {
        assert_eq!(start(&journal, number).await.expect("it starts").state().partitions, Some(4));
    }
    let set = |value: &&Vec<u8>| matches!(wire::decode(value), Ok(Fact::PartitionsSet(_)));
    let values: Vec<Vec<u8>> = journal.records(LANE).iter().map(|it| it.value.to_vec()).collect();
    assert_eq!(values.iter().filter(set).count(), 1);
    // The same policy beside topics that somebody has given more partitions.
    let other = Arc::new(MemoryJournal::new(8));
    let entry = |value: &Vec<u8>| bursar_schemas::ports::Entry {
        lane: LANE,
        value: value.clone().into(),
        at: Micros(0),
    };
    let receipt = bursar_schemas::ports::Outlet::append(&*other, values.iter().map(entry).collect());
    receipt.unwrap().await.unwrap();
    let refused = start(&other, 3).await.err().expect("it does not start");
    assert!(format!("{:#}", refused.error).contains("8 partitions, and the policy topic says 4"));
}
