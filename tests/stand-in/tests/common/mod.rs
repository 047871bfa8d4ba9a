//! A plain client of one request per connection.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::handshake;
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// An answer that was read to its end, or as far as it went.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
    /// The body broke off.
    pub broken: bool,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// The events of a stream; `[DONE]` as a string. Panics when anything but `data:` lines is there.
    pub fn events(&self) -> Vec<Value> {
        let data = |event: &str| {
            let data = event.strip_prefix("data: ").unwrap_or_else(|| panic!("no event: {event:?}"));
            if data == "[DONE]" { Value::from(data) } else { serde_json::from_str(data).unwrap() }
        };
        assert!(self.broken || self.body.ends_with("\n\n"), "the last event is not closed");
        self.body.split_terminator("\n\n").map(data).collect()
    }
}

pub fn post(path: &str, body: &Value) -> Request<Full<Bytes>> {
    Request::post(path)
        .header("host", "stand-in")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap()
}

/// A chat request with one user message.
pub fn chat(text: &str, more: Value) -> Request<Full<Bytes>> {
    let mut body = json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}]});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    post("/v1/chat/completions", &body)
}

/// Sends and gives the head, with the body still to be read and the connection to be dropped.
pub async fn begin(
    base_url: &str,
    request: Request<Full<Bytes>>,
) -> (hyper::Response<Incoming>, tokio::task::JoinHandle<()>) {
    let authority = base_url.trim_start_matches("http://").trim_end_matches("/v1");
    let socket = TcpStream::connect(authority).await.unwrap();
    let (mut sender, connection) = handshake(TokioIo::new(socket)).await.unwrap();
    let driver = tokio::spawn(async move {
        connection.await.ok();
    });
    (sender.send_request(request).await.unwrap(), driver)
}

pub async fn ask(base_url: &str, request: Request<Full<Bytes>>) -> Answer {
    let (response, _) = begin(base_url, request).await;
    let (head, mut body) = response.into_parts();
    let (mut bytes, mut broken) = (Vec::new(), false);
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend_from_slice(frame.data_ref().unwrap()),
            Err(_) => broken = true,
        }
    }
    Answer { status: head.status, headers: head.headers, body: String::from_utf8(bytes).unwrap(), broken }
}
