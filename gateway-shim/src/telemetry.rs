//! Counters and histograms, written out as Prometheus text. Labels are words of the contract: no content, no
//! names that a caller chose.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use bursar_schemas::facts::{AttemptOutcome, Ending, RefusalCode};
use bursar_schemas::money::PICO_PER_DOLLAR;

use crate::limits::Standing;

/// Upper edges of the buckets, in microseconds.
const EDGES: [u64; 16] = [
    10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000,
    30_000_000,
];

/// A histogram of durations.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; EDGES.len()],
    count: AtomicU64,
    sum_us: AtomicU64,
}

impl Histogram {
    pub(crate) fn observe(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        if let Some(index) = EDGES.iter().position(|edge| us <= *edge) {
            self.buckets[index].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    fn write(&self, name: &str, help: &str, out: &mut String) {
        head(name, help, "histogram", out);
        let mut sum = 0_u64;
        for (edge, bucket) in EDGES.iter().zip(&self.buckets) {
            sum = sum.saturating_add(bucket.load(Ordering::Relaxed));
            put(out, format_args!("{name}_bucket{{le=\"{}\"}} {sum}", seconds(*edge)));
        }
        let count = self.count.load(Ordering::Relaxed).max(sum);
        put(out, format_args!("{name}_bucket{{le=\"+Inf\"}} {count}"));
        put(out, format_args!("{name}_sum {}", seconds(self.sum_us.load(Ordering::Relaxed))));
        put(out, format_args!("{name}_count {count}"));
    }
}

/// Microseconds as seconds, without floats.
fn seconds(us: u64) -> String {
    let text = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// One counter for each branch of an enum of the contract.
#[derive(Debug)]
pub(crate) struct Counters<const N: usize>([AtomicU64; N]);

impl<const N: usize> Counters<N> {
    fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }

    fn add(&self, index: Option<usize>) {
        if let Some(slot) = index.and_then(|index| self.0.get(index)) {
            slot.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn write<'a>(&self, name: &str, label: &str, words: impl Iterator<Item = &'a str>, out: &mut String) {
        for (word, slot) in words.zip(&self.0) {
            let value = slot.load(Ordering::Relaxed);
            put(out, format_args!("{name}{{{label}=\"{word}\"}} {value}"));
        }
    }
}

/// Everything that the shim counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    endings: Counters<5>,
    refusals: Counters<12>,
    outcomes: Counters<7>,
    pub(crate) open: AtomicI64,
    pub(crate) connections: AtomicI64,
    pub(crate) facts: AtomicU64,
    pub(crate) facts_lost: AtomicU64,
    pub(crate) unrecorded_refusals: AtomicU64,
    pub(crate) unrecorded_requests: AtomicU64,
    pub(crate) overruns: AtomicU64,
    pub(crate) to_upstream: Histogram,
    pub(crate) to_client: Histogram,
    pub(crate) journal_wait: Histogram,
    pub(crate) lease_wait: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            endings: Counters::new(),
            refusals: Counters::new(),
            outcomes: Counters::new(),
            open: AtomicI64::new(0),
            connections: AtomicI64::new(0),
            facts: AtomicU64::new(0),
            facts_lost: AtomicU64::new(0),
            unrecorded_refusals: AtomicU64::new(0),
            unrecorded_requests: AtomicU64::new(0),
            overruns: AtomicU64::new(0),
            to_upstream: Histogram::default(),
            to_client: Histogram::default(),
            journal_wait: Histogram::default(),
            lease_wait: Histogram::default(),
        }
    }

    pub(crate) fn ended(&self, ending: Ending) {
        self.endings.add(Ending::ALL.iter().position(|it| *it == ending));
    }

    pub(crate) fn refused(&self, code: RefusalCode) {
        self.refusals.add(RefusalCode::ALL.iter().position(|it| *it == code));
    }

    pub(crate) fn attempt_ended(&self, outcome: AttemptOutcome) {
        self.outcomes.add(AttemptOutcome::ALL.iter().position(|it| *it == outcome));
    }

    /// The whole as Prometheus text.
    pub(crate) fn render(&self, standings: &[(u32, Standing)]) -> String {
        let mut out = String::with_capacity(8192);
        let (endings, refusals, outcomes) =
            ("bursar_requests_total", "bursar_refusals_total", "bursar_attempts_total");
        head(endings, "Requests that ended, by ending.", "counter", &mut out);
        self.endings.write(endings, "ending", Ending::ALL.iter().map(|it| it.word()), &mut out);
        head(refusals, "Requests that were refused, by code.", "counter", &mut out);
        self.refusals.write(refusals, "code", RefusalCode::ALL.iter().map(|it| it.word()), &mut out);
        head(outcomes, "Attempts at providers that ended, by outcome.", "counter", &mut out);
        self.outcomes.write(outcomes, "outcome", AttemptOutcome::ALL.iter().map(|it| it.word()), &mut out);
        let gauges = [("bursar_open_requests", &self.open), ("bursar_open_connections", &self.connections)];
        for (name, gauge) in gauges {
            head(name, "Open now.", "gauge", &mut out);
            put(&mut out, format_args!("{name} {}", gauge.load(Ordering::Relaxed)));
        }
        let counters = [
            ("bursar_facts_total", "Facts handed to the spool.", &self.facts),
            ("bursar_facts_lost_total", "Facts that the spool did not take.", &self.facts_lost),
            (
                "bursar_unrecorded_refusals_total",
                "Refusals of unknown keys beyond the bound of facts a second.",
                &self.unrecorded_refusals,
            ),
            (
                "bursar_unrecorded_requests_total",
                "Requests that passed without facts while the spool was full.",
                &self.unrecorded_requests,
            ),
            ("bursar_overruns_total", "Attempts that cost more than they had reserved.", &self.overruns),
        ];
        for (name, help, counter) in counters {
            head(name, help, "counter", &mut out);
            put(&mut out, format_args!("{name} {}", counter.load(Ordering::Relaxed)));
        }
        self.to_upstream.write(
            "bursar_added_before_call_seconds",
            "From a request's head to the call of its provider.",
            &mut out,
        );
        self.to_client.write(
            "bursar_added_after_answer_seconds",
            "From a provider's answer to the first of it leaving.",
            &mut out,
        );
        self.journal_wait.write(
            "bursar_journal_wait_seconds",
            "Answers that had to wait for the acknowledgement of opening facts, and how long.",
            &mut out,
        );
        self.lease_wait.write("bursar_lease_wait_seconds", "Waits for a lease.", &mut out);
        write_standings(standings, &mut out);
        out
    }
}

fn write_standings(standings: &[(u32, Standing)], out: &mut String) {
    let age = "bursar_limits_age_seconds";
    head(age, "Age of the newest record seen on limits.", "gauge", out);
    for (partition, standing) in standings {
        if let Some(us) = standing.age_us.and_then(|us| u64::try_from(us).ok()) {
            put(out, format_args!("{age}{{partition=\"{partition}\"}} {}", seconds(us)));
        }
    }
    let left = "bursar_lease_left_dollars";
    head(left, "Money left in leases.", "gauge", out);
    for (partition, standing) in standings {
        put(out, format_args!("{left}{{partition=\"{partition}\"}} {}", standing.left));
    }
    let runway = "bursar_lease_runway_seconds";
    head(
        runway,
        "How long leases last at the recent rate of spending; absent without spending.",
        "gauge",
        out,
    );
    for (partition, standing) in standings {
        let (left, rate) = (standing.left.pico(), standing.rate.pico());
        // Less than a nano-dollar a second is no spending.
        if rate > PICO_PER_DOLLAR / 1_000_000_000 {
            put(out, format_args!("{runway}{{partition=\"{partition}\"}} {}", left / rate));
        }
    }
}

fn head(name: &str, help: &str, kind: &str, out: &mut String) {
    put(out, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
}

fn put(out: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    if out.write_fmt(line).is_ok() {
        out.push('\n');
    }
}
