//! The small model, checked to its last state; and with a fault in it, until a property fails.
#![allow(clippy::print_stdout, clippy::panic, reason = "the number of states belongs to the result")]

use bursar_model::{ANSWERED, BILLED, Bounds, EXPOSED, Fault, NEVER_VOID, ONCE, UNCHANGED, World};
use stateright::{Checker as _, HasDiscoveries, Model as _};

#[test]
fn no_order_of_events_breaks_a_property() {
    let world = World::default();
    let checker = world.checker().threads(2).spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("{:?}: {states} states, all there are, to a depth of {depth}", world.bounds);
    assert!(checker.is_done());
    // Every `always` holds in every state, and every `sometimes` was reached in one.
    checker.assert_properties();
    assert!(states > 1_000_000, "the model shrank to {states} states");
}

/// What fails with a fault in the world.
fn broken_by(fault: Fault) -> &'static str {
    let world = World { bounds: Bounds::default(), fault: Some(fault) };
    let checker = world.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    for name in [BILLED, EXPOSED, NEVER_VOID, ANSWERED, UNCHANGED, ONCE] {
        if let Some(path) = checker.discovery(name) {
            println!("{fault:?}: {name}, after {:?}", path.into_actions());
            return name;
        }
    }
    panic!("{fault:?} was not found in {} states", checker.unique_state_count());
}

#[test]
fn a_fold_without_epochs_is_found() {
    assert_eq!(broken_by(Fault::NoEpochCheck), NEVER_VOID);
}

#[test]
fn a_grant_that_a_successor_uses_is_found() {
    assert_eq!(broken_by(Fault::SuccessorUsesGrant), BILLED);
}

#[test]
fn a_return_that_is_not_subtracted_is_found() {
    assert_eq!(broken_by(Fault::ReturnNotSubtracted), EXPOSED);
}

#[test]
fn a_debit_that_is_forgotten_is_found() {
    assert_eq!(broken_by(Fault::DebitForgotten), NEVER_VOID);
}

#[test]
fn a_ledger_that_resumes_at_its_predecessors_offset_is_found() {
    assert_eq!(broken_by(Fault::ResumesAtOffset), ANSWERED);
}

#[test]
fn a_void_grant_that_is_never_decided_again_is_found() {
    assert_eq!(broken_by(Fault::VoidAnswers), ANSWERED);
}
