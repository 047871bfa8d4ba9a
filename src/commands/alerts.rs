//! `bursar alerts`.

use crate::cli::{Format, Place};
use crate::door::Door;
use crate::exit::Outcome;
use crate::print;

const COLUMNS: [&str; 9] =
    ["raised_at", "budget", "window", "alert", "percent", "limit", "settled", "forecast", "webhooks"];

pub(crate) async fn run(place: &Place, format: Format) -> Outcome {
    let door = Door::open(place).await?;
    let answer = door.client.get("/v1/alerts").await?;
    door.close().await?;
    let rows = answer["alerts"].as_array().map(Vec::as_slice).unwrap_or_default();
    print::rows(rows, &COLUMNS, format.format)
}
