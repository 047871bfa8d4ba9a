//! What an admission allocates does not grow with the budgets on its path.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

#[path = "../benches/limits/mod.rs"]
mod limits;

/// Number and bytes of the allocations of one admission and its settlement.
fn allocated(budgets: usize) -> (u64, u64) {
    let mut limits = limits::Limits::with(budgets);
    // The first finds the path.
    limits.admit_and_settle();
    let info = allocation_counter::measure(|| limits.admit_and_settle());
    (info.count_total, info.bytes_total)
}

#[test]
fn an_admission_allocates_the_same_with_one_budget_and_with_five() {
    let (one, five) = (allocated(1), allocated(5));
    assert!(one.0 > 0, "the counter does not count");
    assert_eq!(one, five, "(allocations, bytes)");
}
