//! Marks of leases: when they are acknowledged, and what goes back by them once a holder is dead.

use bursar_gateway_shim::leases::{Ask, Raise};
use bursar_gateway_shim::limits::{LimitsCore, mark_fact};
use bursar_schemas::facts::{AccountRef, CreditReason, LeaseCredited, LeaseId, Mode, Phase, Recovery};

use super::{Broken, Event, World};
use crate::calendar::SECOND;
use crate::marks::Mark;
use crate::random::mix;

impl World {
    /// Writes marks as the production shim does: what they are above may be used once they are acknowledged.
    pub(super) fn raise_marks(&mut self, slot: usize, raises: Vec<Raise>) {
        for raise in raises {
            let fact = mark_fact(self.shim_head(slot), &raise);
            self.note(|| format!("shim {slot} marks {} at {}", raise.lease.number, raise.mark));
            if !self.write(slot, vec![fact]) {
                self.shim_core(slot, |core: &mut LimitsCore| core.raised(raise, false));
            } else if let Some(node) = &mut self.shims[slot].node {
                node.raises.push((node.written.len() as u64, raise));
            }
        }
    }

    /// Some of a writer's records have arrived: a while later it learns so.
    pub(super) fn acknowledge(&mut self, writer: usize) {
        let arrived = self.broker.writers[writer].arrived;
        for slot in 0..self.shims.len() {
            let (life, lag) = (self.shims[slot].life, self.lag());
            let Some(node) = &mut self.shims[slot].node else { continue };
            if node.writer != writer {
                continue;
            }
            let from = node.acknowledged;
            node.acknowledged +=
                node.raises[from..].iter().take_while(|(count, _)| *count <= arrived).count();
            for index in from..node.acknowledged {
                let wait = i64::try_from(mix(self.settings.seed, arrived ^ index as u64) % lag).unwrap_or(0);
                let at = self.now + 1 + wait;
                self.at(at, Event::Marked { slot, life, index });
            }
            return;
        }
    }

    /// A mark is acknowledged.
    pub(super) fn marked(&mut self, slot: usize, life: u32, index: usize) -> bool {
        let place = &mut self.shims[slot];
        if place.life != life {
            return false;
        }
        if place.paused_until > self.now {
            let until = place.paused_until;
            self.at(until, Event::Marked { slot, life, index });
            return false;
        }
        let Some(node) = &mut place.node else { return false };
        let raise = node.raises[index].1;
        node.core.raised(raise, true);
        if !node.waiting.is_empty() {
            self.hit(Mark::AwaitedMark);
        }
        self.hit(Mark::Marked);
        self.notify(slot);
        true
    }

    /// Somebody notices that a machine is gone with all that was on it.
    pub(super) fn retire_later(&mut self, writer: usize) {
        if !self.settings.faults.retires || self.healing {
            return;
        }
        // Often at once, when something of it is still under way.
        let wait =
            i64::try_from((self.chance(70, writer as u64) % 8).saturating_sub(5)).unwrap_or(0) * SECOND;
        self.quiet_after = self.quiet_after.max(self.now + wait);
        self.at(self.now + wait, Event::Retire(writer));
    }

    pub(super) fn retire(&mut self, writer: usize) -> bool {
        let from = &self.broker.writers[writer];
        let (id, late) = (from.id, !from.under_way.is_empty());
        if late {
            self.hit(Mark::RetiredLate);
        }
        self.note(|| format!("writer {writer} is retired"));
        self.retired.insert(id, self.broker.spend.len() as u64);
        self.attest(id);
        true
    }

    /// A marked lease is used below its mark alone, as `spend` has it.
    pub(super) fn check_mark(&self, lease: LeaseId, bound: i128) -> Result<(), Broken> {
        let Some(mark) = self.naive.mark(&lease, u64::MAX) else { return Ok(()) };
        let Some(truth) = self.truth.lease(&lease) else { return Ok(()) };
        let used = truth.used() + bound + truth.given();
        if used <= mark {
            return Ok(());
        }
        let detail = format!("{lease}: {used} is used and {mark} marked");
        Err(("a marked lease is used below its mark", detail))
    }

    /// A question begins with a mark where marks recover from the path: by the log, or by policy where the log does not
    /// know a member yet.
    pub(super) fn check_question(&self, slot: usize, ask: &Ask) -> Result<(), Broken> {
        let Some(node) = &self.shims[slot].node else { return Ok(()) };
        let recovers = |account: &AccountRef| {
            let by_log = node.core.fold().budget(&account.budget).map(|it| it.recovery == Recovery::Journal);
            by_log.unwrap_or(account.budget.contains('/') && node.member_recovers)
        };
        if ask.path.iter().any(recovers) == ask.mark.is_some() {
            return Ok(());
        }
        let detail = format!("{} with the mark {:?}", ask.lease, ask.mark);
        Err(("a question begins with a mark where marks recover", detail))
    }

    /// What an honest ledger recovers lies above the last mark that it had read; of one that was retired, above the last
    /// that `spend` had then.
    pub(super) fn check_recovery(&self, offset: u64, credit: &LeaseCredited) -> Result<(), Broken> {
        let granted = self.rules.lease(&credit.lease).map_or(0, |lease| lease.amount);
        let retired = self.retired.get(&credit.lease.holder);
        let attested = retired.copied().filter(|_| credit.reason == CreditReason::Retired).unwrap_or(0);
        let mark = self.naive.mark(&credit.lease, credit.read.max(attested));
        if mark.is_some_and(|mark| credit.amount.pico() == granted - mark) {
            return Ok(());
        }
        let detail = format!("offset {offset}: {} of {granted} above {mark:?}", credit.amount);
        Err(("what is recovered lies above the mark", detail))
    }

    pub(super) fn note_recovery(
        &mut self,
        credit: &LeaseCredited,
        path: &[AccountRef],
    ) -> Result<(), Broken> {
        let dead = self.truth.lease(&credit.lease).is_some_and(|lease| lease.dead);
        if !dead {
            return Err(("only what the dead left is recovered", credit.lease.to_string()));
        }
        let retired = credit.reason == CreditReason::Retired;
        self.hit(if retired { Mark::RecoveredRetired } else { Mark::Recovered });
        if credit.accounts.len() < path.len() {
            self.hit(Mark::RecoveredPart);
        }
        Ok(())
    }

    /// What the dead left above their marks went back in the end; `until` is an offset of `spend` that was there long
    /// enough ago.
    pub(super) fn check_recovered(&self, until: u64) -> Result<(), Broken> {
        // A confused ledger's word alone recovers nothing: its holder may live.
        let ended = |holder| self.naive.ended.contains(holder) || self.retired.contains_key(holder);
        for (id, marks) in self.naive.marks.iter().filter(|(id, _)| !self.wasted.spoils(id)) {
            let over = self.rules.has_ended(&id.holder) && ended(&id.holder);
            let Some(lease) = self.rules.lease(id).filter(|_| over) else { continue };
            let (Some(mark), true) = (self.naive.mark(id, u64::MAX), marks.iter().all(|it| it.0 < until))
            else {
                continue;
            };
            let gave = |(it, _): &(&(LeaseId, u64), &(i128, u64))| it.0 == *id;
            let returned: i128 = self.naive.returned.iter().filter(gave).map(|(_, (it, _))| it).sum();
            // The last return closes a lease, and there is nothing to recover.
            let closed = self.rules.is_closed(id);
            let due = returned + (lease.amount - mark).max(0);
            // By what was in force when it was due; a later change is no fault.
            let recovers = |name: &&AccountRef| {
                let changed =
                    self.mode_changed(&name.budget).is_some() || self.recovery_changed(&name.budget);
                self.recovers(name) && !changed
            };
            for name in lease.accounts.iter().filter(recovers) {
                let open = self.rules.window(name).is_some_and(|it| it.phase == Phase::Open);
                let credited = lease.credited.get(name).copied().unwrap_or(0);
                if open && !lease.reclaimed.contains(name) && credited < due && !(closed && returned > 0) {
                    let detail =
                        format!("{id}: {credited} of {due} came back to {name:?} ({returned} returned)");
                    return Err(("what the dead left above their marks comes back", detail));
                }
            }
        }
        Ok(())
    }

    /// True for accounts that take back what marks show.
    fn recovers(&self, name: &AccountRef) -> bool {
        let recovery = self.rules.recovery(&name.budget);
        self.rules.limit(&name.budget).1 != Mode::Hard || recovery == Recovery::Journal
    }
}
