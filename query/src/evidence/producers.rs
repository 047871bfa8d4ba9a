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

/// Unproven facts of a producer whose digests are kept; heads come every second or so, so this is far above any tail.
const KEPT: usize = 1 << 16;

/// True when a role may write to a topic.
const fn may_write(role: Role, topic: Topic) -> bool {
    match topic {
        Topic::Requests => true,
        Topic::Routes | Topic::Spend => matches!(role, Role::Shim),
        Topic::Limits => matches!(role, Role::Ledger),
        Topic::Policy => matches!(role, Role::Policy),
    }
}

/// Which facts counted since the last signed head, so that others under the same numbers show: the running hash after
/// each, over any start where the true one is not known.
#[derive(Debug, Default)]
struct Tail {
    /// Number of the first, and the running hash before it; none as long as there is none.
    first: Option<(u64, Digest)>,
    hashes: Vec<Digest>,
}

impl Tail {
    /// Takes the next fact that counts; the running hash after it.
    fn push(&mut self, number: u64, before: Digest, value: &[u8]) -> Digest {
        self.first.get_or_insert((number, before));
        let hash = running_hash(&before, value);
        if self.hashes.len() < KEPT {
            self.hashes.push(hash);
        }
        hash
    }

    /// The running hash after the last fact, as far as it is kept.
    fn last(&self) -> Option<Digest> {
        self.hashes.last().copied()
    }

    /// True when a number is of the tail.
    fn holds(&self, number: u64) -> bool {
        self.first.is_some_and(|(first, _)| first <= number)
    }

    /// True when a number is known to have counted with other bytes.
    fn contradicts(&self, number: u64, value: &[u8]) -> bool {
        let Some((first, start)) = self.first else { return false };
        let place = number.checked_sub(first).and_then(|place| usize::try_from(place).ok());
        let Some((place, counted)) = place.and_then(|place| Some((place, self.hashes.get(place)?))) else {
            return false;
        };
        let before = place.checked_sub(1).map_or(start, |before| self.hashes[before]);
        running_hash(&before, value) != *counted
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
    /// True when its first fact on the lane was read, where its certificate should be.
    from_start: bool,
    /// True once a finding says that its facts are not all its own.
    doubted: bool,
    tail: Tail,
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
            known.tail = Tail::default();
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
                    known.tail = Tail::default();
                }
                Some(_) => {}
                None => {
                    self.opened_before.insert(producer, *next);
                }
            }
        }
    }

    /// Takes the lane's next record; true when it counts.
    fn take(&mut self, offset: u64, value: &[u8], report: &mut Report) -> bool {
        let mut datum = value.get(wire::FRAME..).unwrap_or_default();
        let read = wire::schema_id(value).ok().zip(Head::decode(&mut datum).ok());
        let Some((schema, head)) = read else {
            self.unreadable += 1;
            return false;
        };
        let lane = self.lane;
        let place = || format!("{lane} offset {offset}");
        if !self.known.contains_key(&head.producer) {
            self.meet(&head, schema, &place(), report);
        }
        let Some(known) = self.known.get_mut(&head.producer) else { return false };
        if known.next.is_some_and(|next| head.number < next) {
            self.duplicates += 1;
            check_repeat(lane, known, &head, value, &place(), report);
            return false;
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
            known.tail = Tail::default();
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
        if schema == HEAD && check_head(lane, known, value, &place(), report) {
            known.tail = Tail::default();
        } else if known.key.is_some() {
            let before = known.hash.or_else(|| known.tail.last()).unwrap_or(HASH_BEFORE_FIRST);
            let after = known.tail.push(head.number, before, value);
            known.hash = known.hash.map(|_| after);
        } else {
            // Who has no certificate signs nothing that could be contradicted.
            known.hash = known.hash.map(|hash| running_hash(&hash, value));
        }
        if schema == OPENED && known.key.is_none() {
            self.open(&head, offset, value, report);
        }
        // Whose certificate lies in what was not read is believed: nothing else can be said of it.
        self.known.get(&head.producer).is_some_and(|known| known.key.is_some() || !known.from_start)
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
            from_start: self.whole,
            doubted: false,
            tail: Tail::default(),
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
            known.from_start = false;
        } else if schema != OPENED && self.whole {
            let detail = format!("producer {producer} ({}) writes without a certificate", head.role.word());
            report.add(Kind::Forged, place, detail);
            known.hash = None;
            known.doubted = true;
        }
        self.known.insert(producer, known);
    }

    /// Takes the certificate that a producer shows.
    fn open(&mut self, head: &Head, offset: u64, value: &[u8], report: &mut Report) {
        let Some(known) = self.known.get_mut(&head.producer) else { return };
        let producer = head.producer;
        let mut datum = value.get(wire::FRAME..).unwrap_or_default();
        let detail = match ProducerOpened::decode(&mut datum) {
            Err(error) => format!("the certificate of producer {producer} cannot be read: {error}"),
            Ok(opened) if !self.deployment_keys.contains(&opened.deployment_key) => format!(
                "producer {producer} is certified by {}, which the log does not name as this deployment's key",
                opened.deployment_key
            ),
            Ok(opened) => {
                let message = certificate_bytes(producer, opened.head.role, &opened.public_key);
                if is_signed(&opened.deployment_key, &message, &opened.certificate) {
                    known.key = Some(opened.public_key);
                    return;
                }
                format!("the certificate of producer {producer} does not hold")
            }
        };
        known.doubted = true;
        report.add(Kind::Forged, format!("{} offset {offset}", self.lane), detail);
    }

    /// Takes every record of a segment, and hands on each with whether it counts: once, and by a certified producer.
    pub(super) fn take_all<'a>(
        &mut self,
        rows: impl Iterator<Item = (u64, &'a [u8])>,
        report: &mut Report,
        mut each: impl FnMut(u64, &'a [u8], bool),
    ) {
        for (offset, value) in rows {
            let counts = self.take(offset, value, report);
            each(offset, value, counts);
        }
    }

    /// What is to be said at the lane's end.
    pub(super) fn finish(self, generation_is_last: bool, report: &mut Report) {
        for (producer, known) in self.known {
            let facts = known.next.unwrap_or(known.unproven).saturating_sub(known.unproven);
            report.proven_facts += if known.key.is_some() { known.unproven } else { 0 };
            if known.key.is_none() && known.from_start && !known.doubted {
                let detail =
                    format!("producer {producer} ({}) never showed a certificate", known.role.word());
                report.add(Kind::Forged, self.lane.to_string(), detail);
            }
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

/// True when a head is its producer's own.
fn is_own(lane: Lane, key: &Digest, head: &ProducerHead) -> bool {
    let message = head_bytes(lane, head.head.producer, head.last, &head.hash, head.ended);
    is_signed(key, &message, &head.signature) && head.last.checked_add(1) == Some(head.head.number)
}

/// Takes a number that came before. The same bytes again are no harm; others show that what counted, or this, is forged:
/// who writes first under a producer's next numbers makes its own facts and heads repeats.
fn check_repeat(lane: Lane, known: &mut Known, head: &Head, value: &[u8], place: &str, report: &mut Report) {
    let (producer, number) = (head.producer, head.number);
    if known.doubted || !known.tail.holds(number) {
        return;
    }
    let mut datum = value.get(wire::FRAME..).unwrap_or_default();
    let read = ProducerHead::decode(&mut datum).ok().filter(|_| wire::schema_id(value) == Ok(HEAD));
    // Had this head counted, the tail would begin after it.
    let own = known.key.zip(read).is_some_and(|(key, head)| is_own(lane, &key, &head));
    let detail = if own {
        format!(
            "facts {} to {number} of producer {producer} are not those that it signed for: its own came after them",
            known.unproven
        )
    } else if known.tail.contradicts(number, value) {
        format!(
            "number {number} of producer {producer} came before with other bytes, and nobody had signed for it"
        )
    } else {
        return;
    };
    known.doubted = true;
    report.add(Kind::Forged, place, detail);
}

/// Takes a signed head: it must be the producer's own, and confirm the hash over what came before it. True when it is the
/// producer's own, and the running hash goes on from it.
fn check_head(lane: Lane, known: &mut Known, value: &[u8], place: &str, report: &mut Report) -> bool {
    let mut datum = value.get(wire::FRAME..).unwrap_or_default();
    let head = match ProducerHead::decode(&mut datum) {
        Ok(head) => head,
        Err(error) => {
            report.add(Kind::Forged, place, format!("a signed head cannot be read: {error}"));
            known.hash = None;
            return false;
        }
    };
    let producer = head.head.producer;
    let Some(key) = known.key else {
        known.hash = None;
        return false;
    };
    if !is_own(lane, &key, &head) {
        report.add(Kind::Forged, place, format!("the head of producer {producer} is not signed by it"));
        known.hash = None;
        return false;
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
    true
}
