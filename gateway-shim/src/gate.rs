//! From a client's request to an admitted one: whose key, which model, which targets, what it can cost.

mod body;
mod candidates;
mod draws;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{Response, StatusCode};
use hyper::body::Incoming;

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{About, CandidateVerdict, Endpoint, RefusalCode};
use bursar_schemas::ids::RequestId;
use bursar_schemas::policy::{Principal, Route, RouteError, Target};
use bursar_schemas::price::Price;

use crate::answer::Outgoing;
use crate::bound::Bound;
use crate::inspect::{Shape, inspect};
use crate::limits::Drawn;
use crate::proxy;
use crate::refusal::{Known, Refused, known_model, refuse};
use crate::upstream::Policy;
use crate::world::World;

/// A target with what it takes to try it.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) target: Target,
    pub(crate) price: Option<Arc<Price>>,
    /// The upper bound; nothing where none is needed and none was found.
    pub(crate) bound: Bound,
    /// What an attempt at it draws on.
    pub(crate) drawn: Drawn,
    pub(crate) verdict: CandidateVerdict,
}

/// A request that may go to a provider once its money is set aside.
pub(crate) struct Admitted {
    pub(crate) about: Arc<About>,
    pub(crate) partition: u32,
    pub(crate) policy: Arc<Policy>,
    pub(crate) endpoint: Endpoint,
    pub(crate) shape: Shape,
    pub(crate) body: Bytes,
    /// Held for as long as the body is.
    _buffered: body::Buffered,
    pub(crate) headers: HeaderMap,
    pub(crate) route: Arc<Route>,
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) started: Instant,
}

/// Counts an open request for as long as it lives.
struct Opening<'a>(&'a World);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.metrics.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves one request of a client.
pub(crate) async fn serve(
    world: &Arc<World>,
    endpoint: Endpoint,
    request: http::Request<Incoming>,
) -> Response<Outgoing> {
    let started = Instant::now();
    let at = world.now();
    let id = world.request_id(at);
    let mut known = Known::default();
    let open = world.metrics.open.fetch_add(1, Ordering::Relaxed);
    let _opening = Opening(world);
    let outcome = match admit(world, endpoint, request, (id, at, started, open), &mut known).await {
        Ok(admitted) => proxy::run(world, admitted).await,
        Err(refused) => Err(refused),
    };
    outcome.unwrap_or_else(|refused| refuse(world, id, known, &refused))
}

/// Whose key it is.
pub(crate) fn authenticate(policy: &Policy, headers: &HeaderMap) -> Result<Arc<Principal>, Refused> {
    let refused = |message| Err(Refused::new(StatusCode::UNAUTHORIZED, RefusalCode::InvalidKey, message));
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return refused("No API key was given: send it as `Authorization: Bearer bsk-...`.");
    };
    let secret =
        value.as_bytes().split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
    let Some((_, secret)) = secret else {
        return refused("The API key was not given as `Authorization: Bearer bsk-...`.");
    };
    match policy.directory.principal(&World::key_hash(secret.trim_ascii())) {
        Some(principal) => Ok(Arc::clone(principal)),
        None => refused("The API key is unknown or was revoked."),
    }
}

async fn admit(
    world: &Arc<World>,
    endpoint: Endpoint,
    request: http::Request<Incoming>,
    (id, at, started, open): (RequestId, Micros, Instant, i64),
    known: &mut Known,
) -> Result<Admitted, Refused> {
    let overloaded = |message: &str| Err(Refused::unavailable(RefusalCode::Overloaded, message));
    if world.closing.load(Ordering::Acquire) {
        return overloaded("The gateway is shutting down.");
    }
    if !world.is_ready() {
        return overloaded("The gateway is starting.");
    }
    let policy = world.policy();
    let principal = authenticate(&policy, request.headers())?;
    let mut about = Arc::new(about(&principal, id, at));
    known.about = Some(Arc::clone(&about));
    if usize::try_from(open).unwrap_or(0) >= world.config.max_open_requests {
        return overloaded("The gateway is at its bound of open requests.");
    }
    let (parts, incoming) = request.into_parts();
    let (body, buffered) = body::read(world, &parts.headers, incoming).await?;
    let shape = inspect(endpoint, &body).map_err(|error| Refused::invalid(error.to_string()))?;
    known.model = known_model(&shape.model.value);
    if let Some(end_user) = end_user(world, &parts.headers, shape.user.as_deref(), &about.organisation) {
        Arc::make_mut(&mut about).end_user = Some(end_user);
        known.about = Some(Arc::clone(&about));
    }
    let route = route(&policy, &principal, &shape, at)?;
    let partition = world.partition(&about.organisation);
    let drawn = draws::of_targets(world, &policy, partition, &about, &route).await?;
    let candidates = candidates::judge(&policy, (endpoint, &shape), &route, drawn, at)?;
    Ok(Admitted {
        about,
        partition,
        policy,
        endpoint,
        shape,
        body,
        _buffered: buffered,
        headers: parts.headers,
        route,
        candidates,
        started,
    })
}

pub(crate) fn about(principal: &Principal, request: RequestId, accounting_at: Micros) -> About {
    About {
        request,
        accounting_at,
        organisation: principal.organisation.clone(),
        team: principal.team.clone(),
        project: principal.project.clone(),
        key: principal.key.clone(),
        end_user: None,
        cost_center: principal.cost_center.clone(),
        tags: principal.tags.clone(),
    }
}

pub(crate) fn end_user(
    world: &World,
    headers: &HeaderMap,
    in_body: Option<&str>,
    organisation: &str,
) -> Option<bursar_schemas::ids::Pseudonym> {
    let named = headers.get(world.config.end_user_header.as_str()).and_then(|value| value.to_str().ok());
    let user = named.or(in_body).filter(|user| !user.is_empty())?;
    Some(world.pseudonym(organisation, user))
}

/// No target has the model.
fn not_served(model: &str) -> Refused {
    let message = |model: &str| format!("No provider serves the model {model:?}.");
    Refused::of_model(StatusCode::NOT_FOUND, RefusalCode::ModelNotFound, model, message)
}

fn route(policy: &Policy, principal: &Principal, shape: &Shape, at: Micros) -> Result<Arc<Route>, Refused> {
    let model = &shape.model.value;
    policy.directory.route(principal, model, at).map_err(|error| match error {
        RouteError::NotAllowed => {
            let message = |model: &str| format!("This key may not use the model {model:?}.");
            Refused::of_model(StatusCode::FORBIDDEN, RefusalCode::ModelNotAllowed, model, message)
        }
        RouteError::NotFound => not_served(model),
    })
}
