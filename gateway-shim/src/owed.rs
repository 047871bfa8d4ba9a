//! What an attempt is charged for once it is over. Pure.

use bursar_schemas::facts::{AttemptOutcome, Basis, VoidReason};

/// What is owed for an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owed {
    /// The cost of the usage that the provider reported.
    Usage,
    /// The whole reservation: it may have been served and billed, and only the bound is sure.
    Bound(Basis),
    /// Nothing: the provider did not see it, or refused it, which none bills.
    Nothing(VoidReason),
}

/// The rule: `sent` once the provider may have seen it, `reported` with a usage report, `priced` with a price.
#[must_use]
pub const fn owed(sent: bool, outcome: AttemptOutcome, reported: bool, priced: bool) -> Owed {
    match (reported, outcome) {
        (true, _) if priced => Owed::Usage,
        (true, _) => Owed::Bound(Basis::Unpriced),
        (false, _) if !sent => Owed::Nothing(VoidReason::NotSent),
        (false, AttemptOutcome::Unreachable) => Owed::Nothing(VoidReason::Unreachable),
        (false, AttemptOutcome::Rejected) => Owed::Nothing(VoidReason::Rejected),
        (false, _) if !priced => Owed::Bound(Basis::Unpriced),
        (false, _) => Owed::Bound(Basis::Reservation),
    }
}

/// Error statuses by which a gateway in front of a model says that it waited no longer: the model may have run on, and
/// that is billed.
#[must_use]
pub const fn may_have_run(status: u16) -> bool {
    matches!(status, 408 | 499 | 504 | 520..=524)
}
