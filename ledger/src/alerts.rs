//! Alerts as they stand in the log, for people and for whoever delivers them.

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::AlertKind;
use bursar_schemas::ids::ProducerId;
use bursar_schemas::money::Money;
use serde::{Deserialize, Serialize};

/// An alert that counts, and what became of telling of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertState {
    /// The partition of `limits` that it stands in.
    pub partition: u32,
    /// Who raised it ...
    pub producer: ProducerId,
    /// ... and its number on that partition.
    pub number: u64,
    /// When it was raised.
    pub at: Micros,
    /// The policy version in force.
    pub policy: u64,
    /// The budget, or a member's account of it.
    pub budget: String,
    /// The window's id.
    pub window: i64,
    /// First instant of the window.
    pub starts_at: Micros,
    /// First instant after it; none for `total`.
    pub ends_at: Option<Micros>,
    /// What it is about.
    pub alert: AlertKind,
    /// The percentage of the limit.
    pub percent: u32,
    /// The limit in force when it was raised.
    pub limit: Money,
    /// Settled in the window by then.
    pub settled: Money,
    /// Reserved by attempts in flight.
    pub reserved: Money,
    /// Of the settled, what exceeded reservations.
    pub overrun: Money,
    /// What the window comes to, for a forecast.
    pub forecast: Option<Money>,
    /// One for each webhook that was to be told.
    pub deliveries: Vec<Delivery>,
}

/// What became of telling one webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The webhook's id in policy.
    pub webhook: String,
    /// How it ended; none while it is due.
    pub outcome: Option<Outcome>,
}

/// How telling a webhook ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// True when it took the alert; false when it was given up.
    pub delivered: bool,
    /// How often the process that ended it had tried.
    pub attempts: u32,
    /// Status of the last answer, where there was one.
    pub status: Option<u16>,
    /// When it ended.
    pub at: Micros,
}

impl AlertState {
    /// The name under which receivers know it: the same however often it is sent, by whichever process.
    #[must_use]
    pub fn id(&self) -> String {
        format!("alert_{}_{}_{}", self.producer, self.partition, self.number)
    }

    /// True while a webhook is to be told of it.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.deliveries.iter().any(|delivery| delivery.outcome.is_none())
    }
}

/// How many alerts and deliveries the log holds that count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertCounts {
    /// Raised.
    pub raised: u64,
    /// Taken by a webhook.
    pub delivered: u64,
    /// Given up.
    pub given_up: u64,
    /// Still due.
    pub due: u64,
}
