//! Many worlds, one after the other, each from a seed that follows from the first.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::marks::Marks;
use crate::plan::{self, Planned};
use crate::random::mix;
use crate::settings::Settings;
use crate::world::{Violation, World};

/// What became of a world.
#[derive(Debug)]
pub struct Outcome {
    /// Steps that it took.
    pub steps: u64,
    /// A digest of all that happened.
    pub digest: u64,
    /// How often what happened.
    pub marks: Marks,
    /// What the first checker found.
    pub violation: Option<Violation>,
    /// What happened, when it was asked for.
    pub history: Vec<String>,
}

/// Runs a world; a panic of production code is a violation like any other.
#[must_use]
pub fn run_world(settings: Settings, plan: Vec<Planned>, history: bool) -> Outcome {
    let mut world = World::new(settings, plan, history);
    let ran = catch_unwind(AssertUnwindSafe(|| world.run()));
    let violation = match ran {
        Ok(ran) => ran.err(),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()));
            let detail = text.unwrap_or_default();
            Some(Violation { check: "nothing panics", detail, step: world.steps, at: 0 })
        }
    };
    Outcome {
        steps: world.steps,
        digest: world.digest,
        history: world.history().to_vec(),
        marks: world.marks,
        violation,
    }
}

/// The world of a seed.
#[must_use]
pub fn run_seed(seed: u64, history: bool) -> Outcome {
    let settings = Settings::draw(seed);
    let plan = plan::draw(&settings);
    run_world(settings, plan, history)
}

/// Checkers of liveness, which is measured and not proved: worlds that fail them are counted. Safety has no such list.
pub const MEASURED: [&str; 2] =
    ["without faults no refusal while the money covers it", "in the end what can be had can be spent"];

/// What became of many worlds.
#[derive(Debug)]
pub struct Campaign {
    /// Worlds that failed a checker of liveness.
    pub measured: u64,
    /// Steps over all of them.
    pub steps: u64,
    /// Worlds.
    pub worlds: u64,
    /// How often what happened.
    pub marks: Marks,
    /// A digest of all that happened.
    pub digest: u64,
    /// The first world that failed: its seed and what was found.
    pub failed: Option<(u64, Violation)>,
}

/// Runs worlds until so many steps were taken or one fails. The worlds' seeds follow from the first.
pub fn campaign(seed: u64, steps: u64, mut progress: impl FnMut(u64, u64)) -> Campaign {
    let mut sum =
        Campaign { measured: 0, steps: 0, worlds: 0, marks: Marks::default(), digest: seed, failed: None };
    while sum.steps < steps {
        let world = mix(seed, sum.worlds);
        let outcome = run_seed(world, false);
        sum.worlds += 1;
        sum.steps += outcome.steps;
        sum.marks.add(&outcome.marks);
        sum.digest = mix(sum.digest, outcome.digest);
        progress(sum.steps, sum.worlds);
        if let Some(violation) = outcome.violation {
            if MEASURED.contains(&violation.check) {
                sum.measured += 1;
                continue;
            }
            sum.failed = Some((world, violation));
            break;
        }
    }
    sum
}

/// The report of a failing world: the seed, what was found, and the shortest history found that leads to it.
#[must_use]
pub fn report(seed: u64, violation: &Violation) -> String {
    let settings = Settings::draw(seed);
    let plan = plan::draw(&settings);
    let whole = plan.len();
    let (settings, plan, shortest) = crate::shrink::shrink(&settings, plan, violation);
    let outcome = run_world(settings.clone(), plan.clone(), true);
    let mut text = format!("world {seed} fails at {violation}\n");
    text += &format!("replay: cargo run --release -p bursar-simulator -- --world {seed}\n");
    text += &format!("settings: {settings:?}\n");
    text += &format!("shortened from {whole} to {} planned events; fails at {shortest}\n", plan.len());
    for planned in &plan {
        text += &format!("  planned {:>10} us  {:?}\n", planned.at, planned.act);
    }
    text += "history:\n";
    let from = outcome.history.len().saturating_sub(400);
    for line in &outcome.history[from..] {
        text += line;
        text.push('\n');
    }
    text
}
