//! Completeness as a report: what is missing, doubled, late, unreadable or unproven, by producer and topic.
//!
//! The view `gaps` says it of the records; what has no record any more (lost offsets, a chain that breaks off) is added
//! here from the archive's own state.
//!
//! Invariant: the report, the view and the metrics are one statement, so they cannot disagree.

mod sql;
mod watch;

use bursar_schemas::avro::Micros;
use tokio::time::Instant;

use crate::answer::{Answer, Begun};
use crate::config::Limits;
use crate::error::QueryError;
use crate::service::QueryService;
use crate::session::Session;
use crate::status::Status;

pub use self::watch::Watch;

/// What report is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GapsRequest {
    /// Only what was taken in from this time on.
    pub since: Option<Micros>,
    /// Leave out what programs want and people do not: the topics' lives.
    pub brief: bool,
}

impl GapsRequest {
    /// Reads `2026-11-03` or `2026-11-03T14:00:00Z`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn instant(text: &str) -> Result<Micros, QueryError> {
        let whole = if text.contains('T') { text.to_owned() } else { format!("{text}T00:00:00Z") };
        let instant: jiff::Timestamp = whole.parse().map_err(|_| {
            QueryError::Parameter(format!("since {text}: expected 2026-11-03 or 2026-11-03T14:00:00Z"))
        })?;
        Ok(Micros(instant.as_microsecond()))
    }
}

impl QueryService {
    /// Draws up the report for someone, and records that.
    ///
    /// # Errors
    /// Why there is none; that too is recorded.
    pub async fn gaps(&self, by: &str, request: &GapsRequest, limits: Limits) -> Result<Answer, QueryError> {
        let mut recording = self.recording(by, &sql::describe(request));
        let deadline = Instant::now() + limits.time;
        let begun = match tokio::time::timeout_at(deadline, self.begin_gaps(request, deadline)).await {
            Ok(begun) => begun,
            Err(_) => Err(QueryError::TooLong(limits.time.as_secs())),
        };
        match begun {
            Ok(begun) => Answer::start(begun, limits, recording).await,
            Err(error) => Err(recording.fail(error).await),
        }
    }

    async fn begin_gaps(&self, request: &GapsRequest, deadline: Instant) -> Result<Begun, QueryError> {
        let turn = self.turn().await?;
        let (session, status) = self.completeness(deadline).await?;
        let rows = session.stream_own(&sql::report(request, &status)).await?;
        Ok(Begun { schema: rows.schema(), status, rows, turn, deadline })
    }

    async fn completeness(&self, deadline: Instant) -> Result<(Session, Status), QueryError> {
        let snapshot = self.snapshot(deadline).await?;
        // The report brings its own text of the views, narrowed to its period.
        let session = self.sessions.open(&snapshot, "").await?;
        Ok((session, snapshot.status))
    }
}
