//! A small world for tests: two logs in memory, shims that write one of them, ledgers that write the other.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]
#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod leased;
pub mod oracle;
pub mod shim;
pub mod spending;

use std::collections::BTreeMap;

use bursar_ledger::core::{Config, Core, Effect, Input, Standing, Timing};
use bursar_ledger::invariants;
use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{Fact, Finding, Head, KeyIssued, PolicyPublished, Role};
use bursar_schemas::ids::{Digest, Generation, ProducerId};
use bursar_schemas::policy::Document;
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::producer::{Chains, Identity};
use bursar_schemas::snapshot::Place;
use bursar_schemas::wire;

pub const SECOND: i64 = 1_000_000;
pub const DEPLOYMENT: [u8; 32] = [7; 32];
/// 2026-11-02T12:00:00Z, a Monday.
pub const START: i64 = 1_793_620_800 * SECOND;

pub fn identity(number: u8, role: Role) -> Identity {
    Identity::new(ProducerId([number; 16]), role, [number; 32], &DEPLOYMENT)
}

pub fn deployment_key() -> Digest {
    identity(1, Role::Ledger).deployment_key
}

/// One ledger and what it has read.
pub struct Node {
    pub core: Core,
    pub chains: Chains,
    pub limits: usize,
    pub spend: usize,
    pub policy: usize,
    pub ready: bool,
    /// Appended, and not in the log yet.
    pub under_way: Vec<Vec<u8>>,
    pub superseded: usize,
}

fn config(number: u8) -> Config {
    Config {
        partition: 0,
        partitions: 1,
        instance: identity(number, Role::Ledger).producer,
        deployment_key: deployment_key(),
        timing: Timing::default(),
    }
}

/// The logs.
#[derive(Default, Clone)]
pub struct Logs {
    pub limits: Vec<Vec<u8>>,
    pub spend: Vec<Vec<u8>>,
    pub policy: Vec<Fact>,
    pub findings: Vec<Finding>,
    pub now: i64,
}

impl Node {
    pub fn new(number: u8) -> Self {
        let (core, chains) = (Core::new(config(number)), Chains::new(identity(number, Role::Ledger)));
        Self {
            core,
            chains,
            limits: 0,
            spend: 0,
            policy: 0,
            ready: false,
            under_way: Vec::new(),
            superseded: 0,
        }
    }

    /// A fresh incarnation that begins with this one's snapshot.
    pub fn successor(&self, number: u8) -> Self {
        let place = |topic, next: usize| Place {
            lane: Lane::new(topic, 0),
            generation: Generation([1; 16]),
            next: next as u64,
        };
        let places = [
            place(Topic::Limits, self.limits),
            place(Topic::Policy, self.policy),
            place(Topic::Spend, self.spend),
        ];
        let (core, found) = Core::restore(config(number), &self.core.save(places).unwrap()).unwrap();
        assert_eq!(found, places);
        Self { core, limits: self.limits, policy: self.policy, spend: self.spend, ..Self::new(number) }
    }

    pub fn feed(&mut self, input: Input<'_>, logs: &mut Logs) {
        let mut effects = Vec::new();
        self.core.apply(input, &mut effects).expect("the ledger goes on");
        let mut entries = Vec::new();
        for effect in effects {
            match effect {
                Effect::Append(fact) => self.chains.stamp(Lane::new(Topic::Limits, 0), fact, &mut entries),
                Effect::Find(finding) => logs.findings.push(finding),
                Effect::Acting { .. } => {}
                Effect::Superseded => self.superseded += 1,
            }
        }
        self.under_way.extend(entries.into_iter().map(|entry| entry.value.to_vec()));
    }

    /// What it appended reaches the log.
    pub fn deliver(&mut self, logs: &mut Logs) {
        logs.limits.append(&mut self.under_way);
    }

    pub fn read_limits(&mut self, logs: &mut Logs, most: usize) {
        let end = (self.limits + most).min(logs.limits.len());
        for offset in self.limits..end {
            let fact = wire::decode(&logs.limits[offset]);
            self.feed(Input::Limits { offset: offset as u64, fact: &fact }, logs);
        }
        self.limits = end;
    }

    pub fn read_spend(&mut self, logs: &mut Logs, most: usize) {
        let end = (self.spend + most).min(logs.spend.len());
        for offset in self.spend..end {
            let value = logs.spend[offset].clone();
            self.feed(Input::Spend { offset: offset as u64, value: &value }, logs);
        }
        self.spend = end;
    }

    pub fn read_policy(&mut self, logs: &mut Logs) {
        while let Some(fact) = logs.policy.get(self.policy).cloned() {
            self.feed(Input::Policy(&fact), logs);
            self.policy += 1;
        }
    }

    /// Reads everything there is.
    pub fn read_all(&mut self, logs: &mut Logs) {
        self.read_limits(logs, usize::MAX / 2);
        self.read_policy(logs);
        self.read_spend(logs, usize::MAX / 2);
    }

    pub fn tick(&mut self, logs: &mut Logs) {
        let now = Micros(logs.now);
        self.feed(Input::Tick { now, spread: 500 }, logs);
    }

    /// Reads, decides and appends until nothing changes.
    pub fn settle(&mut self, logs: &mut Logs) {
        loop {
            self.read_all(logs);
            if !self.ready {
                self.tick(logs);
                self.ready = true;
                self.feed(Input::Ready, logs);
            }
            self.feed(Input::Pause { now: Micros(logs.now) }, logs);
            if self.under_way.is_empty() && self.limits == logs.limits.len() {
                break;
            }
            self.deliver(logs);
        }
        invariants::check(&self.core).unwrap();
    }

    pub fn is_acting(&self) -> bool {
        matches!(self.core.standing(), Standing::Acting { .. })
    }
}

impl Logs {
    pub fn new() -> Self {
        Self { now: START, ..Self::default() }
    }

    fn policy_head(&self) -> Head {
        let number = self.policy.len() as u64;
        let mut head = Head::draft(Micros(self.now), 0, "");
        (head.producer, head.role, head.number) = (ProducerId([200; 16]), Role::Policy, number);
        head
    }

    pub fn publish(&mut self, document: &Document) {
        let published = |fact: &&Fact| matches!(fact, Fact::PolicyPublished(_));
        let fact = PolicyPublished {
            head: self.policy_head(),
            version: self.policy.iter().filter(published).count() as u64 + 1,
            author: "ada".into(),
            approver: None,
            source_revision: None,
            document: document.to_json(),
        };
        self.policy.push(fact.into());
    }

    pub fn issue_key(&mut self, key: &str, organisation: &str) {
        let fact = KeyIssued {
            head: self.policy_head(),
            key: key.into(),
            secret_hash: Digest([1; 32]),
            organisation: organisation.into(),
            team: None,
            project: None,
            tags: BTreeMap::new(),
            models: Vec::new(),
            author: "ada".into(),
        };
        self.policy.push(fact.into());
    }

    pub fn raise(&mut self, budget: &str, change: &str, seconds: i64) {
        let fact = bursar_schemas::facts::BudgetRaised {
            head: self.policy_head(),
            budget: budget.into(),
            change: change.parse().unwrap(),
            expires_at: Some(Micros(self.now + seconds * SECOND)),
            author: "ada".into(),
            reason: "a deadline".into(),
        };
        self.policy.push(fact.into());
    }

    pub fn limits_facts(&self) -> Vec<Fact> {
        self.limits.iter().map(|value| wire::decode(value).unwrap()).collect()
    }
}

/// A ledger that reads both logs from scratch shows the same books, and the same is left to answer; whichever
/// log it reads first, and also when it goes on from a snapshot taken half way.
pub fn check_replay(live: &Core, logs: &Logs) {
    for (spend_first, snapshot) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut logs = logs.clone();
        let mut node = Node::new(99);
        if snapshot {
            let (limits, spend) = (logs.limits.len() / 2, logs.spend.len() / 2);
            node.read_limits(&mut logs, limits);
            node.read_policy(&mut logs);
            node.read_spend(&mut logs, spend);
            node = node.successor(98);
        }
        if spend_first {
            node.read_spend(&mut logs, usize::MAX / 2);
        }
        node.read_all(&mut logs);
        node.feed(Input::Ready, &mut logs);
        node.feed(Input::Pause { now: Micros(logs.now) }, &mut logs);
        assert_eq!(node.core.fold(), live.fold(), "the folds differ");
        assert_eq!(node.core.books(), live.books(), "the books differ; spend first: {spend_first}");
        assert_eq!(node.core.alerts(), live.alerts(), "the alerts differ; spend first: {spend_first}");
        assert_eq!(node.core.waiting(), live.waiting(), "spend first: {spend_first}");
    }
}
