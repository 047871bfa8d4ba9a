//! Replays a trace against a gateway: a client that loads it as many teams would, and remembers what it got.

mod answer;
mod client;
mod plan;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::trace::Row;

/// A team with the key that its applications use.
#[derive(Clone, PartialEq, Eq)]
pub struct TeamKey {
    /// The team's name, as outcomes give it.
    pub team: String,
    /// The key, sent as a bearer token.
    pub key: String,
}

impl std::fmt::Debug for TeamKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TeamKey").field("team", &self.team).finish_non_exhaustive()
    }
}

/// How a trace is replayed. Apart from timing, the same configuration and rows give the same requests.
#[derive(Debug, Clone)]
pub struct ReplayConfig {
    /// The gateway's base URL up to and including the version, such as `http://127.0.0.1:4000/v1`.
    pub base_url: String,
    /// Of all choices.
    pub seed: u64,
    /// One of them is drawn for each request.
    pub teams: Vec<TeamKey>,
    /// One of them is drawn for each request.
    pub models: Vec<String>,
    /// Requests in flight at most, each on a connection of its own.
    pub concurrency: usize,
    /// Keep the trace's pace, so many times faster; without one, go as fast as the answers come.
    pub pace: Option<u32>,
    /// So many of a thousand requests ask for a stream.
    pub stream_per_mille: u64,
    /// So many of a thousand requests ask for a stream and close the connection after its first piece.
    pub leave_per_mille: u64,
    /// So many of a thousand streams ask for the usage.
    pub ask_usage_per_mille: u64,
    /// The cap on output tokens that each request carries.
    pub max_tokens: Option<u64>,
    /// Bytes of text for each input token, at least 1; English has about 4.
    pub bytes_per_token: u64,
    /// How long a request may take.
    pub timeout: Duration,
    /// The number of the first request, so that several replays share one bill.
    pub first_number: u64,
}

impl Default for ReplayConfig {
    /// Half the requests ask for a stream, 3 % leave, 64 are in flight, a minute is enough; base URL, teams
    /// and models are to be filled in.
    fn default() -> Self {
        Self {
            base_url: String::new(),
            seed: 0,
            teams: Vec::new(),
            models: Vec::new(),
            concurrency: 64,
            pace: None,
            stream_per_mille: 500,
            leave_per_mille: 30,
            ask_usage_per_mille: 500,
            max_tokens: Some(1024),
            bytes_per_token: 4,
            timeout: Duration::from_secs(60),
            first_number: 0,
        }
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The answer was read to its proper end.
    Whole,
    /// The client closed the connection after the first piece.
    Left,
    /// The answer began and broke off.
    Broken,
    /// An error was answered.
    Refused,
    /// No answer came: no connection, a closed one, or the time was over.
    Unanswered,
}

/// The usage that an answer told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct UsageSeen {
    /// Input tokens.
    pub prompt_tokens: u64,
    /// Output tokens.
    pub completion_tokens: u64,
}

/// What became of one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Its number, by the rows' order.
    pub number: u64,
    /// Its id, such as `r-000123`: sent as the header `x-stand-in-id` and in the text.
    pub id: String,
    /// The team whose key it used.
    pub team: String,
    /// The model it asked for.
    pub model: String,
    /// Whether it asked for a stream.
    pub stream: bool,
    /// Input tokens that its text told the stand-in to report.
    pub prompt_tokens: u64,
    /// Output tokens that its text told the stand-in to report, before the cap.
    pub completion_tokens: u64,
    /// The cap that it carried.
    pub max_tokens: Option<u64>,
    /// The answer's status.
    pub status: Option<u16>,
    /// Whether a first byte of a good answer was read.
    pub served: bool,
    /// How it ended.
    pub ending: Ending,
    /// The model that the answer named: of a gateway, the one that served.
    pub answered_model: Option<String>,
    /// The usage that was told.
    pub usage: Option<UsageSeen>,
    /// The code (else the type) of an error that was answered, also within a stream.
    pub error_code: Option<String>,
    /// What went wrong on the way.
    pub fault: Option<String>,
    /// The answer's `x-request-id`.
    pub request_id: Option<String>,
    /// Microseconds from the sending to the first byte of the answer's body.
    pub first_byte_micros: Option<u64>,
    /// Microseconds from the sending to the end.
    pub total_micros: u64,
}

/// How far a replay is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Requests of the replay.
    pub total: usize,
    /// Requests that ended.
    pub done: usize,
    /// Of those: served.
    pub served: usize,
    /// Of those: an error was answered.
    pub refused: usize,
    /// Of those: broken off or unanswered.
    pub failed: usize,
}

/// A replay did not begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// Only plain HTTP to a named host is spoken.
    #[error("failed to replay: {0:?} is no base URL such as http://127.0.0.1:4000/v1")]
    BaseUrl(String),
    /// There must be a team, a model, a request in flight and a pace above zero.
    #[error("failed to replay: {0} is missing or zero")]
    Missing(&'static str),
}

/// Sends one request for each row and returns what became of them, in the rows' order.
///
/// `progress` is called after each request and may end the replay early: requests in flight are dropped then,
/// and have no outcome.
///
/// # Errors
/// When the configuration names no gateway, team or model.
pub async fn replay(
    config: &ReplayConfig,
    rows: &[Row],
    mut progress: impl FnMut(&Progress, &Outcome) -> ControlFlow<()>,
) -> Result<Vec<Outcome>, ReplayError> {
    check(config)?;
    let gateway = Arc::new(client::Gateway::new(&config.base_url)?);
    let plan = Arc::new((config.clone(), rows.to_vec()));
    let next = Arc::new(AtomicUsize::new(0));
    let (done, mut outcomes) = mpsc::channel(config.concurrency);
    let begin = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..config.concurrency.min(rows.len()) {
        let (gateway, plan, next, done) =
            (Arc::clone(&gateway), Arc::clone(&plan), Arc::clone(&next), done.clone());
        workers.spawn(async move {
            let (config, rows) = &*plan;
            let mut connection = None;
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(row) = rows.get(index) else { return };
                let Some(request) = plan::request(config, index, *row) else { return };
                if let Some(pace) = config.pace {
                    tokio::time::sleep_until(begin + row.at / pace).await;
                }
                let outcome = client::send(&gateway, &mut connection, request, config.timeout).await;
                if done.send(outcome).await.is_err() {
                    return;
                }
            }
        });
    }
    drop(done);
    let mut gathered = Vec::with_capacity(rows.len());
    let mut so_far = Progress { total: rows.len(), ..Progress::default() };
    while let Some(outcome) = outcomes.recv().await {
        so_far.done += 1;
        so_far.served += usize::from(outcome.served);
        match outcome.ending {
            Ending::Refused => so_far.refused += 1,
            Ending::Broken | Ending::Unanswered => so_far.failed += 1,
            Ending::Whole | Ending::Left => {}
        }
        let flow = progress(&so_far, &outcome);
        gathered.push(outcome);
        if flow.is_break() {
            break;
        }
    }
    workers.shutdown().await;
    gathered.sort_by_key(|outcome| outcome.number);
    Ok(gathered)
}

fn check(config: &ReplayConfig) -> Result<(), ReplayError> {
    let missing = [
        (config.teams.is_empty(), "a team"),
        (config.models.is_empty(), "a model"),
        (config.concurrency == 0, "the concurrency"),
        (config.pace == Some(0), "the pace"),
        (config.bytes_per_token == 0, "the bytes per token"),
    ];
    match missing.into_iter().find(|(missing, _)| *missing) {
        Some((_, what)) => Err(ReplayError::Missing(what)),
        None => Ok(()),
    }
}
