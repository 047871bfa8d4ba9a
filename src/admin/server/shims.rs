//! Shims: which hold leases, and the attestation that one can never run again.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use bursar_ledger::holders::HolderState;
use bursar_schemas::ids::ProducerId;
use bursar_schemas::money::Money;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Answer, Author, Control, Refusal, publisher, time};
use crate::exit::Failure;

/// A shim that wrote something so lately is not retired: somebody is mistaken.
const LATELY_US: i64 = 30_000_000;

/// An attestation.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetireRequest {
    /// Why.
    pub(crate) reason: String,
}

/// An incarnation over all partitions.
struct Holder {
    seen_at: Option<i64>,
    ended: bool,
    retired: bool,
    leases: u64,
    leased: Money,
    recoverable: Money,
}

impl Holder {
    fn state(&self) -> &'static str {
        match (self.ended, self.retired) {
            (true, true) => "retired",
            (true, false) => "ended",
            (false, true) => "retiring",
            (false, false) => "running",
        }
    }
}

async fn holders(control: &Control) -> Result<BTreeMap<ProducerId, Holder>, Refusal> {
    let ledger = control.ledger.as_ref().ok_or_else(Refusal::no_budgets)?;
    let states = ledger
        .holders()
        .await
        .map_err(|error| Refusal(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    let mut all = BTreeMap::new();
    for state in states {
        add(&mut all, &state);
    }
    Ok(all)
}

fn add(all: &mut BTreeMap<ProducerId, Holder>, state: &HolderState) {
    let holder = all.entry(state.incarnation).or_insert(Holder {
        seen_at: None,
        ended: true,
        retired: false,
        leases: 0,
        leased: Money::ZERO,
        recoverable: Money::ZERO,
    });
    holder.seen_at = holder.seen_at.max(state.seen_at.map(|at| at.0));
    // It has ended once it has in every partition.
    holder.ended &= state.ended;
    holder.retired |= state.retired;
    holder.leases += state.leases;
    holder.leased = holder.leased.plus(state.leased);
    holder.recoverable = holder.recoverable.plus(state.recoverable);
}

pub(super) async fn list(State(control): State<Control>) -> Answer {
    let row = |(incarnation, holder): (&ProducerId, &Holder)| {
        json!({
            "incarnation": incarnation.to_string(),
            "state": holder.state(),
            "last_fact_at": holder.seen_at.map(time),
            "leases": holder.leases,
            "leased": holder.leased,
            "recoverable": holder.recoverable,
        })
    };
    Ok(Json(json!({"shims": holders(&control).await?.iter().map(row).collect::<Vec<Value>>()})))
}

pub(super) async fn retire(
    State(control): State<Control>,
    Extension(author): Extension<Author>,
    Path(incarnation): Path<String>,
    Json(body): Json<RetireRequest>,
) -> Answer {
    let id: ProducerId = incarnation.parse().map_err(Failure::usage)?;
    let all = holders(&control).await?;
    let publisher = publisher(&control)?;
    let Some(holder) = all.get(&id) else {
        let message = format!("no shim {id} runs or has left leases behind; `bursar shims list` shows all");
        return Err(Failure::refused(message).into());
    };
    if holder.ended {
        let message = format!("shim {id} has ended: what its marks show has gone back already");
        return Err(Failure::refused(message).into());
    }
    let silent = holder.seen_at.map(|at| publisher.clock()().0.saturating_sub(at));
    if let Some(silent) = silent.filter(|silent| *silent < LATELY_US) {
        let message = format!(
            "shim {id} wrote a fact {} s ago: it runs, or did until then. Stop it, and come back after {} s",
            silent.max(0) / 1_000_000,
            LATELY_US / 1_000_000
        );
        return Err(Failure::refused(message).into());
    }
    publisher.retire(id, &author.0, &body.reason).await?;
    Ok(Json(json!({
        "incarnation": id.to_string(), "leased": holder.leased, "recoverable": holder.recoverable,
    })))
}
