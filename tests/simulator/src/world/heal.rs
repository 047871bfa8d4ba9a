//! The end of a world: all faults cease, everything arrives, and what can be spent is spent.

use bursar_schemas::facts::{AccountRef, AttemptOutcome, Phase};

use super::requests::State;
use super::{Broken, World};
use crate::calendar::SECOND;
use crate::marks::Mark;
use crate::plan::Try;
use crate::settings::{CENT, PATHS};

/// Requests that share what is left of a path.
const PIECES: i128 = 40;

impl World {
    pub(super) fn heal(&mut self) -> Result<(), Broken> {
        self.note(|| "faults cease".to_owned());
        self.healing = true;
        self.shims.iter_mut().for_each(|place| place.draining = false);
        let quiet = self.quiet_after.max(self.now);
        self.run_until(quiet + SECOND)?;
        for slot in 0..self.settings.ledgers {
            self.ledger_start(slot)?;
        }
        self.start_shims()?;
        self.leave_edges()?;
        // What a confused ledger wrote last may have come only now.
        self.start_shims()?;
        self.until("somebody acts and every request is over", 200, |world| {
            let idle = world.requests.iter().all(|request| matches!(request.state, State::Over));
            idle && world.acting() == 1 && (0..world.shims.len()).all(|slot| world.is_ready(slot))
        })?;
        self.rest(8)?;
        for path in 0..PATHS.len() {
            self.spend_down(path)?;
        }
        self.rest(4)?;
        self.hit(Mark::Healed);
        Ok(())
    }

    /// Starts the shims that do not run. One that a confused ledger has ended refuses everything: whoever watches over it
    /// starts it anew.
    fn start_shims(&mut self) -> Result<(), Broken> {
        for slot in 0..self.settings.shims {
            let node = self.shims[slot].node.as_ref();
            if node.is_some_and(|node| self.rules.has_ended(&self.broker.writers[node.writer].id)) {
                let life = self.shims[slot].life;
                self.shim_crash(slot, life, true);
            }
            self.shim_start(slot, false)?;
        }
        Ok(())
    }

    fn acting(&self) -> usize {
        let nodes = self.ledgers.iter().filter_map(|place| place.node.as_ref());
        nodes.filter(|node| node.ready && node.is_acting()).count()
    }

    /// Runs until something holds, by the second.
    fn until(&mut self, what: &str, seconds: i64, holds: impl Fn(&Self) -> bool) -> Result<(), Broken> {
        for _ in 0..seconds {
            if holds(self) {
                return Ok(());
            }
            let now = self.now;
            self.run_until(now + SECOND)?;
        }
        Err(("after all faults have ceased the world comes to rest", format!("never: {what}")))
    }

    /// Away from the end of an hour, so that no window ends while money is spent down.
    fn leave_edges(&mut self) -> Result<(), Broken> {
        let hour = 3600 * SECOND;
        let left = hour - self.now.rem_euclid(hour);
        if left < 240 * SECOND {
            self.now += left + 2 * SECOND;
        }
        let now = self.now;
        self.run_until(now + 6 * SECOND)
    }

    /// Some seconds later everything that was under way has been answered.
    fn rest(&mut self, seconds: i64) -> Result<(), Broken> {
        let now = self.now;
        self.run_until(now + (seconds - 2) * SECOND)?;
        let marks = (self.broker.limits.len() as u64, self.broker.spend.len() as u64);
        let now = self.now;
        self.run_until(now + 2 * SECOND)?;
        self.check_rest(marks)
    }

    /// What must hold once nothing is under way, by ends of `limits` and `spend` that were there long enough ago.
    fn check_rest(&mut self, (written, mark): (u64, u64)) -> Result<(), Broken> {
        let (reference, end) = (&self.broker.reference, self.broker.limits.len() as u64);
        for node in self.ledgers.iter().filter_map(|place| place.node.as_ref()) {
            // What was written a moment ago may still be on its way to a reader.
            if node.reading.limits < written {
                let detail = format!("a ledger is at {} of {written}", node.reading.limits);
                return Err(("every reader comes to the end", detail));
            }
            if node.reading.limits == end && node.core.fold() != reference {
                return Err(("every fold is equal in the end", "a ledger's differs".to_owned()));
            }
            if node.is_acting() && node.core.waiting().1 > 0 {
                let detail = format!("{} requests wait", node.core.waiting().1);
                return Err(("every request for a lease is answered in the end", detail));
            }
        }
        for node in self.shims.iter().filter_map(|place| place.node.as_ref()) {
            if node.next < written {
                return Err((
                    "every reader comes to the end",
                    format!("a shim is at {} of {written}", node.next),
                ));
            }
            if node.next == end && node.core.fold() != reference {
                return Err(("every fold is equal in the end", "a shim's differs".to_owned()));
            }
        }
        self.check_alerts()?;
        self.check_recovered(mark)?;
        self.check_returns(mark)
    }

    /// Every return that reached the log was credited to every account whose window was not closed before.
    fn check_returns(&self, mark: u64) -> Result<(), Broken> {
        let mut returned = std::collections::BTreeMap::new();
        for ((lease, _), (amount, offset)) in &self.naive.returned {
            let entry = returned.entry(*lease).or_insert((0, 0));
            *entry = (entry.0 + *amount, entry.1.max(*offset));
        }
        for (id, (sum, _)) in returned.into_iter().filter(|(_, (_, offset))| *offset < mark) {
            let Some(lease) = self.rules.lease(&id).filter(|_| !self.wasted.spoils(&id)) else { continue };
            for name in &lease.accounts {
                let open = self.rules.window(name).is_some_and(|it| it.phase == Phase::Open)
                    && !lease.reclaimed.contains(name)
                    && !lease.is_recovered();
                let credited = lease.credited.get(name).copied().unwrap_or(0);
                if open && credited != sum {
                    let detail = format!("{id} returned {sum} and {credited} came back to {name:?}");
                    return Err(("every return is credited in the end", detail));
                }
            }
        }
        Ok(())
    }

    /// The blocking accounts of a path now.
    fn blocking_now(&self, path: usize) -> Vec<AccountRef> {
        let accounts = Self::accounts_at(PATHS[path], self.now);
        accounts.into_iter().filter(|name| self.rules.blocks(&name.budget)).collect()
    }

    /// What may still be had of an account: nobody holds it for good and nobody has spent it.
    fn to_be_had(&self, name: &AccountRef) -> i128 {
        let (limit, _) = self.rules.limit(&name.budget);
        let committed = self.rules.window(name).map_or(0, |window| window.committed);
        let mut idle = 0;
        for (id, lease) in self.truth.leases().filter(|(_, lease)| lease.accounts.contains(name)) {
            let credited = self.rules.lease(id).and_then(|it| it.credited.get(name)).copied().unwrap_or(0);
            let lost = lease.dead || self.wasted.spoils(id);
            let all = lease.left + lease.given() - credited - lease.unended;
            idle += match self.rules.lease(id).filter(|it| it.reclaimed.contains(name)) {
                _ if lost => 0,
                None => all,
                // What a time-out credited does not come back again, nor what would have come back together with it, by
                // what was used then.
                Some(granted) => {
                    let open = lease.returns.iter().filter(|it| !granted.has_returned(it.number));
                    let pieces = open.map(|it| (it.amount, it.used)).chain([(lease.left, lease.used())]);
                    let fits = |(amount, used): &(i128, i128)| *amount <= granted.amount - credited - used;
                    all.min(pieces.filter(fits).map(|(amount, _)| amount).sum())
                }
            };
        }
        // What a time-out credited and a slow holder spent all the same is spent twice. What was too low an estimate is
        // spent beside every lease.
        (limit - committed + idle - self.naive.over(name, u64::MAX))
            .min(limit - self.naive.stand(name).settled)
    }

    /// True when every window of a path is open, or opens once somebody asks: only a confused ledger ends one before its
    /// time, and that stays so until the next one.
    fn takes_grants(&self, path: usize) -> Result<bool, Broken> {
        for name in Self::accounts_at(PATHS[path], self.now) {
            let ended = self.rules.window(&name).is_some_and(|it| it.phase != Phase::Open);
            if ended && !self.wasted.ends(&name) {
                return Err(("the windows of the present are open in the end", format!("{name:?}")));
            }
            if ended {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sends small requests on a path until the money is gone; then some account of it must be used up.
    fn spend_down(&mut self, path: usize) -> Result<(), Broken> {
        if !self.takes_grants(path)? {
            return Ok(());
        }
        let accounts = self.blocking_now(path);
        let Some(left) = accounts.iter().map(|name| self.to_be_had(name)).min() else { return Ok(()) };
        // What passed beside every lease while a budget was soft is spent as well, and not in the log.
        let free = |name: &AccountRef| self.truth.passed.contains(name);
        if left < CENT || accounts.iter().any(free) {
            return Ok(());
        }
        let before: Vec<i128> = accounts.iter().map(|name| self.billed(name)).collect();
        let bound = left / PIECES;
        let (mut refused, mut sent) = (0, 0);
        while refused < 3 && sent < 3 * PIECES {
            let slot = usize::try_from(sent).unwrap_or(0) % self.shims.len();
            sent += 1;
            if !self.ask_once(slot, path, bound)? {
                refused += 1;
            }
        }
        let spent = accounts.iter().zip(before).map(|(name, before)| self.billed(name) - before).max();
        if spent.unwrap_or(0) * 100 < left * 95 {
            let detail = format!("path {path}: {} was spent of {left} that could be had", spent.unwrap_or(0));
            return Err(("in the end what can be had can be spent", detail));
        }
        self.hit(Mark::Exhausted);
        Ok(())
    }

    fn billed(&self, name: &AccountRef) -> i128 {
        self.truth.account(name).map_or(0, |account| account.billed)
    }

    /// One request for all of its bound; true when it was served.
    fn ask_once(&mut self, slot: usize, path: usize, bound: i128) -> Result<bool, Broken> {
        let (outcome, permille, estimated, takes) = (AttemptOutcome::Answered, 1000, 1000, 1_000);
        let attempt = Try { bound, outcome, permille, estimated, reported: true, takes };
        let name = &Self::accounts_at(PATHS[path], self.now)[0];
        let before = self.billed(name);
        let index = self.requests.len();
        if !self.request(slot, path, vec![attempt])? {
            return Ok(false);
        }
        let deadline = self.now + 10 * SECOND;
        while !matches!(self.requests[index].state, State::Over) && self.now < deadline {
            self.step()?;
        }
        Ok(self.billed(name) > before)
    }
}
