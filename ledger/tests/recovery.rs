//! What a dead holder left above its marks goes back once, to the accounts that may take it.
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
use bursar_schemas::facts::{
    CreditReason, FindingKind, Head, IncarnationEnded, LeaseCredited, Mode, Recovery, Role, ShimRetired,
};
use bursar_schemas::ids::ProducerId;
use bursar_schemas::policy::{Budget, Document, Organisation};
use bursar_schemas::wire;
use support::leased::{World, account, hard, money};
use support::shim::Shim;
use support::{Node, check_replay};

/// The shim has reserved three of its eight dollars, marked at five, over a budget that recovers by marks and one that
/// does not.
fn marked() -> World {
    let recovers = Budget { recovery: Recovery::Journal, ..hard("recovers") };
    let mut world = World::new([hard("forfeits"), recovers]);
    world.mark("2");
    world.ask();
    world.mark("5");
    world.reserve("a", "3");
    world.wait(1);
    world
}

/// A successor of the holder says that it has ended.
fn succeed(world: &mut World) {
    let mut successor = Shim::new(2);
    successor.heads(false, &mut world.logs);
    successor.end(world.shim.producer, &mut world.logs);
    world.wait(2);
}

fn retire(world: &mut World, spend_end: u64) {
    let mut head = Head::draft(Micros(world.logs.now), 1, "");
    (head.producer, head.role, head.number) = (ProducerId([77; 16]), Role::Policy, 1000);
    let (author, reason) = ("ada".to_owned(), "burnt".to_owned());
    let incarnation = world.shim.producer;
    let fact = ShimRetired { head, incarnation, partition: 0, spend_end, author, reason };
    world.logs.policy.push(fact.into());
    world.wait(2);
}

#[test]
fn what_lies_above_the_last_mark_goes_back_to_budgets_that_recover() {
    let mut world = marked();
    world.wait(300);
    assert!(world.credits().is_empty(), "a silent holder may only be slow");
    succeed(&mut world);
    let credits = world.credits();
    assert_eq!(credits.len(), 1);
    assert_eq!((credits[0].reason, credits[0].amount), (CreditReason::Journal, money("3")));
    assert_eq!(credits[0].accounts, [account("recovers")]);
    assert_eq!((world.committed("recovers"), world.committed("forfeits")), (money("5"), money("8")));
    assert!(world.node.core.fold().lease(&world.shim.lease(1)).is_none());
    succeed(&mut world);
    retire(&mut world, 0);
    world.wait(60);
    assert_eq!(world.credits().len(), 1, "once");
    check_replay(&world.node.core, &world.logs);
}

#[test]
fn a_retired_holders_money_goes_back_to_every_budget_once_all_its_marks_were_read() {
    let mut world = marked();
    let end = u64::try_from(world.logs.spend.len()).unwrap();
    // One fact of it was acknowledged that the ledger has not read.
    retire(&mut world, end + 1);
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
    let mut world = marked();
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
    let mut world = marked();
    world.shim.loses_next = true;
    world.mark("7");
    world.reserve("b", "1");
    world.mark("6");
    world.wait(1);
    succeed(&mut world);
    world.wait(10);
    assert!(world.credits().is_empty(), "a mark may be among them");
    assert!(world.node.core.fold().has_ended(&world.shim.producer));
}

#[test]
fn a_snapshot_remembers_whose_facts_are_missing() {
    let mut world = marked();
    world.shim.loses_next = true;
    world.mark("7");
    world.reserve("b", "1");
    world.wait(1);
    world.node = world.node.successor(101);
    world.mark("6");
    world.wait(30);
    succeed(&mut world);
    world.wait(10);
    assert!(world.node.core.fold().has_ended(&world.shim.producer));
    assert!(world.credits().is_empty(), "a mark is missing");
}

#[test]
fn a_snapshot_remembers_who_has_ended_and_is_not_recovered_yet() {
    let mut world = marked();
    let mut successor = Shim::new(2);
    successor.heads(false, &mut world.logs);
    successor.end(world.shim.producer, &mut world.logs);
    // It is read, and nothing is decided yet.
    world.node.read_spend(&mut world.logs, usize::MAX / 2);
    world.node = world.node.successor(101);
    world.wait(30);
    assert_eq!(world.credits().len(), 1);
    check_replay(&world.node.core, &world.logs);
}

/// Another ledger writes under the same epoch that what the holder left came back.
fn confused_recovery(world: &World) -> Vec<u8> {
    let mut head = Head::draft(Micros(world.logs.now), 1, "");
    (head.producer, head.role) = (ProducerId([78; 16]), Role::Ledger);
    let credit = LeaseCredited {
        head,
        epoch: world.node.core.fold().epoch().unwrap(),
        lease: world.shim.lease(1),
        number: 0,
        amount: money("3"),
        accounts: vec![account("recovers")],
        reason: CreditReason::Journal,
        cause: None,
        read: 1,
    };
    wire::encode(&credit.into())
}

#[test]
fn what_a_confused_ledger_says_of_a_living_holder_hinders_no_recovery_after_its_end() {
    let mut world = marked();
    let credit = confused_recovery(&world);
    world.logs.limits.push(credit);
    world.wait(1);
    assert_eq!(world.committed("recovers"), money("8"), "who lives may use it yet");
    succeed(&mut world);
    world.wait(1);
    assert_eq!((world.committed("recovers"), world.committed("forfeits")), (money("5"), money("8")));
    check_replay(&world.node.core, &world.logs);
}

#[test]
fn the_word_of_limits_alone_recovers_nothing() {
    let mut world = marked();
    // Another ledger says under the same epoch that the holder has ended; nothing in `spend` or `policy` does.
    let mut head = Head::draft(Micros(world.logs.now), 1, "");
    (head.producer, head.role) = (ProducerId([78; 16]), Role::Ledger);
    let epoch = world.node.core.fold().epoch().unwrap();
    let incarnation = world.shim.producer;
    let fact = IncarnationEnded { head, epoch, incarnation, cause: 0, read: 1 };
    world.logs.limits.push(wire::encode(&fact.into()));
    world.wait(5);
    assert!(world.node.core.fold().has_ended(&incarnation));
    assert!(world.credits().is_empty());
    succeed(&mut world);
    assert_eq!(world.credits().len(), 1, "its successor does");
}

#[test]
fn what_a_time_out_gave_back_does_not_come_back_again() {
    let recovers = Budget { mode: Mode::Bounded, recovery: Recovery::Journal, ..hard("recovers") };
    let mut world = World::new([hard("forfeits"), recovers]);
    world.mark("5");
    world.ask();
    world.reserve("a", "3");
    world.wait(300);
    assert_eq!((world.credits().len(), world.committed("recovers")), (1, money("3")));
    succeed(&mut world);
    assert_eq!((world.credits().len(), world.committed("recovers")), (1, money("3")));
    check_replay(&world.node.core, &world.logs);
}

#[test]
fn what_a_time_out_gave_back_does_not_come_back_to_a_budget_that_became_hard() {
    let bounded = Budget { mode: Mode::Bounded, recovery: Recovery::Journal, ..hard("recovers") };
    let mut world = World::new([hard("forfeits"), bounded]);
    world.mark("5");
    world.ask();
    world.reserve("a", "3");
    world.wait(300);
    assert_eq!((world.credits().len(), world.committed("recovers")), (1, money("3")));
    let recovers = Budget { recovery: Recovery::Journal, ..hard("recovers") };
    let (organisations, budgets) = (vec![Organisation::new("acme")], vec![hard("forfeits"), recovers]);
    world.logs.publish(&Document { organisations, budgets, ..Document::default() });
    world.wait(1);
    succeed(&mut world);
    assert_eq!((world.credits().len(), world.committed("recovers")), (1, money("3")));
    check_replay(&world.node.core, &world.logs);
}

#[test]
fn nothing_is_recovered_by_marks_read_before_records_that_are_lost() {
    let mut world = marked();
    let end = u64::try_from(world.logs.spend.len()).unwrap();
    world.node.feed(Input::SpendLost { first: end, last: end + 3 }, &mut world.logs);
    world.logs.spend.resize(world.logs.spend.len() + 4, Vec::new());
    world.node.spend += 4;
    let lost = world.logs.findings.pop().unwrap();
    assert_eq!((lost.kind, lost.first, lost.last), (FindingKind::Lost, end, end + 3));
    succeed(&mut world);
    assert!(world.node.core.fold().has_ended(&world.shim.producer));
    assert!(world.credits().is_empty(), "a mark may be among them");
}
