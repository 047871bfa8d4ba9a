//! What is kept for how long: legal holds on topic `policy`, removals on topic `requests`.

use super::Head;
use crate::avro::avro_record;
use crate::ids::{Digest, Generation};

avro_record! {
    /// A legal hold was placed: nothing that its condition finds is removed while it stands.
    pub struct HoldPlaced {
        /// What every fact begins with.
        pub head: Head,
        /// The hold's id.
        pub hold: String,
        /// The topics that it speaks of.
        pub topics: Vec<String>,
        /// Which records it holds: an SQL condition over the columns of the topics' tables.
        pub condition: String,
        /// Why.
        pub reason: String,
        /// Name of the credential that placed it.
        pub author: String,
    }

    /// A legal hold was released.
    pub struct HoldReleased {
        /// What every fact begins with.
        pub head: Head,
        /// The hold's id.
        pub hold: String,
        /// Why.
        pub reason: String,
        /// Name of the credential that released it.
        pub author: String,
    }

    /// The records of a sealed segment were removed, as they were past their retention and under no hold.
    pub struct RecordsRemoved {
        /// What every fact begins with.
        pub head: Head,
        /// The topic.
        pub removed_topic: String,
        /// The topic's life.
        pub removed_generation: Generation,
        /// The partition.
        pub removed_partition: u32,
        /// First offset removed.
        pub removed_first: u64,
        /// Last offset removed.
        pub removed_last: u64,
        /// Records removed.
        pub removed_rows: u64,
        /// The object that held them.
        pub object: String,
        /// SHA-256 of that object's bytes.
        pub object_sha256: Digest,
        /// RFC 6962 root over the removed records.
        pub rows_root: Digest,
        /// The leaf of the log that had sealed them.
        pub sealed_leaf: u64,
        /// Days that the policy in force keeps the topic's records.
        pub retention_days: u64,
        /// Name of the credential that had them removed.
        pub author: String,
    }
}
