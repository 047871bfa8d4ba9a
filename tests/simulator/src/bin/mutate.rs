//! Lists the deliberate faults, or puts one into a copy of the tree.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool prints")]

use std::path::PathBuf;
use std::process::ExitCode;

use bursar_simulator::mutants::{LIST, read};
use clap::Parser;

/// Lists the deliberate faults; with --name and --tree, puts one into that copy of the tree.
#[derive(Debug, Parser)]
struct Options {
    /// The fault.
    #[arg(long)]
    name: Option<String>,
    /// The copy of the tree.
    #[arg(long, default_value = ".")]
    tree: PathBuf,
}

fn main() -> ExitCode {
    let options = Options::parse();
    for mutant in read(LIST) {
        match &options.name {
            None => println!("{} {}", mutant.name, mutant.file),
            Some(name) if *name == mutant.name => {
                let written = mutant.apply(&options.tree).and_then(|text| {
                    std::fs::write(options.tree.join(&mutant.file), text).map_err(|error| error.to_string())
                });
                if let Err(error) = written {
                    eprintln!("{error}");
                    return ExitCode::FAILURE;
                }
                return ExitCode::SUCCESS;
            }
            Some(_) => {}
        }
    }
    if options.name.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
