//! Alerts on `limits`: that a budget nears or passes its limit, and what became of telling so. Nothing binds.

use serde::{Deserialize, Serialize};

use super::{AccountRef, Head};
use crate::avro::{Micros, avro_enum, avro_record};
use crate::ids::ProducerId;
use crate::money::Money;

avro_enum! {
    /// What an alert is about.
    pub enum AlertKind {
        /// A stated percentage of the limit is settled.
        Threshold = "threshold",
        /// At its pace so far, the window's spend crosses the limit before the window ends.
        Forecast = "forecast",
        /// A provider charged more than an attempt had reserved, under a hard budget.
        Overrun = "overrun",
    }
}

avro_record! {
    /// A budget nears or passes its limit, for people; nothing in the fold follows from it.
    ///
    /// It counts when no record before it is of the same account, kind and percentage, whatever the limit was then and
    /// whoever wrote it. Its event id is its producer, partition and number.
    pub struct AlertRaised {
        /// What every fact begins with.
        pub head: Head,
        /// Epoch of the writing instance.
        pub epoch: u64,
        /// The account.
        pub account: AccountRef,
        /// What it is about.
        pub alert: AlertKind,
        /// The percentage of the limit: that of the threshold, or 100.
        pub percent: u32,
        /// The limit in force.
        pub limit_amount: Money,
        /// Settled in the window.
        pub settled: Money,
        /// Reserved by attempts in flight.
        pub reserved: Money,
        /// Of the settled, what exceeded reservations.
        pub overrun: Money,
        /// What the window comes to at its pace so far, for a forecast.
        pub forecast: Option<Money>,
        /// First instant of the window.
        pub starts_at: Micros,
        /// First instant after it; none for `total`.
        pub ends_at: Option<Micros>,
        /// Ids of the webhooks that policy wants told.
        pub webhooks: Vec<String>,
        /// The ledger had read `spend` before this offset.
        pub read: u64,
    }

    /// What became of telling a webhook of an alert: nothing more is sent to it of that alert.
    pub struct AlertDelivered {
        /// What every fact begins with.
        pub head: Head,
        /// Epoch of the writing instance.
        pub epoch: u64,
        /// Who raised the alert ...
        pub alert_producer: ProducerId,
        /// ... and its number, on the same partition.
        pub alert_number: u64,
        /// The webhook's id in the policy, never its address.
        pub webhook: String,
        /// True when it took the alert; false when it was given up.
        pub delivered: bool,
        /// How often the writing process tried.
        pub attempts: u32,
        /// Status of the last answer, where there was one.
        pub status: Option<u32>,
    }
}

/// What was raised of one account: decides which alerts count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raised(Vec<(AlertKind, u32)>);

impl Raised {
    /// True when an alert of that kind and percentage would only repeat an earlier one. A limit that was raised or cut
    /// since changes nothing in that.
    #[must_use]
    pub fn has(&self, alert: AlertKind, percent: u32) -> bool {
        self.0.contains(&(alert, percent))
    }

    /// Takes note of the next alert in the log; false when it repeats an earlier one and does not count.
    pub fn note(&mut self, alert: AlertKind, percent: u32) -> bool {
        if self.has(alert, percent) {
            return false;
        }
        self.0.push((alert, percent));
        true
    }
}
