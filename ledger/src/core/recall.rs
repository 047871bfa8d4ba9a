//! A request that does not fit: whether waiting helps, and which idle leases to recall for it.

use std::collections::{BTreeMap, BTreeSet};

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{AccountRef, LeaseId, LeaseRefusal, LeaseRevoked};
use bursar_schemas::money::Money;

use super::decide::Decision;
use super::desk::{Pending, Request};
use super::{Core, Effect};

/// What requests wait for that came earlier, by account. Money that comes back is theirs first: otherwise small requests
/// would take it, piece by piece, from under a large one.
#[derive(Debug, Default)]
pub(super) struct Claims(BTreeMap<AccountRef, Money>);

impl Claims {
    /// A request goes on waiting for an amount on each account of its path.
    pub(super) fn add(&mut self, path: &[AccountRef], amount: Money) {
        for account in path {
            let claimed = self.0.entry(account.clone()).or_default();
            *claimed = claimed.plus(amount);
        }
    }

    /// What is claimed of an account.
    pub(super) fn on(&self, account: &AccountRef) -> Money {
        self.0.get(account).copied().unwrap_or(Money::ZERO)
    }
}

impl Core {
    /// Some account of the path cannot cover the least that would help, beside what earlier requests wait for.
    pub(super) fn short(&self, request: &Request, blocking: &[&AccountRef], claims: &Claims) -> Decision {
        let mut recalled = Vec::new();
        let mut tightest = None;
        for account in blocking.iter().copied() {
            let (available, claimed) = (self.available(account), claims.on(account));
            if available.minus(claimed) >= request.minimum {
                continue;
            }
            let settled = self.accounts.find(account).map_or(Money::ZERO, |slot| slot.balance.settled);
            if self.limit(account).minus(settled) < request.minimum {
                return Decision::Refuse(LeaseRefusal::Spent, Some(account.clone()));
            }
            let lacks = request.minimum.minus(available);
            match self.recallable(account, lacks.plus(claimed)) {
                Some(leases) => recalled.extend(leases),
                // It fits but for those, which may be refused or need less: it waits for their answers.
                None if claimed.is_positive() && self.recallable(account, lacks).is_some() => {}
                None => return Decision::InFlight(account.clone()),
            }
            tightest = tightest.or(Some(account));
        }
        recalled.sort_unstable();
        recalled.dedup();
        match tightest {
            Some(account) => Decision::Recall(recalled, account.clone()),
            None => Decision::Later,
        }
    }

    /// Leases over an account whose idle money covers an amount; none when all of it does not. Those of holders
    /// that wrote something of late come first, then the largest. Leases recalled a moment ago count, as their
    /// money is on its way, and longer only while their holder goes on writing: one that fell silent after a recall
    /// may be gone for good, whatever it had under way then. Its leases are recalled as well, in case it is not, and
    /// count for nothing.
    fn recallable(&self, account: &AccountRef, amount: Money) -> Option<Vec<LeaseId>> {
        let slot = self.accounts.find(account)?;
        let wait = self.config.timing.recall_wait;
        let ago = |time: Micros| self.now.0.saturating_sub(time.0);
        let mut deaf = BTreeSet::new();
        // What was granted a moment ago can be recalled once it is read back.
        let mut covered = slot.pending;
        let mut idle = Vec::new();
        for id in &slot.live {
            let Some(lease) = self.fold.lease(id) else { continue };
            let unused = self.leases.idle(id, lease, account);
            // What its holder gave back is credited as soon as the log has taken that.
            let returning = self.desk.returning(*id).min(unused);
            covered = covered.plus(returning);
            // Nor does it come back a second time where it could not be credited.
            let left = lease.amount.minus_or_zero(self.leases.used(id).all().plus(self.desk.given(*id)));
            let unused = unused.minus(returning).min(left);
            if !unused.is_positive() {
                continue;
            }
            if lease.revoked || self.pending.contains(&Pending::Revoke(*id)) {
                let since = self.leases.revoked_at(id).unwrap_or(self.now);
                let seen = self.producers.seen_at(&id.holder);
                let writes = seen.is_some_and(|at| at > since && ago(at) < wait);
                if writes || ago(since) < wait {
                    covered = covered.plus(unused);
                } else {
                    deaf.insert(id.holder);
                }
            } else {
                let quiet = self.producers.seen_at(&id.holder).is_none_or(|at| ago(at) > 4 * wait);
                idle.push((quiet, std::cmp::Reverse(unused), *id));
            }
        }
        idle.sort_unstable();
        let (mut leases, mut all_quiet) = (Vec::new(), false);
        for (quiet, std::cmp::Reverse(unused), id) in idle {
            if deaf.contains(&id.holder) {
                leases.push(id);
            } else if covered < amount {
                covered = covered.plus(unused);
                leases.push(id);
                all_quiet |= quiet;
            } else if all_quiet {
                // One wait tells which of the quiet holders are gone, not one wait for each.
                leases.push(id);
            }
        }
        (covered >= amount).then_some(leases)
    }

    pub(super) fn revoke(&mut self, epoch: u64, lease: LeaseId, out: &mut Vec<Effect>) {
        let pending = Pending::Revoke(lease);
        if !self.pending.contains(&pending) {
            let revoked = LeaseRevoked { head: self.head(), epoch, lease };
            self.append(pending, revoked, out);
        }
    }
}
