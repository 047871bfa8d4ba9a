//! Attempts: from the reservation on the record to the one ending.

use bursar_gateway_shim::limits::Patience;
use bursar_gateway_shim::owed::{Owed, owed};
use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{
    About, AttemptOutcome, Basis, Confidence, Fact, LeaseId, Reserved, Settled, VoidReason, Voided,
};
use bursar_schemas::money::Money;

use super::requests::{Flight, Request, State};
use super::{Broken, Event, World};
use crate::marks::Mark;
use crate::plan::Try;
use crate::settings::FIRST_TARGET;

impl World {
    /// An attempt may begin: its reservation goes on the record.
    pub(super) fn admit(&mut self, index: usize, lease: Option<LeaseId>) -> Result<(), Broken> {
        let request = &self.requests[index];
        let (slot, now) = (request.slot, *request.now());
        let accounts = request.drawn.as_ref().map(|drawn| drawn.path.to_vec()).unwrap_or_default();
        let reserved = Reserved {
            head: self.shim_head(slot),
            about: about(request),
            attempt: request.attempt as u32 + 1,
            provider: "openai".into(),
            model: "m".into(),
            accounts,
            lease,
            amount: Money::from_pico(now.bound),
        };
        self.leave_queue(index);
        if !self.write(slot, vec![reserved.clone().into()]) {
            // Not on the record, so not sent: the money stays in the book.
            if let Some(lease) = lease {
                let given = self.shim_core(slot, |core| core.settle(lease, reserved.amount, Money::ZERO));
                self.note_returns(slot, &given);
                self.write_returns(slot, given);
                self.notify(slot);
            }
            self.requests[index].state = State::Over;
            return Ok(());
        }
        self.mark_admission(index, lease);
        if lease.is_none() {
            self.truth.passed.extend(reserved.accounts.iter().cloned());
        }
        if let Some(lease) = lease {
            self.check_admission(slot, lease)?;
            self.check_mark(lease, now.bound)?;
            self.truth.change(lease, self.now, |it| it.in_flight += now.bound);
        }
        self.note(|| {
            let from = lease.map_or_else(|| "no lease".to_owned(), |it| format!("lease {}", it.number));
            format!("request {index} at shim {slot} sends {} under {from}", reserved.amount)
        });
        self.requests[index].state = State::InFlight(Box::new(Flight { lease, bound: now.bound, reserved }));
        let attempt = self.requests[index].attempt as u32;
        self.at(self.now + now.takes, Event::End(index, attempt));
        Ok(())
    }

    fn mark_admission(&mut self, index: usize, lease: Option<LeaseId>) {
        let (slot, request) = (self.requests[index].slot, &self.requests[index]);
        let (old, fell_back) = (
            Self::accounts_at(&request.budgets, request.at)
                != Self::accounts_at(&request.budgets, self.now + self.shims[slot].skew),
            request.attempt > 0 && lease.is_some(),
        );
        self.hit(if lease.is_some() { Mark::AdmittedLeased } else { Mark::AdmittedFree });
        if old {
            self.hit(Mark::OldWindow);
        }
        if fell_back {
            self.hit(Mark::FellBack);
        }
        if std::mem::take(&mut self.shims[slot].zombie) {
            self.hit(Mark::ZombieShim);
        }
    }

    /// An attempt is over.
    pub(super) fn end(&mut self, index: usize, attempt: u32) -> Result<bool, Broken> {
        if self.requests[index].attempt as u32 != attempt
            || !self.shim_runs(index, Event::End(index, attempt))
        {
            return Ok(false);
        }
        let request = &self.requests[index];
        let State::InFlight(flight) = request.state.clone() else { return Ok(false) };
        let (slot, now, billed, is_bound) =
            (request.slot, *request.now(), request.bill(), request.is_bound());
        let accounts = Self::accounts_at(&request.budgets, request.at);
        let sent = now.outcome != AttemptOutcome::Unreachable;
        let rule = owed(sent, now.outcome, now.reported, true);
        let amount = match rule {
            Owed::Usage => billed,
            Owed::Bound(_) => flight.bound,
            Owed::Nothing(_) => 0,
        };
        self.mark_end(&now, rule);
        if flight.lease.is_some() && billed > flight.bound {
            self.hit(Mark::Overran);
        }
        // An estimate may be too low, and nobody learns by how much where no usage is reported.
        if amount < billed && (is_bound || now.reported) {
            let detail = format!("request {index} was billed {billed} and settled at {amount}");
            return Err(("an attempt is settled at no less than its bill", detail));
        }
        self.truth.bill(&accounts, billed, flight.leased(), billed - flight.bound);
        let mut given = Vec::new();
        if let Some(lease) = flight.lease {
            let (reserved, cost) = (Money::from_pico(flight.bound), Money::from_pico(amount));
            given = self.shim_core(slot, |core| core.settle(lease, reserved, cost));
            self.truth.change(lease, self.now, |it| {
                it.in_flight -= flight.bound;
                it.billed += billed.min(flight.bound);
                it.settled += amount.min(flight.bound);
            });
            self.notify(slot);
        }
        let fact = ending(&flight.reserved, rule, Money::from_pico(amount), self.shim_head(slot));
        if let (false, Some(lease)) = (self.write(slot, vec![fact]), flight.lease) {
            // Nobody else ever learns that it is over.
            let unended = flight.bound - amount.min(flight.bound);
            self.truth.change(lease, self.now, |it| it.unended += unended);
        }
        self.note_returns(slot, &given);
        self.write_returns(slot, given);
        self.requests[index].state = State::Over;
        let more = self.requests[index].attempt + 1 < self.requests[index].tries.len();
        if more && now.outcome != AttemptOutcome::Answered {
            self.requests[index].attempt += 1;
            if self.requests[index].budgets.contains(&FIRST_TARGET) {
                self.hit(Mark::OtherPath);
                self.requests[index].budgets.retain(|budget| *budget != FIRST_TARGET);
                self.begin_wait(index, State::Drawing);
                self.look(index)?;
                self.sync(slot)?;
                return Ok(true);
            }
            let blocks = self.requests[index].drawn.as_ref().is_some_and(|drawn| drawn.blocks);
            self.begin_wait(index, State::Waiting(Patience::default()));
            if blocks {
                self.look(index)?;
            } else {
                self.admit(index, None)?;
            }
        }
        self.sync(slot)?;
        Ok(true)
    }

    fn mark_end(&mut self, now: &Try, rule: Owed) {
        if now.permille == 1000 {
            self.hit(Mark::BilledWhole);
        }
        if now.outcome == AttemptOutcome::TimedOut && now.permille > 0 {
            self.hit(Mark::TimedOutBilled);
        }
        match rule {
            Owed::Usage => {}
            Owed::Bound(_) => self.hit(Mark::WholeR),
            Owed::Nothing(_) => self.hit(Mark::Voided),
        }
    }
}

fn about(request: &Request) -> About {
    About {
        request: request.id,
        accounting_at: Micros(request.at),
        organisation: "acme".into(),
        team: None,
        project: None,
        key: "k".into(),
        end_user: None,
        cost_center: None,
        tags: std::collections::BTreeMap::new(),
    }
}

fn ending(reserved: &Reserved, rule: Owed, amount: Money, head: bursar_schemas::facts::Head) -> Fact {
    let (about, attempt, accounts) = (reserved.about.clone(), reserved.attempt, reserved.accounts.clone());
    let (lease, bound) = (reserved.lease, reserved.amount);
    let basis = match rule {
        Owed::Nothing(reason) => return voided(head, reserved, reason),
        Owed::Usage => Basis::Usage,
        Owed::Bound(basis) => basis,
    };
    Settled {
        head,
        about,
        attempt,
        provider: reserved.provider.clone(),
        model: reserved.model.clone(),
        accounts,
        lease,
        reserved: bound,
        amount,
        confidence: if rule == Owed::Usage { Confidence::Reported } else { Confidence::Estimated },
        basis,
        lines: Vec::new(),
        usage: None,
        overrun: amount.minus_or_zero(bound),
        reserved_by: None,
    }
    .into()
}

fn voided(head: bursar_schemas::facts::Head, reserved: &Reserved, reason: VoidReason) -> Fact {
    Voided {
        head,
        about: reserved.about.clone(),
        attempt: reserved.attempt,
        accounts: reserved.accounts.clone(),
        lease: reserved.lease,
        reserved: reserved.amount,
        reason,
        reserved_by: None,
    }
    .into()
}
