//! Budgets: how they stand, and changes of their limits.

use axum::extract::{Path, State};
use axum::{Extension, Json};
use bursar_schemas::avro::Micros;
use bursar_schemas::money::Money;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Answer, Author, Control, Refusal, publisher, time};
use crate::exit::Failure;
use crate::publisher::{Change, Lasts};

/// A change of a budget's limit.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeRequest {
    /// Dollars; none for a reset.
    #[serde(default)]
    pub(crate) amount: Option<String>,
    /// Until when, in RFC 3339; until the window ends when absent.
    #[serde(default)]
    pub(crate) until: Option<String>,
    /// Lasts as long as the policy version in force.
    #[serde(default)]
    pub(crate) permanent: bool,
    /// The end user whose own account is meant.
    #[serde(default)]
    pub(crate) end_user: Option<String>,
    /// Why.
    pub(crate) reason: String,
}

impl ChangeRequest {
    fn amount(&self) -> Result<Money, Refusal> {
        let amount = self.amount.as_deref().unwrap_or_default();
        Ok(amount.parse().map_err(Failure::usage)?)
    }

    fn lasts(&self) -> Result<Lasts, Refusal> {
        match &self.until {
            _ if self.permanent => Ok(Lasts::Version),
            None => Ok(Lasts::Window),
            Some(text) => {
                let at: jiff::Timestamp = text.parse().map_err(Failure::usage)?;
                Ok(Lasts::Until(Micros(at.as_microsecond())))
            }
        }
    }
}

async fn rows(control: &Control) -> Result<Value, Refusal> {
    Ok((control.budgets.as_ref().ok_or_else(Refusal::no_budgets)?)().await)
}

pub(super) async fn list(State(control): State<Control>) -> Answer {
    Ok(Json(json!({"budgets": rows(&control).await?})))
}

pub(super) async fn raise(
    State(control): State<Control>,
    Extension(author): Extension<Author>,
    Path(budget): Path<String>,
    Json(body): Json<ChangeRequest>,
) -> Answer {
    let (change, lasts) = (Change::Raise(body.amount()?), body.lasts()?);
    changed(&control, &author, (&budget, &body), change, lasts).await
}

pub(super) async fn lower(
    State(control): State<Control>,
    Extension(author): Extension<Author>,
    Path(budget): Path<String>,
    Json(body): Json<ChangeRequest>,
) -> Answer {
    let (change, lasts) = (Change::Lower(body.amount()?), body.lasts()?);
    changed(&control, &author, (&budget, &body), change, lasts).await
}

pub(super) async fn reset(
    State(control): State<Control>,
    Extension(author): Extension<Author>,
    Path(budget): Path<String>,
    Json(body): Json<ChangeRequest>,
) -> Answer {
    let account = account(&control, &budget, &body)?;
    let now = jiff::Timestamp::now();
    let books = rows(&control).await?;
    let is_now = |row: &&Value| {
        let starts = row["window"].as_str().and_then(|it| it.parse::<jiff::Timestamp>().ok());
        row["budget"] == account.as_str() && row["phase"] == "open" && starts.is_some_and(|at| at <= now)
    };
    let current = books.as_array().into_iter().flatten().rfind(is_now);
    let settled = current.and_then(|row| row["settled"].as_str()?.parse::<Money>().ok());
    let Some(settled) = settled else {
        let message = format!("budget {account:?} has no open window with an account of its own");
        return Err(Failure::refused(message).into());
    };
    changed(&control, &author, (&budget, &body), Change::Reset { settled }, Lasts::Window).await
}

/// The account that is meant: the budget's own, or an end user's.
fn account(control: &Control, budget: &str, body: &ChangeRequest) -> Result<String, Refusal> {
    match &body.end_user {
        None => Ok(budget.to_owned()),
        Some(user) => Ok(publisher(control)?.account_of(budget, user)?),
    }
}

async fn changed(
    control: &Control,
    author: &Author,
    (budget, body): (&str, &ChangeRequest),
    change: Change,
    lasts: Lasts,
) -> Answer {
    let account = account(control, budget, body)?;
    let done = publisher(control)?.change(&account, change, lasts, (&author.0, &body.reason)).await?;
    let until = done.until.map(|at| time(at.0));
    Ok(Json(json!({"budget": account, "limit": done.limit, "until": until})))
}
