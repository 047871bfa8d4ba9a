//! The attestation that a shim can never run again.

use bursar_schemas::facts::ShimRetired;
use bursar_schemas::ids::ProducerId;
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::producer::Draft;

use anyhow::Context as _;

use super::{LANE, Publisher};
use crate::exit::{Failure, Outcome};

impl Publisher {
    /// Puts on record for each partition that an incarnation can never run again, and where `spend` ended then: all that
    /// it had acknowledged stands before.
    pub(crate) async fn retire(&self, incarnation: ProducerId, author: &str, reason: &str) -> Outcome {
        let _turn = self.turn.lock().await;
        if reason.trim().is_empty() {
            return Err(Failure::refused("retiring a shim needs a reason"));
        }
        let state = self.catch_up().await?;
        let journal = self.journal();
        let partitions = journal.partitions(Topic::Spend).await.context("failed to read the spend topic")?;
        let mut drafts = Vec::new();
        for partition in 0..partitions {
            let bounds = journal.bounds(Lane::new(Topic::Spend, partition)).await;
            let fact = ShimRetired {
                head: self.head(state.version),
                incarnation,
                partition,
                spend_end: bounds.context("failed to read the spend topic")?.end,
                author: author.to_owned(),
                reason: reason.to_owned(),
            };
            drafts.push(Draft { lane: LANE, fact: fact.into() });
        }
        self.publish_all(drafts).await.map(|_| ())
    }
}
