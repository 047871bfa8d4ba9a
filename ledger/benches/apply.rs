//! How many facts of `spend` one core takes in a second: 10,000 budgets, paths of four accounts, one reservation
//! and one settlement for each attempt, and a request for a lease now and then. Prints three figures: catching up
//! behind an earlier ledger that has checked the running hashes, catching up with the hashes checked, and acting,
//! with every lease granted, every balance stated and all of that read back. Run with
//! `cargo bench -p bursar-ledger`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a benchmark fails by panicking and looks at the clock"
)]

mod traffic;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bursar_ledger::core::{Config, Core, Effect, Input, Standing, Timing};
use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{
    EpochMarked, Fact, Head, IncarnationEnded, LeaseRequested, PolicyPublished, Role,
};
use bursar_schemas::ids::ProducerId;
use bursar_schemas::money::Money;
use bursar_schemas::policy::Document;
use bursar_schemas::ports::Entry;
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::producer::{Chains, Identity};
use bursar_schemas::wire;

const ATTEMPTS: u64 = 500_000;
/// Attempts under one lease before the next is asked for: at this traffic less than two seconds of a path's spending,
/// where shims by default ask for what lasts four and a half.
const UNDER_ONE_LEASE: u64 = 100;
/// Records between two decisions, as in a cursor's batch.
const BATCH: usize = 4096;
/// 2026-11-02T12:00:00Z.
const START: i64 = 1_793_620_800_000_000;
/// The first second of a window of the whole.
const WINDOW: i64 = 0;

fn shim() -> Identity {
    Identity::new(ProducerId([1; 16]), Role::Shim, [1; 32], &[7; 32])
}

/// The records of `spend`.
fn records() -> Vec<Entry> {
    let identity = shim();
    let holder = identity.producer;
    let mut chains = Chains::new(identity);
    let mut entries = Vec::new();
    let lane = Lane::new(Topic::Spend, 0);
    // By path: the lease in use, and attempts left under it.
    let mut leases: HashMap<u64, (u64, u64)> = HashMap::new();
    let mut number = 0;
    for attempt in 0..ATTEMPTS {
        let path = traffic::path_of(attempt);
        let (lease, left) = leases.entry(path).or_default();
        if *left == 0 {
            number += 1;
            (*lease, *left) = (number, UNDER_ONE_LEASE);
            let amount = Money::from_pico(traffic::BOUND * i128::from(UNDER_ONE_LEASE));
            let asked = LeaseRequested {
                head: Head::draft(Micros(1), 1, ""),
                lease: traffic::lease(holder, number),
                accounts: traffic::accounts(path, WINDOW),
                wanted: amount,
                minimum: amount,
            };
            chains.stamp(lane, asked.into(), &mut entries);
        }
        *left -= 1;
        let lease = traffic::lease(holder, *lease);
        for fact in traffic::facts(attempt, lease, WINDOW) {
            chains.stamp(lane, fact, &mut entries);
        }
    }
    entries
}

fn core() -> Core {
    let config = Config {
        partition: 0,
        partitions: 1,
        instance: ProducerId([2; 16]),
        deployment_key: shim().deployment_key,
        timing: Timing::default(),
    };
    Core::new(config)
}

/// Times `work` by the clock and by the processor, and prints what it comes to.
fn measure(name: &str, entries: &[Entry], work: impl FnOnce()) {
    let (begun, begun_busy) = (Instant::now(), busy());
    work();
    let took = begun.elapsed();
    let took_busy = busy().zip(begun_busy).map_or(took, |(now, begun)| now.saturating_sub(begun));
    let bytes: usize = entries.iter().map(|entry| entry.value.len()).sum();
    println!(
        "{name}: {} facts of {} bytes on average in {} ms, of them {} ms on a core: {} facts/s a core",
        entries.len(),
        bytes / entries.len(),
        took.as_millis(),
        took_busy.as_millis(),
        entries.len() as u128 * 1_000_000 / took_busy.as_micros().max(1),
    );
}

fn main() {
    let entries = records();
    for hashing in [false, true] {
        let mut core = core();
        let mut effects = Vec::new();
        if !hashing {
            read_before(&mut core);
        }
        let name = if hashing { "catching up, hashes checked" } else { "catching up, hashes checked before" };
        measure(name, &entries, || {
            for (offset, entry) in entries.iter().enumerate() {
                let input = Input::Spend { offset: offset as u64, value: &entry.value };
                core.apply(input, &mut effects).unwrap();
            }
        });
        assert_eq!(core.waiting().0, 0, "every reservation is settled");
        assert!(effects.is_empty());
    }
    let mut acting = Acting::start();
    measure("acting, hashes checked, leases granted", &entries, || {
        for (index, batch) in entries.chunks(BATCH).enumerate() {
            acting.take(index * BATCH, batch);
        }
    });
    assert_eq!(acting.core.waiting(), (0, 0), "every reservation is settled and every request answered");
    println!("  {} leases granted, {} other records written", acting.granted, acting.other);
}

/// A ledger that acts, and the log that it writes and reads back.
struct Acting {
    core: Core,
    chains: Chains,
    offset: u64,
    now: i64,
    ticked: i64,
    granted: u64,
    other: u64,
}

impl Acting {
    /// Policy is read, limits are set and windows are open.
    fn start() -> Self {
        let chains = Chains::new(Identity::new(ProducerId([2; 16]), Role::Ledger, [2; 32], &[7; 32]));
        let (now, ticked) = (START, START);
        let mut acting = Self { core: core(), chains, offset: 0, now, ticked, granted: 0, other: 0 };
        let mut head = Head::draft(Micros(START), 0, "");
        (head.producer, head.role) = (ProducerId([3; 16]), Role::Policy);
        let published = PolicyPublished {
            head,
            version: 1,
            author: "bench".into(),
            approver: None,
            source_revision: None,
            document: policy().to_json(),
        };
        acting.feed(Input::Policy(&published.into()));
        acting.feed(Input::Tick { now: Micros(START), spread: 0 });
        acting.feed(Input::Ready);
        acting.feed(Input::Tick { now: Micros(START), spread: 0 });
        assert!(matches!(acting.core.standing(), Standing::Acting { .. }), "it acts");
        (acting.granted, acting.other) = (0, 0);
        acting
    }

    /// A batch of `spend`, and the decisions after it; the clock goes on as if a million came in a second.
    fn take(&mut self, first: usize, batch: &[Entry]) {
        let mut effects = Vec::new();
        for (offset, entry) in (first..).zip(batch) {
            let input = Input::Spend { offset: offset as u64, value: &entry.value };
            self.core.apply(input, &mut effects).unwrap();
        }
        self.write(effects);
        self.feed(Input::Pause { now: Micros(self.now) });
        self.now += i64::try_from(batch.len()).unwrap_or(0);
        if self.now - self.ticked >= 250_000 {
            self.ticked = self.now;
            self.feed(Input::Tick { now: Micros(self.now), spread: 0 });
        }
    }

    fn feed(&mut self, input: Input<'_>) {
        let mut effects = Vec::new();
        self.core.apply(input, &mut effects).unwrap();
        self.write(effects);
    }

    /// Stamps what the core wants written, and lets it read that back, until it wants nothing more.
    fn write(&mut self, mut effects: Vec<Effect>) {
        while !effects.is_empty() {
            let mut entries = Vec::new();
            for effect in effects.drain(..) {
                match effect {
                    Effect::Append(fact) => {
                        self.chains.stamp(Lane::new(Topic::Limits, 0), fact, &mut entries)
                    }
                    Effect::Acting { .. } => {}
                    Effect::Find(_) | Effect::Superseded => panic!("{effect:?}"),
                }
            }
            for entry in entries {
                let fact = wire::decode(&entry.value);
                match &fact {
                    Ok(Fact::LeaseGranted(_)) => self.granted += 1,
                    Ok(Fact::LeaseRefused(refused)) => panic!("{refused:?}"),
                    _ => self.other += 1,
                }
                self.core.apply(Input::Limits { offset: self.offset, fact: &fact }, &mut effects).unwrap();
                self.offset += 1;
            }
            let now = Micros(self.now);
            self.core.apply(Input::Pause { now }, &mut effects).unwrap();
        }
    }
}

/// A policy with every budget of the traffic, all of them hard.
fn policy() -> Document {
    let mut text = String::from("[[organisation]]\nid = \"acme\"\n");
    let names = (["acme-month".to_owned()].into_iter())
        .chain((0..100).map(|it| format!("team-{it}")))
        .chain((0..1000).map(|it| format!("project-{it}")))
        .chain((0..traffic::PATHS).map(|it| format!("key-{it}")));
    for name in names {
        text.push_str(&format!(
            "[[budget]]\nid = \"{name}\"\nscope = \"organisation:acme\"\nwindow = \"total\"\namount = \"90000000.00\"\n"
        ));
    }
    let document = Document::from_toml([("bench", text.as_str())]).unwrap();
    assert_eq!(document.budgets.len() as u64, traffic::BUDGETS);
    document
}

/// How long this thread has been on a core, where the system tells (Linux): a figure that does not depend on what
/// else the machine does.
fn busy() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    stat.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// Lets the core read in `limits` that an earlier ledger has read all of `spend`.
fn read_before(core: &mut Core) {
    let ledger = ProducerId([4; 16]);
    let head = |number| {
        let mut head = Head::draft(Micros(1), 1, "");
        (head.producer, head.role, head.number) = (ledger, Role::Ledger, number);
        head
    };
    let marker = EpochMarked { head: head(1), instance: ledger, supersedes: None };
    let incarnation = ProducerId([9; 16]);
    let ended = IncarnationEnded { head: head(2), epoch: 0, incarnation, cause: 0, read: u64::MAX / 4 };
    let mut effects = Vec::new();
    for (offset, fact) in [Fact::from(marker), Fact::from(ended)].into_iter().enumerate() {
        core.apply(Input::Limits { offset: offset as u64, fact: &Ok(fact) }, &mut effects).unwrap();
    }
    assert!(core.fold().has_ended(&incarnation), "the statement counts");
}
