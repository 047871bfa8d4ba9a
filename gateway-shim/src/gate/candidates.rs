//! The targets of a route as candidates: each with its price, its bound, and whether it can be tried.

use http::StatusCode;

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{CandidateVerdict, Endpoint, RefusalCode};
use bursar_schemas::policy::{Route, Target, UnknownPrice};

use super::draws::not_open;
use super::{Candidate, not_served};
use crate::bound::{Bound, NoBound, Rules, bound, estimate};
use crate::inspect::Shape;
use crate::limits::Drawn;
use crate::refusal::Refused;
use crate::upstream::Policy;

/// Every target of the route with its price and bound; refuses when none of them can be tried.
pub(super) fn judge(
    policy: &Policy,
    (endpoint, shape): (Endpoint, &Shape),
    route: &Route,
    drawn: Vec<Drawn>,
    at: Micros,
) -> Result<Vec<Candidate>, Refused> {
    let passes = policy.directory.document().unknown_price == UnknownPrice::Pass;
    let (mut no_rule, mut closed) = (None, None);
    let candidate = |(target, drawn): (&Target, Drawn)| {
        let price = policy.directory.price(target, at).cloned();
        let found = price.as_ref().ok_or(NoBound::Unpriced);
        // Only a hard budget needs a true bound, and a bounded one goes by what is likely; where none can refuse, what
        // has no bound is estimated.
        let found = found.and_then(|price| match (drawn.hard, drawn.blocks) {
            (true, _) => bound(endpoint, shape, &Rules::of(target), price),
            (false, true) => estimate(endpoint, shape, price),
            (false, false) => bound(endpoint, shape, &Rules::of(target), price)
                .or_else(|_| estimate(endpoint, shape, price)),
        });
        let (bound, mut verdict) = match found {
            Ok(bound) => (bound, CandidateVerdict::Standby),
            Err(NoBound::Unpriced) if passes && !drawn.blocks => (Bound::NONE, CandidateVerdict::Standby),
            Err(NoBound::Unpriced) => (Bound::NONE, CandidateVerdict::Unpriced),
            Err(NoBound::NoRule(_)) if !drawn.blocks => (Bound::NONE, CandidateVerdict::Standby),
            Err(NoBound::NoRule(place)) => {
                no_rule.get_or_insert(place);
                (Bound::NONE, CandidateVerdict::Unbounded)
            }
        };
        if let Some(budget) = drawn.missing.as_ref().filter(|_| verdict == CandidateVerdict::Standby) {
            closed.get_or_insert_with(|| budget.clone());
            verdict = CandidateVerdict::Unaffordable;
        }
        Candidate { target: target.clone(), price, bound, drawn, verdict }
    };
    let candidates: Vec<Candidate> = route.targets.iter().zip(drawn).map(candidate).collect();
    if candidates.iter().any(|candidate| candidate.verdict == CandidateVerdict::Standby) {
        return Ok(candidates);
    }
    if let Some(budget) = closed {
        return Err(not_open(&budget));
    }
    Err(none_fits(shape, no_rule, candidates.is_empty()))
}

/// Why no target can be tried.
fn none_fits(shape: &Shape, no_rule: Option<String>, no_target: bool) -> Refused {
    let model = &shape.model.value;
    match no_rule {
        Some(place) => Refused::new(
            StatusCode::BAD_REQUEST,
            RefusalCode::NoBound,
            format!(
                "The cost of this request has no upper bound, which its budget needs: there is no rule for {place:?}."
            ),
        ),
        None if no_target => not_served(model),
        None => {
            let message = |model: &str| format!("The price of the model {model:?} is unknown.");
            let code = RefusalCode::UnknownPrice;
            Refused { param: None, ..Refused::of_model(StatusCode::BAD_REQUEST, code, model, message) }
        }
    }
}
