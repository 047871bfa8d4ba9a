//! The admin port's routes for retention and legal holds.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::server::{Answer, Author, Control, Refusal, publisher};
use crate::exit::Failure;
use crate::retention::content::{EraseRequest, ShownRequest};
use crate::retention::{Keeper, content, holds};

/// A hold to be placed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlaceRequest {
    pub(crate) id: Option<String>,
    pub(crate) condition: String,
    pub(crate) topics: Vec<String>,
    pub(crate) reason: String,
}

/// A hold to be released.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReleaseRequest {
    pub(crate) reason: String,
}

pub(super) fn routes() -> Router<Control> {
    Router::new()
        .route("/v1/retention", get(survey))
        .route("/v1/retention/apply", post(apply))
        .route("/v1/content/erase", post(erase))
        .route("/v1/content/shown", post(shown))
        .route("/v1/holds", post(place).get(list))
        .route("/v1/holds/{hold}/release", post(release))
}

fn keeper(control: &Control) -> Result<&Keeper, Refusal> {
    let elsewhere = "this process does not keep the archive; ask the archiver's (`bursar ingest`)";
    control.keeper.as_deref().ok_or_else(|| Refusal(StatusCode::NOT_FOUND, elsewhere.to_owned()))
}

async fn survey(State(control): State<Control>) -> Answer {
    let survey = keeper(&control)?.survey().await?;
    Ok(Json(serde_json::to_value(survey).map_err(Failure::from)?))
}

async fn apply(State(control): State<Control>, Extension(author): Extension<Author>) -> Answer {
    let applied = keeper(&control)?.apply(&author.0).await?;
    Ok(Json(serde_json::to_value(applied).map_err(Failure::from)?))
}

async fn erase(
    State(control): State<Control>,
    Extension(author): Extension<Author>,
    Json(body): Json<EraseRequest>,
) -> Answer {
    let nothing =
        || Refusal(StatusCode::NOT_FOUND, "no content was ever captured here (content.url)".to_owned());
    let vault = control.vault.as_ref().ok_or_else(nothing)?;
    let publisher = publisher(&control)?;
    let records = control.records.as_ref().ok_or_else(nothing)?;
    let key_destroyed = content::erase(publisher, records, vault, body, &author.0).await?;
    Ok(Json(json!({"key_destroyed": key_destroyed})))
}

async fn shown(
    State(control): State<Control>,
    Extension(author): Extension<Author>,
    Json(body): Json<ShownRequest>,
) -> Answer {
    content::shown(keeper(&control)?, &body, &author.0).await?;
    Ok(Json(json!({"recorded": body.request})))
}

async fn place(
    State(control): State<Control>,
    Extension(author): Extension<Author>,
    Json(body): Json<PlaceRequest>,
) -> Answer {
    let hold = holds::place(publisher(&control)?, body, &author.0).await?;
    Ok(Json(json!({"hold": hold})))
}

async fn list(State(control): State<Control>) -> Answer {
    Ok(Json(json!({"holds": holds::list(publisher(&control)?).await?})))
}

async fn release(
    State(control): State<Control>,
    Extension(author): Extension<Author>,
    Path(hold): Path<String>,
    Json(body): Json<ReleaseRequest>,
) -> Answer {
    holds::release(publisher(&control)?, &hold, &body.reason, &author.0).await?;
    Ok(Json(json!({"released": hold})))
}
