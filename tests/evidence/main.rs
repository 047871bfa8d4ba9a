//! An archive that a stranger can check: what is honest holds, and whatever is done to it is caught and named.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

#[path = "../harness/mod.rs"]
mod harness;

mod bundle;
mod columns;
mod content;
mod delta;
mod fixture;
mod forge;
mod hostile;
mod product;
mod removal;
mod retention;
mod stores;
mod tamper;
mod witness;
