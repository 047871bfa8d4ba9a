//! A failing plan becomes short, and the short one still fails the same checker.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use bursar_simulator::campaign::run_world;
use bursar_simulator::plan;
use bursar_simulator::settings::Settings;
use bursar_simulator::shrink::shrink;
use bursar_simulator::world::Violation;

/// A world in which drains never come: what is promised of windows does not hold, by configuration.
fn failing(seed: u64) -> Option<(Settings, Violation)> {
    let mut settings = Settings::draw(seed);
    // A ledger that recalls nothing in time: the money of idle leases cannot be had.
    settings.timing.recall_wait = 0;
    let violation = run_world(settings.clone(), plan::draw(&settings), false).violation?;
    Some((settings, violation))
}

#[test]
fn a_failing_plan_is_shortened_and_fails_the_same_way() {
    let (settings, violation) = (0..400).find_map(failing).expect("a world without recalls fails");
    let whole = plan::draw(&settings);
    let (shorter, plan, found) = shrink(&settings, whole.clone(), &violation);
    assert_eq!(found.check, violation.check);
    assert!(plan.len() < whole.len(), "{} events are left of {}", plan.len(), whole.len());
    let again = run_world(shorter, plan, false).violation.expect("it fails again");
    assert_eq!(again, found, "the shortened history is exact");
}
