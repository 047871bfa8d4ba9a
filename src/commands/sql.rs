//! `bursar sql` and `bursar chargeback`: the query service renders, this prints.

use axum::http::Method;
use serde_json::json;

use super::keys::escape;
use crate::cli::{Chargeback, Output, Place, Sql};
use crate::door::Door;
use crate::exit::Outcome;
use crate::print;

pub(super) const fn word(format: Output) -> &'static str {
    match format {
        Output::Table => "table",
        Output::Csv => "csv",
        Output::Json => "json",
    }
}

pub(crate) async fn run(place: &Place, sql: Sql) -> Outcome {
    let body = serde_json::to_vec(&json!({"sql": sql.statement, "format": word(sql.format.format)}))?;
    let door = Door::open(place).await?;
    let answer = door.client.raw(Method::POST, "/v1/sql", Some(body), "*/*").await?;
    door.close().await?;
    show(&answer)
}

pub(crate) async fn chargeback(place: &Place, chargeback: Chargeback) -> Outcome {
    let path = format!(
        "/v1/chargeback?month={}&by={}&format={}",
        escape(&chargeback.month),
        escape(&chargeback.by.join(",")),
        word(chargeback.format.format)
    );
    let door = Door::open(place).await?;
    let answer = door.client.raw(Method::GET, &path, None, "*/*").await?;
    door.close().await?;
    show(&answer)
}

pub(super) fn show(answer: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(answer);
    print::out(&text)?;
    if text.ends_with('\n') { Ok(()) } else { print::out("\n") }
}
