//! Administration over HTTP: policy, keys, budgets, status; open health and metrics beside it.

mod alerts;
mod budgets;
mod shims;

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Json, Router};
use bursar_ingest::content::Vault;
use bursar_ledger::runner::LedgerHandle;
use bursar_schemas::policy::Document;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub(crate) use alerts::row as alert_row;
pub(crate) use budgets::ChangeRequest;
pub(crate) use shims::RetireRequest;

use crate::exit::{Exit, Failure};
use crate::publisher::{KeyRequest, Publisher};
use crate::retention::Keeper;
use crate::retention::records::OpenRecords;

/// A credential of the admin port.
#[derive(Debug, Clone)]
pub(crate) struct Credential {
    /// The name that goes on record.
    pub(crate) name: String,
    /// SHA-256 of the token.
    pub(crate) token_hash: [u8; 32],
}

impl Credential {
    pub(crate) fn new(name: &str, token: &str) -> Self {
        Self { name: name.to_owned(), token_hash: Sha256::digest(token.as_bytes()).into() }
    }
}

/// Reads a JSON value from a role.
pub(crate) type Probe = Arc<dyn Fn() -> BoxFuture<'static, Value> + Send + Sync>;

/// What the admin port serves; a role that is not in this process is absent.
#[derive(Clone, Default)]
pub(crate) struct Control {
    pub(crate) credentials: Arc<Vec<Credential>>,
    pub(crate) publisher: Option<Arc<Publisher>>,
    /// Retention of the archive.
    pub(crate) keeper: Option<Arc<Keeper>>,
    /// What holds are asked of; there wherever policy is administered.
    pub(crate) records: Option<OpenRecords>,
    /// Captured content, without the keys to read it.
    pub(crate) vault: Option<Arc<Vault>>,
    /// The ledger itself.
    pub(crate) ledger: Option<LedgerHandle>,
    /// All accounts' books.
    pub(crate) budgets: Option<Probe>,
    /// The latest alerts.
    pub(crate) alerts: Option<Probe>,
    /// State by role.
    pub(crate) status: Vec<(&'static str, Probe)>,
    /// Prometheus text, one source for each role that has figures.
    pub(crate) metrics: Vec<Arc<dyn Fn() -> String + Send + Sync>>,
}

/// The name of the credential that a request came with.
#[derive(Debug, Clone)]
pub(super) struct Author(pub(super) String);

/// A policy to be published.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApplyRequest {
    pub(crate) files: Vec<(String, String)>,
    pub(crate) revision: Option<String>,
    pub(crate) check: bool,
}

pub(super) struct Refusal(pub(super) StatusCode, pub(super) String);

impl Refusal {
    /// The answer to what only the ledger's own process knows.
    fn no_budgets() -> Self {
        Self(StatusCode::NOT_FOUND, "this process keeps no budgets; ask the ledger's".to_owned())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": {"message": self.1}}))).into_response()
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let status = match failure.exit {
            Exit::Usage => StatusCode::BAD_REQUEST,
            Exit::Refused => StatusCode::CONFLICT,
            Exit::Failed | Exit::NoServer => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(status, failure.to_string())
    }
}

pub(super) type Answer = Result<Json<Value>, Refusal>;

/// The routes; `query` serves SQL under the same port with its own credentials.
pub(crate) fn router(control: Control, query: Option<Router>) -> Router {
    let guarded = Router::new()
        .route("/v1/policy", post(apply).get(policy))
        .route("/v1/keys", post(create_key).get(list_keys))
        .route("/v1/keys/{key}", delete(revoke_key))
        .route("/v1/budgets", get(budgets::list))
        .route("/v1/budgets/{budget}/raise", post(budgets::raise))
        .route("/v1/budgets/{budget}/lower", post(budgets::lower))
        .route("/v1/budgets/{budget}/reset", post(budgets::reset))
        .route("/v1/shims", get(shims::list))
        .route("/v1/shims/{incarnation}/retire", post(shims::retire))
        .route("/v1/alerts", get(alerts::list))
        .route("/v1/roles", get(status))
        .merge(super::retention::routes())
        .layer(axum::middleware::from_fn_with_state(control.clone(), authenticate));
    let open = Router::new().route("/healthz", get(|| async { "ok\n" })).route("/metrics", get(metrics));
    let whole = guarded.merge(open).with_state(control);
    match query {
        Some(query) => whole.merge(query),
        None => whole,
    }
}

async fn authenticate(
    State(control): State<Control>,
    headers: HeaderMap,
    mut request: Request,
    next: Next,
) -> Response {
    let token =
        headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let hash: Option<[u8; 32]> = token.map(|token| Sha256::digest(token.as_bytes()).into());
    // Hashes are compared, so how long a comparison takes says nothing about a token.
    let found = hash.and_then(|hash| control.credentials.iter().find(|it| it.token_hash == hash));
    match found {
        Some(credential) => {
            request.extensions_mut().insert(Author(credential.name.clone()));
            next.run(request).await
        }
        None => Refusal(
            StatusCode::UNAUTHORIZED,
            "a valid admin token is needed: Authorization: Bearer …".to_owned(),
        )
        .into_response(),
    }
}

pub(super) fn publisher(control: &Control) -> Result<&Arc<Publisher>, Refusal> {
    let elsewhere = || {
        Refusal(StatusCode::NOT_FOUND, "this process does not administer policy; ask the ledger's".to_owned())
    };
    control.publisher.as_ref().ok_or_else(elsewhere)
}

async fn apply(
    State(control): State<Control>,
    Extension(author): Extension<Author>,
    Json(body): Json<ApplyRequest>,
) -> Answer {
    let files = body.files.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    let document = Document::from_toml(files).map_err(Failure::usage)?;
    let publisher = publisher(&control)?;
    let document = publisher.publishable(document);
    let before = publisher.state();
    if body.check {
        return Ok(Json(json!({"version": before.version, "changes": changes(&before.document, &document)})));
    }
    let version = publisher.apply(&document, &author.0, body.revision).await?;
    Ok(Json(json!({"version": version, "changes": changes(&before.document, &document)})))
}

/// What differs between two documents, entry by entry.
fn changes(before: &Document, after: &Document) -> Vec<String> {
    let entries = |document: &Document| -> std::collections::BTreeMap<String, String> {
        let Ok(Value::Object(sections)) = serde_json::to_value(document) else { return Default::default() };
        let mut found = std::collections::BTreeMap::new();
        for (section, value) in sections {
            let Value::Array(items) = value else {
                found.insert(section, value.to_string());
                continue;
            };
            for item in items {
                let text = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
                let id = if section == "price" {
                    format!("{}/{} from {}", text("provider"), text("model"), text("from"))
                } else {
                    text("id")
                };
                found.insert(format!("{section} {id}"), item.to_string());
            }
        }
        found
    };
    let (before, after) = (entries(before), entries(after));
    let gone = before.keys().filter(|key| !after.contains_key(*key)).map(|key| format!("- {key}"));
    let new = after.iter().filter_map(|(key, value)| match before.get(key) {
        None => Some(format!("+ {key}")),
        Some(old) if old != value => Some(format!("~ {key}")),
        Some(_) => None,
    });
    gone.chain(new).collect()
}

async fn policy(State(control): State<Control>) -> Answer {
    let state = publisher(&control)?.state();
    let document = serde_json::to_value(&state.document).unwrap_or_default();
    Ok(Json(json!({"version": state.version, "document": document})))
}

async fn create_key(
    State(control): State<Control>,
    Extension(author): Extension<Author>,
    Json(body): Json<KeyRequest>,
) -> Answer {
    let (key, secret) = publisher(&control)?.create_key(body, &author.0).await?;
    Ok(Json(json!({"key": key, "secret": secret.expose()})))
}

async fn list_keys(State(control): State<Control>) -> Answer {
    let state = publisher(&control)?.state();
    let keys: Vec<Value> = state
        .keys
        .values()
        .map(|key| {
            json!({
                "key": key.key, "organisation": key.organisation, "team": key.team, "project": key.project,
                "tags": key.tags, "models": key.models, "issued_at": time(key.issued_at.0), "author": key.author,
                "revoked_at": key.revoked.as_ref().map(|(at, _)| time(at.0)),
                "revoked_by": key.revoked.as_ref().map(|(_, by)| by),
            })
        })
        .collect();
    Ok(Json(json!({"keys": keys})))
}

/// An instant in RFC 3339.
pub(crate) fn time(at_us: i64) -> String {
    jiff::Timestamp::from_microsecond(at_us).map(|at| at.to_string()).unwrap_or_default()
}

async fn revoke_key(
    State(control): State<Control>,
    Extension(author): Extension<Author>,
    Path(key): Path<String>,
) -> Answer {
    publisher(&control)?.revoke_key(&key, &author.0).await?;
    Ok(Json(json!({"revoked": key})))
}

async fn status(State(control): State<Control>) -> Answer {
    let mut roles = serde_json::Map::new();
    for (role, probe) in &control.status {
        roles.insert((*role).to_owned(), probe().await);
    }
    Ok(Json(json!({"version": env!("CARGO_PKG_VERSION"), "roles": roles})))
}

async fn metrics(State(control): State<Control>) -> Response {
    let text: String = control.metrics.iter().map(|metrics| metrics()).collect();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
