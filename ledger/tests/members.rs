//! Budgets that give each member an account of its own: opened when first named, bounded in number, followed by policy.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use bursar_schemas::facts::{AccountRef, Fact, LeaseRefusal, Mode, Phase};
use bursar_schemas::money::Money;
use bursar_schemas::policy::{Budget, Document, Each, Organisation, Scope, UNNAMED};
use bursar_schemas::window::Window;
use support::shim::Shim;
use support::{Logs, Node, SECOND, START, check_replay};

const ALICE: &str = "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a";
const BOB: &str = "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b";
const EVE: &str = "0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e";
const DAY: i64 = 86_400;

fn money(text: &str) -> Money {
    text.parse().unwrap()
}

fn each_user(amount: &str, window: Window, members: Option<u32>) -> Document {
    let scope = Scope::Organisation("acme".into());
    let each = Budget {
        each: Some(Each::EndUser),
        members,
        ..Budget::new("user", scope.clone(), window, money(amount))
    };
    let all = Budget::new("all", scope, Window::Month, money("100"));
    let organisations = vec![Organisation::new("acme")];
    Document { organisations, budgets: vec![all, each], ..Document::default() }
}

fn today(now: i64) -> i64 {
    now / SECOND / DAY * DAY
}

fn of(member: &str, now: i64) -> AccountRef {
    AccountRef { budget: format!("user/{member}"), window: today(now) }
}

fn all() -> AccountRef {
    // The first second of November 2026.
    AccountRef { budget: "all".into(), window: 1_793_491_200 }
}

struct World {
    logs: Logs,
    node: Node,
    shim: Shim,
    asked: u64,
}

impl World {
    fn new(document: &Document) -> Self {
        let mut logs = Logs::new();
        logs.publish(document);
        let (mut node, mut shim) = (Node::new(100), Shim::new(1));
        shim.heads(false, &mut logs);
        node.settle(&mut logs);
        node.tick(&mut logs);
        node.settle(&mut logs);
        Self { logs, node, shim, asked: 0 }
    }

    fn settle(&mut self) {
        self.node.settle(&mut self.logs);
    }

    /// What became of a request for a lease: the amount, or why not.
    fn ask(&mut self, accounts: &[AccountRef], minimum: &str) -> Result<Money, LeaseRefusal> {
        self.asked += 1;
        let from = self.logs.limits.len();
        self.shim.ask(self.asked, accounts, money(minimum), money(minimum), &mut self.logs);
        self.settle();
        // What is idle is recalled first; a shim that gives nothing back is waited for only so long.
        self.logs.now += 3 * SECOND;
        self.node.tick(&mut self.logs);
        self.settle();
        let answers = self.logs.limits_facts().split_off(from);
        let answer = answers.into_iter().find_map(|fact| match fact {
            Fact::LeaseGranted(it) if it.lease.number == self.asked => Some(Ok(it.amount)),
            Fact::LeaseRefused(it) if it.lease.number == self.asked => Some(Err(it.reason)),
            _ => None,
        });
        answer.expect("every request is answered")
    }

    fn phase(&self, account: &AccountRef) -> Option<Phase> {
        self.node.core.fold().account(account).map(|it| it.phase)
    }

    fn limit(&self, member: &str) -> Option<Money> {
        self.node.core.fold().budget(&format!("user/{member}")).map(|it| it.amount)
    }
}

#[test]
fn the_first_request_of_a_member_opens_its_account_and_is_granted() {
    let mut world = World::new(&each_user("5", Window::Day, None));
    assert!(world.node.core.fold().budget("user").is_none(), "the budget itself has no account");
    let (alice, bob) = (of(ALICE, START), of(BOB, START));
    assert_eq!(world.phase(&alice), None);
    assert_eq!(world.ask(&[all(), alice.clone()], "5"), Ok(money("5")));
    assert_eq!(world.limit(ALICE), Some(money("5")));
    assert_eq!(world.ask(&[all(), alice.clone()], "1"), Err(LeaseRefusal::InFlight));
    assert_eq!(world.ask(&[all(), bob], "5"), Ok(money("5")), "another member has money of its own");
    assert_eq!(world.ask(&[all(), of(UNNAMED, START)], "5"), Ok(money("5")));
    // Neither a member that cannot be one nor a budget that gives nobody an account.
    assert_eq!(world.ask(&[all(), of("alice", START)], "1"), Err(LeaseRefusal::UnknownBudget));
    let stray = AccountRef { budget: format!("all/{ALICE}"), window: today(START) };
    assert_eq!(world.ask(&[stray], "1"), Err(LeaseRefusal::UnknownBudget));
    let books = world.node.core.books();
    let own = books.iter().find(|it| it.budget == alice.budget).unwrap();
    assert_eq!(own.scope, Some(Scope::Organisation("acme".into())));
    check_replay(&world.node.core, &world.logs);
}

#[test]
fn a_reservation_alone_opens_an_account_that_only_counts() {
    let mut document = each_user("5", Window::Day, None);
    document.budgets[1].mode = Mode::Track;
    let mut world = World::new(&document);
    let alice = of(ALICE, START);
    world.shim.reserve("a", &[all(), alice.clone()], None, money("2"), &mut world.logs);
    world.settle();
    assert_eq!(world.phase(&alice), Some(Phase::Open));
    let books = world.node.core.books();
    assert_eq!(books.iter().find(|it| it.budget == alice.budget).unwrap().reserved, money("2"));
    check_replay(&world.node.core, &world.logs);
}

#[test]
fn windows_open_on_demand_only_and_closed_ones_are_forgotten() {
    let mut world = World::new(&each_user("5", Window::Day, None));
    world.ask(&[all(), of(ALICE, START)], "5").unwrap();
    for _ in 0..3 {
        world.logs.now += DAY * SECOND;
        world.node.tick(&mut world.logs);
        world.settle();
        world.node.tick(&mut world.logs);
        world.settle();
    }
    let accounts: Vec<_> = world.node.core.fold().accounts().map(|(account, _)| account.clone()).collect();
    let quiet = accounts.iter().filter(|it| it.budget.starts_with("user/") && it.window != today(START));
    assert_eq!(quiet.count(), 0, "a quiet member has no new window: {accounts:?}");
    assert_eq!(world.phase(&of(ALICE, START)), Some(Phase::Closed), "a lease still names it");
    let now = world.logs.now;
    assert_eq!(world.ask(&[all(), of(ALICE, START)], "1"), Err(LeaseRefusal::WindowNotOpen), "it is over");
    assert_eq!(world.ask(&[all(), of(ALICE, now)], "5"), Ok(money("5")), "a new day, the whole amount");
}

#[test]
fn the_current_window_opens_before_the_next_one() {
    let mut world = World::new(&each_user("5", Window::Day, None));
    world.logs.now = START + (DAY / 2 - 10) * SECOND;
    world.node.tick(&mut world.logs);
    world.settle();
    let (before, after) = (of(ALICE, START), of(ALICE, START + DAY * SECOND));
    // A shim whose clock is ahead names tomorrow first.
    assert_eq!(world.ask(&[all(), after], "4"), Ok(money("4")));
    assert_eq!(world.ask(&[all(), before], "5"), Ok(money("5")));
}

#[test]
fn there_are_never_more_members_than_policy_allows() {
    let mut world = World::new(&each_user("5", Window::Day, Some(2)));
    for member in [ALICE, BOB] {
        world.ask(&[all(), of(member, START)], "1").unwrap();
    }
    assert_eq!(world.ask(&[all(), of(EVE, START)], "1"), Err(LeaseRefusal::UnknownBudget));
    world.node = world.node.successor(101);
    world.settle();
    assert_eq!(
        world.ask(&[all(), of(EVE, START)], "1"),
        Err(LeaseRefusal::UnknownBudget),
        "nor after a restart"
    );
    assert_eq!(world.ask(&[all(), of(ALICE, START)], "1"), Ok(money("1")));
    world.logs.publish(&each_user("5", Window::Day, Some(3)));
    world.settle();
    assert_eq!(world.ask(&[all(), of(EVE, START)], "1"), Ok(money("1")));
}

#[test]
fn members_that_are_named_at_once_are_counted_while_their_limits_are_under_way() {
    let mut document = each_user("5", Window::Day, Some(2));
    document.budgets[1].mode = Mode::Track;
    let mut world = World::new(&document);
    for (name, member) in [("a", ALICE), ("b", BOB), ("e", EVE)] {
        world.shim.reserve(name, &[all(), of(member, START)], None, money("1"), &mut world.logs);
    }
    world.settle();
    assert_eq!([ALICE, BOB, EVE].map(|it| world.limit(it)), [Some(money("5")), Some(money("5")), None]);
}

#[test]
fn policy_and_raises_reach_every_member() {
    let mut world = World::new(&each_user("5", Window::Day, None));
    for member in [ALICE, BOB] {
        world.ask(&[all(), of(member, START)], "1").unwrap();
    }
    world.logs.publish(&each_user("7", Window::Day, None));
    world.settle();
    assert_eq!([ALICE, BOB].map(|it| world.limit(it)), [Some(money("7")); 2]);
    world.logs.raise("user", "2", 60);
    world.logs.raise(&format!("user/{BOB}"), "1", 30);
    world.settle();
    assert_eq!([ALICE, BOB].map(|it| world.limit(it)), [Some(money("9")), Some(money("10"))]);
    world.logs.now += 40 * SECOND;
    world.node.tick(&mut world.logs);
    world.settle();
    assert_eq!([ALICE, BOB].map(|it| world.limit(it)), [Some(money("9")); 2]);
    world.logs.now += 40 * SECOND;
    world.node.tick(&mut world.logs);
    world.settle();
    assert_eq!([ALICE, BOB].map(|it| world.limit(it)), [Some(money("7")); 2]);
    // The budget goes: nobody has anything any more, as with any other.
    let mut document = each_user("5", Window::Day, None);
    document.budgets.pop();
    world.logs.publish(&document);
    world.settle();
    assert_eq!([ALICE, BOB].map(|it| world.limit(it)), [Some(Money::ZERO); 2]);
    check_replay(&world.node.core, &world.logs);
}

#[test]
fn another_kind_of_window_takes_hold_while_the_old_one_is_open() {
    let mut world = World::new(&each_user("5", Window::Total, None));
    let total = AccountRef { budget: format!("user/{ALICE}"), window: 0 };
    world.ask(&[total], "5").unwrap();
    world.logs.publish(&each_user("5", Window::Day, None));
    world.settle();
    let now = bursar_schemas::avro::Micros(START);
    let (account, _) = world.node.core.fold().account_at(&format!("user/{ALICE}"), now).unwrap();
    assert_eq!(account.window, today(START));
}
