//! Ledgers: the production core, fed as the production runner feeds it.

use std::collections::BTreeSet;
use std::rc::Rc;

use bursar_ledger::core::{Config, Core, Effect, Input, Standing};
use bursar_ledger::invariants;
use bursar_ledger::reading::Reading;
use bursar_schemas::avro::Micros;
use bursar_schemas::facts::Role;
use bursar_schemas::ids::Generation;
use bursar_schemas::ports::Bounds;
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::producer::Chains;
use bursar_schemas::snapshot::Place;

use super::{Broken, Event, World, deployment_key};
use crate::broker::digest;
use crate::marks::Mark;
use crate::random::mix;

/// Lanes by number.
pub(super) const LIMITS: usize = 0;
const POLICY: usize = 1;

/// Time between two looks at the clock.
const TICK: i64 = 400_000;

/// Records between two snapshots.
const SNAPSHOT_EVERY: u64 = 40;

/// A place for a ledger process.
#[derive(Debug, Default)]
pub(super) struct LedgerSlot {
    pub life: u32,
    pub node: Option<Node>,
    pub paused_until: i64,
    pub lag_until: [i64; 3],
    /// The snapshot that it kept last, and how many records it was taken after.
    kept: Option<(u64, Vec<u8>)>,
    /// It dies once it has something under way: how many quarters of that arrive, and how long it is down.
    pub doomed: Option<(u64, i64)>,
    reading: [bool; 3],
}

/// A running ledger.
#[derive(Debug)]
pub(super) struct Node {
    pub core: Core,
    pub chains: Chains,
    pub writer: usize,
    pub reading: Reading,
    pub ready: bool,
    acted: bool,
}

impl Node {
    pub(super) const fn is_acting(&self) -> bool {
        matches!(self.core.standing(), Standing::Acting { .. })
    }
}

impl World {
    fn bounds(length: usize) -> Bounds {
        Bounds { start: 0, end: length as u64 }
    }

    pub(super) fn ledger_start(&mut self, slot: usize) -> Result<bool, Broken> {
        if self.ledgers[slot].node.is_some() {
            return Ok(false);
        }
        let identity = self.identity(Role::Ledger);
        let config = Config {
            partition: 0,
            partitions: 1,
            instance: identity.producer,
            deployment_key: deployment_key(),
            timing: self.settings.timing,
        };
        let writer = self.broker.join(identity.producer, Role::Ledger, false);
        let (core, next) = self.ledger_state(slot, config)?;
        let reading = Reading::go_on(
            next,
            [self.broker.limits.len(), self.broker.policy.len(), self.broker.spend.len()].map(Self::bounds),
        );
        let reading = reading.map_err(|_| ("a whole log can be read", "it cannot".to_owned()))?;
        let chains = Chains::new(identity);
        let node = Node { core, chains, writer, reading, ready: false, acted: false };
        let place = &mut self.ledgers[slot];
        (place.life, place.node, place.paused_until) = (place.life + 1, Some(node), 0);
        (place.lag_until, place.reading, place.doomed) = ([0; 3], [false; 3], None);
        let life = place.life;
        self.note(|| format!("ledger {slot} starts as writer {writer}"));
        self.ledger_tick(slot, life)?;
        Ok(true)
    }

    /// What a ledger begins with, and where it reads on: its last snapshot, which may be old, unless that is lost.
    fn ledger_state(&mut self, slot: usize, config: Config) -> Result<(Core, [u64; 3]), Broken> {
        let life = u64::from(self.ledgers[slot].life);
        if self.happens(43, mix(slot as u64, life), 8) {
            self.ledgers[slot].kept = None;
        }
        let Some((_, bytes)) = &self.ledgers[slot].kept else { return Ok((Core::new(config), [0; 3])) };
        let restored = Core::restore(config, bytes);
        let (core, places) =
            restored.map_err(|error| ("a ledger can read its snapshot", error.to_string()))?;
        self.hit(Mark::LedgerSnapshot);
        Ok((core, places.map(|place| place.next)))
    }

    /// What the production runner keeps aside now and then.
    fn keep_ledger(&mut self, slot: usize, node: &Node) -> Result<(), Broken> {
        let next = [node.reading.limits, node.reading.policy, node.reading.spend];
        let (before, all) =
            (self.ledgers[slot].kept.as_ref().map_or(0, |kept| kept.0), next.iter().sum::<u64>());
        if !self.settings.faults.ledger_snapshots || !node.ready || all < before + SNAPSHOT_EVERY {
            return Ok(());
        }
        let mut lane = 0;
        let places = next.map(|next| {
            let topic = [Topic::Limits, Topic::Policy, Topic::Spend][lane];
            lane += 1;
            Place { lane: Lane::new(topic, 0), generation: Generation([0; 16]), next }
        });
        let bytes = node.core.save(places);
        let bytes = bytes.map_err(|error| ("a ledger can keep a snapshot", error.to_string()))?;
        self.ledgers[slot].kept = Some((all, bytes));
        Ok(())
    }

    /// A ledger's process ends: a part of what it has under way still arrives.
    pub(super) fn ledger_stop(&mut self, slot: usize, life: u32) -> bool {
        if self.ledgers[slot].life != life {
            return false;
        }
        let Some(node) = self.ledgers[slot].node.take() else { return false };
        self.broker.writers[node.writer].gone = true;
        self.note(|| format!("ledger {slot} ends"));
        true
    }

    /// New records may be there for a ledger.
    pub(super) fn wake_ledger(&mut self, slot: usize) {
        let ends = [self.broker.limits.len(), self.broker.policy.len(), self.broker.spend.len()];
        for (lane, end) in ends.into_iter().enumerate() {
            let place = &self.ledgers[slot];
            let Some(node) = &place.node else { return };
            let (next, allowed) = match lane {
                LIMITS => (node.reading.limits, true),
                POLICY => (node.reading.policy, node.reading.may_read_policy()),
                _ => (node.reading.spend, node.reading.may_read_spend()),
            };
            if !allowed || next >= end as u64 || place.reading[lane] {
                continue;
            }
            let (life, lag_until) = (place.life, place.lag_until[lane]);
            let name = mix(mix(slot as u64, lane as u64), next);
            let lag = 1 + i64::try_from(self.chance(40, name) % self.lag()).unwrap_or(0);
            let at = (self.now + lag).max(if self.healing { 0 } else { lag_until });
            self.ledgers[slot].reading[lane] = true;
            self.at(at, Event::LedgerRead { slot, life, lane });
        }
    }

    pub(super) fn ledger_read(&mut self, slot: usize, life: u32, lane: usize) -> Result<bool, Broken> {
        let place = &mut self.ledgers[slot];
        if place.life != life || place.node.is_none() {
            return Ok(false);
        }
        if place.paused_until > self.now {
            let until = place.paused_until;
            self.at(until, Event::LedgerRead { slot, life, lane });
            return Ok(false);
        }
        place.reading[lane] = false;
        let Some(mut node) = place.node.take() else { return Ok(false) };
        let read = self.read_lane(slot, &mut node, lane);
        let taken = read.and_then(|()| self.ledger_after(slot, &mut node));
        self.ledgers[slot].node = Some(node);
        taken?;
        self.wake_ledger(slot);
        self.doom(slot);
        Ok(true)
    }

    fn read_lane(&mut self, slot: usize, node: &mut Node, lane: usize) -> Result<(), Broken> {
        // A restart reads what was there in larger pieces.
        let most = if node.ready { self.settings.batch } else { 256 };
        for _ in 0..most {
            match lane {
                LIMITS => {
                    let offset = node.reading.limits;
                    let Some(record) = self.broker.limits.get(offset as usize).map(Rc::clone) else { break };
                    self.feed(slot, node, Input::Limits { offset, fact: &record.fact })?;
                    node.reading.limits += 1;
                    self.compare_fold(offset, node.core.fold(), "ledger")?;
                }
                POLICY => {
                    let next = node.reading.policy as usize;
                    let Some(fact) = self.broker.policy.get(next).map(Rc::clone) else { break };
                    self.feed(slot, node, Input::Policy(&fact))?;
                    node.reading.policy += 1;
                }
                _ => {
                    let offset = node.reading.spend;
                    let Some(record) = self.broker.spend.get(offset as usize).map(Rc::clone) else { break };
                    self.feed(slot, node, Input::Spend { offset, value: &record.value })?;
                    node.reading.spend += 1;
                    if node.reading.limits < self.broker.limits.len() as u64 {
                        self.hit(Mark::CrossReordered);
                    }
                }
            }
        }
        self.feed(slot, node, Input::Pause { now: Micros(self.now) })
    }

    /// What the runner does between two inputs, and what must hold of a ledger at every moment.
    fn ledger_after(&mut self, slot: usize, node: &mut Node) -> Result<(), Broken> {
        if !node.ready && node.reading.is_ready() {
            node.ready = true;
            self.feed(slot, node, Input::Ready)?;
        }
        invariants::check(&node.core).map_err(|broken| ("a ledger's books", broken.to_string()))?;
        let at_heads = node.reading.limits == self.broker.limits.len() as u64
            && node.reading.spend == self.broker.spend.len() as u64;
        if node.ready && at_heads { self.compare_books(node) } else { Ok(()) }
    }

    /// Every reader's fold is the same at the same offset.
    pub(super) fn compare_fold(
        &mut self,
        offset: u64,
        fold: &bursar_schemas::fold::Fold,
        whose: &str,
    ) -> Result<(), Broken> {
        let Some(expected) = self.broker.digests[offset as usize] else { return Ok(()) };
        self.hit(Mark::ComparedFolds);
        if digest(fold) == expected {
            Ok(())
        } else {
            Err(("every fold is equal at equal offset", format!("a {whose}'s differs after offset {offset}")))
        }
    }

    pub(super) fn ledger_tick(&mut self, slot: usize, life: u32) -> Result<bool, Broken> {
        let place = &mut self.ledgers[slot];
        if place.life != life {
            return Ok(false);
        }
        if place.paused_until > self.now {
            let until = place.paused_until;
            self.at(until, Event::LedgerTick { slot, life });
            return Ok(false);
        }
        let Some(mut node) = place.node.take() else { return Ok(false) };
        let name = mix(mix(slot as u64, u64::from(life)), self.now as u64);
        let spread = u16::try_from(self.chance(41, name) % 1001).unwrap_or(0);
        let fed = self.feed(slot, &mut node, Input::Tick { now: Micros(self.now), spread });
        let fed = fed.and_then(|()| self.ledger_after(slot, &mut node));
        let fed = fed.and_then(|()| self.keep_ledger(slot, &node));
        self.ledgers[slot].node = Some(node);
        fed?;
        self.wake_ledger(slot);
        self.doom(slot);
        self.at(self.now + TICK, Event::LedgerTick { slot, life });
        Ok(true)
    }

    fn feed(&mut self, slot: usize, node: &mut Node, input: Input<'_>) -> Result<(), Broken> {
        let mut effects = Vec::new();
        node.core.apply(input, &mut effects).map_err(|halt| ("a ledger goes on", halt.to_string()))?;
        if effects.is_empty() {
            return Ok(());
        }
        let mut entries = Vec::new();
        for effect in effects {
            match effect {
                Effect::Append(fact) => {
                    if matches!(fact, bursar_schemas::facts::Fact::EpochMarked(_)) {
                        self.note(|| format!("ledger {slot} claims"));
                    }
                    node.chains.stamp(Lane::new(Topic::Limits, 0), fact, &mut entries);
                }
                Effect::Find(finding) => self.found(finding.kind)?,
                Effect::Acting { epoch } => {
                    self.note(|| format!("ledger {slot} acts in epoch {epoch}"));
                    if node.reading.limits > 4 {
                        self.hit(Mark::TookOver);
                    }
                    node.acted = true;
                }
                Effect::Superseded => {
                    self.note(|| format!("ledger {slot} stands by"));
                    let mark = if node.acted { Mark::StoodDown } else { Mark::LostClaim };
                    node.acted = false;
                    self.hit(mark);
                }
            }
        }
        self.broker.writers[node.writer].read.extend(entries.iter().map(|_| node.reading.limits));
        self.send_entries(node.writer, entries);
        Ok(())
    }

    /// The incarnations of shims that an acting ledger may still grant to.
    pub(super) fn living(&self) -> BTreeSet<bursar_schemas::ids::ProducerId> {
        let nodes = self.shims.iter().filter_map(|slot| slot.node.as_ref());
        nodes.map(|node| self.broker.writers[node.writer].id).collect()
    }
}
