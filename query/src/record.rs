//! Every query is a recorded fact, and nothing of an answer leaves before it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{Head, QueryRan};
use bursar_schemas::ports::Receipt;
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::producer::{Draft, Recorder};

use crate::error::QueryError;
use crate::service::Clock;
use crate::statement::LONGEST_STATEMENT;

/// Where queries are recorded.
const LANE: Lane = Lane::new(Topic::Requests, 0);

/// The answer is longer than what is held back, and begins to leave; a second fact follows at its end.
const STREAMING: &str = "streaming";

/// Whoever asked left before the end.
const ABANDONED: &str = "abandoned";

/// A query whose end is still to be recorded.
pub(crate) struct Recording {
    recorder: Option<Arc<Recorder>>,
    clock: Clock,
    wait: Duration,
    by: String,
    statement: String,
    began: Instant,
    rows: u64,
    ended: bool,
}

impl Recording {
    pub(crate) fn begin(
        recorder: Option<Arc<Recorder>>,
        clock: Clock,
        wait: Duration,
        by: &str,
        statement: &str,
    ) -> Self {
        Self {
            recorder,
            clock,
            wait,
            by: by.to_owned(),
            statement: cut(statement).to_owned(),
            began: Instant::now(),
            rows: 0,
            ended: false,
        }
    }

    /// Counts rows of the answer.
    pub(crate) const fn add_rows(&mut self, rows: u64) {
        self.rows = self.rows.saturating_add(rows);
    }

    /// Rows so far.
    pub(crate) const fn rows(&self) -> u64 {
        self.rows
    }

    fn write(&self, outcome: &str) -> Result<Option<Receipt>, QueryError> {
        let Some(recorder) = &self.recorder else { return Ok(None) };
        let at: Micros = (self.clock)();
        let fact = QueryRan {
            head: Head::draft(at, 0, ""),
            by: self.by.clone(),
            statement: self.statement.clone(),
            outcome: outcome.to_owned(),
            rows: self.rows,
            duration_us: u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX),
        };
        let receipt = recorder.record([Draft { lane: LANE, fact: fact.into() }]);
        receipt.map(Some).map_err(|error| QueryError::NotRecorded(error.to_string()))
    }

    async fn write_and_wait(&self, outcome: &str) -> Result<(), QueryError> {
        let Some(receipt) = self.write(outcome)? else { return Ok(()) };
        match tokio::time::timeout(self.wait, receipt).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(QueryError::NotRecorded(error.to_string())),
            Err(_) => Err(QueryError::NotRecorded("no acknowledgement came in time".to_owned())),
        }
    }

    /// Records that the answer begins to leave.
    pub(crate) async fn stream(&self) -> Result<(), QueryError> {
        self.write_and_wait(STREAMING).await
    }

    /// Records the end.
    pub(crate) async fn finish(&mut self, outcome: &str) -> Result<(), QueryError> {
        self.ended = true;
        self.write_and_wait(outcome).await
    }

    /// Records a failure, and passes it on unless the recording itself failed.
    pub(crate) async fn fail(&mut self, error: QueryError) -> QueryError {
        match self.finish(error.code()).await {
            Ok(()) => error,
            Err(not_recorded) => not_recorded,
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if !self.ended
            && let Err(error) = self.write(ABANDONED)
        {
            tracing::warn!(%error, "an abandoned query could not be recorded");
        }
    }
}

/// The statement, cut at a whole character.
fn cut(statement: &str) -> &str {
    let mut end = statement.len().min(LONGEST_STATEMENT);
    while !statement.is_char_boundary(end) {
        end -= 1;
    }
    &statement[..end]
}
