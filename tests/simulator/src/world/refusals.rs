//! The checker of refusals: what was asked for, what there was, and who else wanted it.

use bursar_gateway_shim::limits::Denied;
use bursar_schemas::facts::Phase;

use super::requests::{Request, State};
use super::{Broken, World};
use crate::calendar::SECOND;
use crate::marks::Mark;
use crate::settings::BUDGETS;
use crate::truth::Account;

/// Its name.
pub(super) const REFUSED: &str = "without faults no refusal while the money covers it";

impl World {
    /// How long a calm world may take to say anything to everybody.
    const GRACE: i64 = SECOND;

    /// Without faults nobody is refused while uncommitted money and recallable idle leases cover the request.
    pub(super) fn judge_refusal(
        &mut self,
        budgets: &[usize],
        at: i64,
        since: i64,
        bound: i128,
        denied: &Denied,
    ) -> Result<(), Broken> {
        if !self.settings.faults.none() || self.healing {
            return Ok(());
        }
        let since = since - Self::GRACE;
        let mut shown = Vec::new();
        for (budget, name) in budgets.iter().zip(Self::accounts_at(budgets, at)) {
            // A window that takes no grants any more ends what can be had of its path, soft ones included.
            if self.rules.window(&name).is_none_or(|it| it.phase != Phase::Open) {
                return Ok(());
            }
            let Some(limit) = self.limits.get(BUDGETS[*budget]) else { return Ok(()) };
            if !limit.blocks() {
                continue;
            }
            let settled =
                self.ceilings.get(&name).is_some_and(|it| it.opened < since) && limit.changed < since;
            let used = |account: &Account| account.most_used_since(since) + account.over;
            let used = self.truth.account(&name).map_or(0, used);
            if !settled || limit.amount - used < bound {
                self.hit(Mark::JudgedRefusal);
                return Ok(());
            }
            shown.push(format!("{}: {used} used of {}", name.budget, limit.amount));
        }
        let detail = format!("{bound} was refused ({denied:?}) though {}", shown.join(", "));
        Err((REFUSED, detail))
    }

    /// What other requests that share an account wanted while this one waited, and did not get: they competed for
    /// the same money.
    pub(super) fn rivals(&self, index: usize) -> i128 {
        if !self.settings.faults.none() {
            return 0;
        }
        let (since, budgets) = (self.requests[index].since, &self.requests[index].budgets);
        let competed = |(other, it): &(usize, &Request)| {
            let waits = matches!(it.state, State::Waiting(_)) || it.refused_at >= since;
            *other != index && waits && it.budgets.iter().any(|budget| budgets.contains(budget))
        };
        self.requests.iter().enumerate().filter(competed).map(|(_, it)| it.now().bound).sum()
    }
}
