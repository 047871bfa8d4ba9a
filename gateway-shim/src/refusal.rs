//! Refusals: one fact each, and an error in the form that OpenAI's SDKs understand.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use serde_json::json;

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{About, Head, RefusalCode, RequestRefused};
use bursar_schemas::ids::RequestId;
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::producer::Draft;

use crate::answer::Outgoing;
use crate::limits::{Denial, Denied};
use crate::scan::plain_word;
use crate::world::World;

/// Why a request is refused, and how to say so.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    pub(crate) code: RefusalCode,
    /// For people; may name budgets, models and fields.
    pub(crate) message: String,
    /// What the fact says instead of the message, where that repeats the client's own text.
    pub(crate) detail: Option<String>,
    pub(crate) param: Option<&'static str>,
    pub(crate) denial: Option<Box<Denial>>,
    /// True when trying again soon can help.
    pub(crate) retryable: bool,
}

/// An instant as RFC 3339 text, in UTC.
pub(crate) fn shown(at: Micros) -> String {
    jiff::Timestamp::from_microsecond(at.0).map_or_else(|_| at.0.to_string(), |time| time.to_string())
}

impl Refused {
    pub(crate) fn new(status: StatusCode, code: RefusalCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, code, message, detail: None, param: None, denial: None, retryable: false }
    }

    /// About a model by the client's name of it: anything can stand there, and a fact is for ever.
    pub(crate) fn of_model(
        status: StatusCode,
        code: RefusalCode,
        model: &str,
        message: impl Fn(&str) -> String,
    ) -> Self {
        let recorded = known_model(model);
        let detail = Some(message(recorded.as_deref().unwrap_or("(unknown)")));
        Self { detail, param: Some("model"), ..Self::new(status, code, message(model)) }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, RefusalCode::InvalidRequest, message)
    }

    pub(crate) fn unavailable(code: RefusalCode, message: impl Into<String>) -> Self {
        let refused = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message);
        Self { retryable: true, ..refused }
    }

    pub(crate) fn of(denied: Denied) -> Self {
        match denied {
            Denied::Budget(denial) => Self::budget(denial),
            Denied::Unavailable(reason) => Self::unavailable(
                RefusalCode::LedgerUnavailable,
                format!("No budget could be drawn on: {reason}."),
            ),
            Denied::Crowded => {
                Self::unavailable(RefusalCode::Overloaded, "Too many requests wait for their budget.")
            }
            Denied::Spool => {
                Self::unavailable(RefusalCode::SpoolFull, "No facts can be written at the moment.")
            }
        }
    }

    fn budget(denial: Box<Denial>) -> Self {
        let window = denial
            .resets_at
            .map_or_else(|| "It does not reset.".to_owned(), |at| format!("It resets at {}.", shown(at)));
        let state = if denial.in_flight {
            "has its money in flight; trying again soon can help"
        } else {
            "is used up"
        };
        let message = format!(
            "Budget {:?} {state}: of ${} there are ${} settled and ${} reserved; this request may cost up to ${}. {window}",
            denial.budget, denial.limit, denial.settled, denial.reserved, denial.needed,
        );
        let refused = Self::new(StatusCode::TOO_MANY_REQUESTS, RefusalCode::BudgetExceeded, message);
        Self { retryable: denial.in_flight, denial: Some(denial), ..refused }
    }

    const fn kind(&self) -> &'static str {
        match self.code {
            RefusalCode::BudgetExceeded => "insufficient_quota",
            RefusalCode::LedgerUnavailable
            | RefusalCode::JournalUnavailable
            | RefusalCode::SpoolFull
            | RefusalCode::Overloaded => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// The answer to the client.
    pub(crate) fn response(&self, request: RequestId) -> Response<Outgoing> {
        let mut response =
            error(self.status, self.kind(), self.code.word(), &self.message, self.param, request);
        let headers = response.headers_mut();
        if self.retryable {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        } else if self.status == StatusCode::TOO_MANY_REQUESTS {
            // The SDKs try a 429 again unless told not to; a spent budget stays spent until it resets.
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        if self.code == RefusalCode::TooLarge {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// An error in OpenAI's form.
pub(crate) fn error(
    status: StatusCode,
    kind: &str,
    code: &str,
    message: &str,
    param: Option<&str>,
    request: RequestId,
) -> Response<Outgoing> {
    let body = json!({"error": {"message": message, "type": kind, "param": param, "code": code}});
    let mut response = Response::new(Outgoing::full(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    put_request_id(&mut response, request);
    response
}

pub(crate) fn put_request_id(response: &mut Response<Outgoing>, request: RequestId) {
    if let Ok(value) = HeaderValue::from_str(&request.to_string()) {
        response.headers_mut().insert("x-bursar-request-id", value);
    }
}

/// The client's name of a model as a fact may hold it.
pub(crate) fn known_model(model: &str) -> Option<String> {
    plain_word(model, 128)
}

/// What is known of a refused request.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) about: Option<Arc<About>>,
    pub(crate) model: Option<String>,
}

/// Writes the refusal's fact and makes its answer. Facts about unknown keys are bounded; those beyond the bound
/// are counted.
pub(crate) fn refuse(
    world: &World,
    request: RequestId,
    known: Known,
    refused: &Refused,
) -> Response<Outgoing> {
    use std::sync::atomic::Ordering;
    world.metrics.refused(refused.code);
    if known.about.is_none() && !world.may_note_stranger() {
        world.metrics.unrecorded_refusals.fetch_add(1, Ordering::Relaxed);
        return refused.response(request);
    }
    let organisation = known.about.as_ref().map_or("", |about| &about.organisation);
    let partition = world.partition(organisation);
    let now = world.now();
    let age_us = world.limits(partition).and_then(|limits| limits.standing(now).age_us);
    let denial = refused.denial.as_deref();
    let fact = RequestRefused {
        head: Head::draft(now, world.policy().directory.version, ""),
        request,
        model: known.model,
        status: u32::from(refused.status.as_u16()),
        code: refused.code,
        budget: denial.map(|denial| denial.budget.clone()),
        limit: denial.map(|denial| denial.limit),
        settled: denial.map(|denial| denial.settled),
        reserved: denial.map(|denial| denial.reserved),
        needed: denial.map(|denial| denial.needed),
        resets_at: denial.and_then(|denial| denial.resets_at),
        retryable: refused.retryable,
        limits_age_ms: age_us.and_then(|us| u64::try_from(us / 1000).ok()),
        detail: refused.detail.as_ref().unwrap_or(&refused.message).clone(),
        about: known.about.map(Arc::unwrap_or_clone),
    };
    let recorded = world.note(vec![Draft { lane: Lane::new(Topic::Requests, partition), fact: fact.into() }]);
    if !recorded {
        world.metrics.unrecorded_refusals.fetch_add(1, Ordering::Relaxed);
    }
    refused.response(request)
}
