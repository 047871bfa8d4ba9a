//! Asking witnesses to cosign checkpoints: the client's side of C2SP tlog-witness.
//!
//! | Module | Holds |
//! |---|---|
//! | `protocol` | what is sent and what the answer says |
//! | `ask` | one task for each witness: the newest checkpoint, tried until it is cosigned |
//! | `keep` | the cosigned checkpoint in the archive and in the second place |
//!
//! Invariant: no witness holds up sealing, nor another witness: each is asked beside, about the newest checkpoint alone.
//! Invariant: a cosignature is used only when the key that was configured holds it.
//! Invariant: a witness that has seen what the log does not contain is told as a fault, for as long as that is so.

mod ask;
mod keep;
mod protocol;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bursar_schemas::evidence::{NoteError, VerifierKey};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::ask::Asker;
pub(super) use self::ask::Pace;
use self::keep::Keeper;
use super::log::{LogSettings, Signed};
use super::store::{Segments, StoreError};

/// What a witness answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// What the body is; empty when the answer does not say.
    pub content_type: String,
    /// The body.
    pub body: Bytes,
}

/// Carries requests to one witness, as this crate knows no HTTP.
#[async_trait]
pub trait AddCheckpoint: Send + Sync {
    /// Posts a body to the witness's `add-checkpoint` once. What cannot be delivered is told in a few words.
    async fn add_checkpoint(&self, body: String) -> Result<Answer, String>;
}

/// A witness to ask.
#[derive(Clone)]
pub struct Witness {
    /// The key that its cosignatures must hold under.
    pub key: VerifierKey,
    /// The way to it.
    pub port: Arc<dyn AddCheckpoint>,
}

/// What a witness was last heard of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WitnessStatus {
    /// Its name.
    pub name: String,
    /// Leaves of the last checkpoint that it cosigned for this process; none before the first.
    pub cosigned: Option<u64>,
    /// When that was by its own clock, in seconds since 1970.
    pub cosigned_at: Option<u64>,
    /// What keeps the newest checkpoint from being cosigned at the moment; it is tried again and again.
    pub fault: Option<String>,
}

/// Why a checkpoint is not cosigned.
#[derive(Debug, thiserror::Error)]
pub(super) enum WitnessError {
    /// It gave no answer.
    #[error("the witness cannot be asked: {0}")]
    Unreachable(String),
    /// It took too long.
    #[error("the witness did not answer within {0:?}")]
    Silent(Duration),
    /// It keeps no such log.
    #[error("the witness does not know this log: give its operator the log's public key")]
    UnknownLog,
    /// It has another key of this log, or wants none of it.
    #[error("the witness trusts none of the keys that signed the checkpoint")]
    UnknownKey,
    /// What it cosigned before is not the beginning of this log.
    #[error(
        "the log contradicts the witness: what it cosigned before, {seen} leaves, is not the beginning of the {size} here"
    )]
    Contradicted {
        /// Leaves that it has seen.
        seen: u64,
        /// Leaves of the checkpoint that it was asked about.
        size: u64,
    },
    /// It has seen more of the log than there is.
    #[error("the log was rolled back: the witness has cosigned {seen} leaves, the archive has {found}")]
    RolledBack {
        /// Leaves that it has seen.
        seen: u64,
        /// Leaves found.
        found: u64,
    },
    /// Some other refusal.
    #[error("the witness refused with status {status}{words}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it said, after a colon.
        words: String,
    },
    /// Its answer makes no sense.
    #[error("failed to read the witness's answer: {0}")]
    Answer(&'static str),
    /// What it sent is no cosignature by its key.
    #[error("the witness's cosignature cannot be used: {0}")]
    Cosignature(NoteError),
    /// The archive's store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The witnesses of a log.
pub(super) struct Witnesses {
    askers: Vec<Arc<Asker>>,
}

impl Witnesses {
    /// Those that the log's settings name; told of each published checkpoint by `newest`.
    pub(super) fn new(
        segments: &Segments,
        settings: &LogSettings,
        newest: &watch::Receiver<Option<Arc<Signed>>>,
        pace: Pace,
    ) -> Self {
        let keeper = Arc::new(Keeper::new(segments.clone(), settings));
        let asker = |witness: &Witness| {
            let status = WitnessStatus { name: witness.key.name().to_owned(), ..WitnessStatus::default() };
            Arc::new(Asker {
                witness: witness.clone(),
                keeper: Arc::clone(&keeper),
                newest: newest.clone(),
                pace,
                status: Mutex::new(status),
            })
        };
        Self { askers: settings.witnesses.iter().map(asker).collect() }
    }

    /// Begins to ask each of them, for as long as the tasks are kept.
    pub(super) fn start(&self, tasks: &mut JoinSet<()>) {
        for asker in &self.askers {
            tasks.spawn(Arc::clone(asker).run());
        }
    }

    pub(super) fn status(&self) -> Vec<WitnessStatus> {
        self.askers.iter().map(|asker| asker.status.lock().clone()).collect()
    }
}
