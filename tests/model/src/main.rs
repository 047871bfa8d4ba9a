//! Checks the model within bounds given on the command line and prints how many states it has:
//! `bursar-model [ASKS [EPOCHS [LEDGER_CRASHES [SHIM_CRASHES [PENDING]]]]]`
#![allow(clippy::print_stdout, reason = "a command line tool prints")]

use std::process::ExitCode;

use bursar_model::{Bounds, World};
use stateright::{Checker as _, Model as _};

fn main() -> ExitCode {
    let given: Vec<u8> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let number = |at: usize, usual: u8| given.get(at).copied().unwrap_or(usual);
    let bounds = Bounds {
        asks: usize::from(number(0, 3)),
        epochs: usize::from(number(1, 3)),
        ledger_crashes: number(2, 1),
        shim_crashes: number(3, 1),
        pending: usize::from(number(4, 2)),
        ..Bounds::default()
    };
    let began = std::time::Instant::now();
    let checker = World { bounds, fault: None }.checker().threads(2).spawn_bfs().join();
    let seconds = began.elapsed().as_secs();
    println!("{bounds:?}: {} states, all there are, in {seconds} s", checker.unique_state_count());
    for (name, path) in checker.discoveries() {
        println!("{name}: {:?}", path.into_actions());
    }
    ExitCode::SUCCESS
}
