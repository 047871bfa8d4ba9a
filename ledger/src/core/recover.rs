//! What a dead holder left goes back: what lies above the last mark that it stated in `spend`. It used no more than that
//! before a higher mark was acknowledged there, so whatever else became of it or of its disk does not matter.

use std::collections::{BTreeMap, BTreeSet};

use bursar_schemas::facts::{AccountRef, CreditReason, LeaseClosed, LeaseId};
use bursar_schemas::fold;
use bursar_schemas::ids::ProducerId;
use bursar_schemas::money::Money;
use serde::{Deserialize, Serialize};

use super::desk::Pending;
use super::leases::all_of;
use super::reclaim::Unasked;
use super::{Core, Effect};

/// Marks beyond twice those that were of use are looked through.
const SWEEP: usize = 1024;

/// The marks of leases, and whose of them are to be recovered.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Marks {
    #[serde(with = "bursar_schemas::snapshot::pairs")]
    of: BTreeMap<LeaseId, Money>,
    /// Holders whose end `spend` states, or an operator, once all their marks were read. The word of `limits` alone is not
    /// enough: a confused ledger may have ended one that lives.
    ended: BTreeSet<ProducerId>,
    /// Holders of whose facts some are missing.
    doubted: BTreeSet<ProducerId>,
    /// How many marks were kept when they were looked through last.
    swept: usize,
}

impl Marks {
    /// A holder stated a mark. A copy may come late: marks only rise.
    pub(super) fn state(&mut self, lease: LeaseId, mark: Money) {
        if self.doubted.contains(&lease.holder) {
            return;
        }
        let known = self.of.entry(lease).or_insert(mark);
        *known = mark.max(*known);
    }

    /// The mark of a lease.
    pub(super) fn mark(&self, lease: &LeaseId) -> Option<Money> {
        self.of.get(lease).copied()
    }

    /// Nothing of a lease is to be recovered (any more).
    pub(super) fn forget(&mut self, lease: &LeaseId) {
        self.of.remove(lease);
    }

    /// Some of a holder's facts are missing: marks may be among them, and nothing of it is recovered.
    pub(super) fn doubt(&mut self, holder: ProducerId) {
        self.doubted.insert(holder);
        for lease in self.leases_of(holder) {
            self.of.remove(&lease);
        }
    }

    /// Some records are missing, of whichever holder: marks may be among them.
    pub(super) fn doubt_all(&mut self) {
        self.doubted.extend(self.of.keys().map(|lease| lease.holder));
        self.of.clear();
    }

    /// A holder has ended, and all that it had written was read.
    pub(super) fn end(&mut self, holder: ProducerId) {
        self.ended.insert(holder);
    }

    /// Looks through the marks once they have become many more, and keeps those that may still be of use.
    fn sweep(&mut self, keeps: impl Fn(&LeaseId) -> bool) {
        if self.of.len() > 2 * self.swept + SWEEP {
            self.of.retain(|lease, _| keeps(lease));
            self.swept = self.of.len();
        }
    }

    fn leases_of(&self, holder: ProducerId) -> Vec<LeaseId> {
        self.of.range(all_of(holder)).map(|(lease, _)| *lease).collect()
    }
}

impl Core {
    /// Holders that an operator retired have ended once all is read that they had acknowledged by then.
    pub(super) fn end_retired(&mut self) {
        let Some(retired) = self.policy.retired.get(&self.config.partition) else { return };
        for (incarnation, end) in retired.iter().filter(|(_, end)| self.read >= **end) {
            self.marks.end(*incarnation);
            if !self.fold.has_ended(incarnation) {
                self.desk.end(end.saturating_sub(1), *incarnation);
            }
        }
    }

    /// Credits what ended holders have surely not used, and closes their leases.
    pub(super) fn recover(&mut self, epoch: u64, out: &mut Vec<Effect>) {
        let ended = self.marks.ended.iter().filter(|holder| self.fold.has_ended(holder));
        for holder in ended.copied().collect::<Vec<_>>() {
            let leases = self.marks.leases_of(holder);
            if leases.is_empty() {
                self.marks.ended.remove(&holder);
            }
            for lease in leases {
                self.recover_lease(epoch, lease, out);
            }
        }
        self.sweep_marks();
    }

    /// Forgets marks from which nothing can come back any more.
    pub(super) fn sweep_marks(&mut self) {
        let (fold, desk) = (&self.fold, &self.desk);
        self.marks.sweep(|lease| match fold.lease(lease) {
            Some(state) => !state.is_recovered(),
            None => desk.is_asked(lease),
        });
    }

    fn recover_lease(&mut self, epoch: u64, lease: LeaseId, out: &mut Vec<Effect>) {
        // What the holder itself gave back comes first: the last of it closes the lease.
        if self.pending.contains(&Pending::Recover(lease)) || self.is_being_credited(lease) {
            return;
        }
        let reason = match self.policy.retired.get(&self.config.partition) {
            Some(retired) if retired.contains_key(&lease.holder) => CreditReason::Retired,
            _ => CreditReason::Journal,
        };
        let mark = self.marks.mark(&lease);
        let state = self.fold.lease(&lease).filter(|state| !state.is_recovered());
        if state.is_some_and(|state| self.is_changing(&state.accounts)) {
            return;
        }
        let due = mark.zip(state).map(|(mark, state)| {
            let amount = state.amount.minus(mark);
            (amount, self.recovered_by(lease, state, amount, reason))
        });
        let Some((amount, accounts)) = due.filter(|(amount, to)| amount.is_positive() && !to.is_empty())
        else {
            self.marks.forget(&lease);
            return;
        };
        let credit = self.unasked(epoch, Unasked { lease, accounts, amount, reason });
        self.append(Pending::Recover(lease), credit, out);
        let closed = LeaseClosed { head: self.head(), epoch, lease };
        self.append(Pending::Close(lease), closed, out);
    }

    /// The accounts of a lease that get back what its dead holder left. A time-out may have given it to some before, which
    /// were bounded then.
    fn recovered_by(
        &self,
        id: LeaseId,
        lease: &fold::Lease,
        amount: Money,
        reason: CreditReason,
    ) -> Vec<AccountRef> {
        let takes = |account: &&AccountRef| {
            let credited = lease.credited.get(account).copied().unwrap_or(Money::ZERO);
            self.fold.may_credit(account, reason)
                && !self.is_closing(account)
                && credited.plus(amount) <= lease.amount
                && !self.desk.was_reclaimed(&id, account)
        };
        lease.accounts.iter().filter(takes).cloned().collect()
    }
}
