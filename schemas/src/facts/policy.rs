//! Topic `policy`: what people decided. Only `apply` and its siblings write it.

use std::collections::BTreeMap;

use super::Head;
use crate::avro::{Micros, avro_record};
use crate::ids::{Digest, ProducerId};
use crate::money::Money;

avro_record! {
    /// A new version of the policy document.
    pub struct PolicyPublished {
        /// What every fact begins with.
        pub head: Head,
        /// Its version; counts only if it is one above the version in force.
        pub version: u64,
        /// Name of the credential that published it.
        pub author: String,
        /// Who approved it, where approval is asked for.
        pub approver: Option<String>,
        /// Revision of the source files.
        pub source_revision: Option<String>,
        /// The whole document as canonical JSON; secrets are references, never values.
        pub document: String,
    }

    /// A virtual key was made; its secret was shown once and is stored nowhere.
    pub struct KeyIssued {
        /// What every fact begins with.
        pub head: Head,
        /// The key's id.
        pub key: String,
        /// SHA-256 of the secret, which has 256 random bits.
        pub secret_hash: Digest,
        /// The organisation that it draws on.
        pub organisation: String,
        /// The team.
        pub team: Option<String>,
        /// The project.
        pub project: Option<String>,
        /// Free-form tags, added to those of project and team.
        pub tags: BTreeMap<String, String>,
        /// Models and aliases that it may use; empty for all that its team may.
        pub models: Vec<String>,
        /// Name of the credential that made it.
        pub author: String,
    }

    /// A virtual key was revoked.
    pub struct KeyRevoked {
        /// What every fact begins with.
        pub head: Head,
        /// The key's id.
        pub key: String,
        /// Name of the credential that revoked it.
        pub author: String,
    }

    /// An operator attested that a shim incarnation can never run again, so that what its leases surely have unused goes
    /// back. One fact for each partition.
    pub struct ShimRetired {
        /// What every fact begins with.
        pub head: Head,
        /// The incarnation.
        pub incarnation: ProducerId,
        /// The partition.
        pub partition: u32,
        /// The end of the partition of `spend` when it was attested: all that the incarnation had acknowledged is before.
        pub spend_end: u64,
        /// Name of the credential that attested it.
        pub author: String,
        /// Why.
        pub reason: String,
    }

    /// Into how many partitions organisations are spread, by hash. Recorded once, at the first start: with another number
    /// an organisation would begin anew in a partition that knows nothing of what it has spent.
    pub struct PartitionsSet {
        /// What every fact begins with.
        pub head: Head,
        /// How many partitions `requests`, `routes`, `spend` and `limits` have.
        pub partitions: u32,
    }

    /// A budget's limit was raised (or lowered, below nothing) until a time.
    pub struct BudgetRaised {
        /// What every fact begins with.
        pub head: Head,
        /// The budget.
        pub budget: String,
        /// The change of its limit.
        pub change: Money,
        /// When the change ends; none for never within this policy version.
        pub expires_at: Option<Micros>,
        /// Name of the credential that raised it.
        pub author: String,
        /// Why.
        pub reason: String,
    }
}
