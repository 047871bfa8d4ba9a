//! Two ledgers, three shims and a broker that delays, judged by a second, naive ledger.
//!
//! Each seed plays a run: ledgers lag, pause, are restarted, and append late, also after they were superseded;
//! shims ask, reserve, settle, return, repeat themselves and die. A failing seed is printed by its assertion.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::BTreeMap;

use bursar_ledger::invariants;
use bursar_schemas::facts::{AccountRef, Fact, LeaseId, Mode};
use bursar_schemas::money::Money;
use bursar_schemas::policy::{Budget, Document, Organisation, Scope, Team};
use bursar_schemas::window::Window;
use bursar_schemas::wire;
use support::shim::Shim;
use support::{Logs, Node, SECOND, check_replay, oracle};

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }
    fn cents(&mut self, most: usize) -> Money {
        Money::from_pico((self.below(most) as i128 + 1) * 10_000_000_000)
    }
}

/// A lease as its holder keeps it: what it may still admit.
struct Held {
    accounts: Vec<AccountRef>,
    left: Money,
    returns: u64,
    over: bool,
}

struct Holder {
    shim: Shim,
    asked: u64,
    read: usize,
    held: BTreeMap<u64, Held>,
    made: u64,
    open: Vec<(String, Option<u64>)>,
}

impl Holder {
    fn new(number: u8) -> Self {
        let shim = Shim::new(number);
        Self { shim, asked: 0, read: 0, held: BTreeMap::new(), made: 0, open: Vec::new() }
    }
}

struct Play {
    random: Random,
    logs: Logs,
    nodes: Vec<Node>,
    /// Ledgers that are gone, with what they had still under way.
    zombies: Vec<Node>,
    holders: Vec<Holder>,
    born: u8,
    accounts: Vec<AccountRef>,
}

fn document() -> Document {
    let organisation = Organisation::new("acme");
    let team = Team {
        id: "red".into(),
        organisation: "acme".into(),
        cost_center: None,
        tags: BTreeMap::new(),
        models: Vec::new(),
    };
    let budget = |id: &str, scope, amount: &str, mode| Budget {
        mode,
        ..Budget::new(id, scope, Window::Day, amount.parse().unwrap())
    };
    let budgets = vec![
        budget("all", Scope::Organisation("acme".into()), "20", Mode::Hard),
        budget("red", Scope::Team("red".into()), "8", Mode::Hard),
        budget("watch", Scope::Team("red".into()), "1", Mode::Soft),
    ];
    Document { organisations: vec![organisation], teams: vec![team], budgets, ..Document::default() }
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut logs = Logs::new();
        logs.publish(&document());
        let day = AccountRef { budget: String::new(), window: (support::START / SECOND) / 86_400 * 86_400 };
        let account = |budget: &str| AccountRef { budget: budget.into(), ..day.clone() };
        Self {
            random: Random(seed),
            logs,
            nodes: vec![Node::new(100), Node::new(101)],
            zombies: Vec::new(),
            holders: (1..=3).map(Holder::new).collect(),
            born: 10,
            accounts: ["all", "red", "watch"].map(account).to_vec(),
        }
    }

    fn step(&mut self) {
        match self.random.below(20) {
            0..=7 => self.ledger_step(),
            8 => {
                self.logs.now += i64::try_from(self.random.below(4) + 1).unwrap() * SECOND;
            }
            9 => self.deliver_late(),
            10 if self.random.below(12) == 0 => self.restart_ledger(),
            11 if self.random.below(40) == 0 => self.shim_dies(),
            _ => self.shim_step(),
        }
    }

    fn ledger_step(&mut self) {
        let which = self.random.below(self.nodes.len());
        let most = self.random.below(8) + 1;
        let node = &mut self.nodes[which];
        match self.random.below(5) {
            0 => node.read_limits(&mut self.logs, most),
            1 => node.read_spend(&mut self.logs, most),
            2 => node.read_policy(&mut self.logs),
            3 => node.tick(&mut self.logs),
            _ => {
                let read = node.limits == self.logs.limits.len() && node.spend == self.logs.spend.len();
                if !node.ready && read && node.policy == self.logs.policy.len() {
                    node.tick(&mut self.logs);
                    node.ready = true;
                    node.feed(bursar_ledger::core::Input::Ready, &mut self.logs);
                }
                let now = bursar_schemas::avro::Micros(self.logs.now);
                node.feed(bursar_ledger::core::Input::Pause { now }, &mut self.logs);
                node.deliver(&mut self.logs);
            }
        }
        invariants::check(&self.nodes[which].core).unwrap();
    }

    /// One record of a ledger, perhaps of one long gone, reaches the log.
    fn deliver_late(&mut self) {
        let all = self.nodes.len() + self.zombies.len();
        let which = self.random.below(all);
        let node = self.nodes.iter_mut().chain(&mut self.zombies).nth(which).unwrap();
        if !node.under_way.is_empty() {
            let first = node.under_way.remove(0);
            if self.random.below(4) == 0 {
                self.logs.limits.push(first.clone());
            }
            self.logs.limits.push(first);
        }
    }

    fn restart_ledger(&mut self) {
        let which = self.random.below(self.nodes.len());
        self.born += 1;
        // From nothing, or from what the one before it had read.
        let next = match self.random.below(2) {
            0 => Node::new(100 + self.born),
            _ => self.nodes[which].successor(100 + self.born),
        };
        let gone = std::mem::replace(&mut self.nodes[which], next);
        self.zombies.push(gone);
    }

    fn shim_dies(&mut self) {
        let which = self.random.below(self.holders.len());
        self.born += 1;
        let mut gone = std::mem::replace(&mut self.holders[which], Holder::new(self.born));
        let heir = &mut self.holders[which];
        heir.shim.end(gone.shim.producer, &mut self.logs);
        for (name, _) in gone.open.drain(..) {
            let attempt = gone.shim.attempts.remove(&name).unwrap();
            heir.shim.settle(&attempt, attempt.reserved, Some(gone.shim.producer), &mut self.logs);
        }
    }

    fn shim_step(&mut self) {
        let which = self.random.below(self.holders.len());
        self.follow(which);
        let path: Vec<AccountRef> = match self.random.below(3) {
            0 => vec![self.accounts[0].clone()],
            1 => self.accounts[..2].to_vec(),
            _ => self.accounts.clone(),
        };
        let holder = &mut self.holders[which];
        match self.random.below(8) {
            0 => {
                holder.asked += 1;
                let minimum = self.random.cents(150);
                let wanted = self.random.cents(400);
                holder.shim.ask(holder.asked, &path, wanted, minimum, &mut self.logs);
            }
            1..=3 => {
                let amount = self.random.cents(60);
                let mut live = holder.held.iter_mut();
                let Some((number, held)) = live.find(|(_, held)| !held.over && held.left >= amount) else {
                    return;
                };
                held.left = held.left.minus(amount);
                holder.made += 1;
                let name = holder.made.to_string();
                holder.shim.reserve(&name, &held.accounts, Some(*number), amount, &mut self.logs);
                holder.open.push((name, Some(*number)));
            }
            4..=5 if !holder.open.is_empty() => {
                // What comes back is not used again: this shim, being simple, leaves it to the last return.
                let (name, _) = holder.open.remove(self.random.below(holder.open.len()));
                let attempt = holder.shim.attempts.remove(&name).unwrap();
                let used = match self.random.below(3) {
                    0 => Money::ZERO,
                    1 => attempt.reserved,
                    _ => Money::from_pico(attempt.reserved.pico() / 3),
                };
                if self.random.below(4) == 0 {
                    holder.shim.void(&attempt, None, &mut self.logs);
                } else {
                    holder.shim.settle(&attempt, used, None, &mut self.logs);
                    if self.random.below(3) == 0 {
                        let again = self.logs.spend.last().unwrap().clone();
                        self.logs.spend.push(again);
                    }
                }
            }
            6 => {
                let mut live =
                    holder.held.iter_mut().filter(|(_, held)| !held.over && held.left.is_positive());
                let Some((number, held)) = live.next() else { return };
                let amount = Money::from_pico(held.left.pico() / 2).max(Money::from_pico(1));
                held.left = held.left.minus(amount);
                held.returns += 1;
                holder.shim.give_back(*number, held.returns, amount, false, &mut self.logs);
            }
            _ => holder.shim.heads(false, &mut self.logs),
        }
    }

    /// The shim reads `limits` and keeps the leases granted to it; a revoked one is returned.
    fn follow(&mut self, which: usize) {
        let counted = oracle::counted(&self.logs.limits);
        let holder = &mut self.holders[which];
        let from = holder.read as u64;
        for (offset, fact) in counted.iter().filter(|(offset, _)| *offset >= from) {
            holder.read = usize::try_from(*offset).unwrap() + 1;
            if let Fact::LeaseGranted(grant) = fact
                && grant.lease.holder == holder.shim.producer
            {
                let held =
                    Held { accounts: grant.accounts.clone(), left: grant.amount, returns: 0, over: false };
                holder.held.insert(grant.lease.number, held);
            }
        }
        let revoked: Vec<LeaseId> = (self.logs.limits.iter())
            .filter_map(|value| match wire::decode(value).unwrap() {
                Fact::LeaseRevoked(it) if it.lease.holder == holder.shim.producer => Some(it.lease),
                _ => None,
            })
            .collect();
        for lease in revoked {
            let in_flight = holder.open.iter().any(|(_, number)| *number == Some(lease.number));
            let Some(held) = holder.held.get_mut(&lease.number).filter(|held| !held.over && !in_flight)
            else {
                continue;
            };
            held.over = true;
            held.returns += 1;
            let left = std::mem::take(&mut held.left);
            holder.shim.give_back(lease.number, held.returns, left, true, &mut self.logs);
        }
    }

    /// All faults end; everything under way arrives, and one ledger reads it all.
    fn end(mut self, seed: u64) {
        for node in self.zombies.iter_mut().chain(&mut self.nodes) {
            node.deliver(&mut self.logs);
        }
        for _ in 0..3 {
            self.logs.now += 40 * SECOND;
            for node in &mut self.nodes {
                node.tick(&mut self.logs);
                node.settle(&mut self.logs);
            }
        }
        for node in &mut self.nodes {
            node.settle(&mut self.logs);
        }
        let acting = self.nodes.iter().filter(|node| node.is_acting()).count();
        assert_eq!(acting, 1, "seed {seed}: exactly one ledger acts in the end");
        for node in &self.nodes {
            check_replay(&node.core, &self.logs);
            self.judge(seed, node);
        }
    }

    fn judge(&self, seed: u64, node: &Node) {
        for books in node.core.books() {
            let naive = oracle::stand(&self.logs, &books.account());
            let found = oracle::Naive {
                settled: books.settled.pico(),
                reserved: books.reserved.pico(),
                committed: books.committed.pico(),
                idle: books.leased_idle.pico(),
                stranded: books.stranded.pico(),
            };
            assert_eq!(found, naive, "seed {seed}: {} by the naive ledger", books.budget);
            invariants::l5_committed_within_limit(&books).unwrap();
            if books.mode == Mode::Hard {
                let spent = books.settled.plus(books.reserved);
                assert!(spent <= books.limit, "seed {seed}: {} is overspent", books.budget);
            }
        }
        assert_eq!(node.core.waiting().1, 0, "seed {seed}: every request is answered");
    }
}

#[test]
fn whatever_happens_the_naive_ledger_agrees() {
    let mut grants = 0;
    for seed in 0..40 {
        let mut play = Play::new(seed);
        for _ in 0..600 {
            play.step();
        }
        grants += oracle::counted(&play.logs.limits)
            .iter()
            .filter(|(_, fact)| matches!(fact, Fact::LeaseGranted(_)))
            .count();
        play.end(seed);
    }
    assert!(grants > 40, "the runs hardly did anything: {grants} grants");
}
