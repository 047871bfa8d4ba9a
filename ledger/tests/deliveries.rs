//! Telling webhooks of alerts: what is due, and that what became of it is said once and outlives whoever said it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use bursar_ledger::core::{Core, Input, Told};
use bursar_schemas::facts::{AccountRef, AlertDelivered, Fact};
use bursar_schemas::policy::{Budget, Scope, Webhook};
use bursar_schemas::window::Window;
use support::spending::{World, document, money, soft};
use support::{Logs, Node, SECOND, check_replay};

const HOUR: i64 = 3600 * SECOND;

fn webhook(id: &str, budgets: &[&str]) -> Webhook {
    Webhook {
        id: id.into(),
        url: "https://hooks.example".into(),
        secret: "env:HOOK".into(),
        budgets: budgets.iter().map(|id| (*id).to_owned()).collect(),
        scopes: Vec::new(),
        allow_http: false,
    }
}

/// What is due: webhook and percentage.
fn due(core: &Core, most: usize) -> Vec<(String, u32)> {
    core.due_deliveries(most).into_iter().map(|(alert, webhook)| (webhook, alert.percent)).collect()
}

fn named(webhook: &str, percent: u32) -> (String, u32) {
    (webhook.to_owned(), percent)
}

fn delivered(logs: &Logs) -> Vec<AlertDelivered> {
    let delivered = |fact| match fact {
        Fact::AlertDelivered(delivered) => Some(*delivered),
        _ => None,
    };
    logs.limits_facts().into_iter().filter_map(delivered).collect()
}

#[test]
fn a_delivery_is_due_until_the_log_says_what_became_of_it() {
    let mut policy = document(soft());
    let other = Budget::new("other", Scope::Organisation("acme".into()), Window::Day, money("1"));
    policy.budgets.push(other);
    policy.webhooks =
        vec![webhook("on-call", &["all"]), webhook("everyone", &[]), webhook("else", &["other"])];
    let mut world = World::new(soft());
    world.logs.publish(&policy);
    world.settle();
    world.spend("8");
    let all = [named("on-call", 50), named("everyone", 50), named("on-call", 80), named("everyone", 80)];
    assert_eq!(due(&world.node.core, 9), all);
    assert_eq!(due(&world.node.core, 1), all[..2], "the oldest of each webhook");
    let alert = world.node.core.alerts().remove(0);
    assert_eq!(alert.id(), format!("alert_{}_0_{}", alert.producer, alert.number));
    let told = |webhook, delivered| {
        let (producer, number) = (alert.producer, alert.number);
        Told { producer, number, webhook, delivered, attempts: 2, status: Some(204) }
    };
    // Said twice before it is read back, once after, and of somebody who was not to be told.
    for webhook in ["on-call", "on-call", "else"] {
        world.node.feed(Input::Told(told(webhook, true)), &mut world.logs);
    }
    world.settle();
    world.node.feed(Input::Told(told("on-call", false)), &mut world.logs);
    world.node.feed(Input::Told(told("everyone", false)), &mut world.logs);
    world.settle();
    let facts = delivered(&world.logs);
    let said: Vec<_> =
        facts.iter().map(|it| (it.webhook.as_str(), it.delivered, it.attempts, it.status)).collect();
    assert_eq!(said, [("on-call", true, 2, Some(204)), ("everyone", false, 2, Some(204))]);
    assert_eq!(due(&world.node.core, 9), all[2..]);
    let counts = world.node.core.alert_counts();
    assert_eq!((counts.raised, counts.delivered, counts.given_up, counts.due), (2, 1, 1, 2));
    check_replay(&world.node.core, &world.logs);
    // A successor, with a snapshot or without, tells what is left; a policy without webhooks takes nothing back.
    world.logs.publish(&document(soft()));
    for from_snapshot in [false, true] {
        let mut logs = world.logs.clone();
        let mut next = if from_snapshot { world.node.successor(101) } else { Node::new(101) };
        assert_eq!(due(&next.core, 9), [], "it does not act yet");
        next.settle(&mut logs);
        assert!(next.is_acting());
        assert_eq!(due(&next.core, 9), all[2..], "{from_snapshot}");
        // The ledger before it is told of an answer that came late: it does not write any more.
        let alert = next.core.alerts().remove(1);
        let (producer, number) = (alert.producer, alert.number);
        let late =
            Told { producer, number, webhook: "on-call", delivered: true, attempts: 1, status: Some(200) };
        if !from_snapshot {
            world.node.read_all(&mut logs);
            world.node.feed(Input::Told(late), &mut logs);
            assert!(world.node.under_way.is_empty());
            world.node = Node::new(100);
            world.node.settle(&mut world.logs);
        }
    }
}

#[test]
fn alerts_that_were_told_make_room_and_others_do_not() {
    let scope = Scope::Organisation("acme".into());
    let hour = Budget { window: Window::Hour, alerts: Some((1..=16).collect()), ..soft() };
    let quiet = Budget { alerts: Some(Vec::new()), ..Budget::new("quiet", scope, Window::Total, money("1")) };
    let mut policy = document(hour.clone());
    policy.budgets.push(quiet);
    let mut world = World::new(hour);
    for round in 0..80 {
        policy.webhooks = if round == 1 { vec![webhook("w", &[])] } else { Vec::new() };
        world.logs.publish(&policy);
        world.logs.now += HOUR;
        world.settle();
        world.settle();
        let account = AccountRef { budget: "all".into(), window: world.logs.now / SECOND / 3600 * 3600 };
        let name = format!("h{round}");
        world.shim.reserve(&name, &[account], None, money("5"), &mut world.logs);
        let attempt = world.shim.attempts.remove(&name).unwrap();
        world.shim.settle(&attempt, money("5"), None, &mut world.logs);
        world.settle();
    }
    assert_eq!(world.raised().len(), 80 * 16);
    let kept = world.node.core.alerts();
    assert_eq!(kept.len(), 1000);
    assert_eq!(kept.iter().filter(|it| it.is_due()).count(), 16, "the second round is due still");
    assert_eq!(world.node.core.alert_counts().due, 16);
}
