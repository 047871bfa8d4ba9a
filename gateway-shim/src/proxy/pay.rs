//! Money for attempts: the first target that can be paid in full, else one with a smaller output where policy allows
//! it.

use std::sync::Arc;
use std::time::Instant;

use bursar_schemas::facts::{CandidateVerdict, LeaseId, RouteReason};
use bursar_schemas::money::Money;

use crate::gate::{Admitted, Candidate};
use crate::leases::Path;
use crate::limits::Denied;
use crate::refusal::Refused;
use crate::world::World;

/// The first target that can be tried and paid.
pub(super) async fn first_choice(
    world: &World,
    admitted: &mut Admitted,
) -> Result<(usize, RouteReason, Option<LeaseId>), Refused> {
    let mut denied: Option<Denied> = None;
    let mut beyond: Vec<(usize, Path, Money)> = Vec::new();
    for index in 0..admitted.candidates.len() {
        let candidate = &admitted.candidates[index];
        let (path, amount) = (&candidate.drawn.path, candidate.bound.amount);
        // What a path could not pay a moment ago, it cannot pay now.
        let dearer = beyond.iter().any(|(_, other, least)| other == path && amount >= *least);
        if candidate.verdict != CandidateVerdict::Standby || dearer {
            continue;
        }
        match set_aside(world, admitted, index).await {
            Ok(lease) => {
                let reason = if denied.is_some() { RouteReason::FallbackBudget } else { RouteReason::First };
                return Ok((index, reason, lease));
            }
            Err(budget @ Denied::Budget(_)) => {
                let candidate = &mut admitted.candidates[index];
                candidate.verdict = CandidateVerdict::Unaffordable;
                beyond.push((index, Arc::clone(&candidate.drawn.path), candidate.bound.amount));
                // Where waiting helps the client is told so; else why the last resort was no help.
                if !denied.as_ref().is_some_and(Denied::is_in_flight) {
                    denied = Some(budget);
                }
            }
            Err(other) => return Err(Refused::of(other)),
        }
    }
    for (index, _, _) in beyond {
        if let Some(lease) = pay_less(world, admitted, index).await {
            let reason = if index > 0 { RouteReason::FallbackBudget } else { RouteReason::First };
            return Ok((index, reason, Some(lease)));
        }
    }
    Err(Refused::of(denied.unwrap_or(Denied::Unavailable("no target can be tried"))))
}

/// Money for one attempt: under a lease where the path has a blocking budget, and nothing otherwise.
pub(super) async fn set_aside(
    world: &World,
    admitted: &Admitted,
    index: usize,
) -> Result<Option<LeaseId>, Denied> {
    let Candidate { drawn, bound, .. } = &admitted.candidates[index];
    let amount = bound.amount;
    if !drawn.blocks || !amount.is_positive() {
        return Ok(None);
    }
    let Some(limits) = world.limits(admitted.partition) else {
        return Err(Denied::Unavailable("the partition is not served"));
    };
    let started = Instant::now();
    let lease = limits.lease(world, &drawn.path, amount).await;
    world.metrics.lease_wait.observe(started.elapsed());
    lease.map(Some)
}

/// As [`set_aside`], for an attempt whose whole bound was refused: with the output cap that what is left can pay, where
/// a budget of the path or the organisation allows that.
pub(super) async fn pay_less(world: &World, admitted: &mut Admitted, index: usize) -> Option<LeaseId> {
    let limits = world.limits(admitted.partition)?;
    let Candidate { drawn, bound, .. } = &admitted.candidates[index];
    let allowed = drawn.lower_cap || admitted.policy.directory.lowers_caps(&admitted.about.organisation);
    let most = Some(limits).filter(|_| allowed && drawn.blocks)?.affordable(&drawn.path);
    let (whole, lower) = (*bound, bound.lowered(most)?);
    admitted.candidates[index].bound = lower;
    match set_aside(world, admitted, index).await {
        Ok(lease) => lease,
        Err(_) => {
            admitted.candidates[index].bound = whole;
            None
        }
    }
}
