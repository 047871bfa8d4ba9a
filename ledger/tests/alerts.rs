//! Alerts: raised when a threshold is crossed, once only, whoever acts and however often; forecasts; after a raise.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use bursar_ledger::core::Input;
use bursar_schemas::facts::{AccountRef, AlertKind, Mode};
use bursar_schemas::money::Money;
use bursar_schemas::policy::Budget;
use bursar_schemas::window::Window;
use support::shim::Shim;
use support::spending::{World, money, soft};
use support::{Node, SECOND, START, check_replay};

const HOUR: i64 = 3600 * SECOND;

fn threshold(percent: u32, limit: &str) -> (&'static str, u32, String) {
    ("threshold", percent, limit.to_owned())
}

#[test]
fn each_threshold_is_told_once_when_it_is_crossed() {
    let mut world = World::new(soft());
    world.spend("4.999999999999");
    assert_eq!(world.told(), []);
    world.spend("0.000000000001");
    assert_eq!(world.told(), [threshold(50, "10.00")]);
    world.spend("2.999999999999");
    assert_eq!(world.told().len(), 1);
    world.spend("0.000000000001");
    assert_eq!(world.told()[1..], [threshold(80, "10.00")]);
    let alert = &world.raised()[1];
    assert_eq!((alert.account.clone(), alert.settled), (world.account(), money("8")));
    assert_eq!(alert.ends_at.unwrap().0 - alert.starts_at.0, 24 * HOUR);
    assert_eq!(alert.read, world.logs.spend.len() as u64);
    world.spend("1");
    assert_eq!(world.told().len(), 2);
    world.spend("50");
    world.spend("50");
    assert_eq!(world.told()[2..], [threshold(100, "10.00")]);
    check_replay(&world.node.core, &world.logs);
    // The next day has its own.
    world.logs.now += 24 * HOUR;
    world.settle();
    world.spend("8");
    assert_eq!(world.told().len(), 5);
    // What is reserved counts for nothing until it is settled.
    let (account, name) = (world.account(), "in flight");
    world.shim.reserve(name, &[account], None, money("100"), &mut world.logs);
    world.settle();
    assert_eq!(world.told().len(), 5);
}

#[test]
fn what_is_not_wanted_is_not_told() {
    let quiet = [
        Budget { mode: Mode::Track, ..soft() },
        Budget { alerts: Some(Vec::new()), ..soft() },
        Budget { each: Some(bursar_schemas::policy::Each::EndUser), ..soft() },
        Budget { amount: Money::ZERO, ..soft() },
    ];
    for budget in quiet {
        let mut world = World::new(budget.clone());
        world.spend("1000");
        assert_eq!(world.told(), [], "{budget:?}");
    }
    let mut world = World::new(Budget { alerts: Some(vec![10, 250]), ..soft() });
    world.spend("24");
    assert_eq!(world.told(), [threshold(10, "10.00")]);
    world.spend("1");
    assert_eq!(world.told()[1..], [threshold(250, "10.00")]);
}

#[test]
fn a_changed_limit_takes_nothing_back_and_counts_for_what_is_still_to_come() {
    let mut world = World::new(soft());
    world.spend("9");
    assert_eq!(world.told(), [threshold(50, "10.00"), threshold(80, "10.00")]);
    world.logs.raise("all", "10", 3600);
    world.settle();
    // 50 and 80 % were told of; 100 % is measured by the limit in force.
    world.spend("10.99");
    assert_eq!(world.told().len(), 2);
    world.spend("0.01");
    assert_eq!(world.told()[2..], [threshold(100, "20.00")]);
    world.logs.now += 2 * HOUR;
    world.settle();
    world.spend("1");
    assert_eq!(world.told().len(), 3, "the raise has ended, and everything was told");
    // A cut can cross a threshold by itself, without a word in `spend`.
    let mut world = World::new(soft());
    world.spend("4.50");
    world.logs.raise("all", "-5", 3600);
    world.settle();
    assert_eq!(world.told(), [threshold(50, "5.00"), threshold(80, "5.00")]);
    check_replay(&world.node.core, &world.logs);
}

#[test]
fn a_successor_tells_what_was_not_told_and_repeats_nothing() {
    let mut world = World::new(soft());
    world.spend("8");
    // The second threshold is crossed, and the acting ledger dies with its record under way.
    world.write("2", "2");
    world.node.read_all(&mut world.logs);
    let now = bursar_schemas::avro::Micros(world.logs.now);
    world.node.feed(Input::Pause { now }, &mut world.logs);
    assert!(!world.node.under_way.is_empty());
    for from_snapshot in [false, true] {
        let mut logs = world.logs.clone();
        let mut next = if from_snapshot { world.node.successor(101) } else { Node::new(101) };
        next.settle(&mut logs);
        assert!(next.is_acting());
        let copy = World { logs, node: next, shim: Shim::new(2), spent: 0 };
        let expected = [50, 80, 100].map(|percent| threshold(percent, "10.00"));
        assert_eq!(copy.told(), expected, "{from_snapshot}");
        let mut copy = copy;
        for _ in 0..3 {
            copy.logs.now += 90 * SECOND;
            copy.settle();
        }
        assert_eq!(copy.told().len(), 3, "{from_snapshot}");
        check_replay(&copy.node.core, &copy.logs);
    }
}

#[test]
fn of_two_ledgers_that_act_at_once_the_first_record_counts() {
    let mut world = World::new(soft());
    world.write("8", "8");
    // The first decides; its record is under way while a second takes over and decides the same.
    world.node.read_all(&mut world.logs);
    let now = bursar_schemas::avro::Micros(world.logs.now);
    world.node.feed(Input::Pause { now }, &mut world.logs);
    let mut second = Node::new(101);
    second.read_all(&mut world.logs);
    second.tick(&mut world.logs);
    second.feed(bursar_ledger::core::Input::Ready, &mut world.logs);
    second.deliver(&mut world.logs);
    second.read_all(&mut world.logs);
    second.feed(Input::Pause { now }, &mut world.logs);
    world.node.deliver(&mut world.logs);
    second.deliver(&mut world.logs);
    assert_eq!(world.told().len(), 4, "both wrote both");
    let mut raised = bursar_schemas::facts::Raised::default();
    let counts: Vec<bool> = world.raised().iter().map(|it| raised.note(it.alert, it.percent)).collect();
    assert_eq!(counts, [true, true, false, false]);
    second.settle(&mut world.logs);
    world.node.settle(&mut world.logs);
    second.tick(&mut world.logs);
    second.settle(&mut world.logs);
    assert_eq!(world.told().len(), 4, "and neither writes it again");
    let first = world.raised()[0].head.producer;
    for node in [&world.node, &second] {
        let listed: Vec<u32> = node.core.alerts().iter().map(|it| it.percent).collect();
        assert_eq!(listed, [50, 80]);
        assert!(node.core.alerts().iter().all(|it| it.producer == first));
    }
}

#[test]
fn a_forecast_is_told_once_a_window_and_not_too_early() {
    let wanted = Budget { alerts: Some(Vec::new()), forecast: Some(true), ..soft() };
    let midnight = START - 12 * HOUR;
    // An hour of twenty-four is less than a twentieth: a wild beginning says nothing yet.
    let mut world = World::at(wanted.clone(), midnight + HOUR);
    world.spend("5");
    assert_eq!(world.told(), []);
    // It is looked at again although nothing more is spent.
    world.logs.now = midnight + 2 * HOUR;
    world.settle();
    assert_eq!(world.told(), [("forecast", 100, "10.00".to_owned())]);
    let alert = &world.raised()[0];
    assert_eq!(alert.alert, AlertKind::Forecast);
    let comes_to = alert.forecast.unwrap();
    assert!(comes_to > money("59.9") && comes_to <= money("60"), "{comes_to}");
    world.spend("1");
    world.logs.raise("all", "5", 3600);
    world.settle();
    world.spend("1");
    assert_eq!(world.told().len(), 1, "once a window");
    // At noon half of the limit is on course, a little more is not.
    let mut world = World::new(wanted.clone());
    world.spend("5");
    assert_eq!(world.told(), []);
    world.spend("0.01");
    assert_eq!(world.told().len(), 1);
    // Less than a tenth of the limit is never news, whatever the pace would be.
    let mut world = World::at(Budget { window: Window::Hour, ..wanted }, START + 200 * SECOND);
    let account = AccountRef { budget: "all".into(), window: START / SECOND };
    world.shim.reserve("r", &[account], None, money("0.99"), &mut world.logs);
    let attempt = world.shim.attempts.remove("r").unwrap();
    world.shim.settle(&attempt, money("0.99"), None, &mut world.logs);
    world.settle();
    assert_eq!(world.told(), []);
}

#[test]
fn an_overrun_of_a_hard_budget_is_told_once() {
    let mut world = World::new(Budget { mode: Mode::Hard, ..soft() });
    world.write("1", "1.5");
    world.write("1", "1.5");
    world.settle();
    assert_eq!(world.told(), [("overrun", 100, "10.00".to_owned())]);
    let mut world = World::new(soft());
    world.write("1", "1.5");
    world.settle();
    assert_eq!(world.told(), [], "elsewhere reservations are estimates");
}
