//! A failing plan becomes short, and the short one fails the same way each time it is run.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use bursar_simulator::calendar::SECOND;
use bursar_simulator::campaign::run_world;
use bursar_simulator::plan::{self, Act, Planned};
use bursar_simulator::settings::Settings;
use bursar_simulator::shrink::shrink;
use bursar_simulator::world::{LIE, Violation};

/// A world in which a ledger credits, late, what nobody returned.
fn planted(seed: u64) -> Option<(Settings, Vec<Planned>, Violation)> {
    let settings = Settings::draw(seed);
    let mut plan = plan::draw(&settings);
    plan.push(Planned { at: settings.span - SECOND, act: Act::Confuse { kind: LIE, with: 0 } });
    let violation = run_world(settings.clone(), plan.clone(), false).violation?;
    Some((settings, plan, violation))
}

#[test]
fn a_planted_fault_shrinks_to_few_events_and_replays() {
    let worlds: Vec<_> = (0..24).filter_map(planted).collect();
    assert!(worlds.len() >= 6, "the checkers missed it in all worlds but {}", worlds.len());
    for (settings, whole, violation) in worlds.into_iter().take(4) {
        assert_eq!(violation.check, "what is credited was returned");
        let (shorter, plan, found) = shrink(&settings, whole.clone(), &violation);
        assert!(plan.len() <= 4 && whole.len() > 20, "{} events are left of {}", plan.len(), whole.len());
        let lies = |planned: &Planned| planned.act == Act::Confuse { kind: LIE, with: 0 };
        assert!(plan.iter().any(lies), "what fails is left");
        let again = run_world(shorter.clone(), plan.clone(), true);
        assert_eq!(again.violation.as_ref(), Some(&found), "the short history is exact");
        assert!(again.history.iter().any(|line| line.contains("credit lease")), "and tells what happened");
        let without: Vec<Planned> = plan.into_iter().filter(|planned| !lies(planned)).collect();
        assert_eq!(run_world(shorter, without, false).violation, None, "without the fault nothing fails");
    }
}
