//! SQL, chargeback and HTTP over archives made in memory.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking, and needs no documentation"
)]

mod chargeback;
mod exactly_once;
mod gaps;
mod http;
mod recording;
mod safety;
mod slt;
mod support;
