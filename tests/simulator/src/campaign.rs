//! Many worlds, on two threads, each from a seed that follows from the first.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

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

/// Threads that share the worlds of a campaign. Fixed, so that a seed has one history on any machine.
const THREADS: u64 = 2;

/// What became of many worlds.
#[derive(Debug)]
pub struct Campaign {
    /// Steps over all of them.
    pub steps: u64,
    /// Worlds.
    pub worlds: u64,
    /// How often what happened.
    pub marks: Marks,
    /// A digest of all that happened.
    pub digest: u64,
    /// A world that failed: its seed and what was found.
    pub failed: Option<(u64, Violation)>,
}

impl Campaign {
    fn none(seed: u64) -> Self {
        Self { steps: 0, worlds: 0, marks: Marks::default(), digest: seed, failed: None }
    }
}

/// Runs worlds until so many steps were taken or one fails. The worlds' seeds follow from the first. `progress` is told
/// the steps of each world.
pub fn campaign(seed: u64, steps: u64, progress: impl Fn(u64) + Sync) -> Campaign {
    let stop = AtomicBool::new(false);
    let run = |first: u64| {
        let mut part = Campaign::none(seed);
        let mut number = first;
        while part.steps < steps.div_ceil(THREADS) && !stop.load(Ordering::Relaxed) {
            let world = mix(seed, number);
            number += THREADS;
            let outcome = run_seed(world, false);
            part.worlds += 1;
            part.steps += outcome.steps;
            part.marks.add(&outcome.marks);
            part.digest = mix(part.digest, outcome.digest);
            progress(outcome.steps);
            if let Some(violation) = outcome.violation {
                part.failed = Some((world, violation));
                stop.store(true, Ordering::Relaxed);
            }
        }
        part
    };
    let mut sum = Campaign::none(seed);
    std::thread::scope(|scope| {
        let run = &run;
        let parts: Vec<_> = (0..THREADS).map(|first| scope.spawn(move || run(first))).collect();
        for part in parts.into_iter().filter_map(|part| part.join().ok()) {
            sum.steps += part.steps;
            sum.worlds += part.worlds;
            sum.marks.add(&part.marks);
            sum.digest = mix(sum.digest, part.digest);
            sum.failed = sum.failed.take().or(part.failed);
        }
    });
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
