//! What silent holders have unused goes back to bounded accounts, never to hard ones, and never twice.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use bursar_schemas::facts::{AccountRef, CreditReason, Fact, LeaseCredited, Mode};
use bursar_schemas::money::Money;
use bursar_schemas::policy::{Budget, Document, Organisation, Scope};
use bursar_schemas::window::Window;
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
    /// Holds a lease of 8 over both accounts, of which 3 are reserved.
    shim: Shim,
}

impl World {
    fn new() -> Self {
        let scope = Scope::Organisation("acme".into());
        let hard = Budget::new("hard", scope, Window::Total, money("10"));
        let bounded = Budget { id: "bounded".into(), mode: Mode::Bounded, ..hard.clone() };
        let organisations = vec![Organisation::new("acme")];
        let mut logs = Logs::new();
        logs.publish(&Document { organisations, budgets: vec![hard, bounded], ..Document::default() });
        let (node, shim) = (Node::new(100), Shim::new(1));
        let mut world = Self { logs, node, shim };
        world.shim.heads(false, &mut world.logs);
        world.wait(1);
        let accounts = [account("bounded"), account("hard")];
        world.shim.ask(1, &accounts, money("8"), money("8"), &mut world.logs);
        world.shim.reserve("a", &accounts, Some(1), money("3"), &mut world.logs);
        world.wait(1);
        world
    }

    fn wait(&mut self, seconds: i64) {
        for _ in 0..seconds {
            self.logs.now += SECOND;
            self.node.tick(&mut self.logs);
            self.node.settle(&mut self.logs);
        }
    }

    fn credits(&self) -> Vec<LeaseCredited> {
        let credit = |fact| match fact {
            Fact::LeaseCredited(credit) => Some(*credit),
            _ => None,
        };
        self.logs.limits_facts().into_iter().filter_map(credit).collect()
    }

    fn committed(&self, budget: &str) -> Money {
        self.node.core.fold().account(&account(budget)).unwrap().committed
    }
}

#[test]
fn only_bounded_accounts_get_back_what_a_silent_holder_has_unused() {
    let mut world = World::new();
    world.wait(110);
    assert!(world.credits().is_empty(), "it may only be slow");
    world.wait(10);
    assert!(world.node.core.fold().lease(&world.shim.lease(1)).unwrap().revoked, "first it is told");
    world.wait(10);
    let credits = world.credits();
    assert_eq!(credits.len(), 1);
    assert_eq!((credits[0].reason, credits[0].amount), (CreditReason::TimedOut, money("5")));
    assert_eq!(credits[0].accounts, [account("bounded")]);
    assert_eq!((world.committed("bounded"), world.committed("hard")), (money("3"), money("8")));
    world.wait(600);
    assert_eq!(world.credits().len(), 1, "once");
    check_replay(&world.node.core, &world.logs);
}

#[test]
fn a_holder_that_comes_back_returns_what_was_not_reclaimed() {
    let mut world = World::new();
    world.wait(150);
    world.wait(10);
    assert_eq!(world.committed("bounded"), money("3"));
    let attempt = world.shim.attempts.remove("a").unwrap();
    world.shim.settle(&attempt, money("1"), None, &mut world.logs);
    world.shim.give_back(1, 1, money("7"), true, &mut world.logs);
    world.wait(1);
    // Five of the seven are back at the bounded account; the rest stays committed, so that nothing is credited twice.
    assert_eq!((world.committed("bounded"), world.committed("hard")), (money("3"), money("1")));
    let returned = world.credits().pop().unwrap();
    assert_eq!((returned.reason, returned.accounts), (CreditReason::Returned, vec![account("hard")]));
    check_replay(&world.node.core, &world.logs);
}

#[test]
fn a_holder_that_is_heard_keeps_its_lease_and_a_new_ledger_listens_first() {
    let mut world = World::new();
    for number in 0..10 {
        world.wait(60);
        let accounts = [account("bounded"), account("hard")];
        world.shim.reserve(&number.to_string(), &accounts, Some(1), money("0.01"), &mut world.logs);
    }
    assert!(world.credits().is_empty());
    // It falls silent, and so does the ledger, whose successor cannot know whom it missed.
    world.logs.now += 3600 * SECOND;
    let mut successor = world.node.successor(101);
    std::mem::swap(&mut world.node, &mut successor);
    world.wait(100);
    assert!(world.credits().is_empty());
    // Nor can one that stood still itself.
    world.logs.now += 3600 * SECOND;
    world.wait(100);
    assert!(world.credits().is_empty());
    world.wait(30);
    assert_eq!(world.credits().len(), 1);
}

#[test]
fn several_returns_after_a_time_out_all_come_back_to_the_hard_account() {
    let mut world = World::new();
    world.wait(130);
    assert_eq!((world.committed("bounded"), world.committed("hard")), (money("3"), money("8")));
    for number in [1, 2] {
        world.shim.give_back(1, number, money("2"), false, &mut world.logs);
    }
    world.wait(1);
    // To the bounded account only what fits beside the time-out's five.
    assert_eq!((world.committed("bounded"), world.committed("hard")), (money("1"), money("4")));
}
