//! From a settlement to the new balance that another shim sees, beside one hop from a producer to a consumer over
//! the same broker with the same client settings, in the same run.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bursar_ingest::kafka::{KafkaJournal, KafkaOutlet, KafkaSettings, TopicPlan, ensure_topics};
use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{BalanceStated, Fact};
use bursar_schemas::ports::{Entry, Journal, Outlet as _};
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::wire;
use bytes::Bytes;
use tokio::sync::watch;

use crate::load::{at_rate, request};
use crate::process::Process;
use crate::product::{On, Product};
use crate::sample::{Ratio, Samples};
use crate::upstream::BODY;
use crate::{Fault, Outcome};

/// When something was read, by the system's clock, which the facts carry too.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Settlements by offset in `spend` with their times, and statements of one account with the times they were seen.
#[derive(Debug, Default)]
struct Seen {
    settled: Vec<(u64, i64)>,
    stated: Vec<(BalanceStated, i64)>,
}

/// Runs it on a broker and prints the figures.
///
/// # Errors
/// When a process, the broker or the load fails.
pub async fn run(binary: &Path, brokers: &str, a_second: u32, seconds: u64) -> Outcome {
    let on = On::Kafka(brokers.to_owned());
    let (_upstream, upstream) = Process::own(&["upstream"])?;
    let product = Product::start(binary, &on, "overlapped", upstream)?;
    let settings = product.kafka().ok_or("not on Kafka")?;
    let (stop, stopped) = watch::channel(false);
    let spend = tokio::spawn(follow(settings.clone(), Topic::Spend, stopped.clone()));
    let limits = tokio::spawn(follow(settings.clone(), Topic::Limits, stopped.clone()));
    let hops = tokio::spawn(hops(brokers.to_owned(), stopped));
    let request = request(&product.key, BODY);
    let for_long = Duration::from_secs(seconds);
    let served = at_rate(product.address, &request, a_second, for_long).await?;
    product.settle()?;
    stop.send_replace(true);
    let mut seen = spend.await??;
    seen.stated = limits.await??.stated;
    let hops = hops.await??;
    let account = "bench-day";
    let mut times = Samples::default();
    let mut unseen = 0;
    let stated: Vec<_> = seen.stated.iter().filter(|(it, _)| it.account.budget == account).collect();
    for (offset, at) in &seen.settled {
        match stated.iter().find(|(statement, _)| statement.read > *offset) {
            Some((_, seen_at)) => {
                let us = u64::try_from(seen_at - at).unwrap_or(0);
                times.add(Duration::from_micros(us));
            }
            None => unseen += 1,
        }
    }
    if times.len() < 100 || unseen > 1 {
        return Err(Fault::from(format!("{} settlements were seen and {unseen} were not", times.len())));
    }
    println!("feedback: Kafka, {a_second} requests/s for {seconds} s, {served} served");
    println!("  one hop, produce to consume       {} ({} of them)", hops.summary(), hops.len());
    println!("  settled to balance seen elsewhere {} ({} of them)", times.summary(), times.len());
    println!(
        "  in hops: p50 {}, p99 {}; statements of the account: {}",
        Ratio::of(times.per_mille(500), hops.per_mille(500)),
        Ratio::of(times.per_mille(990), hops.per_mille(990)),
        stated.len()
    );
    product.stop()?;
    Ok(())
}

/// Reads a lane as every shim does, from its end on, until told to stop.
async fn follow(settings: KafkaSettings, topic: Topic, mut stopped: watch::Receiver<bool>) -> Outcome<Seen> {
    let journal = KafkaJournal::new(&settings)?;
    let lane = Lane::new(topic, 0);
    let mut cursor = journal.read(lane, journal.bounds(lane).await?.end).await?;
    let mut seen = Seen::default();
    loop {
        let batch = tokio::select! {
            batch = cursor.next() => batch?,
            _ = stopped.wait_for(|stop| *stop) => return Ok(seen),
        };
        let at = now();
        for record in &batch.records {
            match wire::decode(&record.value)? {
                Fact::Settled(fact) => seen.settled.push((record.offset, fact.head.at.0)),
                Fact::BalanceStated(fact) => seen.stated.push((*fact, at)),
                _ => {}
            }
        }
    }
}

/// One record at a time to a topic of its own, and how long until it is read.
pub(crate) async fn hops(brokers: String, stopped: watch::Receiver<bool>) -> Outcome<Samples> {
    let settings = KafkaSettings::new(&brokers, &format!("bench-hop-{}", std::process::id()));
    let plan = TopicPlan { replication: 1, min_insync: 1, ..TopicPlan::new(1) };
    ensure_topics(&settings, &plan).await?;
    let outlet = Arc::new(KafkaOutlet::new(&settings)?);
    let journal = KafkaJournal::new(&settings)?;
    let lane = Lane::new(Topic::Limits, 0);
    let mut cursor = journal.read(lane, 0).await?;
    let mut samples = Samples::default();
    let value = Bytes::from(vec![7; 200]);
    while !*stopped.borrow() {
        let begun = Instant::now();
        let receipt = outlet.append(vec![Entry { lane, value: value.clone(), at: Micros(now()) }])?;
        cursor.next().await?;
        samples.add(begun.elapsed());
        receipt.await?;
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    let closing = Arc::clone(&outlet);
    tokio::task::spawn_blocking(move || closing.close(Duration::from_secs(5))).await??;
    Ok(samples)
}
