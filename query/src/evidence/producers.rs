//! Each producer of a lane: its certificate, its numbers, its running hash, what it has signed for.

use std::collections::{BTreeSet, HashMap};

use bursar_schemas::archive::Footer;
use bursar_schemas::avro::Avro as _;
use bursar_schemas::facts::{Head, ProducerHead, ProducerOpened, Role};
use bursar_schemas::ids::{Digest, ProducerId};
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::producer::{HASH_BEFORE_FIRST, certificate_bytes, head_bytes, is_signed, running_hash};
use bursar_schemas::wire;

use super::report::{Kind, OpenEnd, Report, time};

const OPENED: u32 = 1;
const HEAD: u32 = 2;

/// True when a role may write to a topic.
const fn may_write(role: Role, topic: Topic) -> bool {
    match topic {
        Topic::Requests => true,
        Topic::Routes | Topic::Spend => matches!(role, Role::Shim),
        Topic::Limits => matches!(role, Role::Ledger),
        Topic::Policy => matches!(role, Role::Policy),
    }
}

#[derive(Debug)]
struct Known {
    role: Role,
    /// Its public key; none when nobody has certified it.
    key: Option<Digest>,
    /// The number that is due; none after a part of the lane that could not be read.
    next: Option<u64>,
    /// The running hash; none where it is not known until a signed head tells.
    hash: Option<Digest>,
    /// First number that no signed head covers.
    unproven: u64,
    since_us: i64,
    ended: bool,
}

/// Every producer of one life of a lane.
#[derive(Debug)]
pub(super) struct Producers {
    lane: Lane,
    deployment_keys: BTreeSet<Digest>,
    known: HashMap<ProducerId, Known>,
    /// Producers that opened in a part that was removed, with the number that is due.
    opened_before: HashMap<ProducerId, u64>,
    unreadable: u64,
    duplicates: u64,
    /// True when the lane is read from its start.
    whole: bool,
}

impl Producers {
    pub(super) fn new(lane: Lane, deployment_keys: BTreeSet<Digest>, whole: bool) -> Self {
        Self {
            lane,
            deployment_keys,
            known: HashMap::new(),
            opened_before: HashMap::new(),
            unreadable: 0,
            duplicates: 0,
            whole,
        }
    }

    pub(super) const fn lane(&self) -> Lane {
        self.lane
    }

    /// A part of the lane could not be read: numbers and hashes go on from what comes next.
    pub(super) fn interrupt(&mut self) {
        self.whole = false;
        for known in self.known.values_mut() {
            known.next = None;
            known.hash = None;
        }
    }

    /// A part of the lane was removed: numbers go on where its footer says, hashes with the next signed head.
    pub(super) fn pass_over(&mut self, footer: &Footer) {
        for (name, next) in &footer.producers {
            let Ok(producer) = name.parse::<ProducerId>() else { continue };
            match self.known.get_mut(&producer) {
                Some(known) if known.next.is_none_or(|due| due < *next) => {
                    known.next = Some(*next);
                    known.hash = None;
                }
                Some(_) => {}
                None => {
                    self.opened_before.insert(producer, *next);
                }
            }
        }
    }

    /// Takes the lane's next record.
    pub(super) fn take(&mut self, offset: u64, value: &[u8], report: &mut Report) {
        let mut datum = value.get(wire::FRAME..).unwrap_or_default();
        let read = wire::schema_id(value).ok().zip(Head::decode(&mut datum).ok());
        let Some((schema, head)) = read else {
            self.unreadable += 1;
            return;
        };
        let lane = self.lane;
        let place = || format!("{lane} offset {offset}");
        if !self.known.contains_key(&head.producer) {
            self.meet(&head, schema, &place(), report);
        }
        let Some(known) = self.known.get_mut(&head.producer) else { return };
        if known.next.is_some_and(|next| head.number < next) {
            self.duplicates += 1;
            return;
        }
        if let Some(next) = known.next.filter(|next| head.number > *next) {
            let detail = format!(
                "numbers {next} to {} of producer {} ({}) never came",
                head.number - 1,
                head.producer,
                known.role.word()
            );
            report.add(Kind::Gap, place(), detail);
            known.hash = None;
        }
        if head.role != known.role {
            let detail = format!(
                "producer {} writes as {} and opened as {}",
                head.producer,
                head.role.word(),
                known.role.word()
            );
            report.add(Kind::Forged, place(), detail);
        }
        if known.ended {
            let detail = format!("producer {} had written its last word", head.producer);
            report.add(Kind::Forged, place(), detail);
        }
        known.next = Some(head.number.saturating_add(1));
        if schema == HEAD {
            check_head(lane, known, value, &place(), report);
        } else {
            known.hash = known.hash.map(|hash| running_hash(&hash, value));
        }
    }

    /// A producer's first fact on the lane.
    fn meet(&mut self, head: &Head, schema: u32, place: &str, report: &mut Report) {
        let producer = head.producer;
        let mut known = Known {
            role: head.role,
            key: None,
            next: self.whole.then_some(0),
            hash: self.whole.then_some(HASH_BEFORE_FIRST),
            unproven: head.number,
            since_us: head.at.0,
            ended: false,
        };
        if !may_write(head.role, self.lane.topic) {
            let detail = format!(
                "producer {producer} writes as {}, which has no right to this topic",
                head.role.word()
            );
            report.add(Kind::Forged, place, detail);
        }
        if let Some(next) = self.opened_before.remove(&producer) {
            // Its certificate was removed: its numbers can be checked, its signatures no more.
            known.next = Some(next);
            known.hash = None;
        } else if schema != OPENED && self.whole {
            let detail = format!("producer {producer} ({}) writes without a certificate", head.role.word());
            report.add(Kind::Forged, place, detail);
            known.hash = None;
        }
        self.known.insert(producer, known);
    }

    /// Takes the certificate that a producer shows.
    pub(super) fn open(&mut self, offset: u64, value: &[u8], report: &mut Report) {
        let mut datum = value.get(wire::FRAME..).unwrap_or_default();
        let Ok(opened) = ProducerOpened::decode(&mut datum) else { return };
        let head = &opened.head;
        let Some(known) = self.known.get_mut(&head.producer).filter(|known| known.key.is_none()) else {
            return;
        };
        let message = certificate_bytes(head.producer, head.role, &opened.public_key);
        let place = format!("{} offset {offset}", self.lane);
        if !self.deployment_keys.contains(&opened.deployment_key) {
            let detail = format!(
                "producer {} is certified by {}, which the log does not name as this deployment's key",
                head.producer, opened.deployment_key
            );
            report.add(Kind::Forged, place, detail);
        } else if is_signed(&opened.deployment_key, &message, &opened.certificate) {
            known.key = Some(opened.public_key);
        } else {
            report.add(
                Kind::Forged,
                place,
                format!("the certificate of producer {} does not hold", head.producer),
            );
        }
    }

    /// Takes every record of a segment.
    pub(super) fn take_all<'a>(&mut self, rows: impl Iterator<Item = (u64, &'a [u8])>, report: &mut Report) {
        for (offset, value) in rows {
            self.take(offset, value, report);
            if wire::schema_id(value) == Ok(OPENED) {
                self.open(offset, value, report);
            }
        }
    }

    /// What is to be said at the lane's end.
    pub(super) fn finish(self, generation_is_last: bool, report: &mut Report) {
        for (producer, known) in self.known {
            let facts = known.next.unwrap_or(known.unproven).saturating_sub(known.unproven);
            report.proven_facts += if known.key.is_some() { known.unproven } else { 0 };
            if known.ended || known.key.is_none() {
                continue;
            }
            report.open_ends.push(OpenEnd {
                lane: self.lane.to_string(),
                producer: producer.to_string(),
                role: known.role.word().to_owned(),
                unproven_from: known.unproven,
                unproven_facts: facts,
                since: time(known.since_us),
            });
        }
        let life = if generation_is_last { "" } else { " of an earlier life" };
        if self.unreadable > 0 {
            report.note(format!(
                "{}{life}: {} records are no facts of the contract",
                self.lane, self.unreadable
            ));
        }
        if self.duplicates > 0 {
            report.note(format!(
                "{}{life}: {} facts came more than once and count once",
                self.lane, self.duplicates
            ));
        }
    }
}

/// Takes a signed head: it must be the producer's own, and confirm the hash over what came before it.
fn check_head(lane: Lane, known: &mut Known, value: &[u8], place: &str, report: &mut Report) {
    let mut datum = value.get(wire::FRAME..).unwrap_or_default();
    let Ok(head) = ProducerHead::decode(&mut datum) else { return };
    let producer = head.head.producer;
    let Some(key) = known.key else {
        known.hash = None;
        return;
    };
    let message = head_bytes(lane, producer, head.last, &head.hash, head.ended);
    let signed =
        is_signed(&key, &message, &head.signature) && head.last.checked_add(1) == Some(head.head.number);
    if !signed {
        report.add(Kind::Forged, place, format!("the head of producer {producer} is not signed by it"));
        known.hash = None;
        return;
    }
    if known.hash.is_some_and(|hash| hash != head.hash) {
        let detail = format!(
            "facts {} to {} of producer {producer} are not those that it signed for",
            known.unproven, head.last
        );
        report.add(Kind::Forged, place, detail);
    }
    // What is signed is what the producer wrote: go on from there.
    known.hash = Some(running_hash(&head.hash, value));
    known.unproven = head.head.number.saturating_add(1);
    known.since_us = head.head.at.0;
    known.ended = head.ended;
}
