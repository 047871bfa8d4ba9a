//! `bursar budgets` and `bursar budgets raise`.

use serde_json::Value;

use super::keys::escape;
use crate::admin::server::RaiseRequest;
use crate::cli::{BudgetChange, Budgets, Place};
use crate::door::Door;
use crate::exit::Outcome;
use crate::print;

const COLUMNS: [&str; 12] = [
    "budget",
    "scope",
    "mode",
    "window",
    "phase",
    "limit",
    "settled",
    "reserved",
    "leased_idle",
    "stranded",
    "available",
    "resets_at",
];

pub(crate) async fn run(place: &Place, budgets: Budgets) -> Outcome {
    let door = Door::open(place).await?;
    match budgets.change {
        None => {
            let answer = door.client.get("/v1/budgets").await?;
            door.close().await?;
            print::rows(
                answer["budgets"].as_array().map(Vec::as_slice).unwrap_or_default(),
                &COLUMNS,
                budgets.format.format,
            )
        }
        Some(BudgetChange::Raise { budget, amount, reason }) => {
            let request = RaiseRequest { amount, reason };
            let answer =
                door.client.post(&format!("/v1/budgets/{}/raise", escape(&budget)), &request).await?;
            door.close().await?;
            let limit = answer.get("limit").and_then(Value::as_str).unwrap_or_default();
            print::out(&format!("budget {budget} has a limit of ${limit} until its window ends\n"))
        }
    }
}
