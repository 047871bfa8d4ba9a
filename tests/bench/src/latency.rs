//! Added latency: one client, an upstream with some time to its first byte, the shim beside the proxy request by
//! request.

use std::path::Path;
use std::time::Duration;

use crate::facts::Told;
use crate::load::{Client, request};
use crate::process::Process;
use crate::product::{On, Product};
use crate::sample::{Ratio, Samples, median, signed_us};
use crate::upstream::BODY;
use crate::{Fault, Outcome};

/// How it is measured.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Durability of the shim.
    pub durability: String,
    /// The upstream's time to its first byte, in microseconds.
    pub delay_us: u64,
    /// Rounds, whose median counts.
    pub rounds: usize,
    /// Requests of each kind in a round.
    pub requests: usize,
}

/// Runs it and prints the figures.
///
/// # Errors
/// When a process fails, or facts are missing at the end.
pub async fn run(binary: &Path, on: &On, plan: &Plan) -> Outcome {
    let (_upstream, upstream) = Process::own(&["upstream", "--delay-us", &plan.delay_us.to_string()])?;
    let (_proxy, proxy) = Process::own(&["proxy", "--upstream", &upstream.to_string()])?;
    let product = Product::start(binary, on, &plan.durability, upstream)?;
    let request = request(&product.key, BODY);
    let mut targets = [
        (Client::connect(upstream)?, Vec::new(), Samples::default()),
        (Client::connect(proxy)?, Vec::new(), Samples::default()),
        (Client::connect(product.address)?, Vec::new(), Samples::default()),
    ];
    let mut served = 1;
    let before = waits(&product.metrics()?)?;
    for round in 0..=plan.rounds {
        let mut samples = [const { Vec::new() }; 3].map(|_: Vec<u8>| Samples::default());
        for _ in 0..plan.requests {
            for ((client, ..), samples) in targets.iter_mut().zip(&mut samples) {
                samples.add(client.call(&request)?);
            }
            served += 1;
        }
        // The first round warms up.
        if round > 0 {
            for ((_, rounds, all), samples) in targets.iter_mut().zip(&samples) {
                let of = |share| i64::try_from(samples.per_mille(share)).unwrap_or(i64::MAX);
                rounds.push([of(500), of(990)]);
                all.append(samples);
            }
        }
    }
    let after = waits(&product.metrics()?)?;
    let metrics = product.metrics()?;
    let [(_, direct, direct_all), (_, proxied, proxied_all), (_, shimmed, shimmed_all)] = &targets;
    println!(
        "latency: {}, {}, upstream {} us, c=1, {} rounds of {} requests each in turns",
        on.name(),
        plan.durability,
        plan.delay_us,
        plan.rounds,
        plan.requests
    );
    for (name, all) in [("upstream directly", direct_all), ("proxy", proxied_all), ("shim", shimmed_all)] {
        println!("  {name:18} {}", all.summary());
    }
    println!(
        "  proxy to direct at p50: {}",
        Ratio::of(proxied_all.per_mille(500), direct_all.per_mille(500))
    );
    for (index, name) in ["p50", "p99"].into_iter().enumerate() {
        let added = |over: &[[i64; 2]]| {
            let pairs = shimmed.iter().zip(over);
            median(&pairs.map(|(shim, other)| shim[index] - other[index]).collect::<Vec<_>>())
        };
        println!(
            "  added at {name}: {} over the proxy, {} over the upstream (medians of rounds)",
            signed_us(added(proxied)),
            signed_us(added(direct))
        );
    }
    let (answers, waited) = (after.0 - before.0, after.1 - before.1);
    println!("  answers that waited for the journal: {waited} of {answers}");
    print_own(&metrics);
    drop(targets);
    let (journal, _folder) = product.stop()?;
    println!("  {}", Told::read(journal.as_ref()).await?.must_be(served)?);
    Ok(())
}

/// Attempts that were answered, and how many answers had to wait for the journal.
fn waits(metrics: &str) -> Outcome<(u64, u64)> {
    let value = |name: &str| -> Outcome<u64> {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        Ok(line.ok_or_else(|| Fault::from(format!("no metric {name}")))?.trim().parse()?)
    };
    Ok((value("bursar_attempts_total{outcome=\"answered\"}")?, value("bursar_journal_wait_seconds_count")?))
}

/// What the shim measured of itself: the bucket in which the median and the 99th percentile lie.
fn print_own(metrics: &str) {
    for (name, what) in [
        ("bursar_added_before_call_seconds", "from a request's head to the call"),
        ("bursar_added_after_answer_seconds", "from the answer's head to its leaving"),
    ] {
        let prefix = format!("{name}_bucket{{le=\"");
        let buckets: Vec<(&str, u64)> = metrics
            .lines()
            .filter_map(|line| line.strip_prefix(&prefix)?.split_once("\"} "))
            .filter_map(|(edge, count)| Some((edge, count.parse().ok()?)))
            .collect();
        let total = buckets.last().map_or(0, |(_, count)| *count);
        let edge = |share: u64| {
            let found = buckets.iter().find(|(_, count)| *count * 1000 >= total * share);
            found.map_or("-", |(edge, _)| *edge)
        };
        println!("  by its own word, {what}: p50 <= {} s, p99 <= {} s", edge(500), edge(990));
    }
}

/// The plan that `tests/bench/README.md` quotes.
#[must_use]
pub fn usual(delay: Duration) -> Plan {
    Plan {
        durability: "overlapped".to_owned(),
        delay_us: u64::try_from(delay.as_micros()).unwrap_or(0),
        rounds: 5,
        requests: 200,
    }
}
