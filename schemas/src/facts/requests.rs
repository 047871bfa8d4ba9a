//! Topic `requests`: requests opened, closed and refused; queries; findings about other streams.

use super::{About, Head};
use crate::avro::{Micros, avro_enum, avro_record};
use crate::ids::{Digest, ProducerId, RequestId};
use crate::money::Money;

avro_enum! {
    /// The endpoint that a client called.
    pub enum Endpoint {
        /// `POST /v1/chat/completions`.
        ChatCompletions = "chat_completions",
        /// `POST /v1/embeddings`.
        Embeddings = "embeddings",
    }

    /// What the loss of a whole machine may cost.
    pub enum Durability {
        /// The opening fact is acknowledged before the provider is called.
        Acked = "acked",
        /// Nothing of the answer leaves before the opening fact is acknowledged.
        Overlapped = "overlapped",
        /// Never wait; count what could be lost.
        Relaxed = "relaxed",
    }

    /// How a request ended.
    pub enum Ending {
        /// The answer was delivered whole.
        Finished = "finished",
        /// No target answered, or the answer broke off.
        Failed = "failed",
        /// The client left before the end.
        Abandoned = "abandoned",
        /// Its shim died; a successor closed it from the spool.
        Recovered = "recovered",
        /// Its shim fell silent and somebody else closed it.
        PresumedAbandoned = "presumed_abandoned",
    }

    /// Why a request was refused.
    pub enum RefusalCode {
        /// No such key, or it is revoked.
        InvalidKey = "invalid_api_key",
        /// The key may not use the model.
        ModelNotAllowed = "model_not_allowed",
        /// No target serves the model.
        ModelNotFound = "model_not_found",
        /// The model has no price and policy does not let it pass.
        UnknownPrice = "unknown_price",
        /// The request has no upper bound of cost, which a hard budget needs.
        NoBound = "no_cost_bound",
        /// A budget on the path cannot cover the request.
        BudgetExceeded = "budget_exceeded",
        /// Money is there but no lease; the ledger is silent.
        LedgerUnavailable = "ledger_unavailable",
        /// The opening fact could not be made durable.
        JournalUnavailable = "journal_unavailable",
        /// The spool is full.
        SpoolFull = "spool_full",
        /// The body is not what the endpoint takes.
        InvalidRequest = "invalid_request",
        /// The body is larger than allowed.
        TooLarge = "request_too_large",
        /// The shim is shutting down, or at its bound of open requests.
        Overloaded = "overloaded",
    }

    /// What kind of fault a reader found in a stream.
    pub enum FindingKind {
        /// A record that is not a fact of the contract.
        Unreadable = "unreadable",
        /// Numbers of a producer that never came.
        Gap = "gap",
        /// A number that came before.
        Duplicate = "duplicate",
        /// A fact on a topic, or by a role, that does not belong there.
        Foreign = "foreign",
        /// A head or certificate whose signature or hash does not hold.
        Forged = "forged",
        /// Offsets that were taken by retention or a topic made anew.
        Lost = "lost",
    }
}

avro_record! {
    /// A request was taken in; written before any provider is called.
    pub struct RequestOpened {
        /// What every fact begins with.
        pub head: Head,
        /// The request's attributes.
        pub about: About,
        /// The endpoint.
        pub endpoint: Endpoint,
        /// The model that the client asked for.
        pub model: String,
        /// Whether the client asked for a stream.
        pub stream: bool,
        /// Size of the body.
        pub body_bytes: u64,
        /// Keyed digest of the body.
        pub body_digest: Digest,
        /// The durability mode in force.
        pub durability: Durability,
    }

    /// A request ended; exactly one such fact is effective for each that was opened.
    pub struct RequestClosed {
        /// What every fact begins with.
        pub head: Head,
        /// The request's attributes.
        pub about: About,
        /// How it ended.
        pub ending: Ending,
        /// HTTP status that the client was sent; 0 when nothing was sent.
        pub status: u32,
        /// Attempts made.
        pub attempts: u32,
        /// Bytes of the answer's body that left towards the client.
        pub answer_bytes: u64,
        /// Microseconds from the request's head to the first byte of the answer.
        pub first_byte_us: Option<u64>,
        /// Microseconds from the request's head to its end.
        pub duration_us: u64,
        /// What its attempts were settled at, in all.
        pub settled: Money,
        /// The dead incarnation that had opened it, when a successor closes it.
        pub opened_by: Option<ProducerId>,
    }

    /// A request was refused before any provider was called.
    pub struct RequestRefused {
        /// What every fact begins with.
        pub head: Head,
        /// The request.
        pub request: RequestId,
        /// Its attributes; none when the key is unknown.
        pub about: Option<About>,
        /// The model asked for; none when the body was not read.
        pub model: Option<String>,
        /// HTTP status of the refusal.
        pub status: u32,
        /// Why.
        pub code: RefusalCode,
        /// The budget that refused.
        pub budget: Option<String>,
        /// That budget's limit in force.
        pub limit: Option<Money>,
        /// What was settled in its window.
        pub settled: Option<Money>,
        /// What was reserved or leased in its window.
        pub reserved: Option<Money>,
        /// What the request would have reserved.
        pub needed: Option<Money>,
        /// When the window resets.
        pub resets_at: Option<Micros>,
        /// Whether trying again soon can help.
        pub retryable: bool,
        /// Age of the newest record seen on `limits`, in milliseconds.
        pub limits_age_ms: Option<u64>,
        /// What was wrong with the request, without any of its content.
        pub detail: String,
    }

    /// A statement was run over the archive.
    pub struct QueryRan {
        /// What every fact begins with.
        pub head: Head,
        /// The credential's name.
        pub by: String,
        /// The statement, cut at 64 KiB.
        pub statement: String,
        /// `finished`, or the error's kind.
        pub outcome: String,
        /// Rows returned.
        pub rows: u64,
        /// Microseconds that it took.
        pub duration_us: u64,
    }

    /// A reader found a fault in a stream.
    pub struct Finding {
        /// What every fact begins with.
        pub head: Head,
        /// What kind.
        pub kind: FindingKind,
        /// The topic that it was found on.
        pub topic: String,
        /// The partition.
        pub partition: u32,
        /// The offset of the record that showed it.
        pub offset: u64,
        /// The producer concerned.
        pub subject: Option<ProducerId>,
        /// First number (or offset, when no producer is concerned) concerned.
        pub first: u64,
        /// Last number (or offset) concerned.
        pub last: u64,
        /// What was wrong, without any content.
        pub detail: String,
    }
}
