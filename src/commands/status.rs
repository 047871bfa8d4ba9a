//! `bursar status`.

use crate::cli::{Format, Output, Place};
use crate::door::Door;
use crate::exit::Outcome;
use crate::print;
use serde_json::Value;

pub(crate) async fn run(place: &Place, format: Format) -> Outcome {
    let door = Door::open(place).await?;
    let answer = door.client.get("/v1/roles").await?;
    door.close().await?;
    if format.format == Output::Json {
        return print::out(&format!("{}\n", serde_json::to_string_pretty(&answer)?));
    }
    let mut cells = Vec::new();
    for (role, state) in answer["roles"].as_object().into_iter().flatten() {
        for (name, value) in state.as_object().into_iter().flatten() {
            cells.push(vec![role.clone(), name.replace('_', " "), words(value)]);
        }
    }
    print::out(&print::table(&["role", "what", "value"], &cells))
}

/// A value for people.
fn words(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(words).collect::<Vec<_>>().join(", "),
        Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}
