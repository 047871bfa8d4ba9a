//! A budget whose kind of window changes: the window that policy wants opens, also when its first second is older.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use bursar_schemas::avro::Micros;
use bursar_schemas::policy::{Budget, Document, Organisation, Scope};
use bursar_schemas::window::{Window, zone};
use support::{Logs, Node, check_replay};

fn document(window: Window) -> Document {
    let organisation = Organisation::new("acme");
    let scope = Scope::Organisation("acme".into());
    let budget = Budget::new("all", scope, window, "10".parse().unwrap());
    Document { organisations: vec![organisation], budgets: vec![budget], ..Document::default() }
}

#[test]
fn every_change_of_a_windows_kind_opens_the_window_that_is_wanted() {
    let kinds = [Window::Hour, Window::Day, Window::Month, Window::Total, Window::Week, Window::Hour];
    let (mut logs, mut node) = (Logs::new(), Node::new(100));
    let mut last = i64::MIN;
    for kind in kinds {
        logs.publish(&document(kind));
        for _ in 0..2 {
            node.tick(&mut logs);
            node.settle(&mut logs);
        }
        let now = Micros(logs.now);
        let (account, state) = node.core.fold().account_at("all", now).unwrap();
        let wanted = kind.span(now, &zone("UTC").unwrap()).unwrap();
        assert_eq!((state.starts_at, state.ends_at), (wanted.starts_at, wanted.ends_at), "{kind}");
        assert!(account.window > last, "{kind}: ids rise");
        last = account.window;
        let opened = node.core.fold().accounts().count();
        node.tick(&mut logs);
        node.settle(&mut logs);
        assert_eq!(node.core.fold().accounts().count(), opened, "{kind}: it opens once");
        check_replay(&node.core, &logs);
    }
}
