//! `bursar budgets`, and its changes `raise`, `lower` and `reset`.

use serde_json::Value;

use super::keys::escape;
use crate::admin::server::ChangeRequest;
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
        Some(change) => {
            let (path, request) = request(change);
            let answer = door.client.post(&path, &request).await?;
            door.close().await?;
            let text = |field: &str| answer.get(field).and_then(Value::as_str);
            let (budget, limit) = (text("budget").unwrap_or_default(), text("limit").unwrap_or_default());
            let until = text("until").map_or_else(|| "this policy version ends".to_owned(), str::to_owned);
            print::out(&format!("budget {budget} has a limit of ${limit} until {until}\n"))
        }
    }
}

fn request(change: BudgetChange) -> (String, ChangeRequest) {
    let (verb, budget, amount, lasts, why) = match change {
        BudgetChange::Raise { budget, amount, lasts, why } => {
            ("raise", budget, Some(amount), Some(lasts), why)
        }
        BudgetChange::Lower { budget, amount, lasts, why } => {
            ("lower", budget, Some(amount), Some(lasts), why)
        }
        BudgetChange::Reset { budget, why } => ("reset", budget, None, None, why),
    };
    let (until, permanent) = lasts.map_or((None, false), |lasts| (lasts.until, lasts.permanent));
    let request = ChangeRequest { amount, until, permanent, end_user: why.end_user, reason: why.reason };
    (format!("/v1/budgets/{}/{verb}", escape(&budget)), request)
}
