//! Worlds that once failed. Each names what was wrong in production code then.
#![allow(clippy::panic, reason = "a test fails by panicking")]

use bursar_simulator::campaign::{report, run_seed};

/// Seeds, each with the fault that it found.
const ONCE: [(u64, &str); 7] = [
    (437_731_188_838_491_778, "the ledger granted over a window whose draining it had under way itself"),
    (13_665_567_369_980_212_279, "a lease id that the fold had forgotten could be granted again"),
    (15_719_854_122_973_403_689, "a refused opening fact made a stranger of the shim for ever"),
    (13_757_245_211_066_428_519, "a lease recalled from a dead holder counted as covering for ever"),
    (14_865_396_613_124_304_513, "leases of one dead holder were recalled one at a time, two seconds each"),
    (9_846_031_158_537_464_176, "a return read before its own grant was read back was dropped"),
    (14_671_075_942_253_481_071, "a request waited behind a question for more than it needed"),
];

#[test]
fn worlds_that_failed_once_do_not_fail_again() {
    for (seed, fault) in ONCE {
        if let Some(violation) = run_seed(seed, false).violation {
            panic!("{fault}:\n{}", report(seed, &violation));
        }
    }
}
