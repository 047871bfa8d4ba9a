//! What is kept and for how long: retention, holds, captured content and its erasure, tables over the archive.

use clap::{Args, Subcommand};

use super::Format;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Retention {
    #[command(flatten)]
    pub(crate) format: Format,
    #[command(subcommand)]
    pub(crate) change: Option<RetentionChange>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RetentionChange {
    /// Removes whole segments of which every record is past its retention and under no hold. The log says so first, a
    /// fact is recorded, and `bursar verify` still holds.
    Apply {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Archive {
    /// Makes the Delta tables over the segments anew, each as one commit. Nothing that counts as evidence is touched.
    RebuildDelta {
        /// The archive: a folder, or s3://BUCKET/PREFIX, gs:// or az://; the data folder's own when absent.
        archive: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Content {
    /// Decrypts the prompt and the completion of a request. Reads the store itself, with the key that content.key names.
    Show {
        /// The request's id.
        request: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Erase {
    /// Whose: an end user's pseudonym as facts have it, or key:ID where no end user was named.
    #[arg(long, conflicts_with = "end_user")]
    pub(crate) subject: Option<String>,
    /// The end user's name as applications send it; needs the deployment's key here.
    #[arg(long, requires = "organisation")]
    pub(crate) end_user: Option<String>,
    /// The end user's organisation.
    #[arg(long)]
    pub(crate) organisation: Option<String>,
    /// Why; kept on record.
    #[arg(long)]
    pub(crate) reason: String,
    /// Erase although a legal hold speaks of what was captured.
    #[arg(long)]
    pub(crate) despite_holds: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Holds {
    /// Places a hold on every record that a condition finds, now and later.
    Place {
        /// An SQL condition over the columns of the topics' tables, such as "team = 'red' AND accounting_at >= '2026-10-01'".
        #[arg(long = "where", value_name = "CONDITION")]
        condition: String,
        /// A topic that it speaks of; may be repeated. All that speak of requests (requests, routes, spend) when absent.
        #[arg(long = "topic", value_name = "TOPIC")]
        topics: Vec<String>,
        /// Why; kept on record.
        #[arg(long)]
        reason: String,
        /// Id of the hold; made up when absent.
        #[arg(long)]
        id: Option<String>,
    },
    /// Lists holds, released ones included.
    List(Format),
    /// Releases a hold.
    Release {
        /// The hold's id.
        hold: String,
        /// Why; kept on record.
        #[arg(long)]
        reason: String,
    },
}
