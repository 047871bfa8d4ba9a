//! Checks the small model exhaustively and prints how many states it has.
#![allow(clippy::print_stdout, reason = "a command line tool prints")]

use std::process::ExitCode;

use bursar_model::Bounds;
use clap::Parser;
use stateright::{Checker as _, Model as _};

/// Checks every order of events of a small world of two ledgers, two shims and two windows.
#[derive(Debug, Parser)]
struct Options {
    /// Grants that count, at most.
    #[arg(long, default_value_t = Bounds::default().grants)]
    grants: u8,
    /// Lease numbers of each incarnation.
    #[arg(long, default_value_t = Bounds::default().leases)]
    leases: u64,
    /// Crashes of each shim.
    #[arg(long, default_value_t = Bounds::default().crashes)]
    crashes: u8,
    /// Markers of each ledger.
    #[arg(long, default_value_t = Bounds::default().markers)]
    markers: u8,
    /// Units that the long window may be spent.
    #[arg(long, default_value_t = Bounds::default().limit)]
    limit: u8,
    /// Units of each grant.
    #[arg(long, default_value_t = Bounds::default().amount)]
    amount: u8,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

fn main() -> ExitCode {
    let Options { grants, leases, crashes, markers, limit, amount, threads } = Options::parse();
    let bounds = Bounds { grants, leases, crashes, markers, limit, amount };
    let began = std::time::Instant::now();
    let checker = bounds.checker().threads(threads).spawn_bfs().join();
    let seconds = began.elapsed().as_secs();
    println!("{bounds:?}: {} states, all of them, in {seconds} s", checker.unique_state_count());
    for (name, path) in checker.discoveries() {
        println!("{name}:\n{path}");
    }
    let failed = ["no account", "what may", "what does"];
    let broken = checker.discoveries().keys().any(|name| failed.iter().any(|it| name.starts_with(it)));
    if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
