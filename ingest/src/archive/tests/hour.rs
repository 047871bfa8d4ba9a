//! Two archivers on one archive for an hour, over a store that is slow and loses answers. All that takes time, and the
//! log's clock, runs five hundred times as fast.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bursar_schemas::evidence::Leaf;
use object_store::{Error, Result};

use super::disturbed::{Disturbance, Disturbed};
use super::journal::{LANE, TestJournal};
use super::*;

const FASTER: u32 = 500;
const HOUR: Duration = Duration::from_secs(3600);

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

/// One life of an archiver: how many segments it put and how many it found where it was about to put one.
async fn lives(
    journal: TestJournal,
    store: Arc<Disturbed<Weather>>,
    begun: Instant,
    (age, life): (u64, u64),
) -> (u64, u64) {
    let (mut put, mut adopted) = (0, 0);
    while shown(begun) < HOUR {
        let config = ArchiveConfig { seal_age: pass(age * 1000), seal_bytes: 20_000, ..config() };
        let clock: Clock =
            Arc::new(move || 1_800_000_000_000_000 + i64::try_from(shown(begun).as_micros()).unwrap());
        let settings = log().map(|log| LogSettings { heartbeat: Some(pass(300_000)), clock, ..log });
        let shared: Arc<dyn ObjectStore> = Arc::<Disturbed<Weather>>::clone(&store);
        let handle = Archiver::start(Arc::new(journal.clone()), shared, config, settings);
        tokio::time::sleep(pass(life * 1000)).await;
        if let Some(status) = handle.status().get(&LANE) {
            put += status.put;
            adopted += status.adopted;
        }
        // Every other end is a death.
        if store.by.draw().is_multiple_of(2) {
            drop(handle);
        } else {
            handle.stop(false).await;
        }
    }
    (put, adopted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_archivers_race_for_an_hour() {
    let (journal, store, begun) = (TestJournal::default(), memory(), Instant::now());
    let weathers = [1, 2].map(|seed| Disturbed::new(&store, Weather::new(seed)));
    let [first, second] = [(0, 30, 700), (1, 45, 1100)].map(|(index, age, life)| {
        let weather = Arc::clone(&weathers[index]);
        tokio::spawn(lives(journal.clone(), weather, begun, (age, life)))
    });
    let mut written = 0_u64;
    while shown(begun) < HOUR {
        journal.fill(1 + mixed(written) % 3);
        written += 1;
        tokio::time::sleep(pass(mixed(written ^ 77) % 6000)).await;
    }
    let [first, second] = [first.await.unwrap(), second.await.unwrap()];
    archive(&journal, &store).await;
    let chain = check::chain(&store, &config().prefix, journal.life()).await;
    assert_eq!(chain.rows, journal.records());
    assert!(chain.lost().is_empty() && chain.skipped().is_empty());
    assert!(first.0 > 10 && second.0 > 10, "both put segments: {first:?}, {second:?}");
    assert!(first.1 + second.1 > 10, "the rivals hardly met: {first:?}, {second:?}");
    for weather in weathers {
        let count = |of: &AtomicU64| of.load(Ordering::SeqCst);
        let (failed, lost) = (count(&weather.by.failed), count(&weather.by.lost));
        assert!(failed > 5 && lost > 5, "{failed} calls failed, {lost} answers were lost");
    }
    let keys = [log().unwrap().signer.verifier().clone()];
    let leaves = check_log::check(&objects(&store, &config().prefix).await, &keys);
    assert!(leaves.iter().any(|leaf| matches!(leaf, Leaf::Heartbeat { .. })), "no heartbeat in an hour");
}
