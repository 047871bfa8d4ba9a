//! One look at the book for one request: a lease, a denial, or a reason to wait. Pure.

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{AccountRef, LeaseId, LeaseRefusal};
use bursar_schemas::fold::Fold;
use bursar_schemas::money::Money;

use super::core::{LimitsCore, blocks};
use crate::leases::{Ask, GiveBack, Path, Refusal};

/// How the account that refused stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The budget.
    pub budget: String,
    /// Its limit in force.
    pub limit: Money,
    /// Settled, as the ledger last said.
    pub settled: Money,
    /// Committed beyond that.
    pub reserved: Money,
    /// What the attempt may cost.
    pub needed: Money,
    /// End of the window.
    pub resets_at: Option<Micros>,
    /// True when trying again soon can help.
    pub in_flight: bool,
}

/// Why there is no lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// A budget cannot cover the attempt.
    Budget(Box<Denial>),
    /// Money may be there, but nobody can say so in time.
    Unavailable(&'static str),
    /// Too many requests wait already.
    Crowded,
    /// The question could not be written.
    Spool,
}

impl Denied {
    /// True when trying again soon can help.
    #[must_use]
    pub fn is_in_flight(&self) -> bool {
        matches!(self, Self::Budget(denial) if denial.in_flight)
    }
}

/// What one look at the book came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Money is set aside under a lease; a question ahead of need may be due.
    Got(LeaseId, Option<Ask>),
    /// There will be none.
    Deny(Denied),
    /// Wait for the log or for another attempt's end; first write these returns, then this question.
    Wait(Vec<GiveBack>, Option<Ask>),
}

/// What one waiting request remembers between looks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Patience {
    /// Refusals of the path when it began to wait.
    floor: Option<u64>,
    /// It had own idle leases given back to be granted anew.
    regrouped: bool,
    /// The lease that it asked for last.
    asked: Option<LeaseId>,
}

/// Leases that the log has granted or refused already, as a confused ledger may: a question for one would stay unanswered.
fn answered(fold: &Fold) -> impl Fn(&LeaseId) -> bool {
    |lease| fold.is_used_up(lease) || fold.lease(lease).is_some()
}

impl LimitsCore {
    /// Sets money aside on a path, or says what to do instead.
    pub fn look(&mut self, path: &Path, amount: Money, now: Micros, patience: &mut Patience) -> Step {
        if self.stopped.is_some() {
            return Step::Deny(Denied::Unavailable("the limits cannot be read any further"));
        }
        if let Some(lease) = self.book.reserve(path, amount, now) {
            let ahead = self.book.ask_ahead(path, now, answered(&self.fold));
            return Step::Got(lease, self.with_mark(ahead));
        }
        if self.book.awaits_mark(path, amount) {
            return Step::Wait(Vec::new(), None);
        }
        if let Some(denial) = self.spent(path, amount) {
            return Step::Deny(Denied::Budget(Box::new(denial)));
        }
        let (count, refusal) = self.book.refusals(path);
        let floor = *patience.floor.get_or_insert(count);
        let fresh = refusal.filter(|refusal| refusal.count > floor && refusal.minimum <= amount).cloned();
        // Where each asks for itself, money under way to others may still come to this one.
        let is_others = |refusal: &Refusal| {
            refusal.reason == LeaseRefusal::InFlight
                && self.book.is_scarce(path)
                && patience.asked != Some(refusal.lease)
        };
        let mut given = Vec::new();
        if let Some(refusal) = fresh.filter(|refusal| !is_others(refusal)) {
            let about_money = matches!(refusal.reason, LeaseRefusal::InFlight | LeaseRefusal::Spent);
            if about_money && !patience.regrouped {
                given = self.book.give_back_sharing(refusal.account.as_ref());
            }
            if given.is_empty() {
                return Step::Deny(self.denied(path, amount, &refusal));
            }
            patience.regrouped = true;
            patience.floor = Some(count);
        }
        let ask = self.book.ask(path, amount, patience.asked, now, answered(&self.fold));
        let ask = self.with_mark(ask);
        if let Some(ask) = &ask {
            patience.asked = Some(ask.lease);
            given.extend(self.book.give_back_crumbs(path, amount));
        }
        if ask.is_none() && self.silent(path, now) {
            return Step::Deny(Denied::Unavailable("the ledger is silent"));
        }
        Step::Wait(given, ask)
    }

    /// Why a request that waited its time got nothing: the money is in flight, when the ledger is there and says
    /// that there is too little; otherwise nobody knows.
    pub fn late(&self, path: &[AccountRef], amount: Money, now: Micros) -> Denied {
        let tightest = self.tightest_of(path).filter(|account| {
            let committed = self.fold.committed(account);
            self.book.is_scarce(path) || self.fold.limit(account).minus(committed) < amount
        });
        match tightest {
            Some(account) if !self.silent(path, now) => {
                Denied::Budget(Box::new(self.denial(account, amount, true)))
            }
            _ => Denied::Unavailable("no lease came in time"),
        }
    }

    /// The account on a path that can refuse and has the least left.
    fn tightest_of<'a>(&self, path: &'a [AccountRef]) -> Option<&'a AccountRef> {
        path.iter().filter(|account| blocks(self.fold.mode(&account.budget))).min_by_key(|account| {
            let committed = self.fold.committed(account);
            self.fold.limit(account).minus(committed)
        })
    }

    /// A blocking account that the log itself shows to be used up.
    fn spent(&self, path: &[AccountRef], amount: Money) -> Option<Denial> {
        let is_spent = |account: &&AccountRef| {
            // A member's account may have no limit yet: its first lease request makes it one.
            if self.fold.budget(&account.budget).is_none() {
                return false;
            }
            let limit = self.fold.limit(account);
            let committed = self.fold.committed(account);
            blocks(self.fold.mode(&account.budget))
                && limit.minus(committed) < amount
                && self.settled(account).plus(amount) > limit
        };
        path.iter().find(is_spent).map(|account| self.denial(account, amount, false))
    }

    fn denial(&self, account: &AccountRef, needed: Money, in_flight: bool) -> Denial {
        let found = self.fold.account(account);
        let settled = self.settled(account);
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
        match refusal.account.as_ref().or_else(|| self.tightest_of(path)) {
            Some(account) => Denied::Budget(Box::new(self.denial(account, amount, in_flight))),
            None => Denied::Unavailable("the ledger refused without a budget"),
        }
    }

    /// True when the ledger owes an answer and has said nothing for long.
    fn silent(&self, path: &[AccountRef], now: Micros) -> bool {
        let passed = |since: Micros, bound: std::time::Duration| {
            u128::try_from(now.0.saturating_sub(since.0)).is_ok_and(|age| age >= bound.as_micros())
        };
        let owes = self.book.asked_at(path).is_some_and(|asked| passed(asked, self.waits.lease));
        owes && self.seen_at.is_none_or(|seen| passed(seen, self.waits.silence))
    }
}
