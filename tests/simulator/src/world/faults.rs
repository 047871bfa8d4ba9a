//! The plan's events and how they come about.

use bursar_schemas::facts::Recovery;

use super::{Broken, Event, World};
use crate::calendar::SECOND;
use crate::marks::Mark;
use crate::plan::Act;

impl World {
    /// An event of the plan.
    pub(super) fn act(&mut self, index: usize) -> Result<bool, Broken> {
        self.note_trouble(index);
        match self.plan[index].act.clone() {
            Act::Request { shim, path, tries } => {
                let until = self.shims[shim].paused_until;
                if self.shims[shim].node.is_some() && until > self.now {
                    // It waits in the listener's queue.
                    self.at(until, Event::Plan(index));
                    return Ok(false);
                }
                self.request(shim, path, tries)
            }
            Act::Limit { budget, amount } => {
                self.change_budget(budget, |it| it.amount = amount);
                Ok(true)
            }
            Act::Mode { budget, mode } => {
                self.change_budget(budget, |it| it.mode = mode);
                Ok(true)
            }
            Act::Recovery { budget } => {
                self.change_budget(budget, |it| {
                    it.recovery = match it.recovery {
                        Recovery::Forfeit => Recovery::Journal,
                        Recovery::Journal => Recovery::Forfeit,
                    };
                });
                Ok(true)
            }
            Act::Raise { budget, change, lasts } => {
                self.raise(budget, change, lasts);
                Ok(true)
            }
            Act::CrashLedger { slot, kept, down } => Ok(self.crash_ledger(slot, kept, down)),
            Act::PauseLedger { slot, lasts } => Ok(self.pause_ledger(slot, lasts)),
            Act::RestartLedgers { down } => Ok(self.restart_ledgers(down)),
            Act::Rebalance { slot, both } => Ok(self.rebalance(slot, both)),
            Act::CrashShim { slot, down, disk, again } => Ok(self.crash_shim(slot, down, disk, again)),
            Act::PauseShim { slot, lasts } => Ok(self.pause_shim(slot, lasts)),
            Act::StopShim { slot, down } => {
                let slot = slot % self.shims.len();
                self.stop_in_order(index, slot, down)
            }
            Act::RefuseFacts { slot, lasts } => {
                let slot = slot % self.shims.len();
                self.shims[slot].refuses_until = self.now + lasts;
                self.note(|| format!("the spool of shim {slot} refuses for {lasts} us"));
                Ok(true)
            }
            Act::LagLedger { slot, lane, lasts } => {
                let slot = slot % self.ledgers.len();
                self.ledgers[slot].lag_until[lane] = self.now + lasts;
                Ok(true)
            }
            Act::LagShim { slot, policy, lasts } => {
                let place = slot % self.shims.len();
                let until = self.now + lasts;
                let place = &mut self.shims[place];
                *(if policy { &mut place.policy_lag_until } else { &mut place.lag_until }) = until;
                Ok(true)
            }
            Act::Hold { ledger, slot, lasts } => Ok(self.hold(ledger, slot, lasts)),
            Act::Jump { by } => {
                self.now += by;
                self.hit(Mark::Jumped);
                self.note(|| format!("everything stood still for {by} us"));
                Ok(true)
            }
            Act::Confuse { kind, with } => self.confuse(kind, with),
        }
    }

    /// Remembers until when a fault lasts: healing waits for it.
    fn note_trouble(&mut self, index: usize) {
        let lasts = match self.plan[index].act {
            Act::CrashLedger { down, .. } | Act::RestartLedgers { down } => down,
            Act::CrashShim { down, .. } | Act::StopShim { down, .. } => down + SECOND,
            Act::PauseLedger { lasts, .. } | Act::PauseShim { lasts, .. } => lasts,
            Act::Rebalance { both, .. } => both,
            Act::Hold { lasts, .. } | Act::LagLedger { lasts, .. } | Act::LagShim { lasts, .. } => lasts,
            _ => 0,
        };
        self.quiet_after = self.quiet_after.max(self.now + lasts);
    }

    /// A running ledger, counted from a slot.
    fn running_ledger(&self, slot: usize) -> Option<usize> {
        let count = self.ledgers.len();
        (0..count).map(|step| (slot + step) % count).find(|it| self.ledgers[*it].node.is_some())
    }

    /// A shim takes no more requests, and stops once those under way are over.
    fn stop_in_order(&mut self, index: usize, slot: usize, down: i64) -> Result<bool, Broken> {
        if self.healing || self.shims[slot].node.is_none() {
            return Ok(false);
        }
        self.shims[slot].draining = true;
        if self.shims[slot].paused_until <= self.now && self.shim_stop(slot)? {
            self.at(self.now + down, Event::ShimStart { slot, again: false });
            return Ok(true);
        }
        self.at(self.now + SECOND / 5, Event::Plan(index));
        Ok(false)
    }

    /// A ledger dies: at once, or as soon as it has something under way that can be lost.
    fn crash_ledger(&mut self, slot: usize, kept: u64, down: i64) -> bool {
        let Some(slot) = self.running_ledger(slot) else { return false };
        let writer = self.ledgers[slot].node.as_ref().map(|node| node.writer);
        let idle = writer.is_some_and(|writer| self.broker.writers[writer].under_way.is_empty());
        if idle && kept < 4 {
            self.ledgers[slot].doomed = Some((kept, down));
            return true;
        }
        self.crash_now(slot, kept, down)
    }

    /// A ledger that is to die with something under way dies once it has.
    pub(super) fn doom(&mut self, slot: usize) {
        let Some((kept, down)) = self.ledgers[slot].doomed.filter(|_| !self.healing) else { return };
        let writer = self.ledgers[slot].node.as_ref().map(|node| node.writer);
        if writer.is_some_and(|writer| !self.broker.writers[writer].under_way.is_empty()) {
            self.quiet_after = self.quiet_after.max(self.now + down);
            self.crash_now(slot, kept, down);
        }
    }

    fn crash_now(&mut self, slot: usize, kept: u64, down: i64) -> bool {
        let life = self.ledgers[slot].life;
        if let Some(node) = &self.ledgers[slot].node {
            let under_way = &mut self.broker.writers[node.writer].under_way;
            // The first part still arrives, perhaps long after a successor has begun; the rest is lost.
            let keep = under_way.len() * usize::try_from(kept).unwrap_or(0) / 4;
            if keep < under_way.len() {
                under_way.truncate(keep);
                self.marks.hit(Mark::LostSuffix);
            }
        }
        self.ledger_stop(slot, life);
        self.hit(Mark::LedgerCrashed);
        self.at(self.now + down, Event::LedgerStart { slot });
        true
    }

    fn pause_ledger(&mut self, slot: usize, lasts: i64) -> bool {
        let Some(slot) = self.running_ledger(slot) else { return false };
        self.ledgers[slot].paused_until = self.now + lasts;
        self.note(|| format!("ledger {slot} is paused for {lasts} us"));
        if lasts > self.settings.timing.takeover_after {
            self.hit(Mark::LedgerPaused);
        }
        true
    }

    fn restart_ledgers(&mut self, down: i64) -> bool {
        let mut stopped = 0;
        for slot in 0..self.ledgers.len() {
            let life = self.ledgers[slot].life;
            stopped += usize::from(self.ledger_stop(slot, life));
        }
        let count = stopped.max(2).min(self.ledgers.len());
        for slot in 0..count {
            self.at(self.now + down, Event::LedgerStart { slot });
        }
        self.hit(Mark::TwoAtOnce);
        true
    }

    /// Another instance starts before the one that it replaces has stopped.
    fn rebalance(&mut self, slot: usize, both: i64) -> bool {
        let Some(from) = self.running_ledger(slot) else { return false };
        let Some(to) = (0..self.ledgers.len()).find(|it| self.ledgers[*it].node.is_none()) else {
            return false;
        };
        let life = self.ledgers[from].life;
        self.at(self.now, Event::LedgerStart { slot: to });
        self.at(self.now + both, Event::LedgerStop { slot: from, life });
        self.hit(Mark::Rebalanced);
        true
    }

    fn crash_shim(&mut self, slot: usize, down: i64, disk: bool, again: bool) -> bool {
        let slot = slot % self.shims.len();
        let life = self.shims[slot].life;
        if !disk && self.settings.faults.retires {
            // It dies while it writes: some of that arrives after everything else is over.
            self.heads(slot, false);
            if let Some(node) = &self.shims[slot].node {
                self.broker.writers[node.writer].held_until = self.now + 4 * SECOND;
            }
        }
        let crashed = self.shim_crash(slot, life, disk);
        if crashed {
            self.at(self.now + down, Event::ShimStart { slot, again });
            if again {
                self.at(self.now + down + SECOND / 2, Event::ShimStart { slot, again: false });
            }
        }
        crashed
    }

    fn pause_shim(&mut self, slot: usize, lasts: i64) -> bool {
        let slot = slot % self.shims.len();
        if self.shims[slot].node.is_none() {
            return false;
        }
        self.shims[slot].paused_until = self.now + lasts;
        self.note(|| format!("shim {slot} is paused for {lasts} us"));
        if lasts > 5 * SECOND {
            self.shims[slot].zombie = true;
            self.hit(Mark::ShimPaused);
        }
        true
    }

    fn hold(&mut self, ledger: bool, slot: usize, lasts: i64) -> bool {
        let writer = if ledger {
            self.running_ledger(slot).and_then(|slot| Some(self.ledgers[slot].node.as_ref()?.writer))
        } else {
            self.shims[slot % self.shims.len()].node.as_ref().map(|node| node.writer)
        };
        let Some(writer) = writer else { return false };
        self.broker.writers[writer].held_until = self.now + lasts;
        self.note(|| format!("what writer {writer} has under way is held for {lasts} us"));
        true
    }
}
