//! Shims: the production core of one partition, fed as the production follower feeds it.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use bursar_gateway_shim::leases::{GiveBack, Raise};
use bursar_gateway_shim::limits::{LimitsCore, return_facts};
use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{Fact, Head, LeaseId, Role};
use bursar_schemas::ids::Generation;
use bursar_schemas::policy::{Budget, PolicyState};
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::producer::Chains;
use bursar_schemas::snapshot::Place;
use bytes::Bytes;

use super::policy::shared;
use super::recovery::Spool;
use super::{Broken, Event, World};
use crate::calendar::SECOND;
use crate::marks::Mark;
use crate::random::mix;
use crate::settings::Settings;

/// Records of `limits` between two snapshots.
const SNAPSHOT_EVERY: u64 = 20;

/// A place for a shim process, with its disk.
#[derive(Debug)]
pub(super) struct ShimSlot {
    pub life: u32,
    pub node: Option<Node>,
    pub paused_until: i64,
    /// It was paused for long and has not admitted anything since.
    pub zombie: bool,
    pub skew: i64,
    pub lag_until: i64,
    pub policy_lag_until: i64,
    pub refuses_until: i64,
    /// It stops in good order and takes no more requests.
    pub draining: bool,
    /// Spools of predecessors that are not recovered yet.
    pub disk: Vec<Spool>,
    /// The snapshot that it kept last, and the offset to go on from.
    pub kept: Option<(u64, Vec<u8>)>,
    reading: [bool; 2],
}

/// A running shim.
#[derive(Debug)]
pub(super) struct Node {
    pub core: LimitsCore,
    pub chains: Chains,
    pub writer: usize,
    /// Next offset of `limits`.
    pub next: u64,
    /// Where `limits` ended at the start.
    catch_up: u64,
    pub policy: PolicyState,
    policy_next: usize,
    pub budgets: Vec<Arc<Budget>>,
    /// Marks recover from members' accounts, by the policy of the newest request of a member.
    pub member_recovers: bool,
    /// Everything it wrote, as its spool has it.
    pub written: Vec<Bytes>,
    /// Leases that it held when last looked at.
    held: Vec<LeaseId>,
    /// Marks that it wrote, each with how many records it had written then; and how many are acknowledged.
    pub raises: Vec<(u64, Raise)>,
    pub acknowledged: usize,
    /// Requests that wait.
    pub waiting: BTreeSet<usize>,
    pub started: i64,
}

impl ShimSlot {
    pub(super) fn new(settings: &Settings, slot: usize) -> Self {
        let skew = if settings.faults.skew {
            i64::try_from(mix(settings.seed, 70 + slot as u64) % 40).unwrap_or(0) * SECOND - 20 * SECOND
        } else {
            0
        };
        Self {
            life: 0,
            node: None,
            paused_until: 0,
            zombie: false,
            skew,
            lag_until: 0,
            policy_lag_until: 0,
            refuses_until: 0,
            draining: false,
            disk: Vec::new(),
            kept: None,
            reading: [false; 2],
        }
    }
}

impl World {
    pub(super) fn shim_start(&mut self, slot: usize, again: bool) -> Result<bool, Broken> {
        if self.shims[slot].node.is_some() {
            return Ok(false);
        }
        let identity = self.identity(Role::Shim);
        let holder = identity.producer;
        let writer = self.broker.join(holder, Role::Shim, false);
        let life = self.shims[slot].life + 1;
        let mut core = LimitsCore::new(0, holder, self.settings.sizing, self.settings.waits);
        let next = match &self.shims[slot].kept {
            Some((_, bytes)) => {
                let place = core.restore(bytes);
                place.map_err(|error| ("a shim can read its snapshot", error.to_string()))?.next
            }
            None => 0,
        };
        if next > 0 {
            self.hit(Mark::ShimSnapshot);
        }
        let node = Node {
            core,
            chains: Chains::new(identity),
            writer,
            next,
            catch_up: self.broker.limits.len() as u64,
            policy: PolicyState::default(),
            policy_next: 0,
            budgets: Vec::new(),
            member_recovers: false,
            written: Vec::new(),
            held: Vec::new(),
            raises: Vec::new(),
            acknowledged: 0,
            waiting: BTreeSet::new(),
            started: self.now,
        };
        let place = &mut self.shims[slot];
        (place.life, place.node, place.paused_until, place.zombie) = (life, Some(node), 0, false);
        (place.lag_until, place.policy_lag_until, place.refuses_until) = (0, 0, 0);
        (place.reading, place.draining) = ([false; 2], false);
        self.note(|| format!("shim {slot} starts as writer {writer}"));
        self.recover(slot);
        if again {
            // It dies again before it has recovered everything.
            self.at(self.now + 2_000, Event::ShimCrash { slot, life });
        }
        self.wake_shim(slot);
        self.wake_shim_policy(slot);
        self.at(self.now + SECOND, Event::ShimTurn { slot, life });
        Ok(true)
    }

    /// Longest usual delay of a reader, in microseconds.
    pub(super) const fn lag(&self) -> u64 {
        if self.healing { 15_000 } else { self.settings.lag as u64 }
    }

    /// New records of `limits` may be there for a shim.
    pub(super) fn wake_shim(&mut self, slot: usize) {
        let place = &self.shims[slot];
        let Some(node) = &place.node else { return };
        if place.reading[0] || node.next >= self.broker.limits.len() as u64 {
            return;
        }
        let name = mix(mix(slot as u64, 9), node.next);
        let lag = 1 + i64::try_from(self.chance(51, name) % self.lag()).unwrap_or(0);
        let at = (self.now + lag).max(if self.healing { 0 } else { place.lag_until });
        let life = place.life;
        self.shims[slot].reading[0] = true;
        self.at(at, Event::ShimRead { slot, life });
    }

    /// New facts of `policy` may be there for a shim.
    pub(super) fn wake_shim_policy(&mut self, slot: usize) {
        let place = &self.shims[slot];
        let Some(node) = &place.node else { return };
        if place.reading[1] || node.policy_next >= self.broker.policy.len() {
            return;
        }
        let name = mix(mix(slot as u64, 10), node.policy_next as u64);
        let lag = 1 + i64::try_from(self.chance(52, name) % self.lag()).unwrap_or(0);
        let at = (self.now + lag).max(if self.healing { 0 } else { place.policy_lag_until });
        let life = place.life;
        self.shims[slot].reading[1] = true;
        self.at(at, Event::ShimPolicy { slot, life });
    }

    pub(super) fn shim_policy(&mut self, slot: usize, life: u32) -> bool {
        let place = &mut self.shims[slot];
        if place.life != life || place.node.is_none() {
            return false;
        }
        if place.paused_until > self.now {
            let until = place.paused_until;
            self.at(until, Event::ShimPolicy { slot, life });
            return false;
        }
        place.reading[1] = false;
        let Some(node) = &mut place.node else { return false };
        for fact in &self.broker.policy[node.policy_next..] {
            node.policy.apply(fact);
        }
        node.policy_next = self.broker.policy.len();
        node.budgets = shared(&node.policy.document);
        true
    }

    pub(super) fn shim_read(&mut self, slot: usize, life: u32) -> Result<bool, Broken> {
        let place = &mut self.shims[slot];
        if place.life != life {
            return Ok(false);
        }
        if place.paused_until > self.now {
            let until = place.paused_until;
            self.at(until, Event::ShimRead { slot, life });
            return Ok(false);
        }
        place.reading[0] = false;
        let Some(mut node) = place.node.take() else { return Ok(false) };
        let now = Micros(self.now + place.skew);
        let read = self.read_limits(&mut node, now);
        let kept = self.keep_snapshot(slot, &node);
        self.shims[slot].node = Some(node);
        let revoked = read?;
        kept?;
        self.notify(slot);
        if revoked {
            let given = self.shim_core(slot, LimitsCore::give_back_stopped);
            self.note_returns(slot, &given);
            if !given.is_empty() {
                self.hit(Mark::ReturnedRevoked);
            }
            self.write_returns(slot, given);
        }
        self.sync(slot)?;
        self.wake_shim(slot);
        Ok(true)
    }

    fn read_limits(&mut self, node: &mut Node, now: Micros) -> Result<bool, Broken> {
        let mut revoked = false;
        let most = if node.next < node.catch_up { 256 } else { self.settings.batch };
        for _ in 0..most {
            let Some(record) = self.broker.limits.get(node.next as usize).map(Rc::clone) else { break };
            let ours = node.core.apply(node.next, &record.fact, now);
            revoked |= ours.map_err(|error| ("a shim can follow limits", error.to_string()))?;
            self.compare_fold(node.next, node.core.fold(), "shim")?;
            node.next += 1;
        }
        if node.next >= node.catch_up {
            node.core.catch_up();
        }
        Ok(revoked)
    }

    /// What the production follower keeps aside now and then once it has read what was there.
    fn keep_snapshot(&mut self, slot: usize, node: &Node) -> Result<(), Broken> {
        let before = self.shims[slot].kept.as_ref().map_or(0, |(next, _)| *next);
        let due = node.next >= node.catch_up && node.next >= before + SNAPSHOT_EVERY;
        if !self.settings.faults.snapshots || !due {
            return Ok(());
        }
        let place =
            Place { lane: Lane::new(Topic::Limits, 0), generation: Generation([0; 16]), next: node.next };
        let bytes = node.core.save(place);
        let bytes = bytes.map_err(|error| ("a shim can keep a snapshot", error.to_string()))?;
        self.shims[slot].kept = Some((node.next, bytes));
        Ok(())
    }

    /// True once a shim serves requests.
    pub(super) fn is_ready(&self, slot: usize) -> bool {
        let node = self.shims[slot].node.as_ref();
        node.is_some_and(|node| node.next >= node.catch_up && !node.budgets.is_empty())
    }

    pub(super) fn shim_turn(&mut self, slot: usize, life: u32) -> Result<bool, Broken> {
        if self.shims[slot].life != life || self.shims[slot].node.is_none() {
            return Ok(false);
        }
        let until = self.shims[slot].paused_until;
        if until > self.now {
            self.at(until, Event::ShimTurn { slot, life });
            return Ok(false);
        }
        let now = Micros(self.now + self.shims[slot].skew);
        let given = self.shim_core(slot, |core| core.turn(now));
        self.note_returns(slot, &given);
        if !given.is_empty() {
            self.hit(Mark::ReturnedIdle);
        }
        self.write_returns(slot, given);
        self.sync(slot)?;
        // What a predecessor left was sent and said long ago.
        if self.shims[slot].node.as_ref().is_some_and(|node| self.now - node.started >= SECOND) {
            self.shims[slot].disk.clear();
        }
        if self.chance(53, mix(slot as u64, self.now as u64)).is_multiple_of(12) {
            self.heads(slot, false);
        }
        self.at(self.now + SECOND, Event::ShimTurn { slot, life });
        Ok(true)
    }

    pub(super) fn shim_core<T>(&mut self, slot: usize, change: impl FnOnce(&mut LimitsCore) -> T) -> T
    where
        T: Default,
    {
        self.shims[slot].node.as_mut().map_or_else(T::default, |node| change(&mut node.core))
    }

    /// Writes facts, all or none; false when the spool takes none.
    pub(super) fn write(&mut self, slot: usize, facts: Vec<Fact>) -> bool {
        let refuses = self.shims[slot].refuses_until > self.now && !self.healing;
        let Some(node) = &mut self.shims[slot].node else { return false };
        let (lane, mut entries) = (Lane::new(Topic::Spend, 0), Vec::new());
        let mark = node.chains.mark([lane]);
        for fact in facts {
            node.chains.stamp(lane, fact, &mut entries);
        }
        if refuses {
            // As the recorder does when its outlet is full: nothing was taken.
            node.chains.undo(mark);
            self.hit(Mark::SpoolRefused);
            return false;
        }
        let values: Vec<Bytes> = entries.into_iter().map(|entry| entry.value).collect();
        node.written.extend(values.iter().cloned());
        let writer = node.writer;
        self.send(writer, values);
        true
    }

    pub(super) fn heads(&mut self, slot: usize, ended: bool) {
        let now = Micros(self.now);
        if self.shims[slot].refuses_until > self.now && !self.healing {
            return;
        }
        let Some(node) = &mut self.shims[slot].node else { return };
        let mut entries = Vec::new();
        node.chains.heads(now, ended, &mut entries);
        let values: Vec<Bytes> = entries.into_iter().map(|entry| entry.value).collect();
        node.written.extend(values.iter().cloned());
        let writer = node.writer;
        self.send(writer, values);
    }

    pub(super) fn shim_head(&self, slot: usize) -> Head {
        let version = self.shims[slot].node.as_ref().map_or(0, |node| node.policy.version);
        Head::draft(Micros(self.now + self.shims[slot].skew), version, "2026-11-01")
    }

    /// Writes returns; those that are refused go back to the book for the next turn.
    pub(super) fn write_returns(&mut self, slot: usize, given: Vec<GiveBack>) {
        if given.is_empty() {
            return;
        }
        let head = self.shim_head(slot);
        let facts = given.iter().flat_map(|given| return_facts(&head, given)).collect();
        if !self.write(slot, facts) {
            self.hit(Mark::ReturnKept);
            self.shim_core(slot, |core| core.unsent(given));
        }
    }

    /// Looks at what the shim's book says, and holds it against the truth.
    pub(super) fn sync(&mut self, slot: usize) -> Result<(), Broken> {
        let Some(node) = self.shims[slot].node.take() else { return Ok(()) };
        let mut held: Vec<LeaseId> = Vec::with_capacity(node.held.len() + 1);
        let mut outcome = Ok(());
        for it in node.core.book().held() {
            held.push(it.lease);
            let left = it.granted.minus(it.settled).minus(it.reserved).minus(it.returned).pico();
            let mut seen = (0, 0, 0);
            self.truth.change(it.lease, self.now, |lease| {
                seen = (lease.granted, lease.settled, lease.in_flight);
                lease.left = if lease.foreign && it.stopped { 0 } else { left.max(0) };
            });
            let book = (it.granted.pico(), it.settled.pico(), it.reserved.pico());
            if book != seen {
                let detail = format!("{}: granted, settled, reserved are {book:?}, truly {seen:?}", it.lease);
                outcome = Err(("a shim's book is true", detail));
            }
        }
        held.sort_unstable();
        for gone in node.held.iter().filter(|lease| held.binary_search(lease).is_err()) {
            self.truth.change(*gone, self.now, |lease| lease.left = 0);
        }
        self.shims[slot].node = Some(Node { held, ..node });
        outcome
    }
}
