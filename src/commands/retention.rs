//! `bursar retention` and `bursar holds`.

use serde_json::Value;

use super::keys::escape;
use crate::admin::retention::{PlaceRequest, ReleaseRequest};
use crate::cli::{Holds, Output, Place, Retention, RetentionChange};
use crate::door::Door;
use crate::exit::Outcome;
use crate::print;

const CLASSES: [&str; 11] =
    ["topic", "days", "segments", "rows", "bytes", "past", "held", "due", "due_rows", "due_bytes", "removed"];
const FOUND: [&str; 9] = ["topic", "partition", "first", "last", "rows", "newest", "state", "hold", "why"];
const HOLDS: [&str; 10] = [
    "hold",
    "state",
    "topics",
    "condition",
    "reason",
    "placed_at",
    "placed_by",
    "released_at",
    "released_by",
    "release_reason",
];

fn list<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    answer[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// One line on captured content.
fn contents(content: &Value, due: &str) -> String {
    let number = |name: &str| content[name].as_u64().unwrap_or(0);
    if content.is_null() {
        return String::new();
    }
    format!(
        "captured content ({} days): {} requests, {} {due}, {} past their retention and held\n",
        number("days"),
        number("contents"),
        number("due"),
        number("held")
    )
}

pub(crate) async fn run(place: &Place, retention: Retention) -> Outcome {
    let door = Door::open(place).await?;
    let json = retention.format.format == Output::Json;
    match retention.change {
        None => {
            let answer = door.client.get("/v1/retention").await?;
            door.close().await?;
            if json {
                return print::out(&format!("{}\n", serde_json::to_string_pretty(&answer)?));
            }
            print::rows(list(&answer, "classes"), &CLASSES, retention.format.format)?;
            print::out(&contents(&answer["content"], "due"))?;
            let past = list(&answer, "past");
            if past.is_empty() {
                return print::out("\nNothing is past its retention.\n");
            }
            print::out("\nPast their retention (`bursar retention apply` removes what is due):\n")?;
            print::rows(past, &FOUND, retention.format.format)
        }
        Some(RetentionChange::Apply { json }) => {
            let answer = door.client.post("/v1/retention/apply", &Value::Null).await?;
            door.close().await?;
            if json {
                return print::out(&format!("{}\n", serde_json::to_string_pretty(&answer)?));
            }
            let (removed, kept) = (list(&answer, "removed"), list(&answer, "kept"));
            let rows: u64 = removed.iter().filter_map(|it| it["rows"].as_u64()).sum();
            print::out(&format!(
                "removed {} segments, {rows} rows; kept {} that are past their retention\n",
                removed.len(),
                kept.len()
            ))?;
            print::out(&contents(&answer["content"], "deleted"))?;
            if kept.is_empty() { Ok(()) } else { print::rows(kept, &FOUND, Output::Table) }
        }
    }
}

pub(crate) async fn holds(place: &Place, holds: Holds) -> Outcome {
    let door = Door::open(place).await?;
    match holds {
        Holds::Place { condition, topics, reason, id } => {
            let request = PlaceRequest { id, condition, topics, reason };
            let answer = door.client.post("/v1/holds", &request).await?;
            door.close().await?;
            let hold = answer["hold"].as_str().unwrap_or_default();
            print::out(&format!("hold {hold} stands: nothing that its condition finds is removed\n"))
        }
        Holds::List(format) => {
            let answer = door.client.get("/v1/holds").await?;
            door.close().await?;
            print::rows(list(&answer, "holds"), &HOLDS, format.format)
        }
        Holds::Release { hold, reason } => {
            let path = format!("/v1/holds/{}/release", escape(&hold));
            door.client.post(&path, &ReleaseRequest { reason }).await?;
            door.close().await?;
            print::out(&format!("hold {hold} is released\n"))
        }
    }
}
