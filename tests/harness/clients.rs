//! Clients that replay a trace for as long as they are asked to, and try again as an application would.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bursar_stand_in::replay::{Ending, Outcome, ReplayConfig, TeamKey, replay};
use bursar_stand_in::trace::Row;
use tokio::task::JoinSet;

/// Tries of one request.
const TRIES: u32 = 6;

/// Clients at work.
pub struct Clients {
    stop: Arc<AtomicBool>,
    running: JoinSet<Vec<Outcome>>,
}

/// What clients send.
#[derive(Clone)]
pub struct Load {
    pub shims: Vec<SocketAddr>,
    pub teams: Vec<(String, String)>,
    pub models: Vec<String>,
    pub rows: Vec<Row>,
    pub seed: u64,
    /// Number of the first request.
    pub first: u64,
    pub clients: usize,
    /// Milliseconds that a client pauses between two requests.
    pub pause: u64,
}

impl Clients {
    /// Starts them.
    pub fn start(load: Load) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let next = Arc::new(AtomicU64::new(0));
        let mut running = JoinSet::new();
        for client in 0..load.clients {
            let (load, stop, next) = (load.clone(), Arc::clone(&stop), Arc::clone(&next));
            running.spawn(async move {
                let mut outcomes = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    insist(&load, client, number, &mut outcomes).await;
                    tokio::time::sleep(Duration::from_millis(load.pause)).await;
                }
                outcomes
            });
        }
        Self { stop, running }
    }

    /// Lets each end its request, and gives every try of every request.
    pub async fn end(self) -> Vec<Outcome> {
        self.stop.store(true, Ordering::Relaxed);
        self.running.join_all().await.into_iter().flatten().collect()
    }
}

/// Sends a request until it has an answer; a shim that does not answer is left for the next one.
async fn insist(load: &Load, client: usize, number: u64, outcomes: &mut Vec<Outcome>) {
    let row = load.rows[usize::try_from(number).unwrap() % load.rows.len()];
    for again in 0..TRIES {
        let shim = load.shims[(client + usize::try_from(again).unwrap()) % load.shims.len()];
        let config = ReplayConfig {
            base_url: format!("http://{shim}/v1"),
            seed: load.seed,
            teams: load
                .teams
                .iter()
                .map(|(team, key)| TeamKey { team: team.clone(), key: key.clone() })
                .collect(),
            models: load.models.clone(),
            concurrency: 1,
            max_tokens: Some(1000),
            bytes_per_token: 1,
            timeout: Duration::from_secs(30),
            first_number: load.first + number,
            ..ReplayConfig::default()
        };
        let sent = replay(&config, &[row], |_, _| ControlFlow::Continue(())).await.unwrap();
        let outcome = sent.into_iter().next().expect("one request has one outcome");
        let again_later = match outcome.ending {
            Ending::Whole | Ending::Left => false,
            Ending::Unanswered | Ending::Broken => true,
            Ending::Refused => outcome.status.is_some_and(|status| status >= 500),
        };
        outcomes.push(outcome);
        if !again_later {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50 << again)).await;
    }
}
