//! The stand-in's HTTP side: connections, routes, and the order bill first, answer second.

use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::answer::{self, Names};
use super::asked::{Chat, Embeddings, Fault};
use super::bill::Bill;
use super::call::Call;
use super::stream::Broken;
use super::{Captured, Captures, StandInConfig};
use crate::seed;

const LARGEST_BODY: usize = 64 << 20;
const MOST_CONNECTIONS: usize = 16_384;

pub(crate) type Body = Either<Full<Bytes>, UnsyncBoxBody<Bytes, Broken>>;

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    settings: Settings,
    pub(crate) bill: Arc<Bill>,
    pub(crate) captured: Captures,
    arrivals: AtomicU64,
    /// Differs with every start, so that the names of answers do too.
    start: u64,
}

/// The configuration, which must not print its key.
struct Settings(StandInConfig);

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("listen", &self.0.listen).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(config: StandInConfig, bill: Arc<Bill>) -> Self {
        let start = RandomState::new().hash_one(config.seed);
        let captured = Mutex::default();
        Self { settings: Settings(config), bill, captured, arrivals: AtomicU64::new(0), start }
    }

    /// The configuration.
    pub(crate) const fn config(&self) -> &StandInConfig {
        &self.settings.0
    }

    fn names(&self) -> Names {
        let arrival = self.arrivals.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let high = seed::mix(self.start ^ seed::mix(self.config().seed));
        answer::names(high, seed::mix(self.start.wrapping_add(arrival)), now.as_secs())
    }

    fn capture(&self, request: &Request<()>, body: &Bytes) {
        let mut captured = self.captured.lock();
        if captured.len() >= self.config().capture {
            captured.pop_front();
        }
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        captured.push_back(Captured {
            method: request.method().to_string(),
            path: request.uri().to_string(),
            headers: request.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            body: body.clone(),
        });
    }
}

/// Accepts connections until it is aborted, and then closes them all.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= MOST_CONNECTIONS {
            connections.join_next().await;
        }
        while connections.try_join_next().is_some() {}
        let Ok((socket, _)) = listener.accept().await else {
            // Out of file descriptors, or a caller that has gone again: neither is for ever.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        // Without it an answer is only slower.
        socket.set_nodelay(true).ok();
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(|request| handle(&shared, request));
            let mut http = hyper::server::conn::http1::Builder::new();
            // A connection that breaks concerns its caller; the watch over its stream counts it.
            http.timer(TokioTimer::new()).serve_connection(TokioIo::new(socket), service).await.ok();
        });
    }
}

/// An answer that is an error.
pub(crate) struct Refusal {
    status: StatusCode,
    kind: &'static str,
    code: &'static str,
    message: String,
    /// The stand-in was asked to fail, or drew it; the request itself has no fault.
    injected: bool,
}

impl Refusal {
    pub(crate) fn of(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let kind = match status.as_u16() {
            429 => "requests",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        Self { status, kind, code, message: message.into(), injected: false }
    }

    /// An error that a request asked for or the seed drew.
    pub(crate) fn injected(status: u16) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let message = "the stand-in fails as it was asked to";
        Self { injected: true, ..Self::of(status, "stand_in_injected", message) }
    }
}

impl From<Fault> for Refusal {
    fn from((code, message): Fault) -> Self {
        Self::of(StatusCode::BAD_REQUEST, code, message)
    }
}

async fn handle(shared: &Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let names = shared.names();
    let mut response = route(shared, request, &names).await.unwrap_or_else(|refusal| {
        let mut response = json(answer::error(refusal.kind, refusal.code, &refusal.message));
        *response.status_mut() = refusal.status;
        if refusal.status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    });
    if let Ok(name) = HeaderValue::from_str(&names.request) {
        response.headers_mut().insert("x-request-id", name);
    }
    response.headers_mut().insert("openai-version", HeaderValue::from_static("2020-10-01"));
    Ok(response)
}

pub(crate) fn json(body: Bytes) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(body)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn route(
    shared: &Arc<Shared>,
    request: Request<Incoming>,
    names: &Names,
) -> Result<Response<Body>, Refusal> {
    let (head, body) = request.into_parts();
    let request = Request::from_parts(head, ());
    let path = request.uri().path().to_owned();
    let billable =
        *request.method() == Method::POST && matches!(&*path, "/v1/chat/completions" | "/v1/embeddings");
    if billable {
        shared.bill.count(|totals| totals.received += 1);
    }
    let body = Limited::new(body, LARGEST_BODY).collect().await.map_err(|_| {
        shared.bill.count(|totals| totals.refused += u64::from(billable));
        Refusal::of(StatusCode::PAYLOAD_TOO_LARGE, "body", "the body is too large or broke off")
    })?;
    let body = body.to_bytes();
    if shared.config().capture > 0 {
        shared.capture(&request, &body);
    }
    let answer = async {
        authorize(shared.config(), request.headers())?;
        let call = Call { shared, names, headers: request.headers() };
        match (request.method(), &*path) {
            (&Method::POST, "/v1/chat/completions") => call.chat(Chat::read(&body)?).await,
            (&Method::POST, "/v1/embeddings") => call.embeddings(Embeddings::read(&body)?).await,
            (&Method::GET, "/v1/models") => Ok(json(answer::models(shared.config().prices.keys()))),
            _ => Err(Refusal::of(StatusCode::NOT_FOUND, "unknown_url", format!("no such URL: {path}"))),
        }
    }
    .await;
    if let Err(refusal) = &answer
        && billable
    {
        shared.bill.count(|totals| {
            let count = if refusal.injected { &mut totals.failed } else { &mut totals.refused };
            *count += 1;
        });
    }
    answer
}

fn authorize(config: &StandInConfig, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(key) = &config.api_key else { return Ok(()) };
    let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if given.and_then(|given| given.strip_prefix("Bearer ")) == Some(key) {
        return Ok(());
    }
    Err(Refusal::of(StatusCode::UNAUTHORIZED, "invalid_api_key", "the API key is missing or wrong"))
}
