//! Captured content: what was kept or dropped of it, by digest alone (topic `requests`), and whose was erased (`policy`).

use super::{About, Head};
use crate::avro::{avro_enum, avro_record};
use crate::ids::Digest;

avro_enum! {
    /// Why captured content was dropped.
    pub enum DropReason {
        /// Too much of it waited already.
        QueueFull = "queue_full",
        /// Its store did not take it.
        StoreFailed = "store_failed",
    }
}

avro_record! {
    /// The prompt and the completion of a request were kept, encrypted.
    pub struct ContentKept {
        /// What every fact begins with.
        pub head: Head,
        /// The request's attributes.
        pub about: About,
        /// Whose data key it is encrypted under: the end user's pseudonym, else `key:` and the key's id.
        pub subject: String,
        /// The object that holds it, below the place of captured content.
        pub object: String,
        /// SHA-256 of that object's bytes, which are encrypted.
        pub object_sha256: Digest,
        /// Their number.
        pub object_bytes: u64,
        /// True when a part was longer than the bound and was cut off.
        pub cut: bool,
    }

    /// The content of a request was to be kept and was not.
    pub struct ContentDropped {
        /// What every fact begins with.
        pub head: Head,
        /// The request's attributes.
        pub about: About,
        /// Why.
        pub drop_reason: DropReason,
    }

    /// A subject's data key was destroyed: what was captured for it can be read by nobody any more.
    pub struct SubjectErased {
        /// What every fact begins with.
        pub head: Head,
        /// The subject.
        pub subject: String,
        /// False when there was no key to destroy.
        pub key_destroyed: bool,
        /// Why.
        pub reason: String,
        /// Name of the credential that asked for it.
        pub author: String,
    }
}
