//! The attempts of an admitted request: each sets its own money aside, says so on the record, and only then
//! calls its provider.

mod acknowledge;
mod call;
mod drafts;
mod pay;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use http::header::{self, HeaderValue};
use http::{HeaderMap, Response, StatusCode};

use bursar_schemas::facts::{
    self, AttemptOutcome, CandidateVerdict, Durability, Ending, RefusalCode, RouteReason,
};
use bursar_schemas::money::Money;
use bursar_schemas::ports::{OutletError, Receipt};
use bursar_schemas::position::Topic;
use bursar_schemas::producer::Draft;

use crate::answer::{Outgoing, Passing};
use crate::config::OnSpoolFull;
use crate::content::Capture;
use crate::gate::{Admitted, Candidate};
use crate::limits::Denied;
use crate::open::{Attempt, OpenRequest};
use crate::refusal::{Refused, error, put_request_id};
use crate::scan::{JsonScan, Learned, Scan, SseScan};
use crate::upstream::{Answer, clean_response, provider_request};
use crate::world::World;
use acknowledge::Acknowledgement;
use call::{Called, Kept};
use drafts::{begin, decided, opened};
use pay::{first_choice, pay_less, set_aside};

/// An admitted request with what its attempts have come to.
struct Run {
    admitted: Admitted,
    open: OpenRequest,
    acknowledgement: Acknowledgement,
    /// The last answer that was passed over for a fallback.
    kept: Option<Kept>,
    /// Why no answer is there, for the last word.
    failure: (StatusCode, &'static str, &'static str),
}

/// Runs the request to its answer's first byte; the answer's body does the rest.
pub(crate) async fn run(world: &Arc<World>, mut admitted: Admitted) -> Result<Response<Outgoing>, Refused> {
    let (index, reason, lease) = first_choice(world, &mut admitted).await?;
    let attempt = attempt(&mut admitted, index, 1, lease);
    let mut open = open(world, &admitted);
    open.attempt = Some(attempt);
    open.attempts = 1;
    let mut drafts = vec![Draft { lane: open.lane(Topic::Requests), fact: opened(&open, &admitted).into() }];
    begin(&open, &admitted, index, reason, &mut drafts);
    let receipt = match world.record(drafts) {
        Ok(receipt) => receipt,
        Err(error) => {
            let blocks = admitted.candidates[index].drawn.blocks;
            take_unrecorded(world, blocks, &mut open, &error)?
        }
    };
    let acknowledgement = Acknowledgement::new(receipt, world.config.ack_timeout);
    let failure = (StatusCode::BAD_GATEWAY, "provider_unreachable", "No provider could be reached.");
    let run = Run { admitted, open, acknowledgement, kept: None, failure };
    Ok(run.attempts(index).await)
}

fn attempt(admitted: &mut Admitted, index: usize, number: u32, lease: Option<facts::LeaseId>) -> Attempt {
    let candidate = &mut admitted.candidates[index];
    candidate.verdict = CandidateVerdict::Chosen;
    Attempt {
        number,
        provider: candidate.target.provider.id.clone(),
        model: candidate.target.model.clone(),
        accounts: Arc::clone(&candidate.drawn.path),
        lease,
        hard: candidate.drawn.hard,
        reserved: candidate.bound.amount,
        price: candidate.price.take(),
        sent: false,
        started: Instant::now(),
        status: None,
        provider_request: None,
        first_byte: None,
        answer_bytes: 0,
    }
}

fn open(world: &Arc<World>, admitted: &Admitted) -> OpenRequest {
    OpenRequest {
        world: Arc::clone(world),
        about: Arc::clone(&admitted.about),
        partition: admitted.partition,
        policy_version: admitted.policy.directory.version,
        started: admitted.started,
        recorded: true,
        attempt: None,
        attempts: 0,
        settled: Money::ZERO,
        status: 0,
        first_byte: None,
        answer_bytes: 0,
        closed: false,
        given: Vec::new(),
        capture: Capture::begin(world, admitted),
    }
}

/// The opening facts were not taken: passes without facts where policy says so, refuses otherwise.
fn take_unrecorded(
    world: &World,
    blocks: bool,
    open: &mut OpenRequest,
    error: &OutletError,
) -> Result<Receipt, Refused> {
    open.recorded = false;
    let full = matches!(error, OutletError::Full(_));
    if full && world.config.on_spool_full == OnSpoolFull::Pass && !blocks {
        world.metrics.unrecorded_requests.fetch_add(1, Ordering::Relaxed);
        return Ok(Box::pin(std::future::ready(Ok(()))));
    }
    // Gives the reservation back to the book; no fact opened the request, so none closes it.
    open.end_attempt(AttemptOutcome::Unreachable, &Learned::default(), &mut Vec::new());
    open.closed = true;
    open.note(Vec::new());
    open.capture = None;
    let (code, message) = if full {
        (RefusalCode::SpoolFull, "No facts can be written at the moment.")
    } else {
        (RefusalCode::JournalUnavailable, "Facts can no longer be written.")
    };
    Err(Refused::unavailable(code, message))
}

impl Run {
    /// Tries targets until one answers for good.
    async fn attempts(mut self, first: usize) -> Response<Outgoing> {
        let mut index = first;
        loop {
            if self.open.world.config.durability == Durability::Acked && !self.acknowledged().await {
                return self.unacknowledged(AttemptOutcome::Abandoned);
            }
            let called = self.call(index).await;
            let (outcome, reason) = match called {
                Called::Answer(answer) => {
                    let status = answer.status().as_u16();
                    if !(self.admitted.route.falls_back_on(status) && self.next_after(index).is_some()) {
                        return self.deliver(index, answer).await;
                    }
                    self.kept = Some(Kept::read(answer).await);
                    (AttemptOutcome::Rejected, RouteReason::FallbackStatus)
                }
                Called::Unacknowledged => return self.unacknowledged(AttemptOutcome::Abandoned),
                Called::TimedOut => {
                    self.fail(
                        StatusCode::GATEWAY_TIMEOUT,
                        "provider_timeout",
                        "The provider did not answer in time.",
                    );
                    (AttemptOutcome::TimedOut, RouteReason::FallbackTimeout)
                }
                Called::Broken => {
                    self.fail(
                        StatusCode::BAD_GATEWAY,
                        "provider_broke_off",
                        "The provider broke the connection.",
                    );
                    (AttemptOutcome::Broken, RouteReason::FallbackConnection)
                }
                Called::Unreachable => {
                    self.fail(
                        StatusCode::BAD_GATEWAY,
                        "provider_unreachable",
                        "The provider could not be reached.",
                    );
                    (AttemptOutcome::Unreachable, RouteReason::FallbackConnection)
                }
            };
            let learned = self.kept.as_mut().filter(|_| reason == RouteReason::FallbackStatus);
            let learned = learned.map(|kept| std::mem::take(&mut kept.learned)).unwrap_or_default();
            match self.fall_back(index, outcome, learned, reason).await {
                Ok(next) => index = next,
                Err(response) => return response,
            }
        }
    }

    fn fail(&mut self, status: StatusCode, code: &'static str, message: &'static str) {
        self.failure = (status, code, message);
    }

    fn next_after(&self, index: usize) -> Option<usize> {
        let mut rest = self.admitted.candidates.iter().enumerate().skip(index + 1);
        rest.find(|(_, candidate)| candidate.verdict == CandidateVerdict::Standby).map(|(next, _)| next)
    }

    /// Ends an attempt and begins the next, or gives the last word.
    async fn fall_back(
        &mut self,
        index: usize,
        outcome: AttemptOutcome,
        learned: Learned,
        reason: RouteReason,
    ) -> Result<usize, Response<Outgoing>> {
        let Some(mut next) = self.next_after(index) else {
            return Err(self.last_word(outcome, &learned, Vec::new(), None).await);
        };
        let mut drafts = Vec::new();
        self.open.end_attempt(outcome, &learned, &mut drafts);
        self.admitted.candidates[index].verdict = CandidateVerdict::Tried;
        let world = Arc::clone(&self.open.world);
        // The attempt that ended is on the record before the next one asks for money, which it may free.
        self.open.note(std::mem::take(&mut drafts));
        let lease = loop {
            let denied = match set_aside(&world, &self.admitted, next).await {
                Ok(lease) => break lease,
                Err(denied) => denied,
            };
            // A budget on this target alone may be used up while the next one has money.
            let later = self.next_after(next).filter(|_| matches!(denied, Denied::Budget(_)));
            if later.is_none()
                && let Some(lease) = pay_less(&world, &mut self.admitted, next).await
            {
                break Some(lease);
            }
            self.admitted.candidates[next].verdict = CandidateVerdict::Unaffordable;
            let Some(later) = later else {
                let route = decided(&self.open, &self.admitted, None, reason);
                drafts.push(Draft { lane: self.open.lane(Topic::Routes), fact: route.into() });
                return Err(self.last_word(outcome, &learned, drafts, Some(Refused::of(denied))).await);
            };
            next = later;
        };
        self.open.attempts += 1;
        self.open.attempt = Some(attempt(&mut self.admitted, next, self.open.attempts, lease));
        begin(&self.open, &self.admitted, next, reason, &mut drafts);
        if self.open.recorded {
            match world.record(drafts) {
                Ok(receipt) => self.acknowledgement.and(receipt, world.config.ack_timeout),
                Err(_) => return Err(self.unacknowledged(AttemptOutcome::Abandoned)),
            }
        }
        Ok(next)
    }

    /// No target is left: the last provider's own error, else why none answered.
    async fn last_word(
        &mut self,
        outcome: AttemptOutcome,
        learned: &Learned,
        first: Vec<Draft>,
        refused: Option<Refused>,
    ) -> Response<Outgoing> {
        let request = self.open.about.request;
        let mut response = match (self.kept.take(), refused) {
            (Some(kept), _) => kept.response(),
            (None, Some(refused)) => refused.response(request),
            (None, None) => {
                let (status, code, message) = self.failure;
                error(status, "server_error", code, message, None, request)
            }
        };
        put_request_id(&mut response, request);
        if self.open.world.config.durability == Durability::Overlapped && !self.acknowledged().await {
            return self.unacknowledged(outcome);
        }
        self.open.status = response.status().as_u16();
        self.open.close(Ending::Failed, outcome, learned, first);
        response
    }

    /// Waits for the facts that were to stand before anything leaves.
    async fn acknowledged(&mut self) -> bool {
        let outcome = match self.acknowledgement.look().await {
            Some(outcome) => outcome,
            None => {
                let started = Instant::now();
                let outcome = self.acknowledgement.wait().await;
                self.open.world.metrics.journal_wait.observe(started.elapsed());
                outcome
            }
        };
        outcome.inspect_err(|error| tracing::error!(%error, "opening facts were not acknowledged")).is_ok()
    }

    /// The opening facts did not become durable: nothing leaves, and the attempt is settled.
    fn unacknowledged(&mut self, outcome: AttemptOutcome) -> Response<Outgoing> {
        self.open.world.metrics.refused(RefusalCode::JournalUnavailable);
        let message = "The request could not be put on the record.";
        let refused = Refused::unavailable(RefusalCode::JournalUnavailable, message);
        self.open.status = refused.status.as_u16();
        self.open.close(Ending::Failed, outcome, &Learned::default(), Vec::new());
        refused.response(self.open.about.request)
    }

    /// The provider's answer, on its way to the client.
    async fn deliver(mut self, index: usize, answer: Answer) -> Response<Outgoing> {
        let answered = Instant::now();
        if self.open.world.config.durability == Durability::Overlapped && !self.acknowledged().await {
            return self.unacknowledged(AttemptOutcome::Abandoned);
        }
        let (mut parts, incoming) = answer.into_parts();
        self.open.status = parts.status.as_u16();
        if let Some(attempt) = &mut self.open.attempt {
            attempt.status = Some(parts.status.as_u16());
            attempt.provider_request = provider_request(&parts.headers);
        }
        clean_response(&mut parts.headers);
        let withhold = self.withholds();
        let scan = if is_event_stream(&parts.headers) {
            if withhold {
                // What is withheld makes the answer shorter than was announced.
                parts.headers.remove(header::CONTENT_LENGTH);
            }
            Scan::Sse(SseScan::new(withhold))
        } else {
            Scan::Json(JsonScan::default())
        };
        let Candidate { bound, drawn, .. } = &self.admitted.candidates[index];
        if let Some(cap) = bound.inject.filter(|_| drawn.blocks) {
            parts.headers.insert("x-bursar-output-cap", HeaderValue::from(cap));
        }
        let world = Arc::clone(&self.open.world);
        let limits = world.limits(self.admitted.partition);
        if let Some(left) = limits.and_then(|limits| limits.tightest(&drawn.path))
            && let Ok(left) = HeaderValue::from_str(&left.dollars())
        {
            parts.headers.insert("x-bursar-budget-remaining", left);
        }
        let request = self.open.about.request;
        let passing = Passing::new(incoming, scan, self.open);
        let mut response = Response::from_parts(parts, Outgoing::Passing(Box::new(passing)));
        put_request_id(&mut response, request);
        world.metrics.to_client.observe(answered.elapsed());
        response
    }

    /// True when the shim asks for a stream's usage and the client does not.
    fn withholds(&self) -> bool {
        let shape = &self.admitted.shape;
        shape.stream && !shape.stream_options.as_ref().is_some_and(|options| options.value.include_usage)
    }
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
    value.get(..17).is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/event-stream"))
}
