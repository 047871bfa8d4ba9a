//! What one partition of `limits` says and what this incarnation may spend by it, as a pure state machine: records
//! and questions in, leases, asks and returns out. Nothing here waits, reads a clock or writes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{
    AccountRef, BalanceStated, Fact, Head, LeaseId, LeaseMarked, LeaseRefusal, LeaseRequested, LeaseReturned,
    Mode, Phase, Recovery,
};
use bursar_schemas::fold::{Fold, FoldError, Ignored, Verdict, Void};
use bursar_schemas::ids::ProducerId;
use bursar_schemas::money::Money;
use bursar_schemas::snapshot::{self, NotASnapshot, Place};
use bursar_schemas::wire::Unreadable;

use super::drawn::KnownPaths;
use crate::config::LeaseSizing;
use crate::leases::{Ask, GiveBack, LeaseBook, Path, Raise};

/// How long a request waits, and when the ledger counts as silent.
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    /// How long a request waits for a lease.
    pub lease: Duration,
    /// A ledger that says nothing for that long is held to be silent.
    pub silence: Duration,
}

/// The fold, the lease book and the stated balances of one partition.
#[derive(Debug)]
pub struct LimitsCore {
    pub(super) fold: Fold,
    pub(super) book: LeaseBook,
    pub(super) known_paths: KnownPaths,
    pub(super) waits: Waits,
    holder: ProducerId,
    balances: BTreeMap<AccountRef, Money>,
    /// Budgets that give each member an account of its own from which marks recover, by the newest policy drawn by.
    pub(super) members_recover: BTreeSet<String>,
    /// When the newest record was read, by this process's clock.
    pub(super) seen_at: Option<Micros>,
    caught_up: bool,
    /// The journal is away since the start: what a snapshot says is all there is.
    from_snapshot: bool,
    /// Why the journal cannot be read at the moment.
    trouble: Option<String>,
    /// Why reading had to stop; nothing is admitted any more.
    pub(super) stopped: Option<String>,
}

/// How one partition of `limits` stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Age of the newest record, in microseconds; none before the first.
    pub age_us: Option<i64>,
    /// True once all was read that was there at the start.
    pub caught_up: bool,
    /// True while the journal is away since the start, and a snapshot is all there is.
    pub from_snapshot: bool,
    /// Why the journal cannot be read at the moment; leases and spool carry on.
    pub trouble: Option<String>,
    /// Why reading stopped.
    pub stopped: Option<String>,
    /// What is left in leases.
    pub left: Money,
    /// What is spent per second.
    pub rate: Money,
    /// How long the ledger has owed an answer, in microseconds.
    pub owed_us: Option<u64>,
}

pub(super) const fn blocks(mode: Mode) -> bool {
    matches!(mode, Mode::Hard | Mode::Bounded)
}

impl LimitsCore {
    /// A core that has read nothing.
    #[must_use]
    pub fn new(partition: u32, holder: ProducerId, sizing: LeaseSizing, waits: Waits) -> Self {
        // Numbers of different partitions never meet, so a lease id is unique over all of them.
        let first = (u64::from(partition) << 40) + 1;
        Self {
            fold: Fold::default(),
            known_paths: KnownPaths::default(),
            book: LeaseBook::new(holder, sizing, first),
            waits,
            holder,
            balances: BTreeMap::new(),
            members_recover: BTreeSet::new(),
            seen_at: None,
            caught_up: false,
            from_snapshot: false,
            trouble: None,
            stopped: None,
        }
    }

    /// Takes the next record; true when a lease of this incarnation was revoked.
    ///
    /// # Errors
    /// When the log cannot be followed any further.
    pub fn apply(
        &mut self,
        offset: u64,
        fact: &Result<Fact, Unreadable>,
        now: Micros,
    ) -> Result<bool, FoldError> {
        let verdict = self.fold.apply_record(offset, fact)?;
        self.seen_at = Some(now);
        let Ok(fact) = fact else { return Ok(false) };
        match (verdict, fact) {
            (Verdict::Counted, Fact::LeaseGranted(grant)) => {
                self.book.granted(grant.lease, &grant.accounts, grant.amount, now);
            }
            // A void grant answers the question, unless its writer was superseded: the successor asks again.
            (Verdict::Void(void), Fact::LeaseGranted(grant))
                if !matches!(void, Void::WrongEpoch | Void::AnsweredBefore) =>
            {
                self.book.refused(grant.lease, LeaseRefusal::InFlight, None);
            }
            (Verdict::Counted, Fact::LeaseRefused(refused)) => {
                self.book.refused(refused.lease, refused.reason, refused.account.clone());
            }
            (Verdict::Counted, Fact::LeaseCredited(credit)) => {
                self.book.credited(credit.lease, credit.number, credit.amount, credit.reason);
            }
            (Verdict::Counted, Fact::LeaseRevoked(revoked)) => {
                self.book.revoked(revoked.lease);
                return Ok(revoked.lease.holder == self.holder);
            }
            (Verdict::Counted, Fact::LimitSet(_) | Fact::WindowMoved(_)) => {
                self.known_paths.clear();
            }
            (Verdict::Counted, Fact::LeaseClosed(closed)) => self.book.revoked(closed.lease),
            (Verdict::Ignored(Ignored::NotBinding), Fact::BalanceStated(stated)) => self.state(stated),
            (Verdict::Counted, Fact::IncarnationEnded(ended)) if ended.incarnation == self.holder => {
                self.stop("this incarnation was ended in the log".to_owned());
            }
            _ => {}
        }
        Ok(false)
    }

    fn state(&mut self, stated: &BalanceStated) {
        if self.fold.epoch() == Some(stated.epoch) {
            self.balances.insert(stated.account.clone(), stated.settled);
        }
    }

    /// What an account is said to have settled.
    pub(super) fn settled(&self, account: &AccountRef) -> Money {
        self.balances.get(account).copied().unwrap_or(Money::ZERO)
    }

    /// An attempt is over: its reservation is replaced by what it cost. What is to be given back belongs after the
    /// fact that says so.
    #[must_use]
    pub fn settle(&mut self, lease: LeaseId, reserved: Money, amount: Money) -> Vec<GiveBack> {
        self.book.settle(lease, reserved, amount)
    }

    /// A turn of about a second: what is not needed goes back.
    pub fn turn(&mut self, now: Micros) -> Vec<GiveBack> {
        let Self { fold, book, balances, .. } = self;
        let over = |account: &AccountRef| {
            fold.account(account)
                .is_none_or(|found| found.phase != Phase::Open || found.ends_at.is_some_and(|end| now >= end))
        };
        let gone =
            |account: &AccountRef| fold.account(account).is_none_or(|found| found.phase == Phase::Closed);
        balances.retain(|account, _| fold.account(account).is_some());
        book.turn(now, over, gone)
    }

    /// All that is left, given back for good.
    pub fn give_back_all(&mut self) -> Vec<GiveBack> {
        self.book.give_back_sharing(None)
    }

    /// What is left in leases that were revoked.
    pub fn give_back_stopped(&mut self) -> Vec<GiveBack> {
        self.book.give_back_stopped()
    }

    /// Returns could not be written: they are kept for the next turn.
    pub fn unsent(&mut self, returns: Vec<GiveBack>) {
        self.book.unsent(returns);
    }

    /// A question could not be written: it is open no more.
    pub fn unask(&mut self, ask: &Ask) {
        self.book.unask(ask);
    }

    /// Marks that are to be written, after each look.
    #[must_use]
    pub fn take_raises(&mut self) -> Vec<Raise> {
        self.book.take_raises()
    }

    /// What became of a mark.
    pub fn raised(&mut self, raise: Raise, acknowledged: bool) {
        self.book.raised(raise, acknowledged);
    }

    /// A question on a path from which marks recover what a dead holder left begins with a mark.
    pub(super) fn with_mark(&mut self, ask: Option<Ask>) -> Option<Ask> {
        let mut ask = ask?;
        if self.recovers(&ask.path) {
            self.book.mark_asked(&mut ask);
        }
        Some(ask)
    }

    fn recovers(&self, path: &Path) -> bool {
        path.iter().any(|account| match self.fold.budget(&account.budget) {
            Some(budget) => budget.recovery == Recovery::Journal,
            // A member whom the log does not know yet is given what policy says.
            None => {
                let budget = account.budget.rsplit_once('/').map(|(budget, _)| budget);
                budget.is_some_and(|budget| self.members_recover.contains(budget))
            }
        })
    }

    /// Reading had to stop; the first reason stays.
    pub fn stop(&mut self, reason: String) {
        self.stopped.get_or_insert(reason);
    }

    /// All was read that was there at the start.
    pub const fn catch_up(&mut self) {
        self.caught_up = true;
        self.from_snapshot = false;
    }

    /// Why the journal cannot be read at the moment, or that it can.
    pub fn set_trouble(&mut self, trouble: Option<String>) {
        self.trouble = trouble;
    }

    /// Goes on without the journal: no lease is held, so whatever needs one is refused until it is back.
    pub const fn go_on_from_snapshot(&mut self) {
        self.from_snapshot = true;
    }

    /// What was read, as a snapshot at a place. Leases are not in it: each incarnation has its own.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, place: Place) -> Result<Vec<u8>, NotASnapshot> {
        let balances: Vec<_> = self.balances.iter().collect();
        snapshot::write(&(place, &self.fold, balances))
    }

    /// Takes over what a snapshot says; returns where to read on. The incarnation must be new: it holds nothing.
    ///
    /// # Errors
    /// When the bytes are not such a snapshot.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<Place, NotASnapshot> {
        let (place, fold, balances): (Place, Fold, Vec<(AccountRef, Money)>) = snapshot::read(bytes)?;
        self.fold = fold;
        self.known_paths.clear();
        self.balances = balances.into_iter().collect();
        Ok(place)
    }

    /// The fold of `limits` so far.
    #[must_use]
    pub const fn fold(&self) -> &Fold {
        &self.fold
    }

    /// The lease book.
    #[must_use]
    pub const fn book(&self) -> &LeaseBook {
        &self.book
    }

    /// How it stands at a time.
    #[must_use]
    pub fn standing(&self, now: Micros) -> Standing {
        let (left, rate) = self.book.runway();
        let owed = self.book.oldest_question();
        Standing {
            age_us: self.seen_at.map(|seen| now.0.saturating_sub(seen.0).max(0)),
            caught_up: self.caught_up,
            from_snapshot: self.from_snapshot,
            trouble: self.trouble.clone(),
            stopped: self.stopped.clone(),
            left,
            rate,
            owed_us: owed.map(|at| u64::try_from(now.0.saturating_sub(at.0)).unwrap_or(0)),
        }
    }
}

/// The facts that ask for a lease, in order.
#[must_use]
pub fn request_facts(head: &Head, ask: &Ask) -> Vec<Fact> {
    let (lease, accounts, wanted, minimum) = (ask.lease, ask.path.to_vec(), ask.wanted, ask.minimum);
    let request = LeaseRequested { head: head.clone(), lease, accounts, wanted, minimum };
    after_mark(head, (lease, ask.mark), request.into())
}

/// The facts that give money back, in order.
#[must_use]
pub fn return_facts(head: &Head, given: &GiveBack) -> Vec<Fact> {
    let GiveBack { lease, number, amount, last, mark } = *given;
    let returned = LeaseReturned { head: head.clone(), lease, number, amount, last };
    after_mark(head, (lease, mark), returned.into())
}

/// The fact that states a mark.
#[must_use]
pub fn mark_fact(head: Head, raise: &Raise) -> Fact {
    LeaseMarked { head, lease: raise.lease, mark: raise.mark }.into()
}

fn after_mark(head: &Head, (lease, mark): (LeaseId, Option<Money>), fact: Fact) -> Vec<Fact> {
    let mark = mark.map(|mark| mark_fact(head.clone(), &Raise { lease, mark }));
    mark.into_iter().chain([fact]).collect()
}
