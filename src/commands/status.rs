//! `bursar status`.

use crate::cli::{Format, Output, Place};
use crate::door::Door;
use crate::exit::Outcome;
use crate::print;

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
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            cells.push(vec![role.clone(), name.replace('_', " "), value]);
        }
    }
    print::out(&print::table(&["role", "what", "value"], &cells))
}
