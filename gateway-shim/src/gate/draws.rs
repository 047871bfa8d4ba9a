//! The accounts that a request draws on at each of its targets: budgets on models and providers are of the attempt,
//! all others of the request.

use bursar_schemas::facts::{About, RefusalCode};
use bursar_schemas::policy::Route;

use crate::limits::Drawn;
use crate::refusal::Refused;
use crate::upstream::Policy;
use crate::world::World;

/// What an attempt at each target of the route draws on. A blocking budget whose window is not in the log yet is
/// waited for.
pub(super) async fn of_targets(
    world: &World,
    policy: &Policy,
    partition: u32,
    about: &About,
    route: &Route,
) -> Result<Vec<Drawn>, Refused> {
    let Some(limits) = world.limits(partition) else {
        return Err(Refused::unavailable(RefusalCode::LedgerUnavailable, "The partition is not served."));
    };
    let (at, wait) = (about.accounting_at, world.config.lease_wait);
    let draws = policy.directory.budgets(about);
    let own = limits.drawn_in_time(&draws, at, wait).await;
    if let Some(budget) = &own.missing {
        return Err(not_open(budget));
    }
    let mut all = Vec::with_capacity(route.targets.len());
    for target in &route.targets {
        let more = policy.directory.budgets_of(about, target);
        if more.is_empty() {
            all.push(own.clone());
        } else {
            let draws: Vec<_> = draws.iter().cloned().chain(more).collect();
            all.push(limits.drawn_in_time(&draws, at, wait).await);
        }
    }
    Ok(all)
}

/// The window of a budget is not in the log.
pub(super) fn not_open(budget: &str) -> Refused {
    let message = format!("The window of budget {budget:?} is not open.");
    Refused::unavailable(RefusalCode::LedgerUnavailable, message)
}
