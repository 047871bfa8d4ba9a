//! What silent holders have unused goes back to the bounded accounts of its paths, after a time-out. A hard account never
//! gets any of it: its holder may only be slow.

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{AccountRef, CreditReason, LeaseCredited, LeaseId, Mode};
use bursar_schemas::fold;
use bursar_schemas::money::Money;

use super::desk::Pending;
use super::{Core, Effect};

/// What nobody asked for is credited to a lease at most once for each reason, under this number.
pub(super) const NUMBER: u64 = 0;

/// A credit that no return asks for.
pub(super) struct Unasked {
    pub lease: LeaseId,
    pub accounts: Vec<AccountRef>,
    pub amount: Money,
    pub reason: CreditReason,
}

impl Core {
    /// Revokes the leases of silent holders, so that one that lives gives them back itself; then credits the rest.
    pub(super) fn reclaim(&mut self, epoch: u64, out: &mut Vec<Effect>) {
        let now = self.now;
        let ago = |wait: i64| Micros(now.0.saturating_sub(wait));
        let timing = self.config.timing;
        // Whoever begins to act has to listen for as long first.
        if self.listening_since > ago(timing.reclaim_after) {
            return;
        }
        let silent = self.producers.silent_since(ago(timing.reclaim_after));
        let leases: Vec<LeaseId> = silent.into_iter().flat_map(|holder| self.leases.of(holder)).collect();
        for id in leases {
            let Some(lease) = self.fold.lease(&id) else { continue };
            let accounts = self.reclaimed_by(lease);
            let idle = |account: &AccountRef| self.leases.idle(&id, lease, account);
            let amount = accounts.iter().map(idle).min().unwrap_or(Money::ZERO);
            let waits = self.is_being_credited(id) || self.is_changing(&lease.accounts);
            if !amount.is_positive() || self.has_reclaimed(id) || waits {
                continue;
            }
            match self.leases.revoked_at(&id) {
                None if !lease.revoked => self.revoke(epoch, id, out),
                Some(at) if at > ago(timing.recall_wait) => {}
                _ => {
                    let reason = CreditReason::TimedOut;
                    let credit = self.unasked(epoch, Unasked { lease: id, accounts, amount, reason });
                    self.append(Pending::Credit(id, NUMBER), credit, out);
                }
            }
        }
    }

    /// The accounts of a lease that a time-out may credit.
    fn reclaimed_by(&self, lease: &fold::Lease) -> Vec<AccountRef> {
        let takes = |account: &&AccountRef| {
            self.fold.mode(&account.budget) == Mode::Bounded
                && self.fold.may_credit(account, CreditReason::TimedOut)
                && !self.is_closing(account)
        };
        lease.accounts.iter().filter(takes).cloned().collect()
    }

    /// True while a credit of the lease is under way, or a return of it waits for one.
    pub(super) fn is_being_credited(&self, lease: LeaseId) -> bool {
        self.is_crediting(lease) || self.desk.holds_returns(lease)
    }

    fn is_crediting(&self, lease: LeaseId) -> bool {
        let credits = Pending::Credit(lease, 0)..=Pending::Credit(lease, u64::MAX);
        self.pending.range(credits).next().is_some()
    }

    /// True when a time-out's credit of the lease was answered.
    pub(super) fn has_reclaimed(&self, lease: LeaseId) -> bool {
        self.desk.is_resolved(lease, NUMBER)
    }

    /// True while a credit is under way of a lease that a time-out has credited: what fits beside it is not known yet.
    pub(super) fn fills_up(&self, lease: LeaseId) -> bool {
        self.has_reclaimed(lease) && self.is_crediting(lease)
    }

    /// True while a credit of the lease is under way that no return asks for.
    pub(super) fn is_being_reclaimed(&self, lease: LeaseId) -> bool {
        self.pending.contains(&Pending::Credit(lease, NUMBER))
            || self.pending.contains(&Pending::Recover(lease))
    }

    /// The time moves on: after a pause of its own the ledger has to listen anew before it calls anybody silent.
    pub(super) fn pass_to(&mut self, now: Micros) {
        if now.0.saturating_sub(self.now.0) > self.config.timing.reclaim_after / 4 {
            self.listening_since = now;
        }
        self.now = self.now.max(now);
    }

    /// A credit that no return asks for, under the one number that it has for its reason.
    pub(super) fn unasked(&self, epoch: u64, what: Unasked) -> LeaseCredited {
        let Unasked { lease, accounts, amount, reason } = what;
        let (head, number, cause, read) = (self.head(), NUMBER, None, self.read);
        LeaseCredited { head, epoch, lease, number, amount, accounts, reason, cause, read }
    }
}
