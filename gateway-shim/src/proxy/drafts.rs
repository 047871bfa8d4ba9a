//! The facts that stand before a call: the opening, the route's decision, the reservation.

use bursar_schemas::facts::{self, About, RequestOpened, Reserved, RouteDecided, RouteReason};
use bursar_schemas::position::Topic;
use bursar_schemas::producer::Draft;

use crate::gate::Admitted;
use crate::open::OpenRequest;

pub(super) fn opened(open: &OpenRequest, admitted: &Admitted) -> RequestOpened {
    let mut head = open.head("");
    // Accounting time is the opening fact's time, fixed once.
    head.at = open.about.accounting_at;
    RequestOpened {
        head,
        about: About::clone(&open.about),
        endpoint: admitted.endpoint,
        model: admitted.shape.model.value.clone(),
        stream: admitted.shape.stream,
        body_bytes: u64::try_from(admitted.body.len()).unwrap_or(u64::MAX),
        body_digest: open.world.body_digest(&admitted.body),
        durability: open.world.config.durability,
    }
}

pub(super) fn decided(
    open: &OpenRequest,
    admitted: &Admitted,
    chosen: Option<usize>,
    reason: RouteReason,
) -> RouteDecided {
    let candidate = |candidate: &crate::gate::Candidate| facts::Candidate {
        provider: candidate.target.provider.id.clone(),
        model: candidate.target.model.clone(),
        verdict: candidate.verdict,
    };
    RouteDecided {
        head: open.head(""),
        about: About::clone(&open.about),
        attempt: open.attempts,
        model: admitted.shape.model.value.clone(),
        candidates: admitted.candidates.iter().map(candidate).collect(),
        chosen: chosen.and_then(|index| u32::try_from(index).ok()),
        reason,
    }
}

/// The facts that must stand before the attempt's call: its decision and its reservation.
pub(super) fn begin(
    open: &OpenRequest,
    admitted: &Admitted,
    index: usize,
    reason: RouteReason,
    out: &mut Vec<Draft>,
) {
    let Some(attempt) = &open.attempt else { return };
    let route = decided(open, admitted, Some(index), reason);
    out.push(Draft { lane: open.lane(Topic::Routes), fact: route.into() });
    let reserved = Reserved {
        head: open.head(attempt.price.as_ref().map_or("", |price| &price.version)),
        about: About::clone(&open.about),
        attempt: attempt.number,
        provider: attempt.provider.clone(),
        model: attempt.model.clone(),
        accounts: attempt.accounts.to_vec(),
        lease: attempt.lease,
        amount: attempt.reserved,
    };
    out.push(Draft { lane: open.lane(Topic::Spend), fact: reserved.into() });
}
