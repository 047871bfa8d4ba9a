//! Alerts that count, as the log has them, and what became of telling webhooks. Who tells them is outside; what was
//! told is said in the log, so that a successor does not tell it again.

use std::collections::BTreeMap;

use bursar_schemas::facts::{AlertDelivered, AlertRaised};
use bursar_schemas::ids::ProducerId;
use serde::{Deserialize, Serialize};

use super::desk::Pending;
use super::{Core, Effect, Standing};
use crate::alerts::{AlertCounts, AlertState, Delivery, Outcome};

/// Alerts kept for people; older ones are in the log. Those that a webhook is still to be told of stay beyond it.
const KEPT: usize = 1000;

/// The alerts that count.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Alerts {
    /// By offset in `limits`.
    #[serde(with = "bursar_schemas::snapshot::pairs")]
    told: BTreeMap<u64, AlertState>,
    counts: AlertCounts,
}

impl Alerts {
    fn add(&mut self, offset: u64, state: AlertState) {
        self.counts.raised += 1;
        self.counts.due = self.counts.due.saturating_add(u64::try_from(state.deliveries.len()).unwrap_or(0));
        self.told.insert(offset, state);
        if self.told.len() > KEPT {
            let oldest = self.told.iter().find(|(_, state)| !state.is_due()).map(|(offset, _)| *offset);
            oldest.and_then(|offset| self.told.remove(&offset));
        }
    }

    fn due(&mut self, producer: ProducerId, number: u64, webhook: &str) -> Option<&mut Delivery> {
        let named = |state: &&mut AlertState| state.producer == producer && state.number == number;
        let alert = self.told.values_mut().rev().find(named)?;
        alert.deliveries.iter_mut().find(|it| it.webhook == webhook && it.outcome.is_none())
    }

    fn end(&mut self, fact: &AlertDelivered) {
        let Some(delivery) = self.due(fact.alert_producer, fact.alert_number, &fact.webhook) else { return };
        delivery.outcome = Some(Outcome {
            delivered: fact.delivered,
            attempts: fact.attempts,
            status: fact.status.and_then(|status| u16::try_from(status).ok()),
            at: fact.head.at,
        });
        let counts = &mut self.counts;
        counts.due = counts.due.saturating_sub(1);
        *if fact.delivered { &mut counts.delivered } else { &mut counts.given_up } += 1;
    }
}

/// A webhook's answer, or that it is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told<'a> {
    /// Who raised the alert ...
    pub producer: ProducerId,
    /// ... and its number.
    pub number: u64,
    /// The webhook's id.
    pub webhook: &'a str,
    /// True when it took the alert.
    pub delivered: bool,
    /// How often it was tried.
    pub attempts: u32,
    /// Status of the last answer.
    pub status: Option<u16>,
}

impl Core {
    /// An alert stands in the log, whichever ledger wrote it: the first of its account, kind and percentage counts.
    pub(super) fn note_alert(&mut self, offset: u64, raised: &AlertRaised) {
        let Some(index) = self.accounts.find_index(&raised.account) else { return };
        if !self.accounts.slot_mut(index).raised.note(raised.alert, raised.percent) {
            return;
        }
        let delivery = |webhook: &String| Delivery { webhook: webhook.clone(), outcome: None };
        let state = AlertState {
            partition: self.config.partition,
            producer: raised.head.producer,
            number: raised.head.number,
            at: raised.head.at,
            policy: raised.head.policy,
            budget: raised.account.budget.clone(),
            window: raised.account.window,
            starts_at: raised.starts_at,
            ends_at: raised.ends_at,
            alert: raised.alert,
            percent: raised.percent,
            limit: raised.limit_amount,
            settled: raised.settled,
            reserved: raised.reserved,
            overrun: raised.overrun,
            forecast: raised.forecast,
            deliveries: raised.webhooks.iter().map(delivery).collect(),
        };
        self.alerts.add(offset, state);
    }

    /// The log says what became of a delivery.
    pub(super) fn note_delivery(&mut self, fact: &AlertDelivered) {
        self.alerts.end(fact);
    }

    /// Records what became of a delivery, if it acts and the log does not say yet.
    pub(super) fn tell_of_delivery(&mut self, told: Told<'_>, out: &mut Vec<Effect>) {
        let Standing::Acting { epoch } = self.standing else { return };
        let pending = Pending::Delivery(told.producer, told.number, told.webhook.to_owned());
        if self.pending.contains(&pending)
            || self.alerts.due(told.producer, told.number, told.webhook).is_none()
        {
            return;
        }
        let fact = AlertDelivered {
            head: self.head(),
            epoch,
            alert_producer: told.producer,
            alert_number: told.number,
            webhook: told.webhook.to_owned(),
            delivered: told.delivered,
            attempts: told.attempts,
            status: told.status.map(u32::from),
        };
        self.append(pending, fact, out);
    }

    /// The latest alerts that count, oldest first.
    #[must_use]
    pub fn alerts(&self) -> Vec<AlertState> {
        self.alerts.told.values().cloned().collect()
    }

    /// How many the log holds.
    #[must_use]
    pub const fn alert_counts(&self) -> AlertCounts {
        self.alerts.counts
    }

    /// The oldest alerts that webhooks are to be told of, at most so many for each webhook; nothing while it does not
    /// act, so that one process tells.
    #[must_use]
    pub fn due_deliveries(&self, most: usize) -> Vec<(AlertState, String)> {
        let mut due = Vec::new();
        if !matches!(self.standing, Standing::Acting { .. }) || self.alerts.counts.due == 0 {
            return due;
        }
        let mut taken: BTreeMap<&str, usize> = BTreeMap::new();
        for state in self.alerts.told.values() {
            for delivery in state.deliveries.iter().filter(|delivery| delivery.outcome.is_none()) {
                let taken = taken.entry(&delivery.webhook).or_default();
                if *taken < most {
                    *taken += 1;
                    due.push((state.clone(), delivery.webhook.clone()));
                }
            }
        }
        due
    }
}
