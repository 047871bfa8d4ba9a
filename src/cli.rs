//! The command line.

mod keeping;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use keeping::{Archive, Content, Erase, Holds, Retention, RetentionChange};

/// An event-sourced audit and spend ledger for companies that use language models.
#[derive(Debug, Parser)]
#[command(name = "bursar", version, about, arg_required_else_help = true, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the data folder and the running server are.
#[derive(Debug, Clone, Args)]
pub(crate) struct Place {
    /// Data folder: configuration, keys, journal, spool and local archive.
    #[arg(long, global = true, env = "BURSAR_DATA", default_value = "bursar-data", value_name = "FOLDER")]
    pub(crate) data: PathBuf,
    /// Configuration file instead of FOLDER/bursar.toml.
    #[arg(long, global = true, env = "BURSAR_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Admin address of a running server, such as http://127.0.0.1:4001; found in the data folder otherwise.
    #[arg(long, global = true, env = "BURSAR_SERVER", value_name = "URL")]
    pub(crate) server: Option<String>,
    /// File with the admin token; found in the data folder otherwise.
    #[arg(long, global = true, env = "BURSAR_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs every role in one process on the embedded journal and a local folder.
    Up,
    /// Shows Bursar at work in about a minute: a real trace, a stand-in provider, budgets filling.
    Demo(Demo),
    /// Runs the gateway shim alone.
    Shim,
    /// Runs the ledger and the administration alone.
    Ledger,
    /// Runs the archiver alone.
    Ingest,
    /// Runs the query service alone.
    Query,
    /// Checks policy files and publishes them, together, as the next policy version.
    Apply(Apply),
    /// Creates, lists and revokes virtual keys.
    #[command(subcommand)]
    Keys(Keys),
    /// Shows budgets: limit = settled + reserved + leased idle + stranded + available.
    Budgets(Budgets),
    /// Shows shims and what they hold; retires one that can never run again.
    #[command(subcommand)]
    Shims(Shims),
    /// Shows the latest alerts, oldest first, and what became of telling webhooks; the view `alerts` has them all.
    Alerts(Format),
    /// Shows the state of the running roles.
    Status(Format),
    /// Runs one SQL statement over the audit history.
    Sql(Sql),
    /// Prints what each team, project or model cost in a month.
    Chargeback(Chargeback),
    /// Reports what is missing, doubled, late, unreadable or unproven, by producer and topic, and since when.
    Gaps(Gaps),
    /// Shows what is past its retention and what keeps it; `apply` removes the rest.
    Retention(Retention),
    /// Places, lists and releases legal holds: what a hold finds is not removed.
    #[command(subcommand)]
    Holds(Holds),
    /// Shows captured content to whoever has its key.
    #[command(subcommand)]
    Content(Content),
    /// Makes what was captured of an end user or a key unreadable for everybody, by destroying its data key.
    Erase(Erase),
    /// Works on the archive's own files.
    #[command(subcommand)]
    Archive(Archive),
    /// Checks an archive, offline: every object, the log, every producer's chain, the fold of limits.
    Verify(Verify),
    /// Writes the evidence of one request into a file that anyone with the log's public key can check.
    Prove(Prove),
    /// Runs the stand-in provider of demo and tests; it answers nonsense and bills it.
    #[command(hide = true)]
    StandInProvider(StandInProvider),
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// A trace to replay instead of the built-in one: CSV with TIMESTAMP, ContextTokens, GeneratedTokens.
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Requests to replay.
    #[arg(long, default_value_t = 1500)]
    pub(crate) requests: usize,
    /// Keep the data in this folder instead of a temporary one.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) keep: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Apply {
    /// Policy files (TOML), taken together.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Revision of the files' source, such as a commit.
    #[arg(long)]
    pub(crate) revision: Option<String>,
    /// Only check and show what would change.
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Creates a key and shows its secret, this once.
    Create(KeyCreate),
    /// Lists keys, without secrets.
    List(Format),
    /// Revokes a key at once.
    Revoke {
        /// The key's id.
        key: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct KeyCreate {
    /// Id of the key; made up when absent.
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// The team that it draws on.
    #[arg(long)]
    pub(crate) team: Option<String>,
    /// The project that it draws on; implies its team.
    #[arg(long)]
    pub(crate) project: Option<String>,
    /// The organisation, where neither team nor project says it.
    #[arg(long)]
    pub(crate) organisation: Option<String>,
    /// A tag, NAME=VALUE; may be repeated.
    #[arg(long = "tag", value_name = "NAME=VALUE")]
    pub(crate) tags: Vec<String>,
    /// A model that it may use; may be repeated. All that its team may when absent.
    #[arg(long = "model")]
    pub(crate) models: Vec<String>,
    /// Write the secret into this new file, readable by its owner only, instead of showing it.
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Budgets {
    #[command(flatten)]
    pub(crate) format: Format,
    #[command(subcommand)]
    pub(crate) change: Option<BudgetChange>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BudgetChange {
    /// Raises a budget's limit.
    Raise {
        /// The budget's id.
        budget: String,
        /// Dollars to add, such as 25.00.
        amount: String,
        #[command(flatten)]
        lasts: Lasts,
        #[command(flatten)]
        why: Why,
    },
    /// Cuts a budget's limit, never below nothing. What is leased or in flight already stays spendable.
    Lower {
        /// The budget's id.
        budget: String,
        /// Dollars to take away, such as 25.00.
        amount: String,
        #[command(flatten)]
        lasts: Lasts,
        #[command(flatten)]
        why: Why,
    },
    /// Gives the window that is open its whole amount again, by a raise of what was settled in it.
    Reset {
        /// The budget's id.
        budget: String,
        #[command(flatten)]
        why: Why,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Shims {
    /// Lists shims that run, and those that have ended and left leases behind.
    List(Format),
    /// Attests, on record, that a shim can never run again: its machine or disk is gone. What it held above its marks
    /// goes back to its budgets. If it does run again, hard budgets may be overspent.
    Retire {
        /// The incarnation, as `bursar shims list` shows it.
        incarnation: String,
        /// Why it can never run again; kept on record with who.
        #[arg(long)]
        reason: String,
    },
}

/// How long a change of a limit lasts: until the budget's window ends (for this policy version, for `total`), unless
/// said otherwise.
#[derive(Debug, Args)]
pub(crate) struct Lasts {
    /// Until this time, such as 2026-12-24T18:00:00Z, instead of the window's end.
    #[arg(long, value_name = "TIME", conflicts_with = "permanent")]
    pub(crate) until: Option<String>,
    /// Until the next policy version is applied, whose files say anew what each budget has.
    #[arg(long)]
    pub(crate) permanent: bool,
}

/// Whose account, and why.
#[derive(Debug, Args)]
pub(crate) struct Why {
    /// The end user whose own account is meant, of a budget with `each = "end_user"`.
    #[arg(long, value_name = "NAME")]
    pub(crate) end_user: Option<String>,
    /// Why; kept on record with who.
    #[arg(long)]
    pub(crate) reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Csv,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Format {
    /// How to print.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub(crate) format: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Sql {
    /// The statement; one SELECT, WITH, EXPLAIN, DESCRIBE or SHOW TABLES.
    pub(crate) statement: String,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Chargeback {
    /// The month, such as 2026-11, in each organisation's own time zone.
    #[arg(long)]
    pub(crate) month: String,
    /// What to sum by: team, project, cost_center, model, provider, key, organisation, tag:NAME.
    #[arg(long, value_delimiter = ',', default_value = "team,model")]
    pub(crate) by: Vec<String>,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Gaps {
    /// Look only at what was taken in since then, such as 2026-11-03 or 2026-11-03T14:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Print JSON; the same as --format json.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The archive: a folder, or s3://BUCKET/PREFIX, gs:// or az://; the data folder's own when absent.
    pub(crate) archive: Option<String>,
    /// Public key of the log or of a witness, or a file with such keys; may be repeated. The data folder's log.pub when
    /// absent. It must not come from the archive.
    #[arg(long, value_name = "KEY|FILE")]
    pub(crate) key: Vec<String>,
    /// Public key of a witness, or a file with such keys; may be repeated. It must have cosigned a checkpoint of the
    /// archive: what it had seen by then cannot have been cut off. With --bundle it must have cosigned its checkpoint.
    #[arg(long, value_name = "KEY|FILE")]
    pub(crate) witness: Vec<String>,
    /// A signed checkpoint kept outside the archive, which the archive must contain.
    #[arg(long, value_name = "FILE")]
    pub(crate) trusted_checkpoint: Option<PathBuf>,
    /// Look only into segments logged since then, such as 2026-11-03 or 2026-11-03T14:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Look into so many segments alone, drawn by the newest root.
    #[arg(long, value_name = "N")]
    pub(crate) sample: Option<usize>,
    /// Make the columns that queries read anew from the records, too; takes a few times as long.
    #[arg(long)]
    pub(crate) columns: bool,
    /// Check the evidence of one request instead.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["archive", "trusted_checkpoint", "since", "sample", "columns"])]
    pub(crate) bundle: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Prove {
    /// The request's id.
    pub(crate) request: String,
    /// The archive: a folder, or s3://BUCKET/PREFIX, gs:// or az://; the data folder's own when absent.
    #[arg(long, value_name = "ARCHIVE")]
    pub(crate) archive: Option<String>,
    /// Public key of the log, or a file with such keys; the data folder's log.pub when absent.
    #[arg(long, value_name = "KEY|FILE")]
    pub(crate) key: Vec<String>,
    /// Where to write it; request-ID.evidence.json when absent.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct StandInProvider {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:4010")]
    pub(crate) listen: std::net::SocketAddr,
    /// Append-only bill.
    #[arg(long)]
    pub(crate) bill: PathBuf,
    /// Seed of its faults.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Faults in a thousand answers.
    #[arg(long, default_value_t = 0)]
    pub(crate) errors_per_mille: u32,
    /// Milliseconds to the first byte.
    #[arg(long, default_value_t = 0)]
    pub(crate) first_byte_milliseconds: u64,
    /// JSON file with prices by model: pico-dollars per million input and output tokens.
    #[arg(long)]
    pub(crate) prices: Option<PathBuf>,
}
