//! Topic `routes`: each decision with its candidates, each attempt with its outcome.

use super::{About, Head};
use crate::avro::{avro_enum, avro_record};

avro_enum! {
    /// Why a target was chosen, or why the next one was tried.
    pub enum RouteReason {
        /// The first target of the route.
        First = "first",
        /// The attempt before answered with a status that falls back.
        FallbackStatus = "fallback_status",
        /// The attempt before took too long.
        FallbackTimeout = "fallback_timeout",
        /// The attempt before could not connect.
        FallbackConnection = "fallback_connection",
        /// The attempt before was not affordable, while this one is.
        FallbackBudget = "fallback_budget",
    }

    /// What stood for or against a candidate.
    pub enum CandidateVerdict {
        /// Chosen for this attempt.
        Chosen = "chosen",
        /// Could be tried later.
        Standby = "standby",
        /// Was tried before.
        Tried = "tried",
        /// Has no price.
        Unpriced = "unpriced",
        /// Has no upper bound for this request.
        Unbounded = "unbounded",
        /// Does not fit a budget.
        Unaffordable = "unaffordable",
    }

    /// How an attempt ended.
    pub enum AttemptOutcome {
        /// Answered to the end.
        Answered = "answered",
        /// Answered with an error status.
        Rejected = "rejected",
        /// No first byte within the time-out.
        TimedOut = "timed_out",
        /// No connection.
        Unreachable = "unreachable",
        /// The answer broke off.
        Broken = "broken",
        /// The client left, and the provider's answer was dropped.
        Abandoned = "abandoned",
        /// The shim died during the attempt.
        Lost = "lost",
    }
}

avro_record! {
    /// One target that was considered.
    pub struct Candidate {
        /// The provider's id in policy.
        pub provider: String,
        /// The provider's model name.
        pub model: String,
        /// What stood for or against it.
        pub verdict: CandidateVerdict,
    }

    /// A target was chosen for an attempt.
    pub struct RouteDecided {
        /// What every fact begins with.
        pub head: Head,
        /// The request's attributes.
        pub about: About,
        /// The attempt, from 1.
        pub attempt: u32,
        /// The model or alias asked for.
        pub model: String,
        /// All targets of the route, in order.
        pub candidates: Vec<Candidate>,
        /// Index of the chosen one; none when no target was left.
        pub chosen: Option<u32>,
        /// Why it was its turn.
        pub reason: RouteReason,
    }

    /// An attempt at a provider ended.
    pub struct AttemptEnded {
        /// What every fact begins with.
        pub head: Head,
        /// The request's attributes.
        pub about: About,
        /// The attempt, from 1.
        pub attempt: u32,
        /// The provider's id in policy.
        pub provider: String,
        /// The model asked of the provider.
        pub model: String,
        /// The model that the provider says it served.
        pub served_model: Option<String>,
        /// How it ended.
        pub outcome: AttemptOutcome,
        /// HTTP status of the provider.
        pub status: Option<u32>,
        /// The provider's own id of the request.
        pub provider_request: Option<String>,
        /// Why the model stopped, as the provider says.
        pub finish_reason: Option<String>,
        /// Microseconds from the call to the first byte of the answer's body.
        pub first_byte_us: Option<u64>,
        /// Microseconds from the call to the end.
        pub duration_us: u64,
        /// Bytes of the provider's answer.
        pub answer_bytes: u64,
    }
}
