//! The ledger fed by Kafka, beside a consumer that reads the same records and does nothing with them.

#[path = "../../../ledger/benches/traffic/mod.rs"]
pub(crate) mod traffic;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bursar_ingest::kafka::{KafkaJournal, KafkaOutlet, KafkaSettings, TopicPlan, ensure_topics};
use bursar_ledger::runner::{Ledger, Settings};
use bursar_schemas::avro::Micros;
use bursar_schemas::facts::Role;
use bursar_schemas::ids::ProducerId;
use bursar_schemas::memory::MemoryJournal;
use bursar_schemas::ports::{Outlet, OutletError};
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::producer::{Chains, Identity, Recorder};
use bursar_schemas::snapshot::NoShelf;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::watch;

use crate::sample::{Ratio, middle};
use crate::{Fault, Outcome};

const DEPLOYMENT: [u8; 32] = [7; 32];
/// Attempts whose facts are handed to the outlet at once.
const AT_ONCE: u64 = 2000;

/// Runs it on a broker and prints the figures.
///
/// # Errors
/// When the broker or the ledger fails.
pub async fn run(brokers: &str, attempts: u64, rounds: usize) -> Outcome {
    let settings = KafkaSettings::new(brokers, &format!("bench-consume-{}", std::process::id()));
    let plan = TopicPlan { replication: 1, min_insync: 1, ..TopicPlan::new(1) };
    ensure_topics(&settings, &plan).await?;
    let (facts, bytes) = fill(&settings, attempts, 1).await?;
    println!(
        "consume: Kafka, {facts} facts of {} bytes on average, {rounds} rounds in turns",
        bytes / facts.max(1)
    );
    let (mut bare, mut fed) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let bare_rate = read_bare(&settings, facts, 1).await?;
        let fed_rate = read_as_ledger(&settings, facts).await?;
        // The first round warms up.
        if round > 0 {
            bare.push(bare_rate);
            fed.push(fed_rate);
        }
    }
    let (bare, fed) = (middle(&bare), middle(&fed));
    println!("  bare consumer {bare} records/s, ledger {fed} facts/s: ratio {}", Ratio::of(fed, bare));
    Ok(())
}

/// Writes the traffic to `spend`, spread over so many lanes; how many facts and bytes that was.
pub(crate) async fn fill(settings: &KafkaSettings, attempts: u64, lanes: u32) -> Outcome<(u64, u64)> {
    let outlet = Arc::new(KafkaOutlet::new(settings)?);
    let identity = Identity::new(ProducerId([1; 16]), Role::Shim, [1; 32], &DEPLOYMENT);
    let holder = identity.producer;
    let mut chains = Chains::new(identity);
    let (mut facts, mut bytes) = (0, 0);
    let mut attempt = 0;
    while attempt < attempts {
        let mut entries = Vec::new();
        let end = attempts.min(attempt + AT_ONCE);
        for attempt in attempt..end {
            let lane = Lane::new(Topic::Spend, u32::try_from(attempt % u64::from(lanes.max(1)))?);
            let lease = traffic::lease(holder, traffic::path_of(attempt));
            for fact in traffic::facts(attempt, lease, 1_793_577_600) {
                chains.stamp(lane, fact, &mut entries);
            }
        }
        attempt = end;
        facts += u64::try_from(entries.len())?;
        bytes += u64::try_from(entries.iter().map(|entry| entry.value.len()).sum::<usize>())?;
        loop {
            match outlet.append(entries.clone()) {
                Ok(receipt) => break receipt.await?,
                Err(OutletError::Full(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(error) => return Err(error.into()),
            }
        }
    }
    tokio::task::spawn_blocking(move || outlet.close(Duration::from_secs(10))).await??;
    Ok((facts, bytes))
}

pub(crate) fn rate(facts: u64, took: Duration) -> u64 {
    facts.saturating_mul(1_000_000) / u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1)
}

/// Records a second that the client library hands out, with the settings that the ledger's reader has.
pub(crate) async fn read_bare(settings: &KafkaSettings, facts: u64, lanes: i32) -> Outcome<u64> {
    let settings = settings.clone();
    let read = move || -> Outcome<u64> {
        let ahead = (settings.fetch_ahead_bytes / 1024).to_string();
        let begun = Instant::now();
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &settings.bootstrap)
            .set("group.id", format!("{}.bare", settings.prefix))
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .set("check.crcs", "true")
            .set("fetch.queue.backoff.ms", "10")
            .set("fetch.wait.max.ms", settings.fetch_wait.as_millis().to_string())
            .set("fetch.max.bytes", settings.fetch_ahead_bytes.to_string())
            .set("fetch.message.max.bytes", settings.max_message_bytes.to_string())
            .set("queued.min.messages", "10000")
            .set("queued.max.messages.kbytes", ahead)
            .create()?;
        let mut assignment = TopicPartitionList::new();
        for partition in 0..lanes {
            assignment.add_partition_offset(&settings.topic(Topic::Spend), partition, Offset::Beginning)?;
        }
        consumer.assign(&assignment)?;
        let (mut read, mut bytes) = (0, 0);
        while read < facts {
            let message = consumer.poll(Duration::from_secs(10)).ok_or("no record came")??;
            bytes += message.payload().map_or(0, <[u8]>::len);
            read += 1;
        }
        if bytes == 0 {
            return Err(Fault::from("the records are empty"));
        }
        Ok(rate(facts, begun.elapsed()))
    };
    tokio::task::spawn_blocking(read).await?
}

/// Facts a second that a whole ledger takes in, from its start until it has read all.
async fn read_as_ledger(settings: &KafkaSettings, facts: u64) -> Outcome<u64> {
    let identity = Identity::new(ProducerId([2; 16]), Role::Ledger, [2; 32], &DEPLOYMENT);
    let mut wanted = Settings::new(identity.deployment_key);
    wanted.tick = Duration::from_millis(20);
    // What it writes goes nowhere: every round begins from the same log.
    let outlet: Arc<dyn Outlet> = Arc::new(MemoryJournal::new(1));
    let recorder = Arc::new(Recorder::new(identity, outlet));
    let (stop, stopped) = watch::channel(false);
    let begun = Instant::now();
    let clock = Arc::new(|| Micros(1_793_620_800_000_000));
    let journal = Arc::new(KafkaJournal::new(settings)?);
    let ledger = Ledger::start(journal, recorder, clock, Arc::new(NoShelf), wanted, stopped).await?;
    let handle = ledger.handle();
    let running = tokio::spawn(ledger.join());
    let read = || handle.status().first().map_or(0, |status| status.spend_next);
    while read() < facts {
        if running.is_finished() {
            running.await??;
            return Err(Fault::from("the ledger stopped by itself"));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let rate = rate(facts, begun.elapsed());
    stop.send_replace(true);
    running.await??;
    Ok(rate)
}
