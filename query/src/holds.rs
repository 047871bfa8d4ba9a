//! Legal holds by query: whether a condition can be asked of a topic, and whether it finds anything in a range.

use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use bursar_schemas::ids::Generation;
use bursar_schemas::position::{Lane, Topic};
use tokio::time::Instant;

use crate::error::QueryError;
use crate::service::QueryService;
use crate::statement::{Checked, check, literal};

/// A range of sealed records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The topic's life.
    pub generation: Generation,
    /// The lane.
    pub lane: Lane,
    /// First offset.
    pub first: u64,
    /// Last offset.
    pub last: u64,
    /// Records that it has.
    pub rows: u64,
}

/// A statement that counts the rows of a range, and those of them that a condition holds.
fn statement(topic: Topic, condition: &str, range: &str) -> Result<String, QueryError> {
    let sql =
        format!("SELECT count(*), count(CASE WHEN ({condition}\n) THEN 1 END) FROM {topic} WHERE {range}");
    // The condition alone must be one, or its brackets could let rows slip out of it.
    let alone = format!("SELECT 1 FROM {topic} WHERE {condition}");
    let tables = [topic.name()].into();
    for text in [&alone, &sql] {
        match check(text, &tables)? {
            Checked::Query(_) => {}
            Checked::ShowTables | Checked::Describe(_) => {
                return Err(QueryError::Statement(
                    "a hold's condition is what stands after WHERE".to_owned(),
                ));
            }
        }
    }
    Ok(sql)
}

impl QueryService {
    /// Makes sure that a condition can be asked of a topic's table.
    ///
    /// # Errors
    /// Why it cannot.
    pub async fn check_condition(&self, topic: Topic, condition: &str) -> Result<(), QueryError> {
        let sql = statement(topic, condition, "false")?;
        let snapshot = self.snapshot(Instant::now()).await?;
        self.sessions.open(&snapshot, "").await?.run_own(&sql).await?;
        Ok(())
    }

    /// True when a condition holds any of a range of records. Not recorded: nobody sees a row.
    ///
    /// # Errors
    /// When that cannot be found out, also because not all of the records can be seen; they then count as held.
    pub async fn holds_any(&self, condition: &str, range: &Range) -> Result<bool, QueryError> {
        let Range { generation, lane, first, last, rows } = *range;
        let within = format!(
            "\"offset\" >= {first} AND \"offset\" <= {last} AND \"partition\" = {} AND generation = '{generation}'",
            lane.partition
        );
        let sql = statement(lane.topic, condition, &within)?;
        let limits = self.config.http;
        let deadline = Instant::now() + limits.time;
        let work = async {
            let _turn = self.turn().await?;
            let snapshot = self.snapshot(deadline).await?;
            let batches = self.sessions.open(&snapshot, "").await?.run_own(&sql).await?;
            let counts = batches.iter().find(|batch| batch.num_rows() == 1).and_then(|batch| {
                let number = |column: usize| batch.column(column).as_primitive_opt::<Int64Type>();
                let (seen, held) = (number(0)?.value(0), number(1)?.value(0));
                u64::try_from(seen).ok().zip(u64::try_from(held).ok())
            });
            match counts {
                Some((seen, held)) if seen == rows => Ok(held > 0),
                _ => Err(QueryError::Archive(format!(
                    "not all of the {rows} records of {lane} from offset {first} to {last} can be seen"
                ))),
            }
        };
        match tokio::time::timeout_at(deadline, work).await {
            Ok(found) => found,
            Err(_) => Err(QueryError::TooLong(limits.time.as_secs())),
        }
    }
}

impl QueryService {
    /// Ids of the requests of which a content is kept, of one subject or of any, and that a condition over a topic that
    /// speaks of requests holds. Not recorded.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub async fn kept_contents(
        &self,
        topic: Topic,
        condition: &str,
        subject: Option<&str>,
    ) -> Result<Vec<String>, QueryError> {
        // A condition holds a request when it holds any of its records.
        let alone = format!("SELECT request FROM {topic} WHERE ({condition}\n)");
        statement(topic, condition, "false")?;
        let of = subject.map_or_else(String::new, |name| format!(" AND subject = {}", literal(name)));
        let sql = format!(
            "SELECT DISTINCT request FROM requests WHERE kind = 'ContentKept'{of} AND request IN ({alone})"
        );
        let deadline = Instant::now() + self.config.http.time;
        let work = async {
            let _turn = self.turn().await?;
            let snapshot = self.snapshot(deadline).await?;
            let batches = self.sessions.open(&snapshot, "").await?.run_own(&sql).await?;
            let mut found = Vec::new();
            for batch in batches {
                let ids = batch.column(0).as_string_opt::<i32>();
                let ids = ids.ok_or_else(|| QueryError::Engine("a request's id is not text".to_owned()))?;
                found.extend(ids.iter().flatten().map(str::to_owned));
            }
            Ok(found)
        };
        match tokio::time::timeout_at(deadline, work).await {
            Ok(found) => found,
            Err(_) => Err(QueryError::TooLong(self.config.http.time.as_secs())),
        }
    }
}
