//! The one binary: reads the command line and configuration, wires the roles, owns exit codes.

mod admin;
mod alerts;
mod cli;
mod clock;
mod commands;
mod config;
mod demo;
mod door;
mod exit;
mod https;
mod print;
mod prometheus;
mod publisher;
mod retention;
mod roles;
mod secrets;
mod shelf;
mod starter;
mod telemetry;
mod wire;

use clap::Parser as _;
use cli::{Cli, Command};
use exit::Outcome;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    telemetry::install(matches!(cli.command, Command::Demo(_)));
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("bursar: failed to start the runtime: {error}");
            return std::process::ExitCode::from(exit::Exit::Failed as u8);
        }
    };
    let outcome = runtime.block_on(run(cli));
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bursar: {failure}");
            std::process::ExitCode::from(failure.exit as u8)
        }
    }
}

async fn run(cli: Cli) -> Outcome {
    let place = &cli.place;
    match cli.command {
        Command::Up => commands::serve::up(place).await,
        Command::Shim => commands::serve::role(place, roles::Roles::SHIM).await,
        Command::Ledger => commands::serve::role(place, roles::Roles::LEDGER).await,
        Command::Ingest => commands::serve::role(place, roles::Roles::INGEST).await,
        Command::Query => commands::serve::role(place, roles::Roles::QUERY).await,
        Command::Demo(demo) => demo::run(demo).await,
        Command::Apply(apply) => commands::policy::apply(place, apply).await,
        Command::Keys(keys) => commands::keys::run(place, keys).await,
        Command::Budgets(budgets) => commands::budgets::run(place, budgets).await,
        Command::Shims(shims) => commands::shims::run(place, shims).await,
        Command::Alerts(format) => commands::alerts::run(place, format).await,
        Command::Status(format) => commands::status::run(place, format).await,
        Command::Sql(sql) => commands::sql::run(place, sql).await,
        Command::Chargeback(chargeback) => commands::sql::chargeback(place, chargeback).await,
        Command::Gaps(gaps) => commands::gaps::run(place, gaps).await,
        Command::Retention(retention) => commands::retention::run(place, retention).await,
        Command::Holds(holds) => commands::retention::holds(place, holds).await,
        Command::Content(content) => commands::content::run(place, content).await,
        Command::Erase(erase) => commands::content::erase(place, erase).await,
        Command::Archive(archive) => commands::archive::run(place, archive).await,
        Command::Verify(verify) => commands::verify::run(place, verify).await,
        Command::Prove(prove) => commands::prove::run(place, prove).await,
        Command::StandInProvider(stand_in) => commands::stand_in::run(stand_in).await,
    }
}
