//! The lease book: what this incarnation may spend without asking. Pure; the log's fold decides what counts.
//!
//! Invariant, per lease: granted − settled − reserved − returned is what is left, and an admission is one
//! comparison with it. A return is subtracted here before it is sent. Nothing is admitted under a lease that
//! was revoked, or that shows a credit which was not returned from here.

mod asking;
mod marks;
mod turn;

pub use marks::Raise;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{AccountRef, CreditReason, LeaseId, LeaseRefusal};
use bursar_schemas::ids::ProducerId;
use bursar_schemas::money::Money;

use crate::config::LeaseSizing;
use asking::Asked;
use marks::Marked;

/// The accounts that a request draws on, sorted.
pub type Path = Arc<[AccountRef]>;

/// A lease to be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Its id.
    pub lease: LeaseId,
    /// Its path.
    pub path: Path,
    /// The amount wished for.
    pub wanted: Money,
    /// The least that helps.
    pub minimum: Money,
    /// The mark to be stated before it.
    pub mark: Option<Money>,
}

/// Money to be given back; already subtracted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GiveBack {
    /// The lease.
    pub lease: LeaseId,
    /// Number of the return within the lease.
    pub number: u64,
    /// The amount.
    pub amount: Money,
    /// True when nothing will be admitted under the lease again.
    pub last: bool,
    /// The mark to be stated before it.
    pub mark: Option<Money>,
}

/// How the ledger answered the last question about a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The lease that was asked for.
    pub lease: LeaseId,
    /// Counts refusals of the path, from 1.
    pub count: u64,
    /// The least that had been asked for.
    pub minimum: Money,
    /// Why.
    pub reason: LeaseRefusal,
    /// The account that refused.
    pub account: Option<AccountRef>,
}

#[derive(Debug)]
struct Held {
    path: Path,
    granted: Money,
    settled: Money,
    reserved: Money,
    returned: Money,
    /// No more admissions.
    stopped: bool,
    /// Number of the last return.
    returns: u64,
    /// Returns whose credit has not been seen.
    sent: Vec<(u64, Money)>,
    used_at: Micros,
    /// Since when much more is left than needed.
    ample_since: Option<Micros>,
    /// None where nothing is recovered by marks.
    mark: Option<Marked>,
}

impl Held {
    const fn left(&self) -> Money {
        self.granted.minus(self.settled).minus(self.reserved).minus(self.returned)
    }
}

#[derive(Debug, Default)]
struct PathBook {
    leases: Vec<u64>,
    asked: Vec<Asked>,
    /// The last grant covered hardly more than the reservation that it was asked for.
    scarce: bool,
    refusal: Option<Refusal>,
    refusals: u64,
    /// Refused since the last turn: asking ahead of need would only be refused again.
    refused_lately: bool,
    /// Spent per second of late.
    rate: Money,
    /// The same over half a minute.
    steady: Money,
    settled_since: Money,
    /// Recent size of a reservation.
    usual: Money,
}

impl PathBook {
    /// What should be left: half as much again as is spent from one refill to the next and in an outage to be outlived.
    fn target(&self, sizing: &LeaseSizing) -> Money {
        let seconds = i128::from(sizing.horizon_seconds) * 3 / 2;
        times(self.rate, seconds).max(times(self.usual, 4)).plus(self.for_outage(sizing))
    }

    /// What is left when more should be asked for: a few reservations, a second of spending, or half of what is in
    /// flight. With an outage to be outlived all of that, which nobody can top up when it swings, and what it takes.
    fn low(&self, in_flight: Money, sizing: &LeaseSizing) -> Money {
        let (usual, outage) = (times(self.usual, 2).max(self.rate), self.for_outage(sizing));
        if outage.is_positive() {
            usual.max(in_flight).plus(outage)
        } else {
            usual.max(Money::from_pico(in_flight.pico() / 2))
        }
    }

    /// Half as much again as is spent in an outage to be outlived. The rate of late may be low by chance.
    fn for_outage(&self, sizing: &LeaseSizing) -> Money {
        let seconds = i128::from(sizing.outage_reserve.as_secs());
        Money::from_pico(times(self.rate.max(self.steady), seconds).pico().saturating_mul(3) / 2)
    }
}

/// The book of one incarnation and one partition.
#[derive(Debug)]
pub struct LeaseBook {
    holder: ProducerId,
    sizing: LeaseSizing,
    next: u64,
    paths: HashMap<Path, PathBook>,
    leases: HashMap<u64, Held>,
    /// Returns that could not be written yet, in order.
    unsent: Vec<GiveBack>,
    /// The marks that questions were asked with, by number, until they are answered.
    marks_asked: BTreeMap<u64, Money>,
    /// Some question was asked with a mark.
    marks: bool,
    /// Marks to be written.
    raises: Vec<Raise>,
}

/// How a lease stands with its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldLease<'a> {
    /// The lease.
    pub lease: LeaseId,
    /// Its path.
    pub path: &'a Path,
    /// What was granted.
    pub granted: Money,
    /// What attempts under it cost.
    pub settled: Money,
    /// What attempts in flight may cost.
    pub reserved: Money,
    /// What went back, sent or to be sent.
    pub returned: Money,
    /// True when nothing is admitted under it any more.
    pub stopped: bool,
}

fn times(amount: Money, factor: i128) -> Money {
    Money::from_pico(amount.pico().saturating_mul(factor))
}

fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl LeaseBook {
    /// An empty book. `first` is the first lease number; an incarnation's books must share no numbers.
    #[must_use]
    pub fn new(holder: ProducerId, sizing: LeaseSizing, first: u64) -> Self {
        Self {
            holder,
            sizing,
            next: first,
            paths: HashMap::new(),
            leases: HashMap::new(),
            unsent: Vec::new(),
            marks_asked: BTreeMap::new(),
            marks: false,
            raises: Vec::new(),
        }
    }

    /// Sets money aside under a lease of the path that has enough left; the fullest is spared, so that small
    /// leases are used up.
    pub fn reserve(&mut self, path: &[AccountRef], amount: Money, now: Micros) -> Option<LeaseId> {
        let book = self.paths.get_mut(path)?;
        book.usual =
            Money::from_pico((book.usual.pico().saturating_mul(7).saturating_add(amount.pico())) / 8);
        let number = self.smallest_with(path, amount, |held| held.covers(amount))?;
        let held = self.leases.get_mut(&number)?;
        held.reserved = held.reserved.plus(amount);
        held.used_at = now;
        if held.mark.is_some() {
            self.raise_ahead(number, amount);
        }
        Some(LeaseId { holder: self.holder, number })
    }

    /// Of the leases of a path that have enough left and are `usable`, the one with the least.
    fn smallest_with(
        &self,
        path: &[AccountRef],
        amount: Money,
        usable: impl Fn(&Held) -> bool,
    ) -> Option<u64> {
        let fitting = self.paths.get(path)?.leases.iter().filter_map(|number| {
            let held = self.leases.get(number)?;
            let fits = !held.stopped && held.left() >= amount && usable(held);
            fits.then(|| (held.left(), *number))
        });
        fitting.min().map(|(_, number)| number)
    }

    /// An attempt is over: its reservation is replaced by what it cost. What that frees under a stopped lease goes
    /// back at once, since somebody may be waiting for it; and so does what is too little for a usual reservation while
    /// somebody is. What it cost beyond its reservation is beside the lease, where the ledger counts it too.
    pub fn settle(&mut self, lease: LeaseId, reserved: Money, amount: Money) -> Vec<GiveBack> {
        let Some(held) = self.leases.get_mut(&lease.number) else { return Vec::new() };
        held.reserved = held.reserved.minus(reserved);
        held.settled = held.settled.plus(amount.min(reserved));
        let (mut usual, mut short) = (Money::ZERO, false);
        if let Some(book) = self.paths.get_mut(&held.path) {
            book.settled_since = book.settled_since.plus(amount);
            (usual, short) = (book.usual, book.is_short());
        }
        // Not for every crumb: each return is a record, and so is its credit. But where money is short the next grant
        // is made of crumbs.
        let due = if held.stopped {
            held.left() >= usual || !held.reserved.is_positive()
        } else {
            short && held.left().is_positive() && held.left() < usual
        };
        if due { self.give_back_at_once(lease.number) } else { Vec::new() }
    }

    /// A grant that counts. True when it may be used: it is this incarnation's, which asked for it once. What it never
    /// asked for, as a confused ledger may grant, goes back at the next turn: nobody else can give it back.
    pub fn granted(&mut self, lease: LeaseId, accounts: &[AccountRef], amount: Money, now: Micros) -> bool {
        let known = self.leases.contains_key(&lease.number);
        if lease.holder != self.holder || known {
            return false;
        }
        let path: Path = match self.paths.get_key_value(accounts) {
            Some((path, _)) => Arc::clone(path),
            None => accounts.into(),
        };
        let (unasked, mut marked) = (self.is_unasked(lease.number), None);
        if !unasked {
            let book = self.paths.entry(Arc::clone(&path)).or_default();
            marked = book.answered(lease, amount);
            book.leases.push(lease.number);
        }
        // A confused ledger may answer with another path than was asked for: that question is over all the same.
        if marked.is_none() {
            self.paths.values_mut().for_each(|book| book.close_question(lease));
        }
        let mark = self.mark_of_question(lease.number, marked);
        let held = Held {
            path,
            granted: amount,
            settled: Money::ZERO,
            reserved: Money::ZERO,
            returned: Money::ZERO,
            stopped: unasked,
            returns: 0,
            sent: Vec::new(),
            used_at: now,
            ample_since: None,
            mark,
        };
        self.leases.insert(lease.number, held);
        !unasked
    }

    /// A credit that counts: one that was not returned from here ends the lease's use.
    pub fn credited(&mut self, lease: LeaseId, number: u64, amount: Money, reason: CreditReason) {
        if lease.holder != self.holder {
            return;
        }
        if let Some(held) = self.leases.get_mut(&lease.number) {
            let known = held.sent.iter().position(|sent| *sent == (number, amount));
            match known.filter(|_| reason == CreditReason::Returned) {
                Some(index) => drop(held.sent.swap_remove(index)),
                None => held.stopped = true,
            }
        }
    }

    /// A revocation: admission stops, and what is left is given back at the next turn.
    pub fn revoked(&mut self, lease: LeaseId) {
        if lease.holder == self.holder
            && let Some(held) = self.leases.get_mut(&lease.number)
        {
            held.stopped = true;
        }
    }

    /// Every lease in use or still to be given back, in no order.
    pub fn held(&self) -> impl Iterator<Item = HeldLease<'_>> {
        self.leases.iter().map(|(number, held)| HeldLease {
            lease: LeaseId { holder: self.holder, number: *number },
            path: &held.path,
            granted: held.granted,
            settled: held.settled,
            reserved: held.reserved,
            returned: held.returned,
            stopped: held.stopped,
        })
    }

    /// What is left on a path.
    #[must_use]
    pub fn left(&self, path: &[AccountRef]) -> Money {
        let Some(book) = self.paths.get(path) else { return Money::ZERO };
        let held = book.leases.iter().filter_map(|number| self.leases.get(number));
        held.filter(|held| !held.stopped).map(|held| held.left().max(Money::ZERO)).sum()
    }

    /// What is reserved on a path: as much again may be before the next grant comes, so questions allow for it.
    fn in_flight(&self, path: &[AccountRef]) -> Money {
        let Some(book) = self.paths.get(path) else { return Money::ZERO };
        book.leases.iter().filter_map(|number| self.leases.get(number)).map(|held| held.reserved).sum()
    }

    /// What may be used at once and what is spent per second, over all paths.
    #[must_use]
    pub fn runway(&self) -> (Money, Money) {
        let left = self.leases.values().filter(|held| !held.stopped);
        let left = left.map(Held::usable).sum();
        (left, self.paths.values().map(|book| book.rate).sum())
    }
}

#[cfg(test)]
mod marks_tests;
#[cfg(test)]
mod tests;
