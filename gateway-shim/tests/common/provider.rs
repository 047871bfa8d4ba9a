//! A provider that answers as the test says.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// What the provider does with one request.
pub enum Script {
    /// Answers at once with a status, a content type and a body.
    Answer(u16, &'static str, Bytes),
    /// Answers with a stream that the test feeds; `None` breaks it off.
    Stream(mpsc::Receiver<Option<Bytes>>),
    /// Never answers.
    Hang,
    /// Closes the connection without an answer.
    Close,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub path: String,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Seen {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

#[derive(Default)]
struct State {
    scripts: Mutex<VecDeque<Script>>,
    seen: Mutex<Vec<Seen>>,
}

pub struct Provider {
    pub base: String,
    state: Arc<State>,
}

pub const CHAT: &str = r#"{"id":"c","model":"m-2026","choices":[{"message":{"content":"CANARY answer"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}"#;

impl Provider {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    let service = service_fn(|request| answer(Arc::clone(&shared), request));
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service);
                    // A scripted break ends the connection with an error.
                    drop(connection.await);
                });
            }
        });
        Self { base, state }
    }

    /// Queues what happens with the next request; with none queued it answers [`CHAT`].
    pub fn next(&self, script: Script) {
        self.state.scripts.lock().unwrap().push_back(script);
    }

    /// The next request is answered by a stream of events that the test feeds.
    pub fn stream(&self) -> mpsc::Sender<Option<Bytes>> {
        let (sender, receiver) = mpsc::channel(64);
        self.next(Script::Stream(receiver));
        sender
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Scripted>, Broken> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Broken)?.to_bytes();
    let seen = Seen { path: parts.uri.to_string(), headers: parts.headers, body };
    let script = state.scripts.lock().unwrap().pop_front();
    state.seen.lock().unwrap().push(seen);
    let response = |status: u16, kind: &str, body| {
        Response::builder()
            .status(status)
            .header("content-type", kind)
            .header("x-request-id", "req-77")
            .header("x-other", "kept")
            .body(body)
            .unwrap()
    };
    match script.unwrap_or(Script::Answer(200, "application/json", Bytes::from_static(CHAT.as_bytes()))) {
        Script::Answer(status, kind, body) => Ok(response(status, kind, Scripted::Whole(Some(body)))),
        Script::Stream(feed) => Ok(response(200, "text/event-stream; charset=utf-8", Scripted::Feed(feed))),
        Script::Hang => std::future::pending().await,
        Script::Close => Err(Broken),
    }
}

#[derive(Debug)]
struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken as the test says")
    }
}

impl std::error::Error for Broken {}

impl From<Infallible> for Broken {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

enum Scripted {
    Whole(Option<Bytes>),
    Feed(mpsc::Receiver<Option<Bytes>>),
}

impl Body for Scripted {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Whole(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            Self::Feed(feed) => feed.poll_recv(context).map(|piece| match piece {
                Some(Some(piece)) => Some(Ok(Frame::data(piece))),
                Some(None) => Some(Err(Broken)),
                None => None,
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Self::Whole(body) => http_body::SizeHint::with_exact(body.as_ref().map_or(0, Bytes::len) as u64),
            Self::Feed(_) => http_body::SizeHint::default(),
        }
    }
}
