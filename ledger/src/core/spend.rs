//! Following `spend`: what a certified shim says, each thing once.

use bursar_schemas::facts::{Fact, FindingKind, LeaseId};
use bursar_schemas::money::Money;
use bursar_schemas::wire::Unreadable;

use super::attempts::Open;
use super::producers::Taken;
use super::{Core, Effect, Halt, is_of_use, was_decided};
use crate::decode::{self, AttemptView, HeadView, SpendView, Step};

impl Core {
    pub(super) fn spend(&mut self, offset: u64, value: &[u8], out: &mut Vec<Effect>) -> Result<(), Halt> {
        if offset < self.read {
            return Err(Halt::SpendBackwards { offset, after: self.read - 1 });
        }
        self.read = offset + 1;
        match decode::read(value) {
            Ok(SpendView::Attempt(view)) => {
                if self.admit(&view.head, offset, value, out) {
                    self.attempt(&view);
                }
            }
            Ok(SpendView::Other(fact)) => self.message(offset, &fact, value, out),
            Err(reason) => {
                self.unreadable(offset, &reason, out);
                return Ok(());
            }
        }
        self.unreadable_run = false;
        Ok(())
    }

    fn unreadable(&mut self, offset: u64, reason: &Unreadable, out: &mut Vec<Effect>) {
        if !self.unreadable_run {
            let kind = FindingKind::Unreadable;
            self.find(out, kind, offset, None, (offset, offset), &reason.to_string());
        }
        self.unreadable_run = true;
    }

    /// True when a fact's writer and number let it count.
    fn admit(&mut self, head: &HeadView, offset: u64, value: &[u8], out: &mut Vec<Effect>) -> bool {
        let hashing = offset >= self.told;
        let (counts, kind, span, detail) = match self.producers.take(head, value, hashing) {
            Taken::Fresh => return true,
            Taken::AfterGap { first, last } => {
                self.marks.doubt(head.producer);
                (true, FindingKind::Gap, (first, last), "numbers that never came")
            }
            Taken::Repeated { first: false } | Taken::Stranger { first: false } => return false,
            Taken::Repeated { first: true } => {
                let (number, detail) = (head.number, "first of a run of numbers that came before");
                (false, FindingKind::Duplicate, (number, number), detail)
            }
            Taken::Stranger { first: true } => {
                let (number, detail) = (head.number, "a fact of a producer without a shim's certificate");
                (false, FindingKind::Foreign, (number, number), detail)
            }
        };
        self.find(out, kind, offset, Some(head.producer), span, detail);
        counts
    }

    fn message(&mut self, offset: u64, fact: &Fact, value: &[u8], out: &mut Vec<Effect>) {
        let head = decode::head_of(fact);
        let producer = head.producer;
        if let Fact::ProducerOpened(opened) = fact
            && !self.producers.is_known(&producer)
        {
            if !self.producers.open(opened, value, offset >= self.told) {
                let detail = "a certificate that does not hold for a shim";
                let span = (head.number, head.number);
                self.find(out, FindingKind::Forged, offset, Some(producer), span, detail);
            }
            return;
        }
        if !self.admit(&head, offset, value, out) {
            return;
        }
        let whose = |lease: LeaseId| lease.holder == producer;
        match fact {
            Fact::LeaseRequested(asked) if whose(asked.lease) => {
                // A copy may come late; and nobody waits for an answer to an incarnation that has ended.
                if !was_decided(&self.fold, &asked.lease) {
                    self.desk.ask(offset, asked);
                }
            }
            Fact::LeaseReturned(returned) if whose(returned.lease) => {
                if is_of_use(&self.fold, &returned.lease) {
                    self.desk.give_back(offset, returned);
                }
            }
            Fact::LeaseMarked(marked) if whose(marked.lease) => self.marks.state(marked.lease, marked.mark),
            // A shim speaks for itself or for a predecessor whose spool it took over, which is locked for as long as
            // its process lives; either is certified.
            Fact::ShimEnded(ended) => {
                self.desk.end(offset, ended.incarnation);
                self.marks.end(ended.incarnation);
            }
            Fact::ProducerHead(stated) => {
                if !self.producers.head(stated, value, offset >= self.told) {
                    let detail = "a head whose signature or running hash does not hold";
                    let span = (head.number, head.number);
                    self.find(out, FindingKind::Forged, offset, Some(producer), span, detail);
                }
            }
            Fact::ProducerOpened(_) => {}
            _ => {
                let detail = format!("a {} that its writer may not write here", fact.kind());
                let span = (head.number, head.number);
                self.find(out, FindingKind::Foreign, offset, Some(producer), span, &detail);
            }
        }
    }

    fn attempt(&mut self, view: &AttemptView<'_>) {
        let key = (view.request, view.attempt);
        match view.step {
            Step::Reserve { amount } => {
                let Some(path) = self.accounts.path(view.accounts) else { return };
                let amount = amount.max(Money::ZERO);
                let open = Open { path, lease: view.lease, amount };
                if self.attempts.open(key, open) {
                    self.charge(&open, Charge { reserved: amount, ..Charge::default() });
                }
            }
            Step::Void { .. } => {
                if let Some(Some(open)) = self.attempts.end(key) {
                    let reserved = Money::ZERO.minus(open.amount);
                    self.charge(&open, Charge { reserved, ..Charge::default() });
                }
            }
            Step::Settle { reserved, amount, overrun, unpriced, reserved_by } => {
                let amount = amount.max(Money::ZERO);
                let (open, bound) = match self.attempts.end(key) {
                    Some(Some(open)) => (open, open.amount),
                    // A successor ends only what its predecessor had reserved.
                    Some(None) if reserved_by.is_none() => {
                        let Some(path) = self.accounts.path(view.accounts) else { return };
                        (Open { path, lease: view.lease, amount: Money::ZERO }, reserved)
                    }
                    Some(None) | None => return,
                };
                // Only what was reserved is the lease's; the rest is beside it.
                let within = amount.min(bound.max(Money::ZERO));
                let overrun = overrun.max(Money::ZERO);
                let reserved = Money::ZERO.minus(open.amount);
                self.charge(&open, Charge { settled: amount, within, reserved, overrun });
                if unpriced {
                    self.accounts.each(open.path, |slot| slot.unpriced += 1);
                }
            }
        }
    }

    /// Moves money at each account of the path, and under the lease.
    fn charge(&mut self, open: &Open, charge: Charge) {
        let mut leased = Money::ZERO;
        if let Some(lease) = open.lease {
            leased = charge.within.plus(charge.reserved);
            self.leases.change(lease, |used| {
                used.settled = used.settled.plus(charge.within);
                used.reserved = used.reserved.plus(charge.reserved);
            });
        }
        let (settles, overruns) = (charge.settled != Money::ZERO, charge.overrun != Money::ZERO);
        self.accounts.each(open.path, |slot| {
            slot.balance.reserved = slot.balance.reserved.plus(charge.reserved);
            slot.leased = slot.leased.plus(leased);
            // A reservation, every other fact, changes neither of these.
            if settles {
                slot.balance.settled = slot.balance.settled.plus(charge.settled);
            }
            if overruns {
                slot.balance.overrun = slot.balance.overrun.plus(charge.overrun);
            }
        });
    }
}

/// What an attempt's fact changes.
#[derive(Debug, Clone, Copy, Default)]
struct Charge {
    settled: Money,
    /// Of settled, what was reserved.
    within: Money,
    reserved: Money,
    overrun: Money,
}
