//! The latest alerts.

use axum::Json;
use axum::extract::State;
use bursar_ledger::alerts::{AlertState, Delivery};
use serde_json::{Value, json};

use super::{Answer, Control, Refusal, time};

pub(super) async fn list(State(control): State<Control>) -> Answer {
    Ok(Json(json!({"alerts": (control.alerts.as_ref().ok_or_else(Refusal::no_budgets)?)().await})))
}

/// An alert as it is listed.
pub(crate) fn row(alert: &AlertState) -> Value {
    let webhooks: Vec<String> = alert.deliveries.iter().map(told).collect();
    json!({
        "raised_at": time(alert.at.0),
        "budget": alert.budget,
        "window": time(alert.starts_at.0),
        "window_ends_at": alert.ends_at.map(|at| time(at.0)),
        "alert": alert.alert,
        "percent": alert.percent,
        "limit": alert.limit,
        "settled": alert.settled,
        "reserved": alert.reserved,
        "overrun": alert.overrun,
        "forecast": alert.forecast,
        "webhooks": webhooks.join(", "),
        "id": alert.id(),
    })
}

fn told(delivery: &Delivery) -> String {
    let webhook = &delivery.webhook;
    match delivery.outcome {
        None => format!("{webhook}: due"),
        Some(outcome) => {
            let word = if outcome.delivered { "delivered" } else { "given up" };
            format!("{webhook}: {word} {}", time(outcome.at.0))
        }
    }
}
