//! A request that does not fit: whether waiting helps, and which idle leases to recall for it.

use bursar_schemas::facts::{AccountRef, LeaseId, LeaseRefusal, LeaseRevoked};
use bursar_schemas::money::Money;

use super::decide::Decision;
use super::desk::{Pending, Request};
use super::{Core, Effect};

impl Core {
    /// Some account of the path cannot cover the least that would help.
    pub(super) fn short(&self, request: &Request, blocking: &[&AccountRef]) -> Decision {
        let mut recalled = Vec::new();
        let mut tightest = None;
        for account in blocking.iter().copied() {
            let available = self.available(account);
            if available >= request.minimum {
                continue;
            }
            let settled = self.accounts.find(account).map_or(Money::ZERO, |slot| slot.balance.settled);
            if self.limit(account).minus(settled) < request.minimum {
                return Decision::Refuse(LeaseRefusal::Spent, Some(account.clone()));
            }
            let Some(leases) = self.recallable(account, request.minimum.minus(available)) else {
                return Decision::Refuse(LeaseRefusal::InFlight, Some(account.clone()));
            };
            recalled.extend(leases);
            tightest = tightest.or(Some(account));
        }
        recalled.sort_unstable();
        recalled.dedup();
        match tightest {
            Some(account) => Decision::Recall(recalled, account.clone()),
            None => Decision::Later,
        }
    }

    /// Leases over an account whose idle money covers an amount, the largest first; none when all of it does
    /// not. Leases recalled before count, as their money is on its way.
    fn recallable(&self, account: &AccountRef, amount: Money) -> Option<Vec<LeaseId>> {
        let live = &self.accounts.find(account)?.live;
        let mut idle = Vec::new();
        let mut covered = Money::ZERO;
        for id in live {
            let Some(lease) = self.fold.lease(id) else { continue };
            let unused = self.leases.idle(id, lease, account);
            if lease.revoked || self.pending.contains(&Pending::Revoke(*id)) {
                covered = covered.plus(unused);
            } else if unused.is_positive() {
                idle.push((unused, *id));
            }
        }
        idle.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut leases = Vec::new();
        for (unused, id) in idle {
            if covered >= amount {
                break;
            }
            covered = covered.plus(unused);
            leases.push(id);
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
