//! What a producer says of itself, on every lane that it writes.

use super::Head;
use crate::avro::avro_record;
use crate::ids::{Digest, ProducerId, Signature};

avro_record! {
    /// First fact of a producer on a lane: its public key, certified by the deployment's key.
    pub struct ProducerOpened {
        /// What every fact begins with.
        pub head: Head,
        /// The incarnation's Ed25519 public key.
        pub public_key: Digest,
        /// The deployment's Ed25519 public key.
        pub deployment_key: Digest,
        /// The deployment key's signature over the incarnation's id, role and public key.
        pub certificate: Signature,
        /// Version of the software.
        pub version: String,
        /// The incarnation whose spool this one took over.
        pub predecessor: Option<ProducerId>,
    }

    /// A signed statement of how far a producer's running hash has come on a lane.
    pub struct ProducerHead {
        /// What every fact begins with.
        pub head: Head,
        /// Number of the last fact that the hash covers: the one before this fact.
        pub last: u64,
        /// The running hash after that fact.
        pub hash: Digest,
        /// The incarnation's signature over lane, producer, last number, hash and `ended`.
        pub signature: Signature,
        /// True for the last fact that the producer will ever write on the lane.
        pub ended: bool,
    }
}
