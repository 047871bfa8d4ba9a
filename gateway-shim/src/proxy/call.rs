//! One call of one provider.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response};
use http_body_util::BodyExt as _;

use bursar_schemas::facts::{Durability, Endpoint};

use super::Run;
use crate::answer::Outgoing;
use crate::bound::{cap_field, knows_one_cap, takes_stream_options};
use crate::inspect::Cap;
use crate::scan::{JsonScan, Learned};
use crate::splice::{Changes, edits, splice};
use crate::upstream::{Answer, clean_response, provider_request, request_headers};

/// Bytes of an error answer that are kept while the next target is tried.
const KEPT: usize = 256 << 10;
/// How long an error answer may take to arrive.
const KEPT_WITHIN: Duration = Duration::from_secs(2);

/// What came of a call.
pub(super) enum Called {
    /// An answer's head.
    Answer(Answer),
    /// No head within the time.
    TimedOut,
    /// The connection broke after the request may have been sent.
    Broken,
    /// No connection, or no usable address or key: nothing was sent.
    Unreachable,
    /// The opening facts failed meanwhile.
    Unacknowledged,
}

/// An error answer that is passed over for a fallback, and sent if none comes.
pub(super) struct Kept {
    parts: http::response::Parts,
    body: Bytes,
    pub(super) learned: Learned,
}

impl Kept {
    pub(super) async fn read(answer: Answer) -> Self {
        let (mut parts, mut incoming) = answer.into_parts();
        let mut body = BytesMut::new();
        let reading = async {
            while let Some(Ok(frame)) = incoming.frame().await {
                if let Ok(piece) = frame.into_data() {
                    if body.len() + piece.len() > KEPT {
                        break;
                    }
                    body.extend_from_slice(&piece);
                }
            }
        };
        // What has not come by then is left out; the status is what matters.
        if tokio::time::timeout(KEPT_WITHIN, reading).await.is_err() {
            tracing::debug!("an error answer was cut, since it took too long");
        }
        let body = body.freeze();
        let mut scan = JsonScan::default();
        scan.push(&body);
        scan.finish();
        clean_response(&mut parts.headers);
        parts.headers.remove(http::header::CONTENT_LENGTH);
        Self { parts, body, learned: scan.learned }
    }

    pub(super) fn response(self) -> Response<Outgoing> {
        Response::from_parts(self.parts, Outgoing::full(self.body))
    }
}

/// Names the request to the provider, unless the client does.
const CLIENT_REQUEST: &str = "x-client-request-id";

impl Run {
    /// Calls a candidate's provider.
    pub(super) async fn call(&mut self, index: usize) -> Called {
        let Some((request, within)) = self.request(index) else { return Called::Unreachable };
        let world = std::sync::Arc::clone(&self.open.world);
        if let Some(attempt) = &mut self.open.attempt {
            attempt.sent = true;
            attempt.started = Instant::now();
        }
        world.metrics.to_upstream.observe(self.open.started.elapsed());
        let calling = tokio::time::timeout(within, world.client.request(request));
        let overlapped = world.config.durability == Durability::Overlapped;
        let called = tokio::select! {
            biased;
            called = calling => called,
            () = self.acknowledgement.fail(), if overlapped => return Called::Unacknowledged,
        };
        match called {
            Ok(Ok(answer)) => {
                if let Some(attempt) = &mut self.open.attempt {
                    attempt.status = Some(answer.status().as_u16());
                    attempt.provider_request = provider_request(answer.headers());
                }
                Called::Answer(answer)
            }
            Err(_) => Called::TimedOut,
            Ok(Err(error)) if error.is_connect() => {
                tracing::warn!(
                    provider = self.admitted.candidates[index].target.provider.id,
                    "no connection"
                );
                Called::Unreachable
            }
            Ok(Err(error)) => {
                tracing::warn!(
                    provider = self.admitted.candidates[index].target.provider.id,
                    %error,
                    "the connection broke"
                );
                Called::Broken
            }
        }
    }

    /// The request as the provider gets it, and how long it may take to its first byte.
    fn request(&self, index: usize) -> Option<(Request<crate::splice::Segments>, Duration)> {
        let world = &self.open.world;
        let admitted = &self.admitted;
        let candidate = admitted.candidates.get(index)?;
        let provider = &candidate.target.provider;
        let address = admitted.policy.addresses.get(&provider.id)?.of(admitted.endpoint);
        let authorization = match world.keys.authorization(provider) {
            Ok(authorization) => authorization,
            Err(reason) => {
                tracing::error!(provider = provider.id, reason, "the provider's key is not to be had");
                return None;
            }
        };
        let (target, shape) = (&candidate.target, &admitted.shape);
        let (field, one_cap) = (cap_field(&target.model), knows_one_cap(target));
        // The caller's own cap holds only in a field that the target knows.
        let own = match shape.cap {
            Cap::Tokens(tokens) if one_cap && !shape.gives_cap(field) => Some(tokens),
            Cap::Tokens(_) | Cap::Absent => None,
        };
        // Only where a budget needs the bound is a cap put in; otherwise the model's own rule stays.
        let cap = candidate.bound.inject.or(own).filter(|_| candidate.drawn.blocks);
        let chat = admitted.endpoint == Endpoint::ChatCompletions;
        let changes = Changes {
            model: &target.model,
            cap: cap.map(|tokens| (field, tokens)),
            one_cap,
            ask_usage: chat && self.withholds() && takes_stream_options(target),
        };
        let mut request = Request::new(splice(&admitted.body, &edits(shape, &changes)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = address.clone();
        *request.headers_mut() =
            request_headers(&admitted.headers, &world.config.end_user_header, authorization);
        // OpenAI's name for a caller's own id, by which its bill and ours can be matched.
        if !request.headers().contains_key(CLIENT_REQUEST)
            && let Ok(value) = HeaderValue::from_str(&self.open.about.request.to_string())
        {
            request.headers_mut().insert(CLIENT_REQUEST, value);
        }
        let within = provider.timeout_ms.map_or(world.config.answer_timeout, Duration::from_millis);
        Some((request, within))
    }
}
