//! A record that is not what its producer wrote is found at the producer's next signed head.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use bursar_schemas::facts::FindingKind;
use support::leased::{World, hard};

/// What is found at heads written after each of these.
fn found_after(world: &mut World, reservations: &[&str]) -> Vec<FindingKind> {
    for name in reservations {
        world.reserve(name, "0.01");
    }
    world.wait(1);
    assert!(world.logs.findings.is_empty(), "until a head says otherwise, all is well");
    world.shim.heads(false, &mut world.logs);
    world.wait(1);
    std::mem::take(&mut world.logs.findings).into_iter().map(|finding| finding.kind).collect()
}

#[test]
fn one_altered_record_between_two_heads_is_one_finding() {
    let mut world = World::new([hard("first"), hard("second")]);
    world.ask();
    world.wait(1);
    assert_eq!(found_after(&mut world, &["a", "b"]), []);
    world.shim.tampers_next = true;
    assert_eq!(found_after(&mut world, &["c", "d"]), [FindingKind::Forged]);
    assert_eq!(found_after(&mut world, &["e"]), [], "what is signed is gone on from");
}

#[test]
fn a_ledger_that_starts_from_a_snapshot_finds_what_was_altered_since_the_last_head() {
    let mut world = World::new([hard("first"), hard("second")]);
    world.ask();
    world.shim.tampers_next = true;
    world.reserve("a", "0.01");
    world.wait(1);
    world.node = world.node.successor(101);
    assert_eq!(found_after(&mut world, &["b"]), [FindingKind::Forged]);
}
