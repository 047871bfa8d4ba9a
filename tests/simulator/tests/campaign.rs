//! Many million steps, and what must have happened in them.
#![allow(
    clippy::print_stdout,
    clippy::panic,
    reason = "a test fails by panicking; the table belongs to the result"
)]

use bursar_simulator::campaign::{campaign, report, run_seed};

/// A fault or branch that happened less often was not tried.
const LEAST: u64 = 1000;
const STEPS: u64 = 24_000_000;

#[test]
fn many_million_steps_find_nothing_and_meet_everything() {
    let found = campaign(1, STEPS, |_| {});
    println!("{}", found.marks);
    println!("{} steps in {} worlds", found.steps, found.worlds);
    if let Some((world, violation)) = &found.failed {
        panic!("{}", report(*world, violation));
    }
    let rare = found.marks.below(LEAST);
    let rare: Vec<String> =
        rare.iter().map(|mark| format!("{}: {}", found.marks.count(*mark), mark.text())).collect();
    assert!(rare.is_empty(), "these happened less than {LEAST} times: {rare:#?}");
}

#[test]
fn the_same_seed_has_the_same_history() {
    for seed in 0..20 {
        let (first, second) = (run_seed(seed, false), run_seed(seed, true));
        assert_eq!((first.steps, first.digest), (second.steps, second.digest), "seed {seed}");
        assert_eq!(first.marks, second.marks, "seed {seed}");
        assert!(!second.history.is_empty());
    }
    assert_ne!(run_seed(1, false).digest, run_seed(2, false).digest);
}
