//! From a path and an amount to a lease that covers it, waiting a bounded time for the ledger.

use std::sync::atomic::Ordering;

use tokio::time::Instant;

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{AccountRef, LeaseId, LeaseRefusal};
use bursar_schemas::money::Money;
use bursar_schemas::policy::Budget;

use super::{Drawn, Inner, Limits, blocks};
use crate::leases::{Ask, GiveBack, Path, Refusal};
use crate::world::World;

/// How the account that refused stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Denial {
    pub(crate) budget: String,
    pub(crate) limit: Money,
    pub(crate) settled: Money,
    pub(crate) reserved: Money,
    pub(crate) needed: Money,
    pub(crate) resets_at: Option<Micros>,
    /// True when trying again soon can help.
    pub(crate) in_flight: bool,
}

/// Why there is no lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Denied {
    /// A budget cannot cover the attempt.
    Budget(Box<Denial>),
    /// Money may be there, but nobody can say so in time.
    Unavailable(&'static str),
    /// Too many requests wait already.
    Crowded,
    /// The question could not be written.
    Spool,
}

/// One look at the book.
enum Step {
    Got(LeaseId, Option<Ask>),
    Deny(Denied),
    Wait(Vec<GiveBack>, Option<Ask>),
}

/// What one waiting request remembers between looks.
#[derive(Default)]
struct Patience {
    /// Refusals of the path when it began to wait.
    floor: Option<u64>,
    /// It had own idle leases given back to be granted anew.
    regrouped: bool,
}

impl Limits {
    /// Sets money aside on a path, asking the ledger for a lease and waiting for it if need be.
    pub(crate) async fn lease(&self, world: &World, path: &Path, amount: Money) -> Result<LeaseId, Denied> {
        let deadline = Instant::now() + world.config.lease_wait;
        let mut patience = Patience::default();
        let mut place: Option<Place<'_>> = None;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registers before the look, so that no change between look and wait is missed.
            changed.as_mut().enable();
            match self.look(world, path, amount, &mut patience) {
                Step::Got(lease, ahead) => {
                    if let Some(ask) = ahead
                        && !world.ask(self.partition, Vec::new(), &ask)
                    {
                        self.inner.lock().book.unask(&ask);
                    }
                    return Ok(lease);
                }
                Step::Deny(denied) => return Err(denied),
                Step::Wait(given, Some(ask)) => {
                    if !world.ask(self.partition, given, &ask) {
                        self.inner.lock().book.unask(&ask);
                        return Err(Denied::Spool);
                    }
                }
                Step::Wait(given, None) => world.give_back(self.partition, given),
            }
            if place.is_none() {
                place = Some(Place::take(self, world.config.max_waiting).ok_or(Denied::Crowded)?);
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return Err(Denied::Unavailable("no lease came in time"));
            }
        }
    }

    /// As [`Limits::drawn`], but waits a bounded time for the window of a blocking budget.
    pub(crate) async fn drawn_in_time(
        &self,
        budgets: &[&std::sync::Arc<Budget>],
        at: Micros,
        wait: std::time::Duration,
    ) -> Drawn {
        let first = self.drawn(budgets, at);
        if first.missing.is_none() {
            return first;
        }
        let deadline = Instant::now() + wait;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let drawn = self.drawn(budgets, at);
            if drawn.missing.is_none() || tokio::time::timeout_at(deadline, changed).await.is_err() {
                return drawn;
            }
        }
    }

    fn look(&self, world: &World, path: &Path, amount: Money, patience: &mut Patience) -> Step {
        let now = world.now();
        let mut inner = self.inner.lock();
        if inner.stopped.is_some() {
            return Step::Deny(Denied::Unavailable("the limits cannot be read any further"));
        }
        if let Some(lease) = inner.book.reserve(path, amount, now) {
            let ahead = inner.book.ask_ahead(path, now);
            return Step::Got(lease, ahead);
        }
        if let Some(denial) = inner.spent(path, amount) {
            return Step::Deny(Denied::Budget(Box::new(denial)));
        }
        let (count, refusal) = inner.book.refusals(path);
        let floor = *patience.floor.get_or_insert(count);
        let fresh = refusal.filter(|refusal| refusal.count > floor && refusal.minimum <= amount).cloned();
        let mut given = Vec::new();
        if let Some(refusal) = fresh {
            let about_money = matches!(refusal.reason, LeaseRefusal::InFlight | LeaseRefusal::Spent);
            if about_money && !patience.regrouped {
                given = inner.book.give_back_sharing(refusal.account.as_ref());
            }
            if given.is_empty() {
                return Step::Deny(inner.denied(path, amount, &refusal));
            }
            patience.regrouped = true;
            patience.floor = Some(count);
        }
        let ask = inner.book.ask(path, amount, now);
        if ask.is_none() && inner.silent(world, path, now) {
            return Step::Deny(Denied::Unavailable("the ledger is silent"));
        }
        Step::Wait(given, ask)
    }
}

impl Inner {
    /// A blocking account that the log itself shows to be used up.
    fn spent(&self, path: &[AccountRef], amount: Money) -> Option<Denial> {
        let is_spent = |account: &&AccountRef| {
            let limit = self.fold.limit(account);
            let committed = self.fold.account(account).map_or(Money::ZERO, |found| found.committed);
            let settled = self.balances.get(*account).map_or(Money::ZERO, |balance| balance.settled);
            blocks(self.fold.mode(&account.budget))
                && limit.minus(committed) < amount
                && settled.plus(amount) > limit
        };
        path.iter().find(is_spent).map(|account| self.denial(account, amount, false))
    }

    fn denial(&self, account: &AccountRef, needed: Money, in_flight: bool) -> Denial {
        let found = self.fold.account(account);
        let settled = self.balances.get(account).map_or(Money::ZERO, |balance| balance.settled);
        let committed = found.map_or(Money::ZERO, |found| found.committed);
        Denial {
            budget: account.budget.clone(),
            limit: self.fold.limit(account),
            settled,
            reserved: committed.minus_or_zero(settled),
            needed,
            resets_at: found.and_then(|found| found.ends_at),
            in_flight,
        }
    }

    /// The denial that follows from the ledger's refusal.
    fn denied(&self, path: &[AccountRef], amount: Money, refusal: &Refusal) -> Denied {
        let in_flight = match refusal.reason {
            LeaseRefusal::Spent => false,
            LeaseRefusal::InFlight => true,
            LeaseRefusal::WindowNotOpen => return Denied::Unavailable("a window is not open"),
            LeaseRefusal::UnknownBudget => {
                return Denied::Unavailable("a budget has no limit in the log yet");
            }
            LeaseRefusal::HolderEnded => return Denied::Unavailable("this incarnation has ended"),
            LeaseRefusal::Malformed => return Denied::Unavailable("the ledger did not understand"),
        };
        let tightest = || {
            path.iter().filter(|account| blocks(self.fold.mode(&account.budget))).min_by_key(|account| {
                let committed = self.fold.account(account).map_or(Money::ZERO, |found| found.committed);
                self.fold.limit(account).minus(committed)
            })
        };
        match refusal.account.as_ref().or_else(tightest) {
            Some(account) => Denied::Budget(Box::new(self.denial(account, amount, in_flight))),
            None => Denied::Unavailable("the ledger refused without a budget"),
        }
    }

    /// True when the ledger owes an answer and has said nothing for long.
    fn silent(&self, world: &World, path: &[AccountRef], now: Micros) -> bool {
        let passed = |since: Micros, bound: std::time::Duration| {
            u128::try_from(now.0.saturating_sub(since.0)).is_ok_and(|age| age >= bound.as_micros())
        };
        let owes = self.book.asked_at(path).is_some_and(|asked| passed(asked, world.config.lease_wait));
        owes && self.seen_at.is_none_or(|seen| passed(seen, world.config.ledger_silence))
    }
}

/// A place in the bounded queue.
struct Place<'a>(&'a Limits);

impl<'a> Place<'a> {
    fn take(limits: &'a Limits, most: usize) -> Option<Self> {
        let taken = limits.waiting.fetch_add(1, Ordering::Relaxed);
        let place = Self(limits);
        (taken < most).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
