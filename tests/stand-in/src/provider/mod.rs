//! A stand-in for a model provider: speaks the OpenAI dialect, does what a request's own text tells it to,
//! and keeps its own bill. A tool of the demo and the tests; it knows no model.
//!
//! A message such as `stand-in prompt_tokens=374 completion_tokens=44 id=r-000123 lorem ipsum …` says what is
//! to be "used". The text must have at least as many bytes as input tokens are named, as with any byte-level
//! tokenizer; output tokens count per choice and never exceed the caller's or the model's cap (the answer
//! then ends with `length`). Further words: `cached_tokens=`, `reasoning_tokens=`, `status=503` (an error),
//! `hang` (no answer, no bill), `hang_billed` (no answer, but a bill), `cut_after_chunks=3`, `no_usage`,
//! `overbill=100` (output tokens beyond every cap), `first_byte_ms=`, `chunk_ms=`. A word with `=` that is
//! none of them is an error. Without `stand-in` a message of b bytes has b/4 tokens and is answered with 16.

mod answer;
mod asked;
mod bill;
mod call;
mod commands;
mod prices;
mod server;
mod stream;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use bill::{BillError, BillLine, BillOutcome, Totals, read_bill};
pub use prices::{Charge, LeaveCharge, ModelPrices, Tokens};

/// How a stand-in behaves.
#[derive(Clone)]
pub struct StandInConfig {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The file that its bill is appended to; without one it keeps totals only.
    pub bill: Option<PathBuf>,
    /// Of all that it draws: which requests fail, and the names of answers.
    pub seed: u64,
    /// Wait before the first byte of an answer.
    pub first_byte_delay: Duration,
    /// Wait between pieces of a streamed answer.
    pub chunk_delay: Duration,
    /// Tokens in one piece of a streamed answer.
    pub tokens_per_chunk: u64,
    /// So many of a thousand requests fail with 429, 500 or 503: always the same of one seed, by the
    /// request's id (by its token counts, where it has none) and model.
    pub error_rate_per_mille: u64,
    /// The key that callers must present, if any.
    pub api_key: Option<String>,
    /// How it charges.
    pub charge: Charge,
    /// What a client pays that leaves in the middle of a stream.
    pub on_leave: LeaveCharge,
    /// The models it offers, with their prices.
    pub prices: BTreeMap<String, ModelPrices>,
    /// How many of the latest requests it keeps to be looked at.
    pub capture: usize,
}

impl Default for StandInConfig {
    /// A free loopback port, no bill, no delays, no errors, no key, an honest charge, the prices of three
    /// models of OpenAI as of 2026.
    fn default() -> Self {
        let dollars_hundredths = |input: i128, cached_input: i128, output: i128| {
            const PICO: i128 = 10_000_000_000;
            ModelPrices {
                cached_input: cached_input * PICO / 10,
                ..ModelPrices::new(input * PICO, output * PICO)
            }
        };
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            bill: None,
            seed: 0,
            first_byte_delay: Duration::ZERO,
            chunk_delay: Duration::ZERO,
            tokens_per_chunk: 8,
            error_rate_per_mille: 0,
            api_key: None,
            charge: Charge::Honest,
            on_leave: LeaveCharge::Whole,
            prices: BTreeMap::from([
                ("gpt-4o".to_owned(), dollars_hundredths(250, 1250, 1000)),
                ("gpt-4o-mini".to_owned(), dollars_hundredths(15, 75, 60)),
                ("text-embedding-3-small".to_owned(), dollars_hundredths(2, 20, 0)),
            ]),
            capture: 0,
        }
    }
}

/// A request as it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// Such as `POST`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Names in lower case, values as they came; bytes that are no text are replaced.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// The stand-in did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken or not ours.
    #[error("failed to listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// The bill cannot be opened.
    #[error(transparent)]
    Bill(#[from] BillError),
}

/// A stand-in for a model provider.
#[derive(Debug)]
pub struct StandIn;

/// A stand-in that runs; dropping it stops it.
#[derive(Debug)]
pub struct RunningStandIn {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Its base URL up to and including the version, such as `http://127.0.0.1:4010/v1`.
    pub base_url: String,
    shared: Arc<server::Shared>,
    serving: JoinHandle<()>,
}

impl StandIn {
    /// Starts a stand-in on the current runtime.
    ///
    /// # Errors
    /// When the address is taken or the bill cannot be opened.
    pub async fn start(config: StandInConfig) -> Result<RunningStandIn, StartError> {
        let failed = |error| StartError::Listen(config.listen, error);
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let bill = Arc::new(bill::Bill::open(config.bill.clone())?);
        let shared = Arc::new(server::Shared::new(config, bill));
        let serving = tokio::spawn(server::serve(listener, Arc::clone(&shared)));
        Ok(RunningStandIn { addr, base_url: format!("http://{addr}/v1"), shared, serving })
    }
}

impl RunningStandIn {
    /// What it has seen and charged since its start.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.shared.bill.totals()
    }

    /// The latest requests, oldest first, as many as the configuration keeps.
    #[must_use]
    pub fn captured(&self) -> Vec<Captured> {
        self.shared.captured.lock().iter().cloned().collect()
    }

    /// Closes every connection at once, whatever is in flight, and gives the totals.
    pub async fn stop(mut self) -> Totals {
        self.serving.abort();
        // It ends as cancelled, which is what was asked for.
        (&mut self.serving).await.ok();
        self.shared.bill.totals()
    }
}

impl Drop for RunningStandIn {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The latest requests.
type Captures = Mutex<VecDeque<Captured>>;
