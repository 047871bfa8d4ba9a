//! An answer under way: columns, rows as they come, and what they were made from.

use std::collections::VecDeque;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt as _;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::config::Limits;
use crate::error::QueryError;
use crate::record::Recording;
use crate::render::{Format, Renderer};
use crate::status::Status;

/// Bytes of rows held back before anything leaves, so that most failures come as an error and not as an answer
/// that breaks off.
const HELD_BACK: usize = 4 * 1024 * 1024;

/// A column of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ColumnInfo {
    /// Its name.
    pub name: String,
    /// Its Arrow type.
    #[serde(rename = "type")]
    pub data_type: String,
}

/// What a statement gave. Rows are taken as they come; memory stays bounded however many there are.
pub struct Answer {
    schema: SchemaRef,
    status: Status,
    held: VecDeque<RecordBatch>,
    rest: Option<SendableRecordBatchStream>,
    limits: Limits,
    deadline: Instant,
    recording: Recording,
    turn: Option<OwnedSemaphorePermit>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// A query that was begun.
pub(crate) struct Begun {
    pub(crate) schema: SchemaRef,
    pub(crate) status: Status,
    pub(crate) rows: SendableRecordBatchStream,
    pub(crate) turn: OwnedSemaphorePermit,
    pub(crate) deadline: Instant,
}

impl Answer {
    /// Runs until the end or until as much as is held back is there, and records the query.
    pub(crate) async fn start(
        begun: Begun,
        limits: Limits,
        recording: Recording,
    ) -> Result<Self, QueryError> {
        let Begun { schema, status, rows, turn, deadline } = begun;
        let mut answer = Self {
            schema,
            status,
            held: VecDeque::new(),
            rest: Some(rows),
            limits,
            deadline,
            recording,
            turn: Some(turn),
        };
        let mut bytes = 0;
        while bytes < HELD_BACK {
            let Some(batch) = answer.pull().await? else { return Ok(answer) };
            bytes += batch.get_array_memory_size();
            answer.held.push_back(batch);
        }
        answer.recording.stream().await?;
        Ok(answer)
    }

    /// The columns.
    #[must_use]
    pub fn columns(&self) -> Vec<ColumnInfo> {
        columns_of(&self.schema)
    }

    /// What the answer was made from, and what it could not see.
    #[must_use]
    pub const fn status(&self) -> &Status {
        &self.status
    }

    /// Rows that came so far; all of them once [`Answer::next`] gave none.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.recording.rows()
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    /// The next rows; none at the end.
    ///
    /// # Errors
    /// When the query fails, takes too long, has too many rows, or its end cannot be recorded. What came before
    /// is then not the answer.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        match self.held.pop_front() {
            Some(batch) => Ok(Some(batch)),
            None => self.pull().await,
        }
    }

    async fn pull(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        let Some(rest) = &mut self.rest else { return Ok(None) };
        let failure = match tokio::time::timeout_at(self.deadline, rest.next()).await {
            Ok(Some(Ok(batch))) => {
                self.recording.add_rows(u64::try_from(batch.num_rows()).unwrap_or(u64::MAX));
                if self.recording.rows() <= self.limits.rows {
                    return Ok(Some(batch));
                }
                QueryError::TooManyRows(self.limits.rows)
            }
            Ok(Some(Err(error))) => error.into(),
            Ok(None) => {
                self.release();
                self.recording.finish("finished").await?;
                return Ok(None);
            }
            Err(_) => QueryError::TooLong(self.limits.time.as_secs()),
        };
        self.release();
        self.held.clear();
        Err(self.recording.fail(failure).await)
    }

    /// Lets go of the query's memory and its turn.
    fn release(&mut self) {
        self.rest = None;
        self.turn = None;
    }

    /// Writes the whole answer; returns how many rows it has.
    ///
    /// # Errors
    /// As [`Answer::next`], or when the writer fails. What was written before is then not the answer.
    pub async fn write(
        mut self,
        format: Format,
        writer: &mut (dyn std::io::Write + Send),
    ) -> Result<u64, QueryError> {
        let failed = |error: std::io::Error| QueryError::Write(error.to_string());
        let mut renderer = Renderer::new(format, &self.schema)?;
        let mut out = Vec::new();
        while let Some(batch) = self.next().await? {
            renderer.rows(&batch, &mut out)?;
            writer.write_all(&out).map_err(failed)?;
            out.clear();
        }
        renderer.end(self.rows(), &self.status, &mut out)?;
        writer.write_all(&out).map_err(failed)?;
        writer.flush().map_err(failed)?;
        Ok(self.rows())
    }
}

pub(crate) fn columns_of(schema: &SchemaRef) -> Vec<ColumnInfo> {
    let info = |field: &std::sync::Arc<arrow::datatypes::Field>| ColumnInfo {
        name: field.name().clone(),
        data_type: field.data_type().to_string(),
    };
    schema.fields().iter().map(info).collect()
}
