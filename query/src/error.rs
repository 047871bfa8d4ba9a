//! Why a query has no answer.

use bursar_schemas::ports::JournalError;

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The statement is not one that may be run here.
    #[error("statement refused: {0}")]
    Refused(String),
    /// The statement cannot be read or planned.
    #[error("statement not understood: {0}")]
    Statement(String),
    /// A parameter of a statement of account is not what it should be.
    #[error("not understood: {0}")]
    Parameter(String),
    /// The answer has more rows than allowed.
    #[error("the answer has more than {0} rows: add a LIMIT, narrow the period, or raise the bound")]
    TooManyRows(u64),
    /// It took longer than allowed.
    #[error("the query took longer than {0} seconds and was stopped")]
    TooLong(u64),
    /// It needed more memory or disk than allowed.
    #[error("the query needs more memory than it may use: {0}")]
    TooLarge(String),
    /// Too many queries run already.
    #[error("too many queries run already, try again later")]
    Busy,
    /// An amount is beyond Decimal128(38, 12).
    #[error("an amount is beyond 38 digits: {0}")]
    Overflow(String),
    /// The query could not be recorded, so it must not be answered.
    #[error("the query was refused because it could not be recorded: {0}")]
    NotRecorded(String),
    /// The archive cannot be read, or contradicts itself.
    #[error("failed to read the archive: {0}")]
    Archive(String),
    /// The journal cannot be read.
    #[error("failed to read the journal: {0}")]
    Journal(JournalError),
    /// The engine failed while running the statement.
    #[error("failed to run the statement: {0}")]
    Engine(String),
    /// The answer could not be written.
    #[error("failed to write the answer: {0}")]
    Write(String),
}

// The text has the other's, so that is no source: a chain of causes would say it twice.
impl From<JournalError> for QueryError {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

impl QueryError {
    /// A stable word for the kind of error, as facts and HTTP answers name it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Refused(_) => "statement_refused",
            Self::Statement(_) => "statement_not_understood",
            Self::Parameter(_) => "parameter_not_understood",
            Self::TooManyRows(_) => "too_many_rows",
            Self::TooLong(_) => "too_long",
            Self::TooLarge(_) => "too_much_memory",
            Self::Busy => "busy",
            Self::Overflow(_) => "amount_overflow",
            Self::NotRecorded(_) => "not_recorded",
            Self::Archive(_) => "archive_failed",
            Self::Journal(_) => "journal_failed",
            Self::Engine(_) => "failed",
            Self::Write(_) => "write_failed",
        }
    }
}

/// Marks an error of ours within the engine's own.
pub(crate) const OVERFLOW: &str = "amount overflow:";

impl From<datafusion::error::DataFusionError> for QueryError {
    fn from(error: datafusion::error::DataFusionError) -> Self {
        use datafusion::error::DataFusionError as Engine;
        let text = error.strip_backtrace();
        match error.find_root() {
            Engine::ResourcesExhausted(message) => Self::TooLarge(message.clone()),
            Engine::SQL(..) | Engine::Plan(_) | Engine::SchemaError(..) | Engine::NotImplemented(_) => {
                Self::Statement(text)
            }
            Engine::ObjectStore(_) | Engine::ParquetError(_) => Self::Archive(text),
            _ if text.contains(OVERFLOW) => Self::Overflow(text.replace(OVERFLOW, "")),
            _ => Self::Engine(text),
        }
    }
}
