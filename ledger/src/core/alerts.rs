//! Alerts: raised once for each account, kind and percentage, as the log of `limits` tells, whoever wrote it there.
//!
//! An account is looked at when its balance is stated or its limit changed; all are when the ledger begins to act, when
//! policy changes, and once a minute, so that nothing is missed whose record got lost.

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{AlertKind, AlertRaised, Mode, Phase};
use bursar_schemas::fold;
use bursar_schemas::money::Money;
use bursar_schemas::policy::{Budget, Webhook};

use super::accounts::{AccountIndex, Balance};
use super::desk::Pending;
use super::{Core, Effect};

/// Time between two looks at all accounts, in microseconds.
const EVERY: i64 = 60_000_000;

/// No forecast before this part of the window has passed: a twentieth.
const PART_OF_WINDOW: i64 = 20;

/// No forecast before this part of the limit is settled: a tenth.
const PART_OF_LIMIT: i128 = 10;

/// What policy wants to be told of a budget.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rule {
    thresholds: Vec<u32>,
    forecast: bool,
    overrun: bool,
    webhooks: Vec<String>,
}

/// An alert that an account has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reached {
    kind: AlertKind,
    percent: u32,
    forecast: Option<Money>,
}

impl Rule {
    /// The rule of a budget; none where nobody is to be told.
    pub(super) fn of(budget: &Budget, webhooks: &[Webhook]) -> Option<Self> {
        let told = webhooks.iter().filter(|webhook| webhook.is_told_of(budget));
        budget.has_alerts().then(|| Self {
            thresholds: budget.thresholds().to_vec(),
            forecast: budget.forecasts(),
            // Elsewhere reservations are estimates, and may be exceeded.
            overrun: budget.mode == Mode::Hard,
            webhooks: told.map(|webhook| webhook.id.clone()).collect(),
        })
    }

    /// What a window has reached.
    fn reached(
        &self,
        balance: &Balance,
        limit: Money,
        (starts_at, ends_at): (Micros, Option<Micros>),
        now: Micros,
    ) -> Vec<Reached> {
        let (settled, amount) = (balance.settled.pico(), limit.pico());
        let mut reached = Vec::new();
        if amount <= 0 || settled <= 0 {
            return reached;
        }
        for percent in &self.thresholds {
            if settled.saturating_mul(100) >= amount.saturating_mul(i128::from(*percent)) {
                reached.push(Reached { kind: AlertKind::Threshold, percent: *percent, forecast: None });
            }
        }
        let forecast = ends_at.filter(|_| self.forecast).and_then(|end| {
            let (passed, length) = (now.0.saturating_sub(starts_at.0), end.0.saturating_sub(starts_at.0));
            let soon = passed < length / PART_OF_WINDOW || passed >= length || passed <= 0;
            let little = settled.saturating_mul(PART_OF_LIMIT) < amount;
            if soon || little || settled >= amount {
                return None;
            }
            let comes_to = settled.saturating_mul(i128::from(length)) / i128::from(passed);
            (comes_to > amount).then(|| Money::from_pico(comes_to))
        });
        if forecast.is_some() {
            reached.push(Reached { kind: AlertKind::Forecast, percent: 100, forecast });
        }
        if self.overrun && balance.overrun.is_positive() {
            reached.push(Reached { kind: AlertKind::Overrun, percent: 100, forecast: None });
        }
        reached
    }
}

impl Core {
    /// Looks at the accounts whose limit changed, and at all of them when that is due.
    pub(super) fn look_for_alerts(&mut self, epoch: u64, out: &mut Vec<Effect>) {
        let since = self.alerts_looked_at.map_or(i64::MAX, |at| self.now.0.saturating_sub(at.0));
        let budgets = std::mem::take(&mut self.alerts_due);
        let due: Vec<AccountIndex> = if since >= EVERY {
            self.alerts_looked_at = Some(self.now);
            let spent = self.accounts.open().filter(|(_, slot)| slot.balance.settled.is_positive());
            spent.map(|(index, _)| index).collect()
        } else {
            let account = |budget: &String| {
                let (account, _) = self.fold.account_at(budget, self.now)?;
                self.accounts.find_index(account)
            };
            budgets.iter().filter_map(account).collect()
        };
        for index in due {
            self.raise_alerts(epoch, index, out);
        }
    }

    /// Raises what an account has reached and the log does not say yet.
    pub(super) fn raise_alerts(&mut self, epoch: u64, index: AccountIndex, out: &mut Vec<Effect>) {
        let slot = self.accounts.slot(index);
        let account = &slot.account;
        let Some(rule) = self.plan.alerts(&account.budget) else { return };
        let open = |state: &&fold::Account| state.phase != Phase::Closed;
        let Some(state) = self.fold.account(account).filter(open) else { return };
        // A limit that is under way will have the account looked at again.
        if self.pending_limits.contains_key(&account.budget) {
            return;
        }
        let limit = self.fold.limit(account);
        let window = (state.starts_at, state.ends_at);
        let mut due = rule.reached(&slot.balance, limit, window, self.now);
        due.retain(|it| !slot.raised.has(it.kind, it.percent));
        if due.is_empty() {
            return;
        }
        let (account, balance, webhooks) = (account.clone(), slot.balance, rule.webhooks.clone());
        for reached in due {
            let pending = Pending::Alert(account.clone(), reached.kind, reached.percent);
            if self.pending.contains(&pending) {
                continue;
            }
            let raised = AlertRaised {
                head: self.head(),
                epoch,
                account: account.clone(),
                alert: reached.kind,
                percent: reached.percent,
                limit_amount: limit,
                settled: balance.settled,
                reserved: balance.reserved,
                overrun: balance.overrun,
                forecast: reached.forecast,
                starts_at: window.0,
                ends_at: window.1,
                webhooks: webhooks.clone(),
                read: self.read,
            };
            self.append(pending, raised, out);
        }
    }
}
