//! The closed list of facts, one Avro record each.
//!
//! Every fact begins with a [`Head`]; one that speaks of a request carries [`About`], the attributes *as of
//! the request*, so that a team moved later never rewrites the past.

mod alerts;
mod content;
mod limits;
mod policy;
mod producers;
mod requests;
mod retention;
mod routes;
mod spend;

pub use alerts::*;
pub use content::*;
pub use limits::*;
pub use policy::*;
pub use producers::*;
pub use requests::*;
pub use retention::*;
pub use routes::*;
pub use spend::*;

use std::collections::BTreeMap;

use crate::avro::{Avro, AvroError, Micros, Named, avro_enum, avro_record};
use crate::ids::{ProducerId, Pseudonym, RequestId};
use crate::position::Topic;

avro_enum! {
    /// Which role of the product wrote a fact.
    pub enum Role {
        /// The gateway shim.
        Shim = "shim",
        /// The ledger.
        Ledger = "ledger",
        /// The publisher of policy.
        Policy = "policy",
        /// The archiver.
        Archiver = "archiver",
        /// The query service.
        Query = "query",
    }

    /// The currency of every amount in a fact.
    pub enum Currency {
        /// United States dollars.
        Usd = "USD",
    }
}

avro_record! {
    /// What every fact begins with: who wrote it, its gapless number, when, and under which versions.
    pub struct Head {
        /// The process incarnation that wrote the fact.
        pub producer: ProducerId,
        /// Its role.
        pub role: Role,
        /// Number of the fact within (producer, topic, partition), from 0, without gaps.
        pub number: u64,
        /// Event time by the producer's clock.
        pub at: Micros,
        /// The policy version in force; 0 before the first.
        pub policy: u64,
        /// The date of the price table in force, empty where no price mattered.
        pub prices: String,
        /// The currency of the fact's amounts.
        pub currency: Currency,
    }

    /// A request's attributes, as of the request.
    pub struct About {
        /// The request.
        pub request: RequestId,
        /// Accounting time: the opening fact's time, fixed once; windows, months and statements follow it.
        pub accounting_at: Micros,
        /// The organisation, root of the budget tree.
        pub organisation: String,
        /// The team.
        pub team: Option<String>,
        /// The project.
        pub project: Option<String>,
        /// The virtual key's id, never its secret.
        pub key: String,
        /// The end user's keyed pseudonym.
        pub end_user: Option<Pseudonym>,
        /// The cost centre that is charged.
        pub cost_center: Option<String>,
        /// Free-form tags of the key, its team and its project.
        pub tags: BTreeMap<String, String>,
    }
}

impl Head {
    /// A head whose producer, role and number are still to be stamped by the producer's recorder.
    #[must_use]
    pub fn draft(at: Micros, policy: u64, prices: &str) -> Self {
        Self {
            producer: ProducerId([0; 16]),
            role: Role::Shim,
            number: 0,
            at,
            policy,
            prices: prices.to_owned(),
            currency: Currency::Usd,
        }
    }
}

macro_rules! facts {
    ($( $id:literal $name:ident $topic:ident, )+) => {
        /// Any fact.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each branch is documented at its record")]
        pub enum Fact {
            $( $name(Box<$name>), )+
        }

        impl Fact {
            /// Name, embedded schema id, and topic (none where any topic may carry it) of every kind.
            pub const KINDS: &'static [(&'static str, u32, Option<Topic>)] =
                &[$( (stringify!($name), $id, facts!(@topic $topic)), )+];

            /// The kind's name, as in its schema.
            #[must_use]
            pub const fn kind(&self) -> &'static str {
                match self { $( Self::$name(_) => stringify!($name), )+ }
            }

            /// The kind's embedded schema id.
            #[must_use]
            pub const fn schema_id(&self) -> u32 {
                match self { $( Self::$name(_) => $id, )+ }
            }

            /// The topic that carries it; none for what a producer says of itself on every lane.
            #[must_use]
            pub const fn topic(&self) -> Option<Topic> {
                match self { $( Self::$name(_) => facts!(@topic $topic), )+ }
            }

            /// What it begins with.
            #[must_use]
            pub const fn head(&self) -> &Head {
                match self { $( Self::$name(fact) => &fact.head, )+ }
            }

            /// What it begins with, to be stamped.
            pub const fn head_mut(&mut self) -> &mut Head {
                match self { $( Self::$name(fact) => &mut fact.head, )+ }
            }

            /// Appends the Avro datum.
            pub fn encode(&self, out: &mut Vec<u8>) {
                match self { $( Self::$name(fact) => fact.encode(out), )+ }
            }

            /// Reads the Avro datum of the kind with that schema id; none for an unknown id.
            ///
            /// # Errors
            /// When the bytes are not that kind's encoding.
            pub fn decode(schema_id: u32, input: &mut &[u8]) -> Option<Result<Self, AvroError>> {
                match schema_id {
                    $( $id => Some($name::decode(input).map(|fact| Self::$name(Box::new(fact)))), )+
                    _ => None,
                }
            }

            /// Passes over the Avro datum of the kind with that schema id, whose name it gives; none for an unknown id.
            ///
            /// # Errors
            /// As [`Fact::decode`].
            pub fn skip(schema_id: u32, input: &mut &[u8]) -> Option<(&'static str, Result<(), AvroError>)> {
                match schema_id {
                    $( $id => Some((stringify!($name), $name::skip(input))), )+
                    _ => None,
                }
            }

            /// The Avro schema of the kind with that schema id.
            #[must_use]
            pub fn schema(schema_id: u32) -> Option<serde_json::Value> {
                match schema_id {
                    $( $id => Some($name::schema(&mut Named::new())), )+
                    _ => None,
                }
            }
        }

        $( impl From<$name> for Fact {
            fn from(fact: $name) -> Self {
                Self::$name(Box::new(fact))
            }
        } )+
    };
    (@topic any) => { None };
    (@topic $topic:ident) => { Some(Topic::$topic) };
}

facts! {
    1 ProducerOpened any,
    2 ProducerHead any,
    10 RequestOpened Requests,
    11 RequestClosed Requests,
    12 RequestRefused Requests,
    13 QueryRan Requests,
    14 Finding Requests,
    16 ContentKept Requests,
    17 ContentDropped Requests,
    18 RecordsRemoved Requests,
    20 RouteDecided Routes,
    21 AttemptEnded Routes,
    30 Reserved Spend,
    31 Settled Spend,
    32 Voided Spend,
    33 LeaseRequested Spend,
    34 LeaseReturned Spend,
    35 ShimEnded Spend,
    36 LeaseMarked Spend,
    40 EpochMarked Limits,
    41 LimitSet Limits,
    42 WindowMoved Limits,
    43 LeaseGranted Limits,
    44 LeaseRefused Limits,
    45 LeaseCredited Limits,
    46 LeaseRevoked Limits,
    47 LeaseClosed Limits,
    48 IncarnationEnded Limits,
    49 BalanceStated Limits,
    50 PolicyPublished Policy,
    51 KeyIssued Policy,
    52 KeyRevoked Policy,
    53 BudgetRaised Policy,
    54 ShimRetired Policy,
    55 PartitionsSet Policy,
    60 HoldPlaced Policy,
    61 HoldReleased Policy,
    62 SubjectErased Policy,
    63 AlertRaised Limits,
    64 AlertDelivered Limits,
}

impl Fact {
    /// The attributes of the request that it speaks of.
    #[must_use]
    pub fn about(&self) -> Option<&About> {
        match self {
            Self::RequestOpened(fact) => Some(&fact.about),
            Self::RequestClosed(fact) => Some(&fact.about),
            Self::RequestRefused(fact) => fact.about.as_ref(),
            Self::ContentKept(fact) => Some(&fact.about),
            Self::ContentDropped(fact) => Some(&fact.about),
            Self::RouteDecided(fact) => Some(&fact.about),
            Self::AttemptEnded(fact) => Some(&fact.about),
            Self::Reserved(fact) => Some(&fact.about),
            Self::Settled(fact) => Some(&fact.about),
            Self::Voided(fact) => Some(&fact.about),
            _ => None,
        }
    }
}
