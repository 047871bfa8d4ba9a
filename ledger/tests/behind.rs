//! A ledger that lags behind in `limits` alone knows no grant of leases that `spend` speaks of, and loses nothing of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use bursar_ledger::core::Input;
use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{CreditReason, Mode};
use bursar_schemas::policy::Budget;
use support::leased::{World, hard, money};
use support::{Node, SECOND, check_replay};

fn world() -> World {
    World::new([hard("hard"), Budget { mode: Mode::Bounded, ..hard("bounded") }])
}

#[test]
fn what_is_used_of_a_lease_is_kept_though_it_is_read_before_the_grant() {
    let mut world = world();
    world.ask();
    world.reserve("a", "3");
    world.wait(1);
    let attempt = world.shim.attempts.remove("a").unwrap();
    world.shim.settle(&attempt, money("3"), None, &mut world.logs);
    world.wait(1);
    // A standby begins, and takes over once the holder is silent.
    let mut standby = Node::new(101);
    standby.read_policy(&mut world.logs);
    standby.read_spend(&mut world.logs, usize::MAX / 2);
    standby.ready = true;
    standby.feed(Input::Ready, &mut world.logs);
    world.node = standby;
    world.wait(150);
    let amounts: Vec<_> = world.credits().iter().map(|credit| credit.amount).collect();
    assert_eq!(amounts, [money("5")]);
    assert_eq!(world.committed("bounded"), money("3"));
    check_replay(&world.node.core, &world.logs);
}

#[test]
fn a_return_is_credited_though_a_zombie_reads_it_before_the_grant() {
    let mut world = world();
    // Another ledger takes over while this one stands still, grants, and dies before it answers the return.
    let mut zombie = std::mem::replace(&mut world.node, Node::new(101));
    world.wait(60);
    world.ask();
    world.wait(1);
    assert_eq!(world.committed("hard"), money("8"));
    world.shim.give_back(1, 1, money("8"), true, &mut world.logs);
    assert!(zombie.is_acting(), "as far as it knows");
    zombie.read_spend(&mut world.logs, usize::MAX / 2);
    zombie.feed(Input::Pause { now: Micros(world.logs.now) }, &mut world.logs);
    zombie.deliver(&mut world.logs);
    world.logs.now += 60 * SECOND;
    world.node = zombie;
    world.wait(60);
    let credits = world.credits();
    let counted: Vec<_> = credits.iter().map(|it| (it.reason, it.amount)).collect();
    assert!(counted.contains(&(CreditReason::Returned, money("8"))), "{counted:?}");
    assert_eq!((world.committed("hard"), world.committed("bounded")), (money("0"), money("0")));
    check_replay(&world.node.core, &world.logs);
}
