//! A failing plan made short: events are left out, in ever smaller pieces, as long as the same checker still fails.

use crate::campaign::run_world;
use crate::plan::Planned;
use crate::settings::Settings;
use crate::world::Violation;

/// Most runs that are spent on it.
const RUNS: usize = 600;

/// The shortest plan found that fails the same checker, and its violation.
#[must_use]
pub fn shrink(
    settings: &Settings,
    plan: Vec<Planned>,
    first: &Violation,
) -> (Settings, Vec<Planned>, Violation) {
    let mut best = (settings.clone(), plan, first.clone());
    let mut runs = 0;
    let mut fails = |settings: &Settings, plan: &[Planned]| {
        runs += 1;
        let failed = run_world(settings.clone(), plan.to_vec(), false).violation;
        (runs < RUNS).then_some(failed.filter(|found| found.check == first.check))
    };
    // Fewer actors first: that shortens most.
    for reduce in [
        |it: &mut Settings| it.ledgers = 1,
        |it: &mut Settings| it.faults.repeats = 0,
        |it: &mut Settings| {
            it.faults.late_copies = 0;
        },
    ] {
        let mut settings = best.0.clone();
        reduce(&mut settings);
        if let Some(Some(found)) = fails(&settings, &best.1) {
            best = (settings, best.1, found);
        }
    }
    let mut piece = best.1.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        while at < best.1.len() {
            let end = (at + piece).min(best.1.len());
            let mut shorter = best.1.clone();
            shorter.drain(at..end);
            match fails(&best.0, &shorter) {
                None => return best,
                Some(Some(found)) => best = (best.0, shorter, found),
                Some(None) => at = end,
            }
        }
        if piece == 1 {
            return best;
        }
        piece = piece.div_ceil(2);
    }
}
