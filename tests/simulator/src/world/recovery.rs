//! The death of a shim, and what its successor makes of its disk.

use bursar_schemas::facts::{Fact, LeaseId, Reserved, ShimEnded};
use bursar_schemas::ids::ProducerId;
use bytes::Bytes;

use super::requests::{Flight, State};
use super::{Broken, World};
use crate::marks::Mark;

/// The spool of an incarnation that died.
#[derive(Debug, Clone)]
pub(super) struct Spool {
    producer: ProducerId,
    writer: usize,
    written: Vec<Bytes>,
    /// Reservations without an end.
    open: Vec<Reserved>,
    recovered: u32,
}

impl World {
    /// A shim dies. What its provider was asked for is billed all the same.
    pub(super) fn shim_crash(&mut self, slot: usize, life: u32, disk: bool) -> bool {
        if self.shims[slot].life != life {
            return false;
        }
        let Some(node) = self.shims[slot].node.take() else { return false };
        self.note(|| format!("shim {slot} dies{}", if disk { "" } else { " with its disk" }));
        self.hit(if disk { Mark::ShimCrashed } else { Mark::ShimLostDisk });
        let from = &mut self.broker.writers[node.writer];
        from.gone = true;
        // What was not sent yet is on the disk only.
        let kept = usize::try_from(crate::random::mix(self.settings.seed, from.arrived) % 3).unwrap_or(0);
        from.under_way.truncate(if disk { kept } else { kept.max(1) });
        let producer = from.id;
        let mut open = Vec::new();
        for request in &node.waiting {
            self.requests[*request].state = State::Over;
        }
        for index in 0..self.requests.len() {
            let request = &self.requests[index];
            if let (true, State::InFlight(flight)) =
                (request.slot == slot && request.life == life, request.state.clone())
            {
                self.hit(Mark::LostInCrash);
                self.charge_lost(index, &flight);
                open.push(flight.reserved);
                self.requests[index].state = State::Over;
            }
        }
        self.bury(producer);
        let place = &mut self.shims[slot];
        if disk {
            place.disk.push(Spool {
                producer,
                writer: node.writer,
                written: node.written,
                open,
                recovered: 0,
            });
        } else {
            place.disk.clear();
            place.kept = None;
            self.retire_later(node.writer);
        }
        true
    }

    fn charge_lost(&mut self, index: usize, flight: &Flight) {
        let (lease, bound) = (flight.lease, flight.bound);
        let request = &self.requests[index];
        let billed = request.bill();
        let accounts = Self::accounts_at(&request.budgets, request.at);
        self.truth.bill(&accounts, billed, flight.leased(), billed - flight.bound);
        if let Some(lease) = lease {
            self.truth.change(lease, self.now, |it| {
                it.in_flight -= bound;
                it.billed += billed.min(bound);
                it.settled += bound;
            });
        }
    }

    /// An incarnation is gone: nothing is admitted under its leases any more.
    pub(super) fn bury(&mut self, producer: ProducerId) {
        let its: Vec<LeaseId> =
            self.truth.leases().map(|(id, _)| *id).filter(|id| id.holder == producer).collect();
        for id in its {
            self.truth.change(id, self.now, |lease| {
                lease.left = 0;
                lease.dead = true;
            });
        }
    }

    /// The successor sends what its predecessors left, under their names, and then closes what they left open.
    pub(super) fn recover(&mut self, slot: usize) {
        let mut spools = std::mem::take(&mut self.shims[slot].disk);
        let mut facts: Vec<Fact> = Vec::new();
        let mut last = 0;
        for spool in &mut spools {
            spool.recovered += 1;
            if spool.recovered == 2 {
                self.hit(Mark::RecoveredTwice);
            }
            let from = &self.broker.writers[spool.writer];
            // Some of it was acknowledged, and the acknowledgement was lost.
            let arrived =
                usize::try_from(from.arrived).unwrap_or(0).min(spool.written.len()).saturating_sub(2);
            let rest: Vec<Bytes> = spool.written[arrived..].to_vec();
            self.send(spool.writer, rest);
            last = last.max(self.broker.writers[spool.writer].last_arrival);
            let head = self.shim_head(slot);
            for reserved in &spool.open {
                facts.push(reserved.settled_at_bound(head.clone(), spool.producer).into());
            }
            facts.push(ShimEnded { head, incarnation: spool.producer }.into());
        }
        self.shims[slot].disk = spools;
        if facts.is_empty() {
            return;
        }
        if let Some(node) = &self.shims[slot].node {
            let writer = node.writer;
            self.broker.writers[writer].last_arrival = last;
        }
        self.write(slot, facts);
    }

    /// A shim stops in good order: everything goes back, and it says that it has ended.
    pub(super) fn shim_stop(&mut self, slot: usize) -> Result<bool, Broken> {
        let Some(node) = &self.shims[slot].node else { return Ok(false) };
        let (life, producer) = (self.shims[slot].life, self.broker.writers[node.writer].id);
        let in_flight = self.requests.iter().any(|request| {
            request.slot == slot && request.life == life && matches!(request.state, State::InFlight(_))
        });
        if in_flight {
            return Ok(false);
        }
        self.hit(Mark::ShimStopped);
        self.note(|| format!("shim {slot} stops in good order"));
        let given = self.shim_core(slot, bursar_gateway_shim::limits::LimitsCore::give_back_all);
        self.note_returns(slot, &given);
        self.write_returns(slot, given);
        self.sync(slot)?;
        let ended = ShimEnded { head: self.shim_head(slot), incarnation: producer };
        self.write(slot, vec![ended.into()]);
        self.heads(slot, true);
        if let Some(node) = self.shims[slot].node.take() {
            for request in node.waiting {
                self.requests[request].state = State::Over;
            }
        }
        self.bury(producer);
        Ok(true)
    }
}
