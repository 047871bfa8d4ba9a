//! The command line: many worlds from one seed, or one world again.
#![allow(clippy::print_stdout, reason = "a command line tool prints")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use bursar_simulator::campaign::{campaign, report, run_seed};
use bursar_simulator::random::mix;
use bursar_simulator::world::Violation;
use clap::Parser;

/// Runs the simulator of hard budgets.
#[derive(Debug, Parser)]
#[command(after_help = "10^9 steps: cargo run --release -p bursar-simulator -- --steps 1e9 --seed 7")]
struct Options {
    /// Steps to run, such as 10000000 or 1e9.
    #[arg(long, default_value = "1e7", value_parser = count)]
    steps: u64,
    /// The seed that all worlds follow from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs this one world again, shortens it if it fails, and prints its history.
    #[arg(long)]
    world: Option<u64>,
    /// With --world: prints the whole history, not the shortened one.
    #[arg(long)]
    history: bool,
    /// Fails when a coverage mark was reached less often than that.
    #[arg(long, default_value_t = 0)]
    marks: u64,
    /// Prints no progress and no table.
    #[arg(long)]
    quiet: bool,
    /// Runs on after a failing world, prints each, and counts failures by checker.
    #[arg(long)]
    keep_going: bool,
    /// Does not shorten a failing world.
    #[arg(long)]
    no_shrink: bool,
}

/// Reads 10000000 or 1e7.
fn count(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a count such as 10000000 or 1e7");
    match text.split_once('e') {
        None => text.replace('_', "").parse().map_err(|_| wrong()),
        Some((digits, power)) => {
            let digits: u64 = digits.parse().map_err(|_| wrong())?;
            let power: u32 = power.parse().map_err(|_| wrong())?;
            10_u64.checked_pow(power).and_then(|it| it.checked_mul(digits)).ok_or_else(wrong)
        }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(world) = options.world {
        return one(&options, world);
    }
    if options.keep_going {
        return all(&options);
    }
    let began = std::time::Instant::now();
    let done = AtomicU64::new(0);
    let found = campaign(options.seed, options.steps, |steps| {
        let before = done.fetch_add(steps, Ordering::Relaxed);
        if !options.quiet && (before + steps) / 10_000_000 > before / 10_000_000 {
            println!("{} steps, {} s", before + steps, began.elapsed().as_secs());
        }
    });
    if !options.quiet {
        print!("{}", found.marks);
    }
    let (steps, worlds, digest) = (found.steps, found.worlds, found.digest);
    println!("{steps} steps in {worlds} worlds, {} s, digest {digest:016x}", began.elapsed().as_secs());
    if let Some((world, violation)) = found.failed {
        println!("VIOLATION world={world} total={steps} {violation}");
        if !options.no_shrink {
            println!("{}", report(world, &violation));
        }
        return ExitCode::FAILURE;
    }
    let rare = found.marks.below(options.marks);
    for mark in &rare {
        println!("reached {} times, not {}: {}", found.marks.count(*mark), options.marks, mark.text());
    }
    if rare.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Every checker that fails, how often, and the world that fails it soonest.
fn all(options: &Options) -> ExitCode {
    let mut found: BTreeMap<&'static str, (u64, u64, Violation)> = BTreeMap::new();
    let (mut steps, mut worlds) = (0, 0);
    while steps < options.steps {
        let world = mix(options.seed, worlds);
        let outcome = run_seed(world, false);
        (steps, worlds) = (steps + outcome.steps, worlds + 1);
        if let Some(violation) = outcome.violation {
            if !options.quiet {
                println!("world {world}: {violation}");
            }
            let known = found.entry(violation.check).or_insert_with(|| (0, world, violation.clone()));
            known.0 += 1;
            if violation.step < known.2.step {
                (known.1, known.2) = (world, violation);
            }
        }
    }
    println!("{steps} steps in {worlds} worlds");
    for (count, world, violation) in found.values() {
        println!("{count:>6} worlds, such as {world}: {violation}");
    }
    if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(options: &Options, world: u64) -> ExitCode {
    let outcome = run_seed(world, options.history);
    for line in &outcome.history {
        println!("{line}");
    }
    println!("world {world}: {} steps, digest {:016x}", outcome.steps, outcome.digest);
    let Some(violation) = outcome.violation else { return ExitCode::SUCCESS };
    println!("VIOLATION world={world} total={} {violation}", outcome.steps);
    if !options.history && !options.no_shrink {
        println!("{}", report(world, &violation));
    }
    ExitCode::FAILURE
}
