//! Sends one request after another on a connection of its own, so that leaving really closes it.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::answer::{Events, Seen};
use super::plan::Planned;
use super::{Ending, Outcome, ReplayError};

const LARGEST_ANSWER: usize = 64 << 20;

/// Where requests go.
#[derive(Debug)]
pub(super) struct Gateway {
    authority: String,
    target: String,
}

impl Gateway {
    pub(super) fn new(base_url: &str) -> Result<Self, ReplayError> {
        let fault = || ReplayError::BaseUrl(base_url.to_owned());
        let uri: Uri = base_url.parse().map_err(|_| fault())?;
        let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http")).ok_or_else(fault)?;
        let port = authority.port_u16().unwrap_or(80);
        Ok(Self {
            authority: format!("{}:{port}", authority.host()),
            target: format!("{}/chat/completions", uri.path().trim_end_matches('/')),
        })
    }
}

/// An open connection; dropping it closes it.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    async fn open(gateway: &Gateway) -> Result<Self, String> {
        let socket = TcpStream::connect(&gateway.authority).await.map_err(|error| error.to_string())?;
        socket.set_nodelay(true).map_err(|error| error.to_string())?;
        let (sender, driver) = handshake(TokioIo::new(socket)).await.map_err(|error| error.to_string())?;
        // Its error is also the pending request's.
        let driver = tokio::spawn(async move {
            driver.await.ok();
        });
        Ok(Self { sender, driver })
    }
}

/// Sends one request and reads its answer; the connection is kept when it can serve again.
pub(super) async fn send(
    gateway: &Gateway,
    connection: &mut Option<Connection>,
    planned: Planned,
    timeout: Duration,
) -> Outcome {
    let mut exchange = Exchange::new(&planned);
    let held = connection.take();
    match tokio::time::timeout(timeout, exchange.run(gateway, held, &planned)).await {
        Ok(Ok(kept)) => *connection = kept,
        Ok(Err(fault)) => exchange.outcome.fault = Some(fault),
        Err(_) => exchange.outcome.fault = Some("the time was over".to_owned()),
    }
    let mut outcome = exchange.outcome;
    outcome.usage = exchange.seen.usage;
    outcome.answered_model = exchange.seen.model.clone();
    outcome.error_code = exchange.seen.error_code;
    outcome.total_micros = micros(exchange.sent.elapsed());
    outcome
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

struct Exchange {
    outcome: Outcome,
    seen: Seen,
    sent: Instant,
}

impl Exchange {
    fn new(planned: &Planned) -> Self {
        let outcome = Outcome {
            number: planned.number,
            id: planned.id.clone(),
            team: planned.team.clone(),
            model: planned.model.clone(),
            stream: planned.stream,
            prompt_tokens: planned.row.context_tokens,
            completion_tokens: planned.row.generated_tokens,
            max_tokens: planned.max_tokens,
            status: None,
            served: false,
            ending: Ending::Unanswered,
            answered_model: None,
            usage: None,
            error_code: None,
            fault: None,
            request_id: None,
            first_byte_micros: None,
            total_micros: 0,
        };
        Self { outcome, seen: Seen::default(), sent: Instant::now() }
    }

    /// The whole exchange; gives the connection back when it may serve again.
    async fn run(
        &mut self,
        gateway: &Gateway,
        held: Option<Connection>,
        planned: &Planned,
    ) -> Result<Option<Connection>, String> {
        let (connection, response) = self.answer(gateway, held, planned).await?;
        self.outcome.status = Some(response.status().as_u16());
        let name = response.headers().get("x-request-id").and_then(|value| value.to_str().ok());
        self.outcome.request_id = name.map(str::to_owned);
        if !response.status().is_success() {
            self.outcome.ending = Ending::Refused;
            let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            self.seen.object(&body);
            return Ok(Some(connection));
        }
        self.outcome.ending = Ending::Broken;
        self.read(response.into_body(), planned).await?;
        if planned.leave {
            self.outcome.ending = Ending::Left;
            return Ok(None);
        }
        self.outcome.ending = Ending::Whole;
        Ok(Some(connection))
    }

    /// Sends on the held connection, or on a new one when the other side has closed it in the meantime.
    async fn answer(
        &mut self,
        gateway: &Gateway,
        held: Option<Connection>,
        planned: &Planned,
    ) -> Result<(Connection, Response<Incoming>), String> {
        let mut request = http_request(gateway, planned)?;
        if let Some(mut connection) = held
            && connection.sender.ready().await.is_ok()
        {
            self.sent = Instant::now();
            match connection.sender.try_send_request(request).await {
                Ok(response) => return Ok((connection, response)),
                // Given back only when nothing of it was written, so nobody can have seen it.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(error.into_error().to_string()),
                },
            }
        }
        let mut connection = Connection::open(gateway).await?;
        connection.sender.ready().await.map_err(|error| error.to_string())?;
        self.sent = Instant::now();
        let response = connection.sender.send_request(request).await.map_err(|error| error.to_string())?;
        Ok((connection, response))
    }

    async fn read(&mut self, mut body: Incoming, planned: &Planned) -> Result<(), String> {
        let (mut events, mut whole) = (Events::default(), Vec::new());
        while let Some(frame) = body.frame().await {
            let Ok(piece) = frame.map_err(|error| error.to_string())?.into_data() else { continue };
            if !self.outcome.served {
                self.outcome.served = true;
                self.outcome.first_byte_micros = Some(micros(self.sent.elapsed()));
            }
            if planned.stream {
                events.read(&piece, &mut self.seen)?;
            } else if whole.len() + piece.len() > LARGEST_ANSWER {
                return Err("the answer is too large".to_owned());
            } else {
                whole.extend_from_slice(&piece);
            }
            if planned.leave {
                return Ok(());
            }
        }
        let ended = if planned.stream { self.seen.done } else { self.seen.object(&whole) };
        match (ended, &self.seen.error_code) {
            (true, None) => Ok(()),
            (_, Some(code)) => Err(format!("the answer ended with the error {code}")),
            (false, None) => Err("the answer has no proper end".to_owned()),
        }
    }
}

fn http_request(gateway: &Gateway, planned: &Planned) -> Result<Request<Full<Bytes>>, String> {
    Request::post(&gateway.target)
        .header(HOST, &gateway.authority)
        .header(AUTHORIZATION, format!("Bearer {}", planned.key))
        .header(CONTENT_TYPE, "application/json")
        .header("x-stand-in-id", &planned.id)
        .body(Full::new(planned.body.clone()))
        .map_err(|error| error.to_string())
}
