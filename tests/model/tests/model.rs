//! The small model, checked to its last state.
#![allow(clippy::print_stdout, reason = "the number of states belongs to the result")]

use bursar_model::Bounds;
use stateright::{Checker as _, Model as _};

#[test]
fn no_order_of_events_overspends_a_budget() {
    let checker = Bounds::default().checker().threads(2).spawn_bfs().join();
    println!("{} states were checked, all there are", checker.unique_state_count());
    // Every `always` holds in every state, and every `sometimes` was reached in one.
    checker.assert_properties();
    assert!(checker.unique_state_count() > 100_000, "the model shrank: {}", checker.unique_state_count());
}
