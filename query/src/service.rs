//! The query service: one statement in, one answer out, within bounds and on record.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use bursar_schemas::avro::Micros;
use bursar_schemas::ports::Journal;
use bursar_schemas::producer::Recorder;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream;
use object_store::ObjectStore;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::answer::{Answer, Begun};
use crate::config::{Limits, QueryConfig};
use crate::error::QueryError;
use crate::feed::{Feed, keep_fresh};
use crate::lanes::Snapshot;
use crate::record::Recording;
use crate::session::Sessions;
use crate::statement::{Checked, check};
use crate::status::Status;
use crate::views;

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Micros + Send + Sync>;

/// SQL and chargeback over one archive and, where there is a journal, its unsealed tail.
pub struct QueryService {
    pub(crate) config: QueryConfig,
    feed: Arc<Feed>,
    pub(crate) sessions: Sessions,
    turns: Arc<Semaphore>,
    recorder: Option<Arc<Recorder>>,
    clock: Clock,
    keeper: AbortHandle,
}

impl std::fmt::Debug for QueryService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueryService").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Drop for QueryService {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl QueryService {
    /// Opens the archive in a store, follows its chains, and begins to read the journal's tail.
    ///
    /// Without a journal only what is sealed can be asked. Without a recorder nothing is recorded: that is for
    /// a bare copy of an archive, away from its deployment. Must be called within a Tokio runtime, which also
    /// does the work of the queries; a process that serves anything urgent gives them one of their own.
    ///
    /// # Errors
    /// When the archive or the journal cannot be read.
    pub async fn open(
        config: QueryConfig,
        store: Arc<dyn ObjectStore>,
        journal: Option<Arc<dyn Journal>>,
        recorder: Option<Arc<Recorder>>,
        clock: Clock,
    ) -> Result<Self, QueryError> {
        let sessions = Sessions::new(&config, Arc::clone(&store))?;
        let feed = Arc::new(Feed::new(&config, store, journal));
        feed.refresh().await?;
        let keeper =
            tokio::spawn(keep_fresh(Weak::clone(&Arc::downgrade(&feed)), config.refresh)).abort_handle();
        let turns = Arc::new(Semaphore::new(config.concurrent_queries.max(1)));
        Ok(Self { config, feed, sessions, turns, recorder, clock, keeper })
    }

    /// Runs one statement for someone, within limits, and records it.
    ///
    /// # Errors
    /// Why there is no answer; that too is recorded.
    pub async fn sql(&self, by: &str, sql: &str, limits: Limits) -> Result<Answer, QueryError> {
        let mut recording = self.recording(by, sql);
        let deadline = Instant::now() + limits.time;
        let begun = match tokio::time::timeout_at(deadline, self.begin(sql, deadline)).await {
            Ok(begun) => begun,
            Err(_) => Err(QueryError::TooLong(limits.time.as_secs())),
        };
        match begun {
            Ok(begun) => Answer::start(begun, limits, recording).await,
            Err(error) => Err(recording.fail(error).await),
        }
    }

    /// What queries see now.
    ///
    /// # Errors
    /// When the tail cannot be read.
    pub async fn status(&self) -> Result<Status, QueryError> {
        Ok(self.snapshot(Instant::now() + self.config.freshness_wait).await?.status)
    }

    /// Looks at the whole archive anew, as records were removed from it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn look_again(&self) -> Result<(), QueryError> {
        self.feed.look_again().await;
        self.feed.refresh().await
    }

    pub(crate) fn recording(&self, by: &str, statement: &str) -> Recording {
        let (recorder, clock) = (self.recorder.clone(), Arc::clone(&self.clock));
        Recording::begin(recorder, clock, self.config.record_wait, by, statement)
    }

    pub(crate) async fn turn(&self) -> Result<OwnedSemaphorePermit, QueryError> {
        let turn = Arc::clone(&self.turns).acquire_owned();
        match tokio::time::timeout(self.config.turn_wait, turn).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(QueryError::Busy),
        }
    }

    /// Everything that was there when the call began, as far as it can be had by the deadline.
    pub(crate) async fn snapshot(&self, deadline: Instant) -> Result<Snapshot, QueryError> {
        if !self.feed.has_journal() || self.feed.lanes.is_full() {
            // What is known stays usable; the status says that it may be old.
            if let Err(error) = self.feed.refresh().await {
                tracing::warn!(%error, "the archive could not be looked at before a query");
            }
        }
        let wait = deadline.min(Instant::now() + self.config.freshness_wait);
        let ends = match tokio::time::timeout_at(wait, self.feed.journal_ends()).await {
            Ok(ends) => ends.map_err(|error| error.to_string()),
            Err(_) => Err("the journal did not answer in time".to_owned()),
        };
        let (ends, unasked) = match ends {
            Ok(ends) => (ends, None),
            // What is known stays usable here too.
            Err(reason) => (BTreeMap::new(), Some(reason)),
        };
        self.feed.lanes.wait_for(&ends, wait).await;
        let mut snapshot = self.feed.lanes.snapshot((self.clock)(), &ends)?;
        snapshot.status.journal_problem = unasked;
        Ok(snapshot)
    }

    async fn begin(&self, sql: &str, deadline: Instant) -> Result<Begun, QueryError> {
        let checked = check(sql, &views::names())?;
        let turn = self.turn().await?;
        let snapshot = self.snapshot(deadline).await?;
        let rows = match checked {
            Checked::Query(statement) => self.sessions.open(&snapshot, sql).await?.run(*statement).await?,
            Checked::ShowTables => show_tables()?,
            Checked::Describe(name) => describe(&name, &self.sessions, &snapshot).await?,
        };
        Ok(Begun { schema: rows.schema(), status: snapshot.status, rows, turn, deadline })
    }
}

/// Columns of text as an answer.
fn texts(columns: Vec<(&str, Vec<String>)>) -> Result<SendableRecordBatchStream, QueryError> {
    let fields: Vec<Field> =
        columns.iter().map(|(name, _)| Field::new(*name, DataType::Utf8, false)).collect();
    let schema = Arc::new(Schema::new(fields));
    let arrays = columns.into_iter().map(|(_, values)| Arc::new(StringArray::from(values)) as ArrayRef);
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays.collect())
        .map_err(|error| QueryError::Engine(error.to_string()))?;
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream::iter([Ok(batch)]))))
}

fn show_tables() -> Result<SendableRecordBatchStream, QueryError> {
    let tables = views::tables();
    texts(vec![
        ("name", tables.iter().map(|table| table.name.clone()).collect()),
        ("kind", tables.iter().map(|table| table.kind.to_owned()).collect()),
        ("doc", tables.into_iter().map(|table| table.doc).collect()),
    ])
}

async fn describe(
    name: &str,
    sessions: &Sessions,
    snapshot: &Snapshot,
) -> Result<SendableRecordBatchStream, QueryError> {
    let session = sessions.open(snapshot, name).await?;
    let table = session.context.table(name).await?;
    let docs = views::tables().into_iter().find(|table| table.name == name).map(|table| table.columns);
    let docs = docs.unwrap_or_default();
    let fields = table.schema().fields();
    let doc_of = |column: &str| docs.iter().find(|(name, _)| name == column).map(|(_, doc)| doc.clone());
    texts(vec![
        ("column", fields.iter().map(|field| field.name().clone()).collect()),
        ("type", fields.iter().map(|field| field.data_type().to_string()).collect()),
        ("doc", fields.iter().map(|field| doc_of(field.name()).unwrap_or_default()).collect()),
    ])
}
