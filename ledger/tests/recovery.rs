//! What a dead holder left above its marks goes back once, to the accounts that may take it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use bursar_schemas::facts::{
    AccountRef, CreditReason, Fact, Head, IncarnationEnded, LeaseCredited, LeaseMarked, Recovery, Role,
    ShimRetired,
};
use bursar_schemas::ids::ProducerId;
use bursar_schemas::money::Money;
use bursar_schemas::policy::{Budget, Document, Organisation, Scope};
use bursar_schemas::window::Window;
use bursar_schemas::wire;
use support::shim::Shim;
use support::{Logs, Node, SECOND, check_replay};

fn money(text: &str) -> Money {
    text.parse().unwrap()
}

fn account(budget: &str) -> AccountRef {
    AccountRef { budget: budget.into(), window: 0 }
}

struct World {
    logs: Logs,
    node: Node,
    /// Holds a lease of 8 over both accounts, marked at 5, of which 3 are reserved.
    shim: Shim,
}

impl World {
    fn new() -> Self {
        let scope = Scope::Organisation("acme".into());
        let forfeits = Budget::new("forfeits", scope, Window::Total, money("10"));
        let recovers = Budget { id: "recovers".into(), recovery: Recovery::Journal, ..forfeits.clone() };
        let organisations = vec![Organisation::new("acme")];
        let mut logs = Logs::new();
        let budgets = vec![forfeits, recovers];
        logs.publish(&Document { organisations, budgets, ..Document::default() });
        let mut world = Self { logs, node: Node::new(100), shim: Shim::new(1) };
        world.shim.heads(false, &mut world.logs);
        world.wait(1);
        let accounts = [account("forfeits"), account("recovers")];
        world.mark("2");
        world.shim.ask(1, &accounts, money("8"), money("8"), &mut world.logs);
        world.mark("5");
        world.shim.reserve("a", &accounts, Some(1), money("3"), &mut world.logs);
        world.wait(1);
        world
    }

    fn mark(&mut self, mark: &str) {
        let (head, lease) =
            (Head::draft(bursar_schemas::avro::Micros(self.logs.now), 1, ""), self.shim.lease(1));
        self.shim.write(LeaseMarked { head, lease, mark: money(mark) }, &mut self.logs);
    }

    fn wait(&mut self, seconds: i64) {
        for _ in 0..seconds {
            self.logs.now += SECOND;
            self.node.tick(&mut self.logs);
            self.node.settle(&mut self.logs);
        }
    }

    /// A successor of the holder says that it has ended.
    fn succeed(&mut self) {
        let mut successor = Shim::new(2);
        successor.heads(false, &mut self.logs);
        successor.end(self.shim.producer, &mut self.logs);
        self.wait(2);
    }

    fn retire(&mut self, spend_end: u64) {
        let mut head = Head::draft(bursar_schemas::avro::Micros(self.logs.now), 1, "");
        (head.producer, head.role, head.number) = (ProducerId([77; 16]), Role::Policy, 1000);
        let (author, reason) = ("ada".to_owned(), "burnt".to_owned());
        let incarnation = self.shim.producer;
        let fact = ShimRetired { head, incarnation, partition: 0, spend_end, author, reason };
        self.logs.policy.push(fact.into());
        self.wait(2);
    }

    fn credits(&self) -> Vec<LeaseCredited> {
        let credit = |fact| match fact {
            Fact::LeaseCredited(credit) => Some(*credit),
            _ => None,
        };
        self.logs.limits_facts().into_iter().filter_map(credit).collect()
    }

    fn committed(&self, budget: &str) -> Money {
        self.node.core.fold().committed(&account(budget))
    }
}

#[test]
fn what_lies_above_the_last_mark_goes_back_to_budgets_that_recover() {
    let mut world = World::new();
    world.wait(300);
    assert!(world.credits().is_empty(), "a silent holder may only be slow");
    world.succeed();
    let credits = world.credits();
    assert_eq!(credits.len(), 1);
    assert_eq!((credits[0].reason, credits[0].amount), (CreditReason::Journal, money("3")));
    assert_eq!(credits[0].accounts, [account("recovers")]);
    assert_eq!((world.committed("recovers"), world.committed("forfeits")), (money("5"), money("8")));
    assert!(world.node.core.fold().lease(&world.shim.lease(1)).unwrap().closed);
    world.succeed();
    world.retire(0);
    world.wait(60);
    assert_eq!(world.credits().len(), 1, "once");
    check_replay(&world.node.core, &world.logs);
}

#[test]
fn a_retired_holders_money_goes_back_to_every_budget_once_all_its_marks_were_read() {
    let mut world = World::new();
    let end = u64::try_from(world.logs.spend.len()).unwrap();
    // One fact of it was acknowledged that the ledger has not read.
    world.retire(end + 1);
    assert!(world.credits().is_empty());
    assert!(!world.node.core.fold().has_ended(&world.shim.producer));
    world.mark("6");
    world.wait(2);
    let credits = world.credits();
    assert_eq!(credits.len(), 1);
    assert_eq!((credits[0].reason, credits[0].amount), (CreditReason::Retired, money("2")));
    assert_eq!((world.committed("recovers"), world.committed("forfeits")), (money("6"), money("6")));
    check_replay(&world.node.core, &world.logs);
}

#[test]
fn a_successor_of_the_ledger_recovers_what_its_predecessor_did_not() {
    let mut world = World::new();
    let mut successor = Shim::new(2);
    successor.heads(false, &mut world.logs);
    successor.end(world.shim.producer, &mut world.logs);
    // The first ledger never learns of the end.
    world.node = Node::new(101);
    world.node.read_all(&mut world.logs);
    world.wait(30);
    assert_eq!(world.credits().len(), 1);
    check_replay(&world.node.core, &world.logs);
}

#[test]
fn nothing_is_recovered_from_one_whose_facts_are_missing() {
    let mut world = World::new();
    world.shim.loses_next = true;
    world.mark("7");
    let accounts = [account("forfeits"), account("recovers")];
    world.shim.reserve("b", &accounts, Some(1), money("1"), &mut world.logs);
    world.mark("6");
    world.wait(1);
    world.succeed();
    world.wait(10);
    assert!(world.credits().is_empty(), "a mark may be among them");
    assert!(world.node.core.fold().has_ended(&world.shim.producer));
}

#[test]
fn the_word_of_limits_alone_recovers_nothing() {
    let mut world = World::new();
    // Another ledger says under the same epoch that the holder has ended; nothing in `spend` or `policy` does.
    let mut head = Head::draft(bursar_schemas::avro::Micros(world.logs.now), 1, "");
    (head.producer, head.role) = (ProducerId([78; 16]), Role::Ledger);
    let epoch = world.node.core.fold().epoch().unwrap();
    let incarnation = world.shim.producer;
    let fact = IncarnationEnded { head, epoch, incarnation, cause: 0, read: 1 };
    world.logs.limits.push(wire::encode(&fact.into()));
    world.wait(5);
    assert!(world.node.core.fold().has_ended(&incarnation));
    assert!(world.credits().is_empty());
    world.succeed();
    assert_eq!(world.credits().len(), 1, "its successor does");
}
