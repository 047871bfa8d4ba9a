//! What goes back: each second, on a revocation, and to be granted anew in one piece.

use std::sync::Arc;

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{AccountRef, LeaseId};
use bursar_schemas::money::Money;

use super::{GiveBack, Held, LeaseBook, micros, times};

impl LeaseBook {
    /// A turn of about a second: rates move on, and what is not needed is given back. `over` tells whether an
    /// account's window has ended, `gone` whether it is closed, when returns would come too late.
    pub fn turn(
        &mut self,
        now: Micros,
        over: impl Fn(&AccountRef) -> bool,
        gone: impl Fn(&AccountRef) -> bool,
    ) -> Vec<GiveBack> {
        for book in self.paths.values_mut() {
            let since = std::mem::take(&mut book.settled_since);
            book.refused_lately = false;
            let mean = |of: Money, parts: i128| {
                Money::from_pico(of.pico().saturating_mul(parts - 1).saturating_add(since.pico()) / parts)
            };
            (book.rate, book.steady) = (mean(book.rate, 4), mean(book.steady, 32));
        }
        self.leases.retain(|_, held| held.reserved.is_positive() || !held.path.iter().all(&gone));
        let mut numbers: Vec<u64> = self.leases.keys().copied().collect();
        numbers.sort_unstable();
        let found: Vec<GiveBack> =
            numbers.into_iter().filter_map(|number| self.turn_lease(number, now, &over)).collect();
        self.tidy(&gone);
        self.after_unsent(found)
    }

    /// Takes back returns that could not be written: they go first next time, since the last return of a lease
    /// closes it and what came later would be too late.
    pub fn unsent(&mut self, returns: Vec<GiveBack>) {
        let later = std::mem::replace(&mut self.unsent, returns);
        self.unsent.extend(later);
    }

    fn after_unsent(&mut self, found: Vec<GiveBack>) -> Vec<GiveBack> {
        let mut all = std::mem::take(&mut self.unsent);
        all.extend(found);
        all
    }

    fn turn_lease(
        &mut self,
        number: u64,
        now: Micros,
        over: &impl Fn(&AccountRef) -> bool,
    ) -> Option<GiveBack> {
        let held = self.leases.get_mut(&number)?;
        let idle_after = micros(self.sizing.idle_after);
        if held.path.iter().any(over) {
            held.stopped = true;
        }
        let idle = now.0.saturating_sub(held.used_at.0) >= idle_after && !held.reserved.is_positive();
        let (path, own, stopped) = (Arc::clone(&held.path), held.left(), held.stopped);
        // What an outage would take is not idle, though nobody has needed it yet.
        let kept = match self.paths.get(&path) {
            Some(book) if book.for_outage(&self.sizing).is_positive() => {
                book.low(self.in_flight(&path), &self.sizing)
            }
            _ => Money::ZERO,
        };
        if stopped || (idle && self.left(&path).minus(own) >= kept) {
            return self.give_back(number, Money::ZERO);
        }
        let target = self.paths.get(&path)?.target(&self.sizing);
        let held = self.leases.get_mut(&number)?;
        if held.left() <= times(target, 4) {
            held.ample_since = None;
            return None;
        }
        let since = *held.ample_since.get_or_insert(now);
        if now.0.saturating_sub(since.0) < idle_after {
            return None;
        }
        held.ample_since = None;
        self.give_back(number, target)
    }

    /// Gives back what is left above `keep`; the last return when nothing is kept and nothing is in flight. That one is sent
    /// also when nothing is left: it closes the lease, and nobody has to remember it.
    fn give_back(&mut self, number: u64, keep: Money) -> Option<GiveBack> {
        let held = self.leases.get_mut(&number)?;
        let amount = held.left().minus(keep);
        let last = !keep.is_positive() && !held.reserved.is_positive();
        held.stopped |= last;
        let amount = amount.max(Money::ZERO);
        let mut mark = None;
        held.returns += u64::from(amount.is_positive() || last);
        if amount.is_positive() {
            held.returned = held.returned.plus(amount);
            held.sent.push((held.returns, amount));
            mark = held.mark_of_return();
        }
        let returned = (amount.is_positive() || last).then_some(GiveBack {
            lease: LeaseId { holder: self.holder, number },
            number: held.returns,
            amount,
            last,
            mark,
        });
        if last
            && let Some(held) = self.leases.remove(&number)
            && let Some(book) = self.paths.get_mut(&held.path)
        {
            book.leases.retain(|other| *other != number);
        }
        returned
    }

    /// Gives back what is left of one lease, if anything is.
    pub(super) fn give_back_at_once(&mut self, number: u64) -> Vec<GiveBack> {
        if !self.leases.get(&number).is_some_and(|held| held.left().is_positive()) {
            return Vec::new();
        }
        match self.give_back(number, Money::ZERO) {
            Some(given) => self.after_unsent(vec![given]),
            None => Vec::new(),
        }
    }

    /// Gives back all that is idle in leases that draw on an account, so that it can be granted anew in one
    /// piece; without an account all leases there are.
    pub fn give_back_sharing(&mut self, account: Option<&AccountRef>) -> Vec<GiveBack> {
        let shares = |held: &Held| {
            account.is_none_or(|account| held.left().is_positive() && held.path.contains(account))
        };
        let mut numbers: Vec<u64> =
            self.leases.iter().filter(|(_, held)| shares(held)).map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        let found = numbers.into_iter().filter_map(|number| self.give_back(number, Money::ZERO)).collect();
        self.after_unsent(found)
    }

    /// Gives back what is left in leases of the path that hold too little for the amount and for a usual reservation.
    /// Near a budget's end nearly all of the money would lie in such crumbs otherwise.
    pub fn give_back_crumbs(&mut self, path: &[AccountRef], amount: Money) -> Vec<GiveBack> {
        let Some(book) = self.paths.get(path) else { return Vec::new() };
        let least = book.usual.min(amount);
        let is_crumb = |number: &&u64| {
            self.leases.get(number).is_some_and(|held| held.left().is_positive() && held.left() < least)
        };
        let numbers: Vec<u64> = book.leases.iter().filter(is_crumb).copied().collect();
        let found = numbers.into_iter().filter_map(|number| self.give_back(number, Money::ZERO)).collect();
        self.after_unsent(found)
    }

    /// Gives back what is left in leases under which admission has stopped. Those without anything left are closed by the
    /// next turn: nobody waits for that.
    pub fn give_back_stopped(&mut self) -> Vec<GiveBack> {
        let mut numbers: Vec<u64> = self
            .leases
            .iter()
            .filter(|(_, held)| held.stopped && held.left().is_positive())
            .map(|(number, _)| *number)
            .collect();
        numbers.sort_unstable();
        let found = numbers.into_iter().filter_map(|number| self.give_back(number, Money::ZERO)).collect();
        self.after_unsent(found)
    }

    /// Forgets paths of windows that are gone, and leases that are.
    fn tidy(&mut self, gone: &impl Fn(&AccountRef) -> bool) {
        let leases = &self.leases;
        self.paths.retain(|path, book| {
            book.leases.retain(|number| leases.contains_key(number));
            !(book.leases.is_empty() && path.iter().any(gone))
        });
    }
}
