//! Recalling: only what a holder still has is waited for.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{AccountRef, CreditReason, Head, LeaseCredited, Mode, Role};
use bursar_schemas::ids::ProducerId;
use bursar_schemas::policy::Budget;
use bursar_schemas::wire;
use support::check_replay;
use support::leased::{World, account, hard, money};
use support::shim::Shim;

/// Another ledger writes under the same epoch that some of the shim's lease timed out.
fn confused_time_out(world: &World, number: u64, amount: &str, accounts: &[AccountRef]) -> Vec<u8> {
    let mut head = Head::draft(Micros(world.logs.now), 1, "");
    (head.producer, head.role) = (ProducerId([78; 16]), Role::Ledger);
    let credit = LeaseCredited {
        head,
        epoch: world.node.core.fold().epoch().unwrap(),
        lease: world.shim.lease(1),
        number,
        amount: money(amount),
        accounts: accounts.to_vec(),
        reason: CreditReason::TimedOut,
        cause: None,
        read: 1,
    };
    wire::encode(&credit.into())
}

#[test]
fn what_was_used_is_remembered_after_the_holders_end_beside_a_time_out() {
    let bounded = Budget { mode: Mode::Bounded, ..hard("bounded") };
    let mut world = World::new([bounded, hard("hard")]);
    world.ask();
    world.reserve("a", "3");
    world.wait(1);
    let attempt = world.shim.attempts.remove("a").unwrap();
    world.shim.settle(&attempt, money("3"), None, &mut world.logs);
    let credit = confused_time_out(&world, 77, "0.01", &[account("bounded")]);
    world.logs.limits.push(credit);
    let mut successor = Shim::new(2);
    successor.heads(false, &mut world.logs);
    successor.end(world.shim.producer, &mut world.logs);
    world.wait(1);
    world.shim.give_back(1, 1, money("5"), true, &mut world.logs);
    world.wait(1);
    // With the cent that timed out, the return would leave less committed than is used.
    assert_eq!((world.committed("bounded"), world.committed("hard")), (money("7.99"), money("3")));
    check_replay(&world.node.core, &world.logs);
}

#[test]
fn a_time_out_answers_no_return_that_has_its_number() {
    let mut world = World::new([hard("first"), hard("second")]);
    world.ask();
    world.wait(1);
    // It is void, as both accounts are hard.
    let credit = confused_time_out(&world, 1, "0.01", &[account("first")]);
    world.logs.limits.push(credit);
    world.wait(1);
    world.shim.give_back(1, 1, money("3"), false, &mut world.logs);
    world.wait(1);
    assert_eq!((world.committed("first"), world.committed("second")), (money("5"), money("5")));
    check_replay(&world.node.core, &world.logs);
}

#[test]
fn money_that_was_given_back_and_not_credited_is_not_waited_for() {
    let bounded = Budget { mode: Mode::Bounded, ..hard("bounded") };
    let mut world = World::new([hard("hard"), bounded]);
    let path = [account("bounded"), account("hard")];
    world.shim.ask(1, &path, money("5"), money("5"), &mut world.logs);
    world.reserve("a", "2");
    let mut other = Shim::new(2);
    other.heads(false, &mut world.logs);
    other.ask(1, &path[..1], money("2.5"), money("2.5"), &mut world.logs);
    world.wait(1);
    // A confused ledger says that a little of it timed out: the return then no longer fits beside what is used.
    let credit = confused_time_out(&world, 77, "0.01", &path[..1]);
    world.logs.limits.push(credit);
    world.wait(1);
    world.shim.give_back(1, 1, money("3"), false, &mut world.logs);
    world.wait(1);
    assert_eq!((world.committed("bounded"), world.committed("hard")), (money("7.49"), money("2")));
    // Three more are asked for: 2.51 are free, and only the other shim can give back the rest.
    world.shim.ask(2, &path[..1], money("3"), money("3"), &mut world.logs);
    world.wait(1);
    assert!(world.node.core.fold().lease(&other.lease(1)).unwrap().revoked);
    other.give_back(1, 1, money("2.5"), true, &mut world.logs);
    world.wait(1);
    assert!(world.node.core.fold().lease(&world.shim.lease(2)).is_some());
    check_replay(&world.node.core, &world.logs);
}
