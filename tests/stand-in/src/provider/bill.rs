//! The stand-in's own bill: a file of one JSON line per billed request, written before the answer begins.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// How a billed request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BillOutcome {
    /// Answered in full.
    Answered,
    /// Answered up to the caller's or the model's cap on output tokens.
    Capped,
    /// The answer is broken off as the request's text asked.
    Cut,
    /// Billed, but never answered, as the request's text asked.
    Hung,
    /// A correction below zero: the client left, and pays for what was generated.
    Left,
}

/// One line of the bill. Several lines may name one request: retries, and the correction of one who left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BillLine {
    /// The request, as its client named it.
    pub id: String,
    /// The caller's own id of the call, from the header `x-client-request-id`: of a gateway, its request.
    #[serde(default)]
    pub client_request: Option<String>,
    /// The answer's id, such as `chatcmpl-…`.
    pub answer: String,
    /// The model.
    pub model: String,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// Input tokens, cached ones included.
    pub prompt: u64,
    /// Input tokens that were read from a cache.
    pub cached: u64,
    /// Output tokens; of a correction those that were not generated.
    pub completion: u64,
    /// Pico-dollars (10⁻¹² dollars), as a decimal string in the file.
    #[serde(with = "decimal")]
    pub amount_pico: i128,
    /// How it went.
    pub outcome: BillOutcome,
}

mod decimal {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(pico: &i128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(pico)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i128, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The bill could not be opened, written or read.
#[derive(Debug, thiserror::Error)]
pub enum BillError {
    /// The file system refused.
    #[error("failed to {action} the bill {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A line is not one of a bill.
    #[error("failed to read line {line} of the bill {path}")]
    Line {
        /// Counted from one.
        line: usize,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
}

/// All lines of a bill.
///
/// # Errors
/// When the file is not there or a line is not one of a bill.
pub fn read_bill(path: &Path) -> Result<Vec<BillLine>, BillError> {
    let text = std::fs::read_to_string(path).map_err(|source| BillError::File {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    let parse = |(index, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|source| BillError::Line {
            line: index.saturating_add(1),
            path: path.to_owned(),
            source,
        })
    };
    text.lines().enumerate().map(parse).collect()
}

/// What the stand-in has seen and charged since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests for a completion or an embedding, whatever became of them.
    pub received: u64,
    /// Of those: billed.
    pub billed: u64,
    /// Of those: refused for a fault of the request (400 to 413), not billed.
    pub refused: u64,
    /// Of those: answered with an error that was asked for or drawn by the seed, not billed.
    pub failed: u64,
    /// Of those: never answered and not billed, as the request's text asked.
    pub hung: u64,
    /// Of the billed: streams whose client left (or that a stop interrupted) before their end.
    pub left: u64,
    /// Billed input tokens.
    pub prompt_tokens: u64,
    /// Billed output tokens, less those taken back from clients that left.
    pub completion_tokens: u64,
    /// The sum of the bill's lines since the start, in pico-dollars.
    pub billed_pico: i128,
    /// Lines that could not be written to the bill; such a request is answered with an error.
    pub unwritten: u64,
}

/// The open bill with its totals.
#[derive(Debug)]
pub(crate) struct Bill {
    path: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: Option<File>,
    totals: Totals,
}

impl Bill {
    /// Opens the file to append to, or keeps totals only.
    pub(crate) fn open(path: Option<PathBuf>) -> Result<Self, BillError> {
        let open = |path: &PathBuf| {
            OpenOptions::new().create(true).append(true).open(path).map_err(|source| BillError::File {
                action: "open",
                path: path.clone(),
                source,
            })
        };
        let file = path.as_ref().map(open).transpose()?;
        Ok(Self { path, state: Mutex::new(State { file, totals: Totals::default() }) })
    }

    /// Adds one line with one write(2), after which a killed process no longer loses it.
    ///
    /// Called from asynchronous code on purpose: an append to the page cache takes microseconds, less than
    /// handing it to another thread.
    pub(crate) fn append(&self, line: &BillLine) -> Result<(), BillError> {
        let mut state = self.state.lock();
        if let (Some(file), Some(path)) = (&mut state.file, &self.path) {
            let mut text = serde_json::to_vec(line).map_err(|source| BillError::Line {
                line: 0,
                path: path.clone(),
                source,
            })?;
            text.push(b'\n');
            if let Err(source) = file.write_all(&text) {
                state.totals.unwritten += 1;
                return Err(BillError::File { action: "write", path: path.clone(), source });
            }
        }
        let totals = &mut state.totals;
        totals.billed_pico = totals.billed_pico.saturating_add(line.amount_pico);
        if line.outcome == BillOutcome::Left {
            totals.completion_tokens = totals.completion_tokens.saturating_sub(line.completion);
        } else {
            totals.billed += 1;
            totals.prompt_tokens = totals.prompt_tokens.saturating_add(line.prompt);
            totals.completion_tokens = totals.completion_tokens.saturating_add(line.completion);
        }
        Ok(())
    }

    /// Changes the counters.
    pub(crate) fn count(&self, change: impl FnOnce(&mut Totals)) {
        change(&mut self.state.lock().totals);
    }

    /// The totals as they stand.
    pub(crate) fn totals(&self) -> Totals {
        self.state.lock().totals.clone()
    }
}
