//! Following `limits`: every record goes through the fold; what counts is noted here as well.

use bursar_schemas::facts::{
    AccountRef, CreditReason, Fact, FindingKind, LeaseCredited, LeaseId, Phase, WindowMoved,
};
use bursar_schemas::fold::{Ignored, Verdict, Void, is_recovery};
use bursar_schemas::window::Span;
use bursar_schemas::wire::Unreadable;

use super::desk::Pending;
use super::{Core, Effect, Halt, Standing, is_of_use, reclaim};

impl Core {
    pub(super) fn follow(
        &mut self,
        offset: u64,
        fact: &Result<Fact, Unreadable>,
        out: &mut Vec<Effect>,
    ) -> Result<(), Halt> {
        // The fold forgets a lease once it is closed.
        let path = match fact {
            Ok(Fact::LeaseClosed(closed)) => self.fold.lease(&closed.lease).map(|it| it.accounts.clone()),
            _ => None,
        };
        let verdict = self.fold.apply_record(offset, fact)?;
        let Ok(fact) = fact else { return Ok(()) };
        if matches!(verdict, Verdict::Ignored(Ignored::SeenBefore | Ignored::NotTheLedger)) {
            return Ok(());
        }
        match fact {
            Fact::AlertRaised(raised) => self.note_alert(offset, raised),
            Fact::AlertDelivered(delivered) => self.note_delivery(delivered),
            _ => {}
        }
        let own = fact.head().producer == self.config.instance;
        if own {
            self.read_back(fact);
        }
        let counts = match (fact, verdict) {
            (_, Verdict::Counted) => true,
            (Fact::BalanceStated(stated), _) => Some(stated.epoch) == self.fold.epoch(),
            _ => false,
        };
        if counts {
            self.heard_at = self.now;
            self.count(offset, fact, own, out);
            if let (Fact::LeaseClosed(closed), Some(path)) = (fact, path) {
                self.close_lease(closed.lease, &path);
            }
        } else {
            self.miss(fact, own, verdict, out);
        }
        Ok(())
    }

    /// A record counts.
    fn count(&mut self, offset: u64, fact: &Fact, own: bool, out: &mut Vec<Effect>) {
        match fact {
            Fact::EpochMarked(_) if self.standing == Standing::CatchingUp => {}
            Fact::EpochMarked(_) if own => self.begin_acting(offset, out),
            Fact::EpochMarked(_) => match self.standing {
                Standing::Acting { .. } => self.stand_by(out),
                // A claim that is under way will be void; its own record says so.
                Standing::CatchingUp | Standing::Claiming { .. } | Standing::Standby => {}
            },
            Fact::LimitSet(set) => {
                self.log_limit(&set.budget);
                self.plan.due.insert(set.budget.clone());
                self.alerts_due.insert(set.budget.clone());
            }
            Fact::WindowMoved(moved) => self.window_moved(moved),
            Fact::LeaseGranted(grant) => {
                self.tell(grant.read);
                self.desk.answer(grant.lease);
                self.leases.granted(grant.lease);
                for account in &grant.accounts {
                    self.accounts.slot_of(account).live.insert(grant.lease);
                }
            }
            Fact::LeaseRefused(refused) => {
                self.tell(refused.read);
                self.desk.answer(refused.lease);
                self.marks.forget(&refused.lease);
            }
            Fact::LeaseCredited(credit) => {
                self.tell(credit.read);
                self.answer_credit(credit);
                if credit.reason == CreditReason::TimedOut {
                    self.desk.reclaim(credit.lease, &credit.accounts);
                }
            }
            Fact::LeaseRevoked(revoked) => self.leases.revoke(revoked.lease, self.now),
            Fact::IncarnationEnded(ended) => {
                self.tell(ended.read);
                self.desk.ended(ended.incarnation);
                self.producers.end(&ended.incarnation);
                for lease in self.leases.of(ended.incarnation) {
                    let path = self.fold.lease(&lease).map(|it| it.accounts.clone()).unwrap_or_default();
                    self.end_lease(lease, &path);
                }
            }
            Fact::BalanceStated(stated) => {
                self.tell(stated.read);
                if let Some(index) = self.accounts.find_index(&stated.account) {
                    let slot = self.accounts.slot_mut(index);
                    slot.logged.settled = stated.settled;
                    slot.logged.reserved = stated.reserved;
                    slot.logged.overrun = stated.overrun;
                }
            }
            _ => {}
        }
    }

    /// A record is void, or for people only.
    fn miss(&mut self, fact: &Fact, own: bool, verdict: Verdict, out: &mut Vec<Effect>) {
        match (fact, verdict) {
            (Fact::EpochMarked(_), _) if own && matches!(self.standing, Standing::Claiming { .. }) => {
                self.stand_by(out);
            }
            // A credit that the epoch wrote and the fold voids answers its return: it would be void again. Not one that only a
            // confused ledger writes so, or a return of a living holder would stay unanswered for good.
            (Fact::LeaseCredited(credit), Verdict::Void(void))
                if !matches!(void, Void::WrongEpoch | Void::Path | Void::NoAmount)
                    && (own || !is_recovery(credit.reason)) =>
            {
                self.answer_credit(credit);
            }
            _ => {}
        }
    }

    /// A credit under the epoch, whether it counts or is void, is not written again.
    fn answer_credit(&mut self, credit: &LeaseCredited) {
        match credit.reason {
            CreditReason::Journal | CreditReason::Retired => self.marks.forget(&credit.lease),
            // A return's number is not a time-out's.
            CreditReason::TimedOut if credit.number != reclaim::NUMBER => {}
            CreditReason::TimedOut | CreditReason::Returned => {
                self.desk.resolve(credit.lease, credit.number);
            }
        }
    }

    fn begin_acting(&mut self, epoch: u64, out: &mut Vec<Effect>) {
        self.drop_pending();
        self.standing = Standing::Acting { epoch };
        self.listening_since = self.now;
        self.lost = 0;
        self.patience = self.config.timing.takeover_after;
        self.appended_at = self.now;
        self.policy_changed = true;
        out.push(Effect::Acting { epoch });
        self.requeue_balances();
        self.look_at_all_members();
        let told = self.told;
        let findings = std::mem::take(&mut self.findings);
        self.beats_now = !findings.is_empty();
        out.extend(findings.into_iter().filter(|it| it.offset >= told).map(Effect::Find));
        if let Some((first, last, count)) = self.unkept.take() {
            let detail =
                format!("{count} faults between these offsets were not kept while another ledger acted");
            self.find(out, FindingKind::Lost, last, None, (first, last), &detail);
        }
        self.desk.requests.values_mut().for_each(|request| request.waits_since = None);
    }

    /// Another ledger, or an earlier one, had read `spend` before that offset and recorded what it found there.
    fn tell(&mut self, read: u64) {
        if read > self.told {
            self.told = read;
            self.findings.retain(|finding| finding.offset >= read);
            // The count stays when only some of them were recorded: it is then an upper bound.
            self.unkept.take_if(|(_, last, _)| *last < read);
        }
    }

    fn window_moved(&mut self, moved: &WindowMoved) {
        let account = &moved.account;
        match moved.phase {
            Phase::Open => {
                let span = Span { starts_at: moved.starts_at, ends_at: moved.ends_at };
                self.newest.insert(account.budget.clone(), (account.window, span));
                self.accounts.index(account);
            }
            Phase::Draining => {}
            Phase::Closed => {
                let live = std::mem::take(&mut self.accounts.slot_of(account).live);
                for lease in live.into_iter().filter(|lease| self.fold.lease(lease).is_none()) {
                    self.leases.forget(&lease);
                    self.marks.forget(&lease);
                    self.desk.forget(lease);
                }
                self.accounts.close(account);
                let fold = &self.fold;
                self.desk.sweep(|lease| is_of_use(fold, lease));
                self.leases.sweep_some(|lease| is_of_use(fold, lease));
            }
        }
    }

    /// A lease is over, and the log has forgotten it.
    fn close_lease(&mut self, id: LeaseId, path: &[AccountRef]) {
        self.desk.forget(id);
        self.marks.forget(&id);
        self.end_lease(id, path);
        self.leases.forget(&id);
        let fold = &self.fold;
        self.leases.sweep_some(|lease| is_of_use(fold, lease));
    }

    /// Nothing is idle under a lease any more: it is closed, or its holder has ended.
    fn end_lease(&mut self, id: LeaseId, path: &[AccountRef]) {
        self.leases.over(&id);
        for account in path {
            self.accounts.slot_of(account).live.remove(&id);
        }
    }

    /// A record of this ledger came back, whatever became of it: it is not pending any more.
    fn read_back(&mut self, fact: &Fact) {
        let key = match fact {
            Fact::LimitSet(set) => {
                self.pending_limits.remove(&set.budget);
                Pending::Limit(set.budget.clone())
            }
            Fact::WindowMoved(moved) => Pending::Window(moved.account.clone(), moved.phase),
            Fact::LeaseGranted(grant) => {
                if let Some((accounts, amount)) = self.pending_grants.remove(&grant.lease) {
                    for account in &accounts {
                        let slot = self.accounts.slot_of(account);
                        slot.pending = slot.pending.minus_or_zero(amount);
                    }
                }
                Pending::Answer(grant.lease)
            }
            Fact::LeaseRefused(refused) => Pending::Answer(refused.lease),
            Fact::LeaseCredited(credit) if is_recovery(credit.reason) => Pending::Recover(credit.lease),
            Fact::LeaseCredited(credit) => Pending::Credit(credit.lease, credit.number),
            Fact::LeaseClosed(closed) => Pending::Close(closed.lease),
            Fact::LeaseRevoked(revoked) => Pending::Revoke(revoked.lease),
            Fact::IncarnationEnded(ended) => Pending::End(ended.incarnation),
            Fact::AlertRaised(it) => Pending::Alert(it.account.clone(), it.alert, it.percent),
            Fact::AlertDelivered(it) => {
                Pending::Delivery(it.alert_producer, it.alert_number, it.webhook.clone())
            }
            _ => return,
        };
        self.pending.remove(&key);
    }
}
