//! Who may be believed on `spend`: certified shims, each number once, each running hash signed.

use std::collections::BTreeSet;

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{ProducerHead, ProducerOpened, Role};
use bursar_schemas::ids::{Digest, ProducerId};
use bursar_schemas::position::Lane;
use bursar_schemas::producer::{HASH_BEFORE_FIRST, certificate_bytes, head_bytes, is_signed, running_hash};

use bursar_schemas::snapshot::NotASnapshot;
use serde::{Deserialize, Serialize};

use super::hash::Table;
use crate::decode::HeadView;

/// Strangers are remembered, so that each is reported once, up to this many.
const STRANGERS: usize = 4096;

/// What a fact's number and writer say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is the next one.
    Fresh,
    /// It counts, but numbers before it never came.
    AfterGap { first: u64, last: u64 },
    /// It came before; `first` is true at the first of a run of such facts.
    Repeated { first: bool },
    /// Its producer has not shown a certificate; `first` is true at its first such fact.
    Stranger { first: bool },
}

#[derive(Debug, Serialize, Deserialize)]
struct Known {
    key: Digest,
    next: u64,
    /// The running hash after the last fact; none where it is not known, until a signed head tells.
    hash: Option<Digest>,
    seen_at: Micros,
    repeating: bool,
}

/// Every producer met on the lane.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Producers {
    lane: Lane,
    deployment_key: Digest,
    known: Table<ProducerId, Known>,
    running: BTreeSet<ProducerId>,
    strangers: BTreeSet<ProducerId>,
}

impl Producers {
    pub(super) fn new(lane: Lane, deployment_key: Digest) -> Self {
        Self {
            lane,
            deployment_key,
            known: Table::default(),
            running: BTreeSet::new(),
            strangers: BTreeSet::new(),
        }
    }

    /// Takes an opening fact; false when its certificate does not hold or it is no shim's.
    pub(super) fn open(&mut self, opened: &ProducerOpened, value: &[u8], hashing: bool) -> bool {
        let head = &opened.head;
        let message = certificate_bytes(head.producer, Role::Shim, &opened.public_key);
        let holds = head.role == Role::Shim
            && head.number == 0
            && is_signed(&self.deployment_key, &message, &opened.certificate);
        if holds {
            let known = Known {
                key: opened.public_key,
                next: 1,
                hash: hashing.then(|| running_hash(&HASH_BEFORE_FIRST, value)),
                seen_at: head.at,
                repeating: false,
            };
            self.known.insert(head.producer, known);
            self.running.insert(head.producer);
        }
        holds
    }

    /// Running producers whose last fact is older.
    pub(super) fn silent_since(&self, since: Micros) -> Vec<ProducerId> {
        let silent = |producer: &&ProducerId| self.seen_at(producer).is_none_or(|at| at < since);
        self.running.iter().filter(silent).copied().collect()
    }

    /// Makes sure that a snapshot is of the same partition and deployment.
    pub(super) fn is_of(&self, other: &Self) -> Result<(), NotASnapshot> {
        if (self.lane, self.deployment_key) == (other.lane, other.deployment_key) {
            Ok(())
        } else {
            Err(NotASnapshot::new("it is of another partition or deployment"))
        }
    }

    /// True when the producer has shown a certificate that holds.
    pub(super) fn is_known(&self, producer: &ProducerId) -> bool {
        self.known.contains_key(producer)
    }

    /// Takes a fact's number. With `hashing`, its bytes go into the running hash.
    pub(super) fn take(&mut self, head: &HeadView, value: &[u8], hashing: bool) -> Taken {
        let Some(known) = self.known.get_mut(&head.producer).filter(|_| head.role == Role::Shim) else {
            let first = self.strangers.len() < STRANGERS && self.strangers.insert(head.producer);
            return Taken::Stranger { first };
        };
        if head.number < known.next {
            let first = !known.repeating;
            known.repeating = true;
            return Taken::Repeated { first };
        }
        let missing = known.next;
        known.repeating = false;
        known.next = head.number.saturating_add(1);
        known.seen_at = known.seen_at.max(head.at);
        if missing < head.number {
            known.hash = None;
            return Taken::AfterGap { first: missing, last: head.number - 1 };
        }
        if !hashing {
            known.hash = None;
        } else if !is_head(value) {
            // A head is hashed once it was checked against the hash before it.
            known.hash = known.hash.map(|hash| running_hash(&hash, value));
        }
        Taken::Fresh
    }

    /// Checks a head that was just taken; false when its signature or hash does not hold.
    /// Without `hashing` nothing is checked: an earlier ledger has done so.
    pub(super) fn head(&mut self, head: &ProducerHead, value: &[u8], hashing: bool) -> bool {
        let producer = head.head.producer;
        let Some(known) = self.known.get_mut(&producer) else { return true };
        let mut holds = true;
        if hashing {
            let message = head_bytes(self.lane, producer, head.last, &head.hash, head.ended);
            let signed = is_signed(&known.key, &message, &head.signature)
                && head.last.checked_add(1) == Some(head.head.number);
            holds = signed && known.hash.is_none_or(|hash| hash == head.hash);
            // What is signed is what the producer wrote: go on from there, also after a mismatch.
            known.hash = signed.then(|| running_hash(&head.hash, value));
        }
        if head.ended && holds {
            self.running.remove(&producer);
        }
        holds
    }

    /// An incarnation has ended, by its own word or its successor's.
    pub(super) fn end(&mut self, producer: &ProducerId) {
        self.running.remove(producer);
    }

    /// Producers that have not ended.
    pub(super) fn running(&self) -> impl Iterator<Item = ProducerId> {
        self.running.iter().copied()
    }

    /// When a producer wrote its last fact, by its own clock.
    pub(super) fn seen_at(&self, producer: &ProducerId) -> Option<Micros> {
        self.known.get(producer).map(|known| known.seen_at)
    }

    /// How many shims wrote something since a time and have not ended.
    pub(super) fn active_since(&self, since: Micros) -> usize {
        let active = |producer: &&ProducerId| self.known.get(*producer).is_some_and(|it| it.seen_at >= since);
        self.running.iter().filter(active).count()
    }
}

fn is_head(value: &[u8]) -> bool {
    value.get(..5) == Some(&[0, 0, 0, 0, 2])
}

#[cfg(test)]
mod tests {
    use bursar_schemas::position::Topic;

    use super::*;

    #[test]
    fn strangers_beyond_the_bound_are_neither_kept_nor_reported() {
        let mut producers = Producers::new(Lane::new(Topic::Spend, 0), Digest([0; 32]));
        let mut take = |number: usize| {
            let producer = ProducerId((number as u128).to_be_bytes());
            let head = HeadView { producer, role: Role::Shim, number: 1, at: Micros(0) };
            producers.take(&head, &[], true)
        };
        for number in 0..STRANGERS {
            assert_eq!(take(number), Taken::Stranger { first: true });
            assert_eq!(take(number), Taken::Stranger { first: false });
        }
        assert_eq!(take(STRANGERS), Taken::Stranger { first: false });
    }
}
