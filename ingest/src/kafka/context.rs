//! What the client library tells us beside records: log lines and troubles.

use std::sync::Arc;

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::Notify;

/// Hands a log line of the client library on.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, line: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => {
            tracing::error!(facility, line, "kafka");
        }
        RDKafkaLogLevel::Warning => tracing::warn!(facility, line, "kafka"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(facility, line, "kafka"),
        RDKafkaLogLevel::Debug => tracing::debug!(facility, line, "kafka"),
    }
}

/// The context of clients that only ask and administer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka");
    }
}

impl ConsumerContext for Quiet {}

/// The context of one cursor.
#[derive(Debug, Clone, Default)]
pub(super) struct Reading {
    pub(super) more: Arc<Notify>,
    /// Why no broker can be reached, until it was told.
    pub(super) away: Arc<Mutex<Option<String>>>,
}

impl ClientContext for Reading {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka");
        // Single brokers come and go, and the client finds its way; only all of them are worth telling.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            *self.away.lock() = Some(reason.to_owned());
            self.more.notify_one();
        }
    }
}

impl ConsumerContext for Reading {}
