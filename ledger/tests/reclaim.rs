//! What silent holders have unused goes back to bounded accounts, never to hard ones, and never twice.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use bursar_schemas::facts::{CreditReason, Mode};
use bursar_schemas::policy::{Budget, Document, Organisation};
use support::leased::{World, account, hard, money};
use support::{SECOND, check_replay};

fn bounded(id: &str) -> Budget {
    Budget { mode: Mode::Bounded, ..hard(id) }
}

/// The shim has reserved three of its eight dollars over a hard budget and a bounded one.
fn leased() -> World {
    let bounded = bounded("bounded");
    let mut world = World::new([hard("hard"), bounded]);
    world.ask();
    world.reserve("a", "3");
    world.wait(1);
    world
}

#[test]
fn only_bounded_accounts_get_back_what_a_silent_holder_has_unused() {
    let mut world = leased();
    world.wait(110);
    assert!(world.credits().is_empty(), "it may only be slow");
    while !world.node.core.fold().lease(&world.shim.lease(1)).unwrap().revoked {
        world.wait(1);
        assert!(world.logs.now < support::START + 130 * SECOND);
    }
    world.wait(1);
    assert!(world.node.core.fold().lease(&world.shim.lease(1)).unwrap().revoked, "first it is told");
    assert!(world.credits().is_empty(), "and has a while to give it back itself");
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
    let mut world = leased();
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
    let mut world = leased();
    for number in 0..10 {
        world.wait(60);
        world.reserve(&number.to_string(), "0.01");
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
fn a_ledger_that_stood_still_for_a_minute_may_have_missed_whom_it_calls_silent() {
    let mut world = leased();
    world.wait(10);
    world.logs.now += 60 * SECOND;
    world.wait(110);
    assert!(
        world.credits().is_empty(),
        "three minutes of silence, of which it has listened to less than two"
    );
    world.wait(20);
    assert_eq!(world.credits().len(), 1);
}

#[test]
fn a_ledger_that_starts_from_a_snapshot_knows_what_a_time_out_gave_back() {
    let mut world = leased();
    world.wait(130);
    assert_eq!((world.committed("bounded"), world.committed("hard")), (money("3"), money("8")));
    world.node = world.node.successor(101);
    world.wait(1);
    let (organisations, budgets) = (vec![Organisation::new("acme")], vec![hard("hard"), hard("bounded")]);
    world.logs.publish(&Document { organisations, budgets, ..Document::default() });
    world.wait(1);
    world.shim.give_back(1, 1, money("3"), false, &mut world.logs);
    world.wait(1);
    assert_eq!((world.committed("bounded"), world.committed("hard")), (money("3"), money("5")));
    check_replay(&world.node.core, &world.logs);
}

#[test]
fn several_returns_after_a_time_out_all_come_back_to_the_hard_account() {
    let mut world = leased();
    world.wait(130);
    assert_eq!((world.committed("bounded"), world.committed("hard")), (money("3"), money("8")));
    for number in [1, 2] {
        world.shim.give_back(1, number, money("2"), false, &mut world.logs);
    }
    world.wait(1);
    // The time-out's five, which the bounded account has, hold these four; three are in flight.
    assert_eq!((world.committed("bounded"), world.committed("hard")), (money("3"), money("4")));
}

#[test]
fn an_account_that_became_bounded_after_the_time_out_gets_the_whole_return() {
    let mut world = leased();
    world.wait(130);
    assert_eq!((world.committed("bounded"), world.committed("hard")), (money("3"), money("8")));
    let (organisations, budgets) =
        (vec![Organisation::new("acme")], vec![bounded("hard"), bounded("bounded")]);
    world.logs.publish(&Document { organisations, budgets, ..Document::default() });
    world.wait(1);
    // One dollar of the three was used; the fact that says so was lost.
    world.shim.give_back(1, 1, money("7"), true, &mut world.logs);
    world.wait(1);
    assert_eq!((world.committed("bounded"), world.committed("hard")), (money("3"), money("1")));
    check_replay(&world.node.core, &world.logs);
}

#[test]
fn an_account_that_became_hard_after_the_time_out_gets_nothing_twice() {
    let mut world = leased();
    world.wait(130);
    assert_eq!((world.committed("bounded"), world.committed("hard")), (money("3"), money("8")));
    let (organisations, budgets) = (vec![Organisation::new("acme")], vec![hard("hard"), hard("bounded")]);
    world.logs.publish(&Document { organisations, budgets, ..Document::default() });
    world.wait(1);
    // Its holder only slept: five of the eight are in flight.
    world.reserve("b", "2");
    world.shim.give_back(1, 1, money("3"), false, &mut world.logs);
    world.wait(1);
    assert_eq!((world.committed("bounded"), world.committed("hard")), (money("3"), money("5")));
    check_replay(&world.node.core, &world.logs);
}
