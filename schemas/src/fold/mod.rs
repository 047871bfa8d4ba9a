//! The fold of `limits`: one pure function that the ledger, every shim and every auditor run over the same log.
//!
//! The safety of hard budgets lies here and not in the ledger's good behaviour: whatever breaks a rule is void
//! for every reader alike. A confused ledger can refuse too much; it cannot grant too much.
//!
//! | Rule | Held by |
//! |---|---|
//! | 1 epoch | [`Fold::apply`]: a marker counts only if it names the latest epoch; a record only under it |
//! | 2 limits and windows are in the log | [`state::Budget`], [`state::Account`]: no `LimitSet` means 0, no grant outside an open window |
//! | 3 debit on grant | [`Fold::check_grant`], `grants.rs` |
//! | 4 holder and credits | `credits.rs` |
//! | 5 no holes | [`Fold::apply`] refuses an offset below the next; readers refuse gaps |
//! | 6 replay | a lease id is answered once, `numbers.rs`; the record's cause says what it answers |
//!
//! Invariant: no clock, no policy and no configuration decides here; only records in order.

mod credits;
mod grants;
mod leases;
mod numbers;
mod state;

pub use credits::is_recovery;
pub use state::{Account, Budget, Lease};

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeBounds;

use serde::{Deserialize, Serialize};

use self::leases::Leases;
use self::numbers::Numbers;
use crate::avro::Micros;
use crate::facts::{AccountRef, Fact, LeaseId, LimitSet, Mode, Phase, Role, WindowMoved};
use crate::ids::ProducerId;
use crate::money::Money;
use crate::wire::Unreadable;

/// What a record did to the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It counts.
    Counted,
    /// It broke a rule and is void for everyone.
    Void(Void),
    /// It is nothing to the fold: seen before, not the ledger's, or for people only.
    Ignored(Ignored),
}

/// Which rule a void record broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Void {
    /// A marker that does not name the latest epoch.
    Superseded,
    /// Written under an epoch that is not the latest.
    WrongEpoch,
    /// A limit whose version does not rise.
    OldVersion,
    /// A window whose id does not rise, or a phase that does not move forward.
    WindowOrder,
    /// An amount that is not above nothing.
    NoAmount,
    /// A path that is empty, unsorted or doubled.
    Path,
    /// A lease id that was granted or refused before.
    AnsweredBefore,
    /// The holder has ended.
    HolderEnded,
    /// A window of the path is not open.
    WindowNotOpen,
    /// An account of the path would go above its limit.
    OverLimit,
    /// There is no such lease.
    NoLease,
    /// The return's number was credited before.
    CreditedBefore,
    /// More would be credited than was granted.
    OverCredit,
    /// No account may take the credit: its reason is forbidden there, or the window is closed.
    CreditForbidden,
}

/// Why a record is nothing to the fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ignored {
    /// Its id was seen before.
    SeenBefore,
    /// It was not written in the ledger's role.
    NotTheLedger,
    /// It is for people, or a producer's word about itself.
    NotBinding,
}

/// Why a reader of `limits` must stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// An offset came that is not above the last one.
    #[error("offset {offset} of limits came after offset {after}")]
    Backwards {
        /// The offset that came.
        offset: u64,
        /// The offset before it.
        after: u64,
    },
    /// A record of a kind that this version does not know: what it binds to is unknown.
    #[error("offset {offset} of limits is of a kind that this version does not know: {reason}")]
    UnknownKind {
        /// Its offset.
        offset: u64,
        /// What could not be read.
        reason: Unreadable,
    },
}

/// The state that follows from a prefix of `limits`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fold {
    last: Option<u64>,
    seen: BTreeMap<ProducerId, u64>,
    epoch: Option<u64>,
    budgets: BTreeMap<String, Budget>,
    #[serde(with = "crate::snapshot::pairs")]
    accounts: BTreeMap<AccountRef, Account>,
    leases: Leases,
    ended: BTreeSet<ProducerId>,
    /// Leases that are over, or were refused: none of them is ever granted (again).
    used_up: Numbers,
}

impl Fold {
    /// Takes the record at an offset, as it was read.
    ///
    /// # Errors
    /// When the reader must stop: an offset that goes back, or a kind this version does not know.
    pub fn apply_record(
        &mut self,
        offset: u64,
        fact: &Result<Fact, Unreadable>,
    ) -> Result<Verdict, FoldError> {
        match fact {
            Ok(fact) => self.apply(offset, fact),
            Err(reason @ Unreadable::Schema(_)) => {
                Err(FoldError::UnknownKind { offset, reason: reason.clone() })
            }
            // Bytes without a frame or with a broken datum come from no ledger: they bind nobody.
            Err(_) => {
                self.advance(offset)?;
                Ok(Verdict::Ignored(Ignored::NotTheLedger))
            }
        }
    }

    /// Takes the fact at an offset.
    ///
    /// # Errors
    /// When the offset goes back.
    pub fn apply(&mut self, offset: u64, fact: &Fact) -> Result<Verdict, FoldError> {
        self.advance(offset)?;
        let head = fact.head();
        if head.role != Role::Ledger {
            return Ok(Verdict::Ignored(Ignored::NotTheLedger));
        }
        if self.seen.get(&head.producer).is_some_and(|seen| head.number <= *seen) {
            return Ok(Verdict::Ignored(Ignored::SeenBefore));
        }
        self.seen.insert(head.producer, head.number);
        let outcome = match fact {
            Fact::EpochMarked(marker) => self.mark_epoch(offset, marker.supersedes),
            Fact::LimitSet(set) => self.under(set.epoch, |fold| fold.set_limit(set)),
            Fact::WindowMoved(moved) => self.under(moved.epoch, |fold| fold.move_window(moved)),
            Fact::LeaseGranted(grant) => self.under(grant.epoch, |fold| fold.grant(grant)),
            Fact::LeaseCredited(credit) => self.under(credit.epoch, |fold| fold.credit(credit)),
            Fact::LeaseRevoked(fact) => {
                self.under(fact.epoch, |fold| fold.flag(fact.lease, |lease| lease.revoked = true))
            }
            Fact::LeaseClosed(fact) => self.under(fact.epoch, |fold| fold.close(fact.lease)),
            Fact::IncarnationEnded(fact) => self.under(fact.epoch, |fold| {
                fold.ended.insert(fact.incarnation);
                fold.used_up.forget(&fact.incarnation);
                Ok(())
            }),
            Fact::LeaseRefused(refused) => self.under(refused.epoch, |fold| fold.refuse(refused.lease)),
            _ => return Ok(Verdict::Ignored(Ignored::NotBinding)),
        };
        Ok(outcome.map_or_else(Verdict::Void, |()| Verdict::Counted))
    }

    fn advance(&mut self, offset: u64) -> Result<(), FoldError> {
        if let Some(after) = self.last.filter(|last| offset <= *last) {
            return Err(FoldError::Backwards { offset, after });
        }
        self.last = Some(offset);
        Ok(())
    }

    fn mark_epoch(&mut self, offset: u64, supersedes: Option<u64>) -> Result<(), Void> {
        if supersedes != self.epoch {
            return Err(Void::Superseded);
        }
        self.epoch = Some(offset);
        Ok(())
    }

    fn under(&mut self, epoch: u64, change: impl FnOnce(&mut Self) -> Result<(), Void>) -> Result<(), Void> {
        if self.epoch == Some(epoch) { change(self) } else { Err(Void::WrongEpoch) }
    }

    fn set_limit(&mut self, set: &LimitSet) -> Result<(), Void> {
        let version = (set.policy_version, set.step);
        if self.budgets.get(&set.budget).is_some_and(|budget| version <= budget.version) {
            return Err(Void::OldVersion);
        }
        let budget = self.budgets.entry(set.budget.clone()).or_default();
        budget.amount = set.amount;
        budget.mode = set.mode;
        budget.recovery = set.recovery;
        budget.version = version;
        Ok(())
    }

    fn move_window(&mut self, moved: &WindowMoved) -> Result<(), Void> {
        let budget = self.budgets.entry(moved.account.budget.clone()).or_default();
        match (moved.phase, self.accounts.get_mut(&moved.account)) {
            (Phase::Open, None) if budget.last_window.is_none_or(|last| moved.account.window > last) => {
                budget.last_window = Some(moved.account.window);
                let account = Account::opened(moved.starts_at, moved.ends_at);
                self.accounts.insert(moved.account.clone(), account);
                Ok(())
            }
            (Phase::Draining, Some(account)) if account.phase == Phase::Open => {
                account.phase = Phase::Draining;
                Ok(())
            }
            (Phase::Closed, Some(account)) if account.phase != Phase::Closed => {
                account.phase = Phase::Closed;
                self.forget_closed(&moved.account);
                Ok(())
            }
            _ => Err(Void::WindowOrder),
        }
    }

    /// Forgets leases all of whose windows are closed, now that this one is.
    fn forget_closed(&mut self, closed: &AccountRef) {
        let is_over = |lease: &Lease| lease.accounts.iter().all(|account| self.is_closed(account));
        let over = self.leases.naming(closed).filter(|(_, lease)| is_over(lease));
        let over: Vec<LeaseId> = over.map(|(id, _)| *id).collect();
        over.into_iter().for_each(|id| self.forget(id));
        self.tidy(closed);
    }

    /// Forgets a lease. Its number stays, or a second grant of it could be credited with an old return.
    fn forget(&mut self, id: LeaseId) {
        let Some(lease) = self.leases.remove(&id) else { return };
        self.use_up(id);
        lease.accounts.iter().for_each(|account| self.tidy(account));
    }

    /// Forgets a closed window that no lease names any more. The budget's `last_window` stays, so that it can never open
    /// again.
    fn tidy(&mut self, account: &AccountRef) {
        if self.is_closed(account) && !self.leases.name(account) {
            self.accounts.remove(account);
        }
    }

    fn is_closed(&self, account: &AccountRef) -> bool {
        self.accounts.get(account).is_none_or(|state| state.phase == Phase::Closed)
    }

    fn use_up(&mut self, id: LeaseId) {
        if !self.ended.contains(&id.holder) {
            self.used_up.insert(&id);
        }
    }

    /// A lease is over: nothing of it comes back any more.
    fn close(&mut self, id: LeaseId) -> Result<(), Void> {
        self.leases.get(&id).ok_or(Void::NoLease)?;
        self.forget(id);
        Ok(())
    }

    fn refuse(&mut self, id: LeaseId) -> Result<(), Void> {
        if self.leases.get(&id).is_none() {
            self.use_up(id);
        }
        Ok(())
    }

    fn flag(&mut self, lease: LeaseId, change: impl FnOnce(&mut Lease)) -> Result<(), Void> {
        change(self.leases.get_mut(&lease).ok_or(Void::NoLease)?);
        Ok(())
    }

    /// Offset of the last record taken.
    #[must_use]
    pub const fn last(&self) -> Option<u64> {
        self.last
    }

    /// The latest epoch: the offset of the last marker that counts.
    #[must_use]
    pub const fn epoch(&self) -> Option<u64> {
        self.epoch
    }

    /// A budget's limit in force; none before its first `LimitSet`, which means 0.
    #[must_use]
    pub fn budget(&self, budget: &str) -> Option<&Budget> {
        self.budgets.get(budget).filter(|budget| budget.version > (0, 0))
    }

    /// The limit in force of a budget, and what it promises; one without a limit is hard and has nothing.
    #[must_use]
    pub fn limit_and_mode(&self, budget: &str) -> (Money, Mode) {
        self.budget(budget).map_or((Money::ZERO, Mode::Hard), |budget| (budget.amount, budget.mode))
    }

    /// The limit in force of an account's budget.
    #[must_use]
    pub fn limit(&self, account: &AccountRef) -> Money {
        self.limit_and_mode(&account.budget).0
    }

    /// What a budget promises; a budget without a limit is held to be hard.
    #[must_use]
    pub fn mode(&self, budget: &str) -> Mode {
        self.limit_and_mode(budget).1
    }

    /// An account whose window is open or draining, or closed while a lease still names it.
    #[must_use]
    pub fn account(&self, account: &AccountRef) -> Option<&Account> {
        self.accounts.get(account)
    }

    /// What shims hold or have spent of an account.
    #[must_use]
    pub fn committed(&self, account: &AccountRef) -> Money {
        self.account(account).map_or(Money::ZERO, |found| found.committed)
    }

    /// All accounts, sorted by budget and window.
    pub fn accounts(&self) -> impl Iterator<Item = (&AccountRef, &Account)> {
        self.accounts.iter()
    }

    /// The account of a budget whose window, open or draining, holds an instant.
    #[must_use]
    pub fn account_at(&self, budget: &str, at: Micros) -> Option<(&AccountRef, &Account)> {
        let first = AccountRef { budget: budget.to_owned(), window: i64::MIN };
        let last = AccountRef { budget: budget.to_owned(), window: i64::MAX };
        self.accounts
            .range(first..=last)
            .rev()
            .find(|(_, account)| account.holds(at) && account.phase != Phase::Closed)
    }

    /// A lease that some window of its path still keeps.
    #[must_use]
    pub fn lease(&self, lease: &LeaseId) -> Option<&Lease> {
        self.leases.get(lease)
    }

    /// True when a lease is over or was refused: it is never granted (again), and nothing of it comes back any more.
    #[must_use]
    pub fn is_used_up(&self, lease: &LeaseId) -> bool {
        self.used_up.contains(lease)
    }

    /// The leases kept in a range of them, sorted.
    pub fn leases_in(&self, range: impl RangeBounds<LeaseId>) -> impl Iterator<Item = (&LeaseId, &Lease)> {
        self.leases.range(range)
    }

    /// All leases kept, sorted.
    pub fn leases(&self) -> impl Iterator<Item = (&LeaseId, &Lease)> {
        self.leases.iter()
    }

    /// True when grants to that incarnation are void.
    #[must_use]
    pub fn has_ended(&self, incarnation: &ProducerId) -> bool {
        self.ended.contains(incarnation)
    }
}

#[cfg(test)]
mod tests;
