//! The archiver fed by Kafka, beside a consumer that reads the same records and does nothing with them.

use std::sync::Arc;
use std::time::Instant;

use bursar_ingest::archive::{ArchiveConfig, Archiver, LogSettings, open_store};
use bursar_ingest::kafka::{KafkaJournal, KafkaSettings, TopicPlan, ensure_topics};
use bursar_schemas::evidence::SignerKey;
use bursar_schemas::ids::Digest;
use bursar_schemas::position::{Lane, Topic};

use crate::consume::{fill, rate, read_bare};
use crate::process::{memory_kib, processor_us};
use crate::sample::{Ratio, middle};
use crate::{Fault, Outcome};

const LANE: Lane = Lane::new(Topic::Spend, 0);

/// Records a second by the clock, and by this process's processor time.
struct Rates {
    clock: Vec<u64>,
    core: Vec<u64>,
}

impl Rates {
    const fn new() -> Self {
        Self { clock: Vec::new(), core: Vec::new() }
    }

    /// Takes one round's: what the clock says, and how many records in how many microseconds of processor time.
    fn add(&mut self, clock: u64, facts: u64, processor_us: u64) {
        self.clock.push(clock);
        self.core.push(facts.saturating_mul(1_000_000) / processor_us.max(1));
    }
}

/// Runs it on a broker and prints the figures.
///
/// # Errors
/// When the broker, the store or the archiver fails.
pub async fn run(brokers: &str, attempts: u64, rounds: usize) -> Outcome {
    let settings = KafkaSettings::new(brokers, &format!("bench-archive-{}", std::process::id()));
    let plan = TopicPlan { replication: 1, min_insync: 1, ..TopicPlan::new(1) };
    ensure_topics(&settings, &plan).await?;
    let (facts, bytes) = fill(&settings, attempts).await?;
    println!(
        "archive: Kafka, {facts} facts of {} bytes on average ({} MB behind), {rounds} rounds in turns",
        bytes / facts.max(1),
        bytes / 1_000_000
    );
    let (mut bare, mut sealed, mut most) = (Rates::new(), Rates::new(), 0);
    for round in 0..=rounds {
        let before = processor_us("self")?;
        let read = read_bare(&settings, facts).await?;
        let between = processor_us("self")?;
        // The system forgets the highest mark: what filling the topic took is not the archiver's.
        std::fs::write("/proc/self/clear_refs", "5")?;
        let archived = archive(&settings, facts).await?;
        most = most.max(memory_kib("self", "VmHWM:")?);
        let after = processor_us("self")?;
        // The first round warms up.
        if round > 0 {
            bare.add(read, facts, between - before);
            sealed.add(archived, facts, after - between);
        }
    }
    let print = |what: &str, bare: &[u64], sealed: &[u64]| {
        let (bare, sealed) = (middle(bare), middle(sealed));
        println!("  {what}: bare consumer {bare}, archiver {sealed}: ratio {}", Ratio::of(sealed, bare));
    };
    print("records a second", &bare.clock, &sealed.clock);
    print("records a second of processor time", &bare.core, &sealed.core);
    println!("  most resident memory while archiving: {} MiB", most / 1024);
    Ok(())
}

/// Records a second from an archiver's start until all are sealed and logged, in a new folder that keeps what it says.
async fn archive(settings: &KafkaSettings, facts: u64) -> Outcome<u64> {
    let folder = tempfile::tempdir()?;
    let (store, prefix) = open_store(&format!("file://{}", folder.path().display()))?;
    let config = ArchiveConfig { prefix, topics: vec![LANE.topic], ..ArchiveConfig::default() };
    let log = LogSettings {
        signer: SignerKey::new("bench.invalid/log", &[3; 32])?,
        earlier: Vec::new(),
        deployment_key: Digest([7; 32]),
        heartbeat: None,
        copy: None,
        clock: Arc::new(|| 1_793_620_800_000_000),
    };
    let begun = Instant::now();
    let archiver = Archiver::start(Arc::new(KafkaJournal::new(settings)?), store, config, Some(log));
    let mut changes = archiver.changes();
    while archiver.status().get(&LANE).is_none_or(|lane| taken_in(lane) < facts) {
        changes.changed().await?;
    }
    let handle = archiver.log_status();
    if !archiver.stop(true).await {
        return Err(Fault::from("the archiver did not come to an end"));
    }
    if handle.is_some_and(|log| log.fault.is_some()) {
        return Err(Fault::from("the log could not be written"));
    }
    Ok(rate(facts, begun.elapsed()))
}

/// Records that are sealed or about to be.
fn taken_in(lane: &bursar_ingest::archive::LaneStatus) -> u64 {
    let sealed = lane.sealed.map_or(0, |last| last + 1);
    sealed + u64::try_from(lane.buffered_records).unwrap_or(u64::MAX)
}
