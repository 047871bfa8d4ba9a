//! Marks: how much of a lease may be used before a higher mark is acknowledged in `spend`. Only paths with a budget
//! whose `recovery` is `journal` have them.
//!
//! Invariant, per marked lease: settled + reserved + returned is never above its acknowledged mark when something is
//! admitted, and a return that would lift it above is sent together with a mark that covers it. So whatever lies above
//! the last mark that `spend` holds was not used, however its holder ended and whatever became of its disk.
//! Invariant: marks of a lease only rise. Whoever reads some of them, and not those before, does not read too little.

use bursar_schemas::facts::{AccountRef, LeaseId};
use bursar_schemas::money::Money;

use super::{Ask, Held, LeaseBook, PathBook, times};
use crate::config::LeaseSizing;

/// Questions whose marks are remembered until they are granted, also when they are refused: a confused ledger may grant them
/// all the same. Where there are more, the leases of the oldest begin with nothing that may be used.
const QUESTIONS: usize = 1024;

/// A mark to be written; it helps once it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raise {
    /// The lease.
    pub lease: LeaseId,
    /// The mark.
    pub mark: Money,
}

/// How a marked lease stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marked {
    /// The highest mark that is acknowledged.
    usable: Money,
    /// A higher one is under way.
    rising: bool,
}

impl Held {
    /// Settled, reserved and returned.
    const fn used(&self) -> Money {
        self.settled.plus(self.reserved).plus(self.returned)
    }

    /// True when that much more may be used at once, as far as marks go.
    pub(super) fn covers(&self, amount: Money) -> bool {
        self.mark.is_none_or(|mark| self.used().plus(amount) <= mark.usable)
    }

    /// What may be used at once.
    pub(super) fn usable(&self) -> Money {
        let left = self.left().max(Money::ZERO);
        self.mark.map_or(left, |mark| left.min(mark.usable.minus_or_zero(self.used())))
    }

    /// The mark to be stated before what was just returned is sent. Marks that are under way do not count: nobody knows
    /// whether they will be there before it.
    pub(super) fn mark_of_return(&self) -> Option<Money> {
        self.mark.filter(|mark| mark.usable < self.used()).map(|_| self.used())
    }

    /// The mark that is to come, so that `room` is left above what is used; and as much again as is in flight, or a
    /// burst of requests would wait for one mark after the other.
    fn raise(&mut self, room: Money) -> Option<Money> {
        let near = self.used().plus(room.max(self.reserved)).min(self.granted);
        // Its question's mark is forgotten, and may be higher than what is near.
        let most = if self.mark.is_some_and(|mark| mark.usable == Money::ZERO) { self.granted } else { near };
        let mark = self.mark.as_mut().filter(|mark| !mark.rising && mark.usable < most)?;
        mark.rising = true;
        Some(most)
    }
}

impl PathBook {
    /// Room to be left above what is used: a few reservations or two seconds of spending, and what an outage to be outlived
    /// takes, in which nobody acknowledges anything. A holder that dies leaves no more than that behind unrecovered, or as much
    /// again as it had in flight.
    fn room(&self, sizing: &LeaseSizing) -> (Money, Money) {
        (times(self.usual, 4).max(times(self.rate, 2)), self.for_outage(sizing))
    }
}

impl LeaseBook {
    /// The question will be asked with a mark: whoever sees its grant knows that the mark stands before it in `spend`.
    pub fn mark_asked(&mut self, ask: &mut Ask) {
        let mark = self.room_of(&ask.path).max(times(ask.minimum, 2)).min(ask.wanted.max(ask.minimum));
        ask.mark = Some(mark);
        self.marks = true;
        if let Some(book) = self.paths.get_mut(&ask.path) {
            book.mark_question(ask.lease);
        }
        self.marks_asked.insert(ask.lease.number, mark);
        if self.marks_asked.len() > QUESTIONS {
            self.marks_asked.pop_first();
        }
    }

    /// The mark that a granted lease begins with; `marked` says whether its question was asked with one, as long as that is
    /// open. One whose question is forgotten may have been, and of one whose mark is forgotten nobody knows how high it is:
    /// nothing of it may be used before a new one.
    pub(super) fn mark_of_question(&mut self, number: u64, marked: Option<bool>) -> Option<Marked> {
        let mark = match self.marks_asked.remove(&number) {
            Some(mark) => mark,
            None if marked.unwrap_or(self.marks) => Money::ZERO,
            None => return None,
        };
        Some(Marked { usable: mark, rising: false })
    }

    /// True when a lease of the path has enough left and only its mark is too low; it then rises.
    pub fn awaits_mark(&mut self, path: &[AccountRef], amount: Money) -> bool {
        let Some(number) = self.smallest_with(path, amount, |_| true) else { return false };
        self.raise(number, amount);
        true
    }

    /// Lets a lease's mark rise while there is room, so that nobody has to wait for it.
    pub(super) fn raise_ahead(&mut self, number: u64, usual: Money) {
        let Some(held) = self.leases.get(&number) else { return };
        let Some(mark) = held.mark.filter(|mark| !mark.rising) else { return };
        let Some(book) = self.paths.get(&held.path) else { return };
        let (near, outage) = book.room(&self.sizing);
        let low = Money::from_pico(near.pico() / 2).max(usual).plus(outage);
        if mark.usable.minus_or_zero(held.used()) < low {
            self.raise(number, usual);
        }
    }

    /// Lets a mark rise so far that at least two of an amount fit.
    fn raise(&mut self, number: u64, amount: Money) {
        let Some(held) = self.leases.get(&number) else { return };
        let room = self.room_of(&held.path).max(times(amount, 2));
        if let Some(mark) = self.leases.get_mut(&number).and_then(|held| held.raise(room)) {
            self.raises.push(Raise { lease: LeaseId { holder: self.holder, number }, mark });
        }
    }

    fn room_of(&self, path: &[AccountRef]) -> Money {
        let room = self.paths.get(path).map(|book| book.room(&self.sizing));
        room.map_or(Money::ZERO, |(near, outage)| near.plus(outage))
    }

    /// Marks that are to be written.
    pub fn take_raises(&mut self) -> Vec<Raise> {
        std::mem::take(&mut self.raises)
    }

    /// What became of a mark that was to be written.
    pub fn raised(&mut self, raise: Raise, acknowledged: bool) {
        let held = self.leases.get_mut(&raise.lease.number);
        if let Some(mark) = held.and_then(|held| held.mark.as_mut()) {
            mark.rising = false;
            if acknowledged {
                mark.usable = mark.usable.max(raise.mark);
            }
        }
    }
}
