//! One witness, asked about the newest checkpoint until it has cosigned it.

use std::sync::Arc;
use std::time::Duration;

use bursar_schemas::evidence::Signature;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::keep::Keeper;
use super::protocol::{Word, read, request};
use super::{Witness, WitnessError, WitnessStatus};
use crate::archive::log::Signed;
use crate::archive::run::ArchiveConfig;

/// Questions about one checkpoint: the size that the witness has seen is learnt by the first, and may change once.
const QUESTIONS: u32 = 3;

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub(in crate::archive) struct Pace {
    /// How long an answer may take.
    pub(in crate::archive) patience: Duration,
    /// Time between two questions while all goes well; checkpoints in between are covered by the next one.
    pub(in crate::archive) between: Duration,
    /// First wait after a failure; it doubles with each further one.
    pub(in crate::archive) retry_first: Duration,
    /// Longest wait after a failure.
    pub(in crate::archive) retry_most: Duration,
}

impl Pace {
    /// As an archiver tries again.
    pub(in crate::archive) const fn of(config: &ArchiveConfig) -> Self {
        Self {
            patience: Duration::from_secs(15),
            between: Duration::from_secs(5),
            retry_first: config.retry_first,
            retry_most: config.retry_most,
        }
    }
}

/// What one witness's task works on.
pub(super) struct Asker {
    pub(super) witness: Witness,
    pub(super) keeper: Arc<Keeper>,
    /// The newest checkpoint that this process published or found.
    pub(super) newest: watch::Receiver<Option<Arc<Signed>>>,
    pub(super) pace: Pace,
    pub(super) status: Mutex<WitnessStatus>,
}

impl Asker {
    /// Asks for as long as there is anybody who publishes.
    pub(super) async fn run(self: Arc<Self>) {
        let mut newest = self.newest.clone();
        // What the witness has seen; it is asked with nothing first.
        let (mut seen, mut cosigned) = (0, 0);
        let mut wait = self.pace.retry_first;
        loop {
            let due = |it: &Option<Arc<Signed>>| it.as_ref().is_some_and(|it| it.checkpoint.size > cosigned);
            let Ok(newer) = newest.wait_for(due).await.map(|it| it.clone()) else { return };
            let Some(newer) = newer else { continue };
            match self.about(&newer, &mut seen).await {
                Ok((size, signature)) => {
                    cosigned = size;
                    wait = self.pace.retry_first;
                    self.show(Ok((size, signature.cosigned_at())));
                    tokio::time::sleep(self.pace.between).await;
                }
                Err(error) => {
                    self.show(Err(error.to_string()));
                    tokio::time::sleep(wait).await;
                    wait = wait.saturating_mul(2).min(self.pace.retry_most);
                }
            }
        }
    }

    /// Has a checkpoint cosigned, or the newer one that the witness knows of; keeps what it says.
    pub(super) async fn about(
        &self,
        newest: &Arc<Signed>,
        seen: &mut u64,
    ) -> Result<(u64, Signature), WitnessError> {
        for _ in 0..QUESTIONS {
            let target = self.target(newest, *seen).await?;
            match self.question(&target, *seen).await? {
                Word::Seen(size) => *seen = size,
                Word::Cosigned(signature) => {
                    self.keeper.keep(&target, &signature).await?;
                    *seen = target.checkpoint.size;
                    return Ok((*seen, signature));
                }
            }
        }
        Err(WitnessError::Answer("it names another size each time that it is asked"))
    }

    /// The newest checkpoint, unless the witness has seen a newer one: another archiver's, if it is of this log at all.
    async fn target(&self, newest: &Arc<Signed>, seen: u64) -> Result<Arc<Signed>, WitnessError> {
        let found = newest.checkpoint.size;
        if seen <= found {
            return Ok(Arc::clone(newest));
        }
        let ahead = self.keeper.published(seen).await?;
        ahead.map(Arc::new).ok_or(WitnessError::RolledBack { seen, found })
    }

    async fn question(&self, target: &Signed, seen: u64) -> Result<Word, WitnessError> {
        let size = target.checkpoint.size;
        let proof = self.keeper.consistency(seen, size).await?;
        let body = request(seen, &proof, &target.note);
        let answer = tokio::time::timeout(self.pace.patience, self.witness.port.add_checkpoint(body)).await;
        let answer = answer
            .map_err(|_| WitnessError::Silent(self.pace.patience))?
            .map_err(WitnessError::Unreachable)?;
        read(&answer, (seen, size), &target.note, &self.witness.key)
    }

    fn show(&self, outcome: Result<(u64, Option<u64>), String>) {
        let mut status = self.status.lock();
        match outcome {
            Ok((size, at)) => {
                if status.fault.take().is_some() {
                    tracing::info!(witness = status.name, size, "the witness cosigns again");
                }
                (status.cosigned, status.cosigned_at) = (Some(size), at);
            }
            Err(fault) if status.fault.as_ref() == Some(&fault) => {}
            Err(fault) => {
                tracing::warn!(witness = status.name, %fault, "no cosignature, and it will be tried again");
                status.fault = Some(fault);
            }
        }
    }
}
