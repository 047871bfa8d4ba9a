//! Where a fact stands: topic, partition and offset.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The five streams of facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Topic {
    /// Requests opened, closed and refused; queries; findings about other streams.
    Requests,
    /// Route decisions and attempts.
    Routes,
    /// Reservations, settlements and lease messages of the shims.
    Spend,
    /// The feedback: what the ledger alone may write.
    Limits,
    /// Published policy versions, keys and raises: what `apply` alone may write.
    Policy,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Requests, Self::Routes, Self::Spend, Self::Limits, Self::Policy];

    /// The name within a deployment's prefix.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Routes => "routes",
            Self::Spend => "spend",
            Self::Limits => "limits",
            Self::Policy => "policy",
        }
    }

    /// The topic of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.name() == name)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One partition of one topic: the unit of order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lane {
    /// The topic.
    pub topic: Topic,
    /// The partition, from 0.
    pub partition: u32,
}

impl Lane {
    /// A lane.
    #[must_use]
    pub const fn new(topic: Topic, partition: u32) -> Self {
        Self { topic, partition }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// The partition of an organisation's budget tree: all its facts on `spend` and `limits` are in this one.
///
/// SHA-256 rather than a client library's partitioner: producers set the partition themselves, and any
/// language can recompute it. `policy` always has one partition.
#[must_use]
pub fn partition_of(organisation: &str, partitions: u32) -> u32 {
    let digest = Sha256::digest(organisation.as_bytes());
    let mut head = [0; 8];
    head.copy_from_slice(&digest[..8]);
    let slot = u64::from_be_bytes(head) % u64::from(partitions.max(1));
    u32::try_from(slot).unwrap_or(0)
}
