//! Pages that call no provider.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;

use crate::answer::Outgoing;
use crate::gate::{about, authenticate, end_user};
use crate::refusal::{Known, put_request_id, refuse, shown};
use crate::world::World;

/// Whether the shim serves, and what is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// True once policy and limits have been read, until it shuts down.
    pub ready: bool,
    /// What is not as it should be; serving goes on as far as leases and spool last.
    pub degraded: Vec<String>,
}

pub(super) fn readiness(world: &World) -> Readiness {
    let now = world.now();
    let mut degraded = Vec::new();
    let closing = world.closing.load(std::sync::atomic::Ordering::Acquire);
    if closing {
        degraded.push("shutting down".to_owned());
    }
    if let Some(reason) = world.policy_stopped.lock().clone() {
        degraded.push(format!("policy cannot be read any further: {reason}"));
    }
    for limits in &world.limits {
        let standing = limits.standing(now);
        let partition = limits.partition;
        if let Some(reason) = standing.stopped {
            degraded.push(format!("limits/{partition} cannot be read any further: {reason}"));
        }
        if let Some(reason) = standing.trouble {
            degraded.push(format!("limits/{partition} cannot be read at the moment: {reason}"));
        }
        if standing.from_snapshot {
            degraded.push(format!(
                "the journal is away since the start: limits/{partition} stand as the last run left them"
            ));
        }
        let silence = world.config.ledger_silence.as_micros();
        if standing.owed_us.is_some_and(|us| u128::from(us) >= silence) {
            degraded.push(format!("the ledger of limits/{partition} is silent"));
        }
    }
    Readiness { ready: world.is_ready() && !closing, degraded }
}

pub(super) fn ready(world: &World) -> Response<Outgoing> {
    let readiness = readiness(world);
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json_page(status, &json!(readiness))
}

pub(super) fn metrics(world: &World) -> String {
    let now = world.now();
    let standings: Vec<_> =
        world.limits.iter().map(|limits| (limits.partition, limits.standing(now))).collect();
    world.metrics.render(&standings)
}

/// Aliases, and models of the providers that have a price, as far as the key may use them.
pub(super) fn models(world: &World, headers: &HeaderMap) -> Response<Outgoing> {
    let policy = world.policy();
    let id = world.request_id(world.now());
    let principal = match authenticate(&policy, headers) {
        Ok(principal) => principal,
        Err(refused) => return refuse(world, id, Known::default(), &refused),
    };
    let names = policy.directory.aliases().chain(policy.directory.priced(world.now()));
    let mut names: Vec<&str> = names.filter(|name| principal.may_use(name)).collect();
    names.sort_unstable();
    names.dedup();
    let models: Vec<_> = names
        .into_iter()
        .map(|name| json!({"id": name, "object": "model", "created": 0, "owned_by": "bursar"}))
        .collect();
    let mut response = json_page(StatusCode::OK, &json!({"object": "list", "data": models}));
    put_request_id(&mut response, id);
    response
}

/// The budgets that the key's requests draw on: what is left, before anybody is refused.
pub(super) fn budgets(world: &World, headers: &HeaderMap) -> Response<Outgoing> {
    let (policy, now) = (world.policy(), world.now());
    let id = world.request_id(now);
    let principal = match authenticate(&policy, headers) {
        Ok(principal) => principal,
        Err(refused) => return refuse(world, id, Known::default(), &refused),
    };
    let mut about = about(&principal, id, now);
    about.end_user = end_user(world, headers, None, &about.organisation);
    let mut draws = policy.directory.budgets(&about);
    draws.extend(policy.directory.budgets_of_targets(&about));
    let limits = world.limits(world.partition(&principal.organisation));
    let standing = limits.map(|limits| limits.remaining(&draws, now)).unwrap_or_default();
    let data: Vec<_> = standing
        .iter()
        .map(|one| {
            let draw = draws.iter().find(|draw| draw.id == one.budget);
            json!({
                "object": "budget",
                "id": one.budget,
                "scope": draw.map(|draw| &draw.budget.scope),
                "each": draw.and_then(|draw| draw.budget.each),
                "mode": one.mode.word(),
                "limit": one.limit,
                "settled": one.settled,
                "set_aside": one.set_aside,
                "remaining": one.left(),
                "resets_at": one.resets_at.map(shown),
            })
        })
        .collect();
    let mut response = json_page(StatusCode::OK, &json!({"object": "list", "data": data}));
    put_request_id(&mut response, id);
    response
}

fn json_page(status: StatusCode, body: &serde_json::Value) -> Response<Outgoing> {
    let mut response = text(status, &body.to_string());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

pub(super) fn text(status: StatusCode, body: &str) -> Response<Outgoing> {
    let mut response = Response::new(Outgoing::full(Bytes::copy_from_slice(body.as_bytes())));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
