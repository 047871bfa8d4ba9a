//! What a leaf states, as one line of JSON: fields in the order of these types, no spaces, nothing else but the claim.

use serde::{Deserialize, Serialize};

use super::claim::take_apart;
use super::fingerprint::contract_fingerprint;
use crate::archive::{Footer, parse_segment_key, segment_key};
use crate::ids::{Digest, Generation};
use crate::position::{Lane, Topic};

/// Version of the leaves written.
pub const LEAF_VERSION: u32 = 1;

/// The longest leaf that a bundle can hold, in bytes.
pub const LONGEST_LEAF: usize = 65_535;

/// A leaf that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// Not the JSON of a leaf.
    #[error("failed to read a leaf: {0}")]
    Json(String),
    /// Written otherwise than by the rules of the form.
    #[error("a leaf is not in its only form")]
    NotCanonical,
    /// Written by a later version.
    #[error("leaf version {0} is unknown")]
    Version(u32),
    /// A segment's manifest contradicts itself.
    #[error("a manifest contradicts itself: {0}")]
    Manifest(&'static str),
}

/// What the log says of one sealed segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this statement.
    pub version: u32,
    /// When the leaf was made, by the archiver's clock, in microseconds since 1970.
    pub at_us: i64,
    /// The topic's life.
    pub generation: Generation,
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: u32,
    /// First offset covered.
    pub first: u64,
    /// Last offset covered.
    pub last: u64,
    /// Rows held.
    pub rows: u64,
    /// The object's name under the archive's root.
    pub key: String,
    /// The object's size in bytes.
    pub bytes: u64,
    /// SHA-256 of the object's bytes.
    pub sha256: Digest,
    /// RFC 6962 root over the raw value bytes in offset order.
    pub rows_root: Digest,
    /// Earliest and latest event time among the rows, in microseconds; none without readable rows.
    pub times_us: Option<(i64, i64)>,
    /// Fingerprint of the Avro schemas that the topic carries.
    pub schemas: Digest,
}

impl Manifest {
    /// The manifest of a segment from its footer, its object's size and hash, and the time.
    #[must_use]
    pub fn new(footer: &Footer, bytes: u64, sha256: Digest, at_us: i64) -> Self {
        Self {
            version: LEAF_VERSION,
            at_us,
            generation: footer.generation,
            topic: footer.topic,
            partition: footer.partition,
            first: footer.start,
            last: footer.end,
            rows: footer.rows,
            key: segment_key(footer.generation, footer.lane(), footer.start),
            bytes,
            sha256,
            rows_root: footer.rows_root,
            times_us: footer.times_us,
            schemas: contract_fingerprint(footer.topic),
        }
    }

    /// The lane.
    #[must_use]
    pub const fn lane(&self) -> Lane {
        Lane::new(self.topic, self.partition)
    }

    /// What a footer says otherwise than this manifest; none when they agree.
    #[must_use]
    pub fn contradiction(&self, footer: &Footer) -> Option<&'static str> {
        if (footer.generation, footer.lane()) != (self.generation, self.lane()) {
            return Some("another lane");
        }
        if (footer.start, footer.end) != (self.first, self.last) {
            return Some("another range of offsets");
        }
        if footer.rows != self.rows {
            return Some("another number of rows");
        }
        if footer.rows_root != self.rows_root {
            return Some("another root over its rows");
        }
        (footer.times_us != self.times_us).then_some("other event times")
    }

    fn check(&self) -> Result<(), LeafError> {
        if parse_segment_key(&self.key) != Some((self.generation, self.lane(), self.first)) {
            return Err(LeafError::Manifest("its key is not that of its lane and first offset"));
        }
        let covered = self.last.checked_sub(self.first).and_then(|span| span.checked_add(1));
        match covered {
            Some(covered) if self.rows <= covered => Ok(()),
            _ => Err(LeafError::Manifest("its range of offsets cannot hold its rows")),
        }
    }
}

/// The keys in use, stated by whoever holds the log's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// Version of this statement.
    pub version: u32,
    /// When, in microseconds since 1970.
    pub at_us: i64,
    /// The log's name.
    pub origin: String,
    /// The log key's public half, as a verifier key.
    pub log_key: String,
    /// Public key of the deployment, whose certificates producers show.
    pub deployment_key: Digest,
}

/// Records of a sealed segment are removed: what they were, and why. It comes before they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// Version of this statement.
    pub version: u32,
    /// When, in microseconds since 1970.
    pub at_us: i64,
    /// The leaf that had logged the segment.
    pub leaf: u64,
    /// The segment's object.
    pub key: String,
    /// First offset covered.
    pub first: u64,
    /// Last offset covered.
    pub last: u64,
    /// Rows removed.
    pub rows: u64,
    /// SHA-256 of the object's bytes as they were sealed.
    pub sha256: Digest,
    /// RFC 6962 root over the rows removed.
    pub rows_root: Digest,
    /// SHA-256 of the statement in the segment's footer, which the object that takes its place repeats.
    pub footer: Digest,
    /// Days for which the policy in force keeps records of the topic.
    pub retention_days: u64,
    /// Who had them removed.
    pub by: String,
}

impl Removal {
    /// True when it is of that segment.
    #[must_use]
    pub fn is_of(&self, leaf: u64, manifest: &Manifest) -> bool {
        self.leaf == leaf
            && self.key == manifest.key
            && (self.first, self.last, self.rows) == (manifest.first, manifest.last, manifest.rows)
            && (self.sha256, self.rows_root) == (manifest.sha256, manifest.rows_root)
    }
}

/// What a leaf states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Leaf {
    /// The keys in use from here on; the first leaf is one.
    Keys(Keys),
    /// A sealed segment.
    Segment(Manifest),
    /// A segment's records are removed under retention.
    Removal(Removal),
    /// Nothing was sealed for a while, and the archiver was there.
    Heartbeat {
        /// Version of this statement.
        version: u32,
        /// When, in microseconds since 1970.
        at_us: i64,
    },
}

impl Leaf {
    /// What is stated, in its only form. The entry, which is hashed and stored, carries a claim as well
    /// ([`super::claim_leaf`]).
    ///
    /// # Errors
    /// Never for a leaf that was made here.
    pub fn encode(&self) -> Result<Vec<u8>, LeafError> {
        serde_json::to_vec(self).map_err(|error| LeafError::Json(error.to_string()))
    }

    /// Reads an entry. Whether its claim holds is not looked at: that is for whoever is to sign over it.
    ///
    /// # Errors
    /// When it is not a leaf in its only form, or contradicts itself.
    pub fn parse(entry: &[u8]) -> Result<Self, LeafError> {
        let (statement, _) = take_apart(entry);
        let leaf: Self =
            serde_json::from_slice(&statement).map_err(|error| LeafError::Json(error.to_string()))?;
        let version = match &leaf {
            Self::Keys(keys) => keys.version,
            Self::Segment(manifest) => manifest.version,
            Self::Removal(removal) => removal.version,
            Self::Heartbeat { version, .. } => *version,
        };
        if version != LEAF_VERSION {
            return Err(LeafError::Version(version));
        }
        if leaf.encode()? != *statement {
            return Err(LeafError::NotCanonical);
        }
        if let Self::Segment(manifest) = &leaf {
            manifest.check()?;
        }
        Ok(leaf)
    }

    /// When it was made, in microseconds since 1970.
    #[must_use]
    pub const fn at_us(&self) -> i64 {
        match self {
            Self::Keys(keys) => keys.at_us,
            Self::Segment(manifest) => manifest.at_us,
            Self::Removal(removal) => removal.at_us,
            Self::Heartbeat { at_us, .. } => *at_us,
        }
    }
}
