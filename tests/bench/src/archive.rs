//! The archiver fed by Kafka, beside a consumer that reads the same records and does nothing with them.

use std::sync::Arc;
use std::time::Instant;

use bursar_ingest::archive::{ArchiveConfig, Archiver, Clock, LogSettings, open_store};
use bursar_ingest::kafka::{KafkaJournal, KafkaSettings, TopicPlan, ensure_topics};
use bursar_schemas::archive::SEGMENTS;
use bursar_schemas::evidence::SignerKey;
use bursar_schemas::ids::Digest;
use bursar_schemas::position::Topic;

use crate::consume::{fill, rate, read_bare};
use crate::process::{memory_kib, processor_us};
use crate::sample::{Ratio, middle};
use crate::storage::files;
use crate::{Fault, Outcome};

/// The topic that is filled.
const TOPIC: Topic = Topic::Spend;

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
pub async fn run(brokers: &str, attempts: u64, rounds: usize, lanes: u32) -> Outcome {
    let settings = KafkaSettings::new(brokers, &format!("bench-archive-{}", std::process::id()));
    let plan = TopicPlan { replication: 1, min_insync: 1, ..TopicPlan::new(lanes) };
    ensure_topics(&settings, &plan).await?;
    let (facts, bytes) = fill(&settings, attempts, lanes).await?;
    println!(
        "archive: Kafka, {facts} facts of {} bytes on average ({} MB behind) on {lanes} lanes, {rounds} rounds in turns",
        bytes / facts.max(1),
        bytes / 1_000_000
    );
    let (mut bare, mut sealed) = (Rates::new(), Rates::new());
    let (mut most, mut bytes) = (0, 0);
    for round in 0..=rounds {
        let before = processor_us("self")?;
        let read = read_bare(&settings, facts, i32::try_from(lanes)?).await?;
        let bare_us = processor_us("self")? - before;
        let archived = in_own_process(&settings, facts).await?;
        most = most.max(archived.most_kib);
        bytes = archived.bytes;
        // The first round warms up.
        if round > 0 {
            bare.add(read, facts, bare_us);
            sealed.add(archived.rate, facts, archived.processor_us);
        }
    }
    let print = |what: &str, bare: &[u64], sealed: &[u64]| {
        let (bare, sealed) = (middle(bare), middle(sealed));
        println!("  {what}: bare consumer {bare}, archiver {sealed}: ratio {}", Ratio::of(sealed, bare));
    };
    print("records a second", &bare.clock, &sealed.clock);
    print("records a second of processor time", &bare.core, &sealed.core);
    println!("  most resident memory while archiving: {} MiB", most / 1024);
    println!("  segments: {} bytes a thousand facts", bytes * 1000 / facts.max(1));
    Ok(())
}

/// What one archiver's run came to.
struct Archived {
    /// Records a second by the clock.
    rate: u64,
    processor_us: u64,
    /// The most memory that the process had at a time.
    most_kib: u64,
    /// Bytes of the segments.
    bytes: u64,
}

/// Runs an archiver in a process of its own, so that its memory and processor time are those of nothing else.
async fn in_own_process(settings: &KafkaSettings, facts: u64) -> Outcome<Archived> {
    let facts = facts.to_string();
    let mut command = tokio::process::Command::new(std::env::current_exe()?);
    command.args([
        "archiver",
        "--kafka",
        &settings.bootstrap,
        "--prefix",
        &settings.prefix,
        "--facts",
        &facts,
    ]);
    // As in the image.
    command.env("MALLOC_ARENA_MAX", "2");
    let done = command.stderr(std::process::Stdio::inherit()).output().await?;
    let told = String::from_utf8(done.stdout)?;
    let numbers: Vec<u64> = told.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    match (done.status.success(), numbers.as_slice()) {
        (true, &[rate, processor_us, most_kib, bytes]) => {
            Ok(Archived { rate, processor_us, most_kib, bytes })
        }
        _ => Err(Fault::from(format!("the archiver ended with {}", done.status))),
    }
}

/// Archives so many facts once and prints records a second, processor time in microseconds, the
/// most memory in KiB and the bytes of the segments.
///
/// # Errors
/// When the broker, the store or the archiver fails.
pub async fn once(brokers: &str, prefix: &str, facts: u64) -> Outcome {
    let (rate, bytes) = archive(&KafkaSettings::new(brokers, prefix), facts).await?;
    println!("{rate} {} {} {bytes}", processor_us("self")?, memory_kib("self", "VmHWM:")?);
    Ok(())
}

/// How the log is written: signed by a key of no worth.
pub(crate) fn log_settings(clock: Clock) -> Outcome<LogSettings> {
    Ok(LogSettings {
        signer: SignerKey::new("bench.invalid/log", &[3; 32])?,
        earlier: Vec::new(),
        deployment_key: Digest([7; 32]),
        heartbeat: None,
        copy: None,
        witnesses: Vec::new(),
        clock,
    })
}

/// Records a second from an archiver's start until all are sealed and logged, in a new folder that keeps what it says;
/// and the bytes of the segments.
async fn archive(settings: &KafkaSettings, facts: u64) -> Outcome<(u64, u64)> {
    let folder = tempfile::tempdir()?;
    let (store, prefix) = open_store(&format!("file://{}", folder.path().display()))?;
    let config = ArchiveConfig { prefix, topics: vec![TOPIC], ..ArchiveConfig::default() };
    let log = log_settings(Arc::new(|| 1_793_620_800_000_000))?;
    let begun = Instant::now();
    let archiver = Archiver::start(Arc::new(KafkaJournal::new(settings)?), store, config, Some(log));
    let mut changes = archiver.changes();
    while archiver.status().values().map(taken_in).sum::<u64>() < facts {
        changes.changed().await?;
    }
    let handle = archiver.log_status();
    if !archiver.stop(true).await {
        return Err(Fault::from("the archiver did not come to an end"));
    }
    if handle.is_some_and(|log| log.fault.is_some()) {
        return Err(Fault::from("the log could not be written"));
    }
    let rate = rate(facts, begun.elapsed());
    let mut segments = Vec::new();
    files(&folder.path().join(SEGMENTS), &mut segments)?;
    Ok((rate, segments.iter().map(|(_, bytes)| bytes).sum()))
}

/// Records that are sealed or about to be.
fn taken_in(lane: &bursar_ingest::archive::LaneStatus) -> u64 {
    let sealed = lane.sealed.map_or(0, |last| last + 1);
    sealed + u64::try_from(lane.buffered_records).unwrap_or(u64::MAX)
}
