//! Benchmarks of the whole product: the real release binary beside a do-nothing proxy on the same upstream, and
//! the ledger beside a bare consumer. One subcommand for each figure; `tests/bench/README.md` says how.
//!
//! Ratios are taken within one run, with the compared things in turns (A B A B), since the machine may do other
//! things meanwhile; where processor time says more than the clock does, both are given.

pub mod archive;
pub mod cold;
pub mod consume;
pub mod cost;
pub mod facts;
pub mod feedback;
pub mod latency;
pub mod load;
pub mod memory;
pub mod process;
pub mod product;
pub mod provable;
pub mod proxy;
pub mod sample;
pub mod storage;
pub mod upstream;

/// What went wrong, for whoever reads the terminal.
pub type Fault = Box<dyn std::error::Error + Send + Sync>;
/// The outcome of a step.
pub type Outcome<T = ()> = Result<T, Fault>;
