//! What the log of limits says, and what this shim may spend by it: the fold, the lease book and the stated
//! balances of one partition, under one lock that is held for microseconds.

mod admission;
mod follow;

pub(crate) use admission::{Denial, Denied};
pub(crate) use follow::follow;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{AccountRef, BalanceStated, Fact, LeaseRefusal, Mode, Phase};
use bursar_schemas::fold::{Fold, FoldError, Ignored, Verdict, Void};
use bursar_schemas::ids::ProducerId;
use bursar_schemas::money::Money;
use bursar_schemas::policy::Budget;
use bursar_schemas::snapshot::{self, NotASnapshot, Place};
use bursar_schemas::wire::Unreadable;

use crate::config::LeaseSizing;
use crate::leases::{GiveBack, LeaseBook, Path};

/// One partition of `limits`.
pub(crate) struct Limits {
    pub(crate) partition: u32,
    inner: Mutex<Inner>,
    changed: Notify,
    waiting: AtomicUsize,
}

struct Inner {
    fold: Fold,
    book: LeaseBook,
    holder: ProducerId,
    balances: BTreeMap<AccountRef, Balance>,
    /// When the newest record was read, by this process's clock.
    seen_at: Option<Micros>,
    caught_up: bool,
    /// The journal is away since the start: what a snapshot says is all there is.
    from_snapshot: bool,
    /// Why reading had to stop; nothing is admitted any more.
    stopped: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct Balance {
    settled: Money,
}

/// Which accounts a request draws on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Drawn {
    /// The accounts, sorted.
    pub(crate) path: Path,
    /// True when a lease must cover the path.
    pub(crate) blocks: bool,
    /// A blocking budget whose window is not in the log (yet).
    pub(crate) missing: Option<String>,
}

const fn blocks(mode: Mode) -> bool {
    matches!(mode, Mode::Hard | Mode::Bounded)
}

impl Limits {
    pub(crate) fn new(partition: u32, holder: ProducerId, sizing: LeaseSizing) -> Self {
        // Numbers of different partitions never meet, so a lease id is unique over all of them.
        let first = (u64::from(partition) << 40) + 1;
        let inner = Inner {
            fold: Fold::default(),
            book: LeaseBook::new(holder, sizing, first),
            holder,
            balances: BTreeMap::new(),
            seen_at: None,
            caught_up: false,
            from_snapshot: false,
            stopped: None,
        };
        Self { partition, inner: Mutex::new(inner), changed: Notify::new(), waiting: AtomicUsize::new(0) }
    }

    /// The accounts of these budgets at an accounting time.
    pub(crate) fn drawn(&self, budgets: &[&std::sync::Arc<Budget>], at: Micros) -> Drawn {
        let mut accounts = Vec::with_capacity(budgets.len());
        let (mut blocking, mut missing) = (false, None);
        let inner = self.inner.lock();
        for budget in budgets {
            // Before its first `LimitSet` a budget promises what policy says; no grant can count on it yet.
            let mode = inner.fold.budget(&budget.id).map_or(budget.mode, |found| found.mode);
            blocking |= blocks(mode);
            match inner.fold.account_at(&budget.id, at) {
                Some((account, _)) => accounts.push(account.clone()),
                None if blocks(mode) => missing = Some(budget.id.clone()),
                None => {}
            }
        }
        drop(inner);
        accounts.sort();
        accounts.dedup();
        Drawn { path: accounts.into(), blocks: blocking, missing }
    }

    /// An attempt is over.
    pub(crate) fn settle(&self, lease: bursar_schemas::facts::LeaseId, reserved: Money, amount: Money) {
        self.inner.lock().book.settle(lease, reserved, amount);
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.changed.notify_waiters();
        }
    }

    /// What was read, as a snapshot at a place.
    fn save(&self, place: Place) -> Result<Vec<u8>, NotASnapshot> {
        let inner = self.inner.lock();
        let balances: Vec<_> = inner.balances.iter().map(|(account, it)| (account, it.settled)).collect();
        snapshot::write(&(place, &inner.fold, balances))
    }

    /// Takes over what a snapshot says; returns where to read on. Leases are not in it: each incarnation has
    /// its own.
    fn restore(&self, bytes: &[u8]) -> Result<Place, NotASnapshot> {
        let (place, fold, balances): (Place, Fold, Vec<(AccountRef, Money)>) = snapshot::read(bytes)?;
        let mut inner = self.inner.lock();
        inner.fold = fold;
        inner.balances =
            balances.into_iter().map(|(account, settled)| (account, Balance { settled })).collect();
        Ok(place)
    }

    /// Takes a record; true when a lease of this shim was revoked.
    fn apply(&self, offset: u64, fact: &Result<Fact, Unreadable>, now: Micros) -> Result<bool, FoldError> {
        self.inner.lock().apply(offset, fact, now)
    }

    pub(crate) fn turn(&self, now: Micros) -> Vec<GiveBack> {
        let mut inner = self.inner.lock();
        let Inner { fold, book, balances, .. } = &mut *inner;
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
    pub(crate) fn give_back_all(&self) -> Vec<GiveBack> {
        self.inner.lock().book.give_back_sharing(None)
    }

    pub(crate) fn give_back_stopped(&self) -> Vec<GiveBack> {
        self.inner.lock().book.give_back_stopped()
    }

    pub(crate) fn stop(&self, reason: String) {
        self.inner.lock().stopped.get_or_insert(reason);
        self.changed.notify_waiters();
    }

    /// Goes on without the journal: no lease is held, so whatever needs one is refused until it is back.
    fn go_on_from_snapshot(&self) {
        self.inner.lock().from_snapshot = true;
    }

    pub(crate) fn catch_up(&self) {
        let mut inner = self.inner.lock();
        inner.caught_up = true;
        inner.from_snapshot = false;
        drop(inner);
        self.changed.notify_waiters();
    }

    /// Age of the newest record in microseconds, whether all was read at the start, and why reading stopped.
    pub(crate) fn standing(&self, now: Micros) -> Standing {
        let inner = self.inner.lock();
        let (left, rate) = inner.book.runway();
        Standing {
            age_us: inner.seen_at.map(|seen| now.0.saturating_sub(seen.0).max(0)),
            caught_up: inner.caught_up,
            from_snapshot: inner.from_snapshot,
            stopped: inner.stopped.clone(),
            left,
            rate,
            owed_us: inner
                .book
                .oldest_question()
                .map(|at| u64::try_from(now.0.saturating_sub(at.0)).unwrap_or(0)),
        }
    }
}

/// How one partition of `limits` stands.
pub(crate) struct Standing {
    pub(crate) age_us: Option<i64>,
    pub(crate) caught_up: bool,
    pub(crate) from_snapshot: bool,
    pub(crate) stopped: Option<String>,
    pub(crate) left: Money,
    pub(crate) rate: Money,
    /// How long the ledger has owed an answer.
    pub(crate) owed_us: Option<u64>,
}

impl Inner {
    fn apply(
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
                if !matches!(void, Void::WrongEpoch | Void::GrantedBefore) =>
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
            (Verdict::Counted, Fact::LeaseClosed(closed)) => self.book.revoked(closed.lease),
            (Verdict::Ignored(Ignored::NotBinding), Fact::BalanceStated(stated)) => self.state(stated),
            (Verdict::Counted, Fact::IncarnationEnded(ended)) if ended.incarnation == self.holder => {
                self.stopped.get_or_insert_with(|| "this incarnation was ended in the log".to_owned());
            }
            _ => {}
        }
        Ok(false)
    }

    fn state(&mut self, stated: &BalanceStated) {
        if self.fold.epoch() == Some(stated.epoch) {
            self.balances.insert(stated.account.clone(), Balance { settled: stated.settled });
        }
    }
}
