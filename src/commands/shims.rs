//! `bursar shims`.

use serde_json::Value;

use super::keys::escape;
use crate::admin::server::RetireRequest;
use crate::cli::{Place, Shims};
use crate::door::Door;
use crate::exit::Outcome;
use crate::print;

const COLUMNS: [&str; 6] = ["incarnation", "state", "last_fact_at", "leases", "leased", "recoverable"];

pub(crate) async fn run(place: &Place, shims: Shims) -> Outcome {
    let door = Door::open(place).await?;
    match shims {
        Shims::List(format) => {
            let answer = door.client.get("/v1/shims").await?;
            door.close().await?;
            let rows = answer["shims"].as_array().map(Vec::as_slice).unwrap_or_default();
            print::rows(rows, &COLUMNS, format.format)
        }
        Shims::Retire { incarnation, reason } => {
            let path = format!("/v1/shims/{}/retire", escape(&incarnation));
            let answer = door.client.post(&path, &RetireRequest { reason }).await?;
            door.close().await?;
            let text = |field: &str| answer.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
            print::out(&format!(
                "shim {} is retired: of ${} that it holds, ${} above its marks goes back; the rest when its windows end\n",
                text("incarnation"),
                text("leased"),
                text("recoverable"),
            ))
        }
    }
}
