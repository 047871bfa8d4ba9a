//! Two archivers on one archive for an hour, over a store that is slow and loses answers. All that takes time, and the
//! log's clock, runs five hundred times as fast. A machine that is busy otherwise gets longer, until enough has happened.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use bursar_schemas::evidence::Leaf;
use object_store::{Error, Result};

use super::disturbed::{Disturbance, Disturbed};
use super::journal::{LANE, TestJournal};
use super::*;

const FASTER: u32 = 500;
const HOUR: Duration = Duration::from_secs(3600);
/// What must have happened of everything.
const ENOUGH: u64 = 11;

/// Some milliseconds of the hour.
fn pass(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds) / FASTER
}

/// What the hour's clock shows a while after its start.
fn shown(begun: Instant) -> Duration {
    begun.elapsed() * FASTER
}

/// Every call takes its time; one in twenty fails, half of those after it was done.
#[derive(Debug)]
struct Weather {
    draws: AtomicU64,
    failed: AtomicU64,
    lost: AtomicU64,
}

/// The finalizer of splitmix64.
const fn mixed(of: u64) -> u64 {
    let mut z = of.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Weather {
    fn new(seed: u64) -> Self {
        Self { draws: AtomicU64::new(seed << 32), failed: AtomicU64::default(), lost: AtomicU64::default() }
    }

    fn draw(&self) -> u64 {
        mixed(self.draws.fetch_add(1, Ordering::SeqCst))
    }
}

impl Disturbance for Weather {
    async fn call<T: Send>(&self, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let error = || Error::Generic { store: "weather", source: "a fault".into() };
        let slow = || pass(if self.draw().is_multiple_of(20) { 20_000 } else { self.draw() % 400 });
        tokio::time::sleep(slow()).await;
        let luck = self.draw() % 40;
        if luck == 0 {
            self.failed.fetch_add(1, Ordering::SeqCst);
            return Err(error());
        }
        let done = work.await;
        tokio::time::sleep(slow()).await;
        if luck == 1 {
            self.lost.fetch_add(1, Ordering::SeqCst);
            return Err(error());
        }
        done
    }
}

/// The race: how many segments each has put, and how many were there already where one was about to be put.
struct Race {
    begun: Instant,
    put: [AtomicU64; 2],
    adopted: AtomicU64,
    over: AtomicBool,
}

impl Race {
    fn is_enough(&self) -> bool {
        let enough = |of: &AtomicU64| of.load(Ordering::SeqCst) >= ENOUGH;
        shown(self.begun) >= HOUR && self.put.iter().all(enough) && enough(&self.adopted)
    }
}

/// The lives of one archiver.
async fn lives(
    journal: TestJournal,
    store: Arc<Disturbed<Weather>>,
    race: Arc<Race>,
    (index, age, life): (usize, u64, u64),
) {
    let begun = race.begun;
    while !race.over.load(Ordering::SeqCst) {
        let config = ArchiveConfig { seal_age: pass(age * 1000), seal_bytes: 20_000, ..config() };
        let clock: Clock =
            Arc::new(move || 1_800_000_000_000_000 + i64::try_from(shown(begun).as_micros()).unwrap());
        let settings = log().map(|log| LogSettings { heartbeat: Some(pass(300_000)), clock, ..log });
        let shared: Arc<dyn ObjectStore> = Arc::<Disturbed<Weather>>::clone(&store);
        let handle = Archiver::start(Arc::new(journal.clone()), shared, config, settings);
        tokio::time::sleep(pass(life * 1000)).await;
        if let Some(status) = handle.status().get(&LANE) {
            race.put[index].fetch_add(status.put, Ordering::SeqCst);
            race.adopted.fetch_add(status.adopted, Ordering::SeqCst);
        }
        // Every other end is a death.
        if store.by.draw().is_multiple_of(2) {
            drop(handle);
        } else {
            handle.stop(false).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_archivers_race_for_an_hour() {
    let (journal, store) = (TestJournal::default(), memory());
    let (put, adopted, over) = Default::default();
    let race = Arc::new(Race { begun: Instant::now(), put, adopted, over });
    let weathers = [1, 2].map(|seed| Disturbed::new(&store, Weather::new(seed)));
    let [first, second] = [(0, 30, 700), (1, 45, 1100)].map(|plan| {
        let weather = Arc::clone(&weathers[plan.0]);
        tokio::spawn(lives(journal.clone(), weather, Arc::clone(&race), plan))
    });
    let mut written = 0_u64;
    while !race.is_enough() {
        assert!(shown(race.begun) < 12 * HOUR, "after twelve hours: {:?}, {:?}", race.put, race.adopted);
        journal.fill(1 + mixed(written) % 3);
        written += 1;
        tokio::time::sleep(pass(mixed(written ^ 77) % 6000)).await;
    }
    race.over.store(true, Ordering::SeqCst);
    let [(), ()] = [first.await.unwrap(), second.await.unwrap()];
    archive(&journal, &store).await;
    let chain = check::chain(&store, &config().prefix, journal.life()).await;
    assert_eq!(chain.rows, journal.records());
    assert!(chain.lost().is_empty() && chain.skipped().is_empty());
    for weather in weathers {
        let count = |of: &AtomicU64| of.load(Ordering::SeqCst);
        let (failed, lost) = (count(&weather.by.failed), count(&weather.by.lost));
        assert!(failed > 5 && lost > 5, "{failed} calls failed, {lost} answers were lost");
    }
    let keys = [log().unwrap().signer.verifier().clone()];
    let leaves = check_log::check(&objects(&store, &config().prefix).await, &keys);
    assert!(leaves.iter().any(|leaf| matches!(leaf, Leaf::Heartbeat { .. })), "no heartbeat in an hour");
}
