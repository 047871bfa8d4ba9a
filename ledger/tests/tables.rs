//! Tables of what happens and what must follow; each file in `tests/tables` is a story, one step a line.
//!
//! After every line the ledger is compared with one that reads everything from scratch. And each story is told
//! twice more for each of its lines with a restart after it, from nothing and from a snapshot: a new incarnation must go
//! on as if nothing happened, and end with the same books as well.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::BTreeMap;

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{
    AccountRef, Fact, Head, LeaseId, LeaseMarked, LeaseRequested, LeaseReturned, Mode,
};
use bursar_schemas::money::Money;
use bursar_schemas::policy::{Budget, Document, Organisation, Scope, Team};
use support::shim::Shim;
use support::{Logs, Node, SECOND, check_replay};

struct Story {
    logs: Logs,
    node: Node,
    nodes: u8,
    document: Document,
    shims: BTreeMap<String, Shim>,
}

fn money(text: &str) -> Money {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn word<T: serde_from_word::FromWord>(text: &str) -> T {
    T::from_word(text)
}

mod serde_from_word {
    use bursar_schemas::facts::Mode;
    use bursar_schemas::window::Window;

    pub trait FromWord {
        fn from_word(text: &str) -> Self;
    }
    impl FromWord for Mode {
        fn from_word(text: &str) -> Self {
            *Self::ALL.iter().find(|mode| mode.word() == text).expect("a mode")
        }
    }
    impl FromWord for Window {
        fn from_word(text: &str) -> Self {
            *Self::ALL.iter().find(|window| window.word() == text).expect("a window")
        }
    }
}

impl Story {
    fn new() -> Self {
        let organisation = Organisation::new("acme");
        let team = Team {
            id: "red".into(),
            organisation: "acme".into(),
            cost_center: None,
            tags: BTreeMap::new(),
            models: Vec::new(),
        };
        let document =
            Document { organisations: vec![organisation], teams: vec![team], ..Document::default() };
        let (logs, node) = (Logs::new(), Node::new(100));
        Self { logs, node, nodes: 100, document, shims: BTreeMap::new() }
    }

    fn restart(&mut self, from_snapshot: bool) {
        self.nodes += 1;
        self.node = if from_snapshot { self.node.successor(self.nodes) } else { Node::new(self.nodes) };
    }

    /// The accounts of budgets, by `budget,budget`; `budget-1` is the window before the present
    /// one, `budget-2` the one before that.
    fn accounts(&self, names: &str) -> Vec<AccountRef> {
        let account = |name: &str| {
            let (name, back) =
                name.split_once('-').map_or((name, 0), |(name, back)| (name, back.parse().unwrap()));
            let budget = self.document.budgets.iter().find(|budget| budget.id == name);
            let window = budget.map_or(bursar_schemas::window::Window::Day, |budget| budget.window);
            let zone = bursar_schemas::window::zone("UTC").unwrap();
            let mut span = window.span(Micros(self.logs.now), &zone).unwrap();
            for _ in 0..back {
                span = window.span(Micros(span.starts_at.0 - 1), &zone).unwrap();
            }
            AccountRef { budget: name.to_owned(), window: span.id() }
        };
        names.split(',').map(account).collect()
    }

    fn shim(&mut self, name: &str) -> &mut Shim {
        let number = u8::try_from(self.shims.len()).unwrap() + 1;
        self.shims.entry(name.to_owned()).or_insert_with(|| Shim::new(number))
    }

    fn with_shim(&mut self, name: &str, act: impl FnOnce(&mut Shim, &mut Logs)) {
        self.shim(name);
        let mut shim = self.shims.remove(name).unwrap();
        act(&mut shim, &mut self.logs);
        self.shims.insert(name.to_owned(), shim);
    }

    /// Takes a line; what it expects is compared.
    fn tell(&mut self, line: &str) {
        let (action, expected) = line.split_once("->").map_or((line, None), |(a, b)| (a, Some(b.trim())));
        let words: Vec<&str> = action.split_whitespace().collect();
        let lease = self.act(&words);
        self.node.settle(&mut self.logs);
        let found = match words[0] {
            "ask" => Some(self.answer(lease.unwrap())),
            "answer" => {
                let lease = self.shim(words[1]).lease(words[2].parse().unwrap());
                Some(self.answer(lease))
            }
            "books" => Some(self.books(words[1])),
            "committed" => {
                let account = &self.accounts(words[1])[0];
                let state = self.node.core.fold().account(account);
                Some(state.map_or("none".to_owned(), |state| state.committed.dollars()))
            }
            "phase" => {
                let account = &self.accounts(words[1])[0];
                let state = self.node.core.fold().account(account);
                Some(state.map_or("none".to_owned(), |state| state.phase.to_string()))
            }
            "limit" => {
                Some(self.node.core.fold().budget(words[1]).map_or("none".into(), |it| it.amount.dollars()))
            }
            "revoked" => {
                let lease = self.shim(words[1]).lease(words[2].parse().unwrap());
                Some(self.node.core.fold().lease(&lease).is_some_and(|it| it.revoked).to_string())
            }
            "findings" => {
                let new = self.logs.findings.split_off(0);
                let words: Vec<&str> = new.iter().map(|finding| finding.kind.word()).collect();
                Some(if words.is_empty() { "none".to_owned() } else { words.join(" ") })
            }
            _ => None,
        };
        assert_eq!(found.as_deref(), expected, "{line}");
    }

    fn act(&mut self, words: &[&str]) -> Option<LeaseId> {
        let amount = |at: usize| money(words[at]);
        match words[0] {
            "budget" => {
                self.document.budgets.retain(|budget| budget.id != words[1]);
                let mode = words.get(5).map_or(Mode::Hard, |mode| word(mode));
                let scope: Scope = words[2].parse().unwrap();
                let budget = Budget::new(words[1], scope, word(words[3]), amount(4));
                self.document.budgets.push(Budget { mode, ..budget });
            }
            "unbudget" => self.document.budgets.retain(|budget| budget.id != words[1]),
            "publish" => self.logs.publish(&self.document),
            "key" => self.logs.issue_key(words[1], "acme"),
            "raise" => self.logs.raise(words[1], words[2], words[3].parse().unwrap()),
            "wait" => {
                let seconds: i64 = words[1].parse().unwrap();
                for step in [seconds - 1, 1] {
                    self.logs.now += step * SECOND;
                    self.node.read_all(&mut self.logs);
                    self.node.tick(&mut self.logs);
                    self.node.settle(&mut self.logs);
                }
            }
            "ask" => {
                let accounts = self.accounts(words[3]);
                let number = words[2].parse().unwrap();
                self.with_shim(words[1], |shim, logs| {
                    shim.ask(number, &accounts, amount(4), amount(5), logs)
                });
                return Some(self.shim(words[1]).lease(number));
            }
            "return" => {
                let (number, count) = (words[2].parse().unwrap(), words[3].parse().unwrap());
                let last = words.get(5) == Some(&"last");
                self.with_shim(words[1], |shim, logs| shim.give_back(number, count, amount(4), last, logs));
            }
            "reserve" => {
                let accounts = self.accounts(words[3]);
                let lease = words.get(5).map(|number| number.parse().unwrap());
                self.with_shim(words[1], |shim, logs| {
                    shim.reserve(words[2], &accounts, lease, amount(4), logs)
                });
            }
            "settle" | "void" => self.end_attempt(words),
            "end" => {
                let gone = self.shim(words[1]).producer;
                let by = words.get(2).unwrap_or(&words[1]);
                self.with_shim(by, |shim, logs| shim.end(gone, logs));
            }
            "head" => self.with_shim(words[1], |shim, logs| shim.heads(false, logs)),
            "again" => {
                let last = self.logs.spend.last().unwrap().clone();
                self.logs.spend.push(last);
            }
            "lose" => self.shim(words[1]).loses_next = true,
            "garbage" => self.logs.spend.push(b"no fact".to_vec()),
            "stranger" => {
                let mut unseen = Logs::new();
                Shim::new(77).give_back(1, 1, amount(1), false, &mut unseen);
                self.logs.spend.push(unseen.spend.pop().unwrap());
            }
            "impostor" => {
                let holder = self.shim(words[1]).producer;
                Shim::impostor(78).end(holder, &mut self.logs);
            }
            // What another holds: `seize SHIM ask|return|mark HOLDER LEASE AMOUNT`.
            "seize" => {
                let holder = self.shim(words[3]).producer;
                let (lease, amount) = (LeaseId { holder, number: words[4].parse().unwrap() }, amount(5));
                let accounts = self.accounts("day");
                self.with_shim(words[1], |shim, logs| {
                    let head = Head::draft(Micros(logs.now), 1, "");
                    let fact: Fact = match words[2] {
                        "ask" => {
                            LeaseRequested { head, lease, accounts, wanted: amount, minimum: amount }.into()
                        }
                        "return" => LeaseReturned { head, lease, number: 1, amount, last: true }.into(),
                        _ => LeaseMarked { head, lease, mark: amount }.into(),
                    };
                    shim.write(fact, logs);
                });
            }
            _ => {}
        }
        None
    }

    /// `settle SHIM ATTEMPT AMOUNT [by SHIM]`, `void SHIM ATTEMPT [by SHIM]`.
    fn end_attempt(&mut self, words: &[&str]) {
        let by = words.iter().position(|word| *word == "by").map(|at| words[at + 1]);
        let whose = self.shim(words[1]).producer;
        let attempt = self.shim(words[1]).attempts.remove(words[2]).unwrap();
        let dead = by.map(|_| whose);
        self.with_shim(by.unwrap_or(words[1]), |shim, logs| match words[0] {
            "settle" => shim.settle(&attempt, money(words[3]), dead, logs),
            _ => shim.void(&attempt, dead, logs),
        });
        self.shim(words[1]).attempts.insert(words[2].to_owned(), attempt);
    }

    /// The one answer that counts, by the log.
    fn answer(&self, lease: LeaseId) -> String {
        let counted = support::oracle::counted(&self.logs.limits);
        let answers: Vec<String> = counted
            .iter()
            .filter_map(|(_, fact)| match fact {
                Fact::LeaseGranted(it) if it.lease == lease => Some(format!("granted {}", it.amount)),
                Fact::LeaseRefused(it) if it.lease == lease => Some(format!("refused {}", it.reason)),
                _ => None,
            })
            .collect();
        assert!(answers.len() <= 1, "answered more than once: {answers:?}");
        answers.into_iter().next().unwrap_or("waits".to_owned())
    }

    fn books(&self, name: &str) -> String {
        let account = &self.accounts(name)[0];
        let books = self.node.core.books();
        let Some(found) = books.iter().find(|it| it.account() == *account) else { return "none".to_owned() };
        let naive = support::oracle::stand(&self.logs, account);
        assert_eq!(found.settled.pico(), naive.settled, "settled, by the naive ledger");
        assert_eq!(found.reserved.pico(), naive.reserved, "reserved, by the naive ledger");
        assert_eq!(found.leased_idle.pico(), naive.idle, "idle, by the naive ledger");
        assert_eq!(found.stranded.pico(), naive.stranded, "stranded, by the naive ledger");
        let parts =
            [found.limit, found.settled, found.reserved, found.leased_idle, found.stranded, found.available];
        parts.map(|part| part.dollars()).join(" ")
    }
}

fn check(text: &str) {
    let lines: Vec<&str> =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let restarts = (0..lines.len()).flat_map(|line| [(line, false), (line, true)]);
    for restart in std::iter::once(None).chain(restarts.map(Some)) {
        let mut story = Story::new();
        story.node.settle(&mut story.logs);
        for (number, line) in lines.iter().enumerate() {
            story.tell(line);
            if let Some((_, from_snapshot)) = restart.filter(|(line, _)| *line == number) {
                story.restart(from_snapshot);
                story.node.settle(&mut story.logs);
            }
            if restart.is_none() {
                check_replay(&story.node.core, &story.logs);
            }
        }
        check_replay(&story.node.core, &story.logs);
    }
}

macro_rules! tables {
    ($($name:ident)+) => {$(
        #[test]
        fn $name() {
            check(include_str!(concat!("tables/", stringify!($name), ".txt")));
        }
    )+};
}

tables! { grants refusals returns windows policy books producers ends }
