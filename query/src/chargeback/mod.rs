//! Statements of account: what a month costs, by team, cost centre or whatever is asked for, and below each
//! total what it does not hold.

mod render;
mod sql;

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::{Decimal128Type, Int64Type};
use bursar_schemas::avro::Micros;
use bursar_schemas::money::{LARGEST, Money};
use bursar_schemas::position::Topic;
use serde::Serialize;
use tokio::time::Instant;

use crate::config::Limits;
use crate::error::QueryError;
use crate::service::QueryService;
use crate::session::Session;
use crate::status::{LaneStatus, Status};

/// What a statement of account is broken down by, besides the organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dimension {
    /// The team.
    Team,
    /// The project.
    Project,
    /// The cost centre that is charged.
    CostCenter,
    /// The model that was priced.
    Model,
    /// The provider.
    Provider,
    /// The virtual key's id.
    Key,
    /// The end user's pseudonym.
    EndUser,
    /// A tag's value.
    Tag(String),
}

impl Dimension {
    /// Its name in files, tables and requests.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Team => "team".to_owned(),
            Self::Project => "project".to_owned(),
            Self::CostCenter => "cost_center".to_owned(),
            Self::Model => "model".to_owned(),
            Self::Provider => "provider".to_owned(),
            Self::Key => "key".to_owned(),
            Self::EndUser => "end_user".to_owned(),
            Self::Tag(tag) => format!("tag:{tag}"),
        }
    }
}

impl std::str::FromStr for Dimension {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        Ok(match text.trim() {
            "team" => Self::Team,
            "project" => Self::Project,
            "cost_center" | "cost-center" | "cost_centre" => Self::CostCenter,
            "model" => Self::Model,
            "provider" => Self::Provider,
            "key" => Self::Key,
            "end_user" | "end-user" => Self::EndUser,
            other => match other.strip_prefix("tag:") {
                Some(tag) if !tag.is_empty() => Self::Tag(tag.to_owned()),
                _ => {
                    return Err(QueryError::Parameter(
                        "a statement is by team, project, cost_center, model, provider, key, end_user or tag:NAME"
                            .to_owned(),
                    ));
                }
            },
        })
    }
}

/// What statement of account is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChargebackRequest {
    /// The calendar month, such as `2026-11`, in each organisation's own time zone.
    pub month: String,
    /// What it is broken down by, besides the organisation.
    pub by: Vec<Dimension>,
    /// Only this organisation.
    pub organisation: Option<String>,
}

/// A statement of account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Statement {
    /// The calendar month.
    pub month: String,
    /// Names of the keys of each row.
    pub by: Vec<String>,
    /// Only this organisation, when one was asked for.
    pub organisation: Option<String>,
    /// The currency of all amounts.
    pub currency: &'static str,
    /// One row for each organisation and combination of keys.
    pub rows: Vec<StatementRow>,
    /// The sum of all rows, exactly.
    pub total: Money,
    /// What the total does not hold, and how sure it is.
    pub below: NotInTotal,
}

/// A row of a statement of account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatementRow {
    /// The organisation.
    pub organisation: String,
    /// The keys, in the order asked for; none where a request had none.
    pub keys: Vec<Option<String>>,
    /// What is charged, exactly.
    pub amount: Money,
    /// Requests with a charged attempt.
    pub requests: i64,
    /// Charged attempts.
    pub attempts: i64,
    /// Input tokens of all kinds.
    pub input_tokens: i64,
    /// Output tokens of all kinds.
    pub output_tokens: i64,
}

/// What a total does not hold, and how sure it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotInTotal {
    /// Attempts that were charged nothing because their price is unknown.
    pub unpriced_attempts: i64,
    /// Attempts in the total whose amount is estimated, for want of a report.
    pub estimated_attempts: i64,
    /// What of the total that is.
    pub estimated_amount: Money,
    /// Requests of the month that were opened and not closed.
    pub open_requests: i64,
    /// Attempts of the month with a reservation and neither a settlement nor a void.
    pub open_attempts: i64,
    /// Facts of `requests` and `spend` that never came, among those around the month.
    pub missing_facts: i64,
    /// Records of `requests` and `spend` that cannot be read, among those around the month.
    pub unreadable_records: i64,
    /// Offsets of `requests` and `spend` that were lost before they could be sealed, at any time.
    pub lost_offsets: u64,
    /// Records that were there and could not be had in time.
    pub records_behind: u64,
    /// When the statement's view of the records was taken, in microseconds since 1970.
    pub as_of: Micros,
    /// Up to where each lane of `requests` and `spend` was seen.
    pub positions: Vec<Position>,
    /// Everything else that could not be seen.
    pub notes: Vec<String>,
}

/// Up to where a lane was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Position {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: u32,
    /// The topic's life.
    pub generation: String,
    /// Every record below this offset was seen.
    pub next: u64,
}

impl NotInTotal {
    /// True when the total holds everything that it should, as far as can be known.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        self.unpriced_attempts == 0
            && self.open_requests == 0
            && self.open_attempts == 0
            && self.missing_facts == 0
            && self.unreadable_records == 0
            && self.lost_offsets == 0
            && self.records_behind == 0
    }
}

impl QueryService {
    /// Draws up a statement of account for someone, and records that.
    ///
    /// # Errors
    /// Why there is none; that too is recorded. An amount beyond 38 digits is an error, never wrapped.
    pub async fn chargeback(
        &self,
        by: &str,
        request: &ChargebackRequest,
        limits: Limits,
    ) -> Result<Statement, QueryError> {
        let mut recording = self.recording(by, &sql::describe(request));
        let deadline = Instant::now() + limits.time;
        let drawn = match tokio::time::timeout_at(deadline, self.draw_up(request, limits, deadline)).await {
            Ok(drawn) => drawn,
            Err(_) => Err(QueryError::TooLong(limits.time.as_secs())),
        };
        match drawn {
            Ok(statement) => {
                recording.add_rows(u64::try_from(statement.rows.len()).unwrap_or(u64::MAX));
                recording.finish("finished").await?;
                Ok(statement)
            }
            Err(error) => Err(recording.fail(error).await),
        }
    }

    async fn draw_up(
        &self,
        request: &ChargebackRequest,
        limits: Limits,
        deadline: Instant,
    ) -> Result<Statement, QueryError> {
        let _turn = self.turn().await?;
        let snapshot = self.snapshot(deadline).await?;
        let session = self.sessions.open(&snapshot, "settlements costs").await?;
        let period = sql::Period::of(request, &session.zones)?;
        let mut rows = Vec::new();
        for batch in session.run_own(&sql::rows(request, &period, limits.rows)).await? {
            read_rows(&batch, request.by.len(), &mut rows)?;
        }
        if u64::try_from(rows.len()).unwrap_or(u64::MAX) > limits.rows {
            return Err(QueryError::TooManyRows(limits.rows));
        }
        let total =
            rows.iter().try_fold(0_i128, |sum, row: &StatementRow| sum.checked_add(row.amount.pico()));
        let total = total.filter(|total| (-LARGEST..=LARGEST).contains(total));
        let total = total.ok_or_else(|| QueryError::Overflow("the total".to_owned()))?;
        let below = below(&session, &period, &snapshot.status).await?;
        Ok(Statement {
            month: request.month.clone(),
            by: request.by.iter().map(Dimension::name).collect(),
            organisation: request.organisation.clone(),
            currency: "USD",
            rows,
            total: Money::from_pico(total),
            below,
        })
    }
}

fn number(batch: &RecordBatch, column: usize, row: usize) -> i64 {
    let values = batch.column(column).as_primitive::<Int64Type>();
    if values.is_null(row) { 0 } else { values.value(row) }
}

fn money(batch: &RecordBatch, column: usize, row: usize) -> Money {
    let values = batch.column(column).as_primitive::<Decimal128Type>();
    if values.is_null(row) { Money::ZERO } else { Money::from_pico(values.value(row)) }
}

fn read_rows(batch: &RecordBatch, keys: usize, rows: &mut Vec<StatementRow>) -> Result<(), QueryError> {
    let text = |column: usize, row: usize| {
        let values = batch.column(column).as_string_opt::<i32>();
        let values = values.ok_or_else(|| QueryError::Engine("a key is not text".to_owned()))?;
        Ok::<_, QueryError>((!values.is_null(row)).then(|| values.value(row).to_owned()))
    };
    for row in 0..batch.num_rows() {
        rows.push(StatementRow {
            organisation: text(0, row)?.unwrap_or_default(),
            keys: (1..=keys).map(|column| text(column, row)).collect::<Result<_, _>>()?,
            amount: money(batch, keys + 1, row),
            requests: number(batch, keys + 2, row),
            attempts: number(batch, keys + 3, row),
            input_tokens: number(batch, keys + 4, row),
            output_tokens: number(batch, keys + 5, row),
        });
    }
    Ok(())
}

/// The one row of a statement of our own.
async fn one_row(session: &Session, sql: &str) -> Result<RecordBatch, QueryError> {
    let batches = session.run_own(sql).await?;
    batches
        .into_iter()
        .find(|batch| batch.num_rows() == 1)
        .ok_or_else(|| QueryError::Engine("a count came without its row".to_owned()))
}

async fn below(session: &Session, period: &sql::Period, status: &Status) -> Result<NotInTotal, QueryError> {
    let sure = one_row(session, &sql::sureness(period)).await?;
    let open_requests = one_row(session, &sql::open_requests(period)).await?;
    let open_attempts = one_row(session, &sql::open_attempts(period)).await?;
    let faults = one_row(session, &sql::faults(period)).await?;
    let lanes = || status.lanes.iter().filter(|lane| matches!(lane.topic, Topic::Requests | Topic::Spend));
    let lost = |lane: &LaneStatus| {
        lane.lost.iter().fold(0_u64, |sum, (first, last)| sum.saturating_add(last.saturating_sub(*first) + 1))
    };
    let position = |lane: &LaneStatus| Position {
        topic: lane.topic,
        partition: lane.partition,
        generation: lane.generation.to_string(),
        next: lane.next,
    };
    Ok(NotInTotal {
        unpriced_attempts: number(&sure, 0, 0),
        estimated_attempts: number(&sure, 1, 0),
        estimated_amount: money(&sure, 2, 0),
        open_requests: number(&open_requests, 0, 0),
        open_attempts: number(&open_attempts, 0, 0),
        missing_facts: number(&faults, 0, 0),
        unreadable_records: number(&faults, 1, 0),
        lost_offsets: lanes().map(lost).fold(0, u64::saturating_add),
        records_behind: lanes().map(|lane| lane.behind).fold(0, u64::saturating_add),
        as_of: status.as_of,
        positions: lanes().map(position).collect(),
        notes: status.warnings(),
    })
}
