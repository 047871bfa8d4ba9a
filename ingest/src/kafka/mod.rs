//! Kafka as journal and outlet. Nothing outside this folder knows the client library.
//!
//! No transactions: idempotent producers, `acks=all` and positions that readers keep with their own output.
//! No consumer group is joined and no offset is committed; an offset that is gone is an error, never a jump.

mod consumer;
mod context;
mod generation;
mod producer;
mod settings;
mod topics;

use bursar_schemas::position::Topic;
use rdkafka::error::KafkaError;

pub use consumer::KafkaJournal;
pub use generation::generation_settings;
pub use producer::KafkaOutlet;
pub use settings::{Compression, KafkaSettings, MUCH, Security};
pub use topics::{Difference, TopicPlan, TopicReport, ensure_topics};

/// Why Kafka could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum KafkaSetupError {
    /// The client refused its settings.
    #[error("failed to set up the Kafka client: {0}")]
    Client(String),
    /// No broker answered, or it refused.
    #[error("failed to reach Kafka: {0}")]
    Unavailable(String),
    /// A topic could not be created.
    #[error("failed to create topic {topic}: {detail}")]
    Create {
        /// Its full name.
        topic: String,
        /// Why.
        detail: String,
    },
    /// A topic has another number of partitions, which would move organisations between partitions.
    #[error("topic {topic} has {found} partitions, not {wanted}")]
    Partitions {
        /// Its full name.
        topic: String,
        /// How many it has.
        found: u32,
        /// How many were asked for.
        wanted: u32,
    },
    /// A topic is gone while others still hold records.
    #[error(
        "topic {topic} is missing though {holds} holds records: it was deleted, and what it said is lost; restore it, \
         or begin anew with another kafka.prefix"
    )]
    Missing {
        /// The full name of the topic that is gone.
        topic: String,
        /// The full name of one that holds records.
        holds: String,
    },
    /// A topic was not created by this product and carries no generation.
    #[error(
        "topic {0} carries no generation: let this product create it, or give it settings \
         delete.retention.ms and min.compaction.lag.ms drawn for it"
    )]
    NoGeneration(String),
    /// The system's randomness failed.
    #[error("failed to draw a generation: {0}")]
    Random(String),
}

/// A topic of ours by its place in [`Topic::ALL`].
fn all_topics() -> impl Iterator<Item = Topic> {
    Topic::ALL.into_iter()
}

fn describe(error: &KafkaError) -> String {
    error.to_string()
}
