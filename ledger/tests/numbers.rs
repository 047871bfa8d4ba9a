//! A lease's number is used up once it is over, and no other of its holder is.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use bursar_schemas::facts::{AccountRef, Fact, Phase};
use bursar_schemas::policy::Budget;
use bursar_schemas::window::Window;
use support::leased::{World, account, hard, money};
use support::{SECOND, check_replay};

#[test]
fn an_earlier_number_is_granted_while_the_window_of_a_later_one_is_being_closed() {
    let mut world = World::new([hard("total"), Budget { window: Window::Hour, ..hard("hour") }]);
    let now = bursar_schemas::avro::Micros(world.logs.now);
    let (hour, _) = world.node.core.fold().account_at("hour", now).unwrap();
    let hour: AccountRef = hour.clone();
    world.shim.ask(2, std::slice::from_ref(&hour), money("1"), money("1"), &mut world.logs);
    world.wait(1);
    assert!(world.node.core.fold().lease(&world.shim.lease(2)).is_some());
    // The hour drains, and then its close is on its way to the log, beside a question under a lower number.
    world.logs.now += 3600 * SECOND;
    world.wait(1);
    assert_eq!(world.node.core.fold().account(&hour).unwrap().phase, Phase::Draining);
    world.logs.now += 3600 * SECOND;
    world.node.tick(&mut world.logs);
    assert!(!world.node.under_way.is_empty(), "the close is on its way");
    world.shim.ask(1, &[account("total")], money("1"), money("1"), &mut world.logs);
    world.node.read_spend(&mut world.logs, 1);
    world.node.settle(&mut world.logs);
    let answers: Vec<Fact> = world
        .logs
        .limits_facts()
        .into_iter()
        .filter(|fact| match fact {
            Fact::LeaseGranted(it) => it.lease.number == 1,
            Fact::LeaseRefused(it) => it.lease.number == 1,
            _ => false,
        })
        .collect();
    assert!(matches!(answers[..], [Fact::LeaseGranted(_)]), "{answers:?}");
    assert!(world.node.core.fold().account(&hour).is_none());
    check_replay(&world.node.core, &world.logs);
}
