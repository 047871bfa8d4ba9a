//! Questions over HTTP: SQL and statements of account, behind bearer tokens.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use futures::stream;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::answer::Answer;
use crate::chargeback::{ChargebackRequest, Dimension};
use crate::error::QueryError;
use crate::gaps::GapsRequest;
use crate::render::{Format, Renderer};
use crate::service::QueryService;
use crate::statement::LONGEST_STATEMENT;
use crate::views;

/// The largest request body: a statement may be escaped to six times its length.
const LARGEST_BODY: usize = 8 * LONGEST_STATEMENT;

/// A credential: its name, which facts mention, and the SHA-256 of its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its name.
    pub name: String,
    /// SHA-256 of the secret.
    pub sha256: [u8; 32],
}

/// Who asks.
#[derive(Debug, Clone)]
struct Caller(String);

/// The routes: `POST /v1/sql`, `GET /v1/chargeback`, `GET /v1/gaps`, `GET /v1/tables`, `GET /v1/status`. Without tokens, every
/// request is refused.
pub fn router(service: Arc<QueryService>, tokens: Vec<Token>) -> Router {
    let tokens: Arc<[Token]> = tokens.into();
    Router::new()
        .route("/v1/sql", post(run_sql))
        .route("/v1/chargeback", get(chargeback))
        .route("/v1/gaps", get(gaps))
        .route("/v1/tables", get(tables))
        .route("/v1/status", get(status))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(middleware::from_fn_with_state(tokens, authenticate))
        .with_state(service)
}

/// Equal in a time that does not depend on where two values differ.
fn is_equal(left: &[u8; 32], right: &[u8; 32]) -> bool {
    std::hint::black_box(left.iter().zip(right).fold(0, |differing, (a, b)| differing | (a ^ b))) == 0
}

async fn authenticate(State(tokens): State<Arc<[Token]>>, mut request: Request, next: Next) -> Response {
    let secret = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, secret)| secret.trim());
    let hash: Option<[u8; 32]> = secret.map(|secret| Sha256::digest(secret.as_bytes()).into());
    // Every token is compared, so the time does not tell which one fits.
    let mut name = None;
    for token in tokens.iter() {
        if hash.is_some_and(|hash| is_equal(&hash, &token.sha256)) {
            name = Some(token.name.clone());
        }
    }
    let Some(name) = name else {
        let message = "a bearer token of the query service is needed";
        let mut response = failure(StatusCode::UNAUTHORIZED, "unauthorized", message);
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return response;
    };
    request.extensions_mut().insert(Caller(name));
    next.run(request).await
}

fn failure(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({"error": {"code": code, "message": message}}))).into_response()
}

impl IntoResponse for QueryError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Refused(_) => StatusCode::FORBIDDEN,
            Self::Statement(_) | Self::Parameter(_) => StatusCode::BAD_REQUEST,
            Self::TooManyRows(_) | Self::TooLarge(_) | Self::Overflow(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooLong(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Busy => StatusCode::TOO_MANY_REQUESTS,
            Self::NotRecorded(_) | Self::Archive(_) | Self::Journal(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Engine(_) | Self::Write(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        failure(status, self.code(), &self.to_string())
    }
}

/// The format asked for by name, or else by `Accept`; JSON when neither says.
fn format_of(name: Option<&str>, headers: &HeaderMap) -> Result<Format, QueryError> {
    if let Some(name) = name {
        return name.parse();
    }
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let accepts = |kind: &str| accept.split(',').any(|part| part.trim().starts_with(kind));
    Ok(if accepts("text/csv") {
        Format::Csv
    } else if accepts("application/vnd.apache.arrow.stream") {
        Format::Arrow
    } else if accepts("text/plain") {
        Format::Table
    } else {
        Format::Json
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SqlRequest {
    sql: String,
    format: Option<String>,
}

async fn run_sql(
    State(service): State<Arc<QueryService>>,
    Extension(Caller(by)): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, QueryError> {
    let request: SqlRequest = serde_json::from_slice(&body).map_err(|_| {
        QueryError::Parameter("the body is {\"sql\": \"...\", \"format\": \"json\"}".to_owned())
    })?;
    let format = format_of(request.format.as_deref(), &headers)?;
    respond(service.sql(&by, &request.sql, service.config.http).await?, format)
}

/// An answer's rows as they come.
fn respond(answer: Answer, format: Format) -> Result<Response, QueryError> {
    let renderer = Renderer::new(format, &answer.schema())?;
    Ok(answered(Body::from_stream(stream::try_unfold(Some((answer, renderer)), piece)), format))
}

/// What was asked for, in its format; nobody between here and the caller may keep it.
fn answered(body: impl Into<Body>, format: Format) -> Response {
    let headers = [(header::CONTENT_TYPE, format.media_type()), (header::CACHE_CONTROL, "no-store")];
    (headers, body.into()).into_response()
}

/// One piece of an answer's body. An error breaks the transfer off, so no client takes a part for the whole.
async fn piece(
    state: Option<(Answer, Renderer)>,
) -> Result<Option<(Bytes, Option<(Answer, Renderer)>)>, QueryError> {
    let Some((mut answer, mut renderer)) = state else { return Ok(None) };
    let mut out = Vec::new();
    if let Some(batch) = answer.next().await? {
        renderer.rows(&batch, &mut out)?;
        return Ok(Some((Bytes::from(out), Some((answer, renderer)))));
    }
    renderer.end(answer.rows(), answer.status(), &mut out)?;
    Ok(Some((Bytes::from(out), None)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChargebackQuery {
    month: String,
    by: Option<String>,
    organisation: Option<String>,
    format: Option<String>,
}

async fn chargeback(
    State(service): State<Arc<QueryService>>,
    Extension(Caller(caller)): Extension<Caller>,
    headers: HeaderMap,
    query: Result<Query<ChargebackQuery>, QueryRejection>,
) -> Result<Response, QueryError> {
    let Ok(Query(query)) = query else {
        return Err(QueryError::Parameter(
            "the parameters are month, by, organisation and format".to_owned(),
        ));
    };
    let names = query.by.as_deref().unwrap_or_default().split(',').filter(|name| !name.trim().is_empty());
    let by = names.map(str::parse).collect::<Result<Vec<Dimension>, _>>()?;
    let request = ChargebackRequest { month: query.month, by, organisation: query.organisation };
    let format = format_of(query.format.as_deref(), &headers)?;
    let statement = service.chargeback(&caller, &request, service.config.http).await?;
    Ok(answered(statement.render(format)?, format))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GapsQuery {
    since: Option<String>,
    format: Option<String>,
}

async fn gaps(
    State(service): State<Arc<QueryService>>,
    Extension(Caller(by)): Extension<Caller>,
    headers: HeaderMap,
    query: Result<Query<GapsQuery>, QueryRejection>,
) -> Result<Response, QueryError> {
    let Ok(Query(query)) = query else {
        return Err(QueryError::Parameter("the parameters are since and format".to_owned()));
    };
    let format = format_of(query.format.as_deref(), &headers)?;
    let since = query.since.as_deref().map(GapsRequest::instant).transpose()?;
    let request = GapsRequest { since, brief: format == Format::Table };
    respond(service.gaps(&by, &request, service.config.http).await?, format)
}

async fn tables(headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("text/markdown") {
        return ([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], views::reference())
            .into_response();
    }
    Json(json!({"tables": views::tables()})).into_response()
}

async fn status(State(service): State<Arc<QueryService>>) -> Result<Response, QueryError> {
    Ok(Json(service.status().await?).into_response())
}
