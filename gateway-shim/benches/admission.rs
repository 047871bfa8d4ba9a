//! How long an admission takes on the hot path: from a request's attributes to a lease that covers it, and the
//! settlement, with one and with five hard budgets on the path. Prints percentiles of single admissions, the clock's
//! own reading included. Run with `cargo bench -p bursar-gateway-shim`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a benchmark fails by panicking and looks at the clock"
)]

mod limits;

use std::time::Instant;

const ADMISSIONS: usize = 1_000_000;

fn main() {
    for budgets in [1, 5] {
        let mut limits = limits::Limits::with(budgets);
        let mut took: Vec<u128> = Vec::with_capacity(ADMISSIONS);
        for _ in 0..ADMISSIONS / 10 {
            limits.admit_and_settle();
        }
        for _ in 0..ADMISSIONS {
            let begun = Instant::now();
            limits.admit_and_settle();
            took.push(begun.elapsed().as_nanos());
        }
        took.sort_unstable();
        let at = |per_mille: usize| took[(took.len() - 1) * per_mille / 1000];
        println!(
            "{budgets} budgets on the path: p50 {} ns, p99 {} ns, p99.9 {} ns",
            at(500),
            at(990),
            at(999)
        );
    }
}
