//! A model broker: `limits`, `spend` and `policy` as one lane each, and what every process has under way to them.
//! It delays and repeats; within one writer's lane it never reorders.

use std::collections::VecDeque;
use std::rc::Rc;

use bursar_schemas::facts::{Fact, Role};
use bursar_schemas::fold::{Fold, Verdict};
use bursar_schemas::ids::ProducerId;
use bursar_schemas::wire::{self, Unreadable};
use bytes::Bytes;

/// A record in a lane.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its bytes.
    pub value: Bytes,
    /// The fact, or why it is none.
    pub fact: Result<Fact, Unreadable>,
    /// Which process wrote it.
    pub writer: usize,
}

/// One process incarnation as a writer of one lane.
#[derive(Debug)]
pub struct Writer {
    /// Its id.
    pub id: ProducerId,
    /// Its role: ledgers write `limits`, shims `spend`.
    pub role: Role,
    /// It writes nonsense on purpose.
    pub confused: bool,
    /// Under way, each with the time at which it arrives; first in, first out.
    pub under_way: VecDeque<(i64, Bytes)>,
    /// Arrival of the last one.
    pub last_arrival: i64,
    /// Nothing arrives before this time.
    pub held_until: i64,
    /// How many arrived.
    pub arrived: u64,
    /// Its incarnation is gone: what still arrives is a zombie's.
    pub gone: bool,
    /// What arrived last, to be repeated.
    pub recent: VecDeque<Bytes>,
    /// A ledger's: how far it had read `limits` when it wrote each of its records.
    pub read: Vec<u64>,
}

/// The lanes.
#[derive(Debug, Default)]
pub struct Broker {
    /// `limits`.
    pub limits: Vec<Rc<Record>>,
    /// `spend`.
    pub spend: Vec<Rc<Record>>,
    /// `policy`.
    pub policy: Vec<Rc<Fact>>,
    /// All processes there ever were.
    pub writers: Vec<Writer>,
    /// The production fold over `limits`, run where nothing is late: every reader must agree with it.
    pub reference: Fold,
    /// What each record did to it.
    pub verdicts: Vec<Verdict>,
    /// Digests of the whole fold after some of the records.
    pub digests: Vec<Option<u64>>,
}

/// Every so many records of `limits` the digest of the whole fold is kept, and readers are held to it.
const DIGEST_EVERY: usize = 8;

/// A digest of the whole state of a fold, by a fixed function.
#[must_use]
pub fn digest(fold: &Fold) -> u64 {
    use std::hash::{Hash as _, Hasher as _};
    let mut hasher = Folded(0);
    fold.hash(&mut hasher);
    hasher.finish()
}

/// A fixed, fast hash function, the same on every run.
#[derive(Debug)]
pub struct Folded(pub u64);

impl std::hash::Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.write_u64(u64::from_le_bytes(last) ^ (rest.len() as u64) << 56);
    }
    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(23) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
}

impl Broker {
    /// A new process incarnation; gives its number.
    pub fn join(&mut self, id: ProducerId, role: Role, confused: bool) -> usize {
        let writer = Writer {
            id,
            role,
            confused,
            under_way: VecDeque::new(),
            last_arrival: 0,
            held_until: 0,
            arrived: 0,
            gone: false,
            recent: VecDeque::new(),
            read: Vec::new(),
        };
        self.writers.push(writer);
        self.writers.len() - 1
    }

    /// Appends to `spend`; gives the offset.
    pub fn append_spend(&mut self, writer: usize, value: Bytes) -> (u64, Rc<Record>) {
        let record = Rc::new(Record { fact: wire::decode(&value), value, writer });
        self.spend.push(Rc::clone(&record));
        (self.spend.len() as u64 - 1, record)
    }

    /// Appends to `limits`; gives the offset, and what the reference fold says of the record.
    ///
    /// # Errors
    /// When the fold must stop, which nothing that is written here may cause.
    pub fn append_limits(
        &mut self,
        writer: usize,
        value: Bytes,
    ) -> Result<(u64, Rc<Record>, Verdict), String> {
        let record = Rc::new(Record { fact: wire::decode(&value), value, writer });
        let offset = self.limits.len() as u64;
        self.limits.push(Rc::clone(&record));
        let verdict = self.reference.apply_record(offset, &record.fact).map_err(|error| error.to_string())?;
        self.verdicts.push(verdict);
        let whole = self.limits.len().is_multiple_of(DIGEST_EVERY);
        self.digests.push(whole.then(|| digest(&self.reference)));
        Ok((offset, record, verdict))
    }
}
