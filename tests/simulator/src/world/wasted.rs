//! What a confused ledger wasted, by the log alone: every record of it that was written under the live epoch is one of
//! these, and takes from what is asked of an honest one exactly what that record can take. Nothing else does.

use std::collections::BTreeSet;

use bursar_schemas::facts::{AccountRef, Fact, LeaseId, Phase};
use bursar_schemas::fold::{Verdict, Void};

/// What records of a confused ledger put out of an honest one's reach.
#[derive(Debug, Default)]
pub(super) struct Wasted {
    /// Leases that it granted: a return may reach an honest one before the grant, which it then knows nothing of.
    own: BTreeSet<LeaseId>,
    /// Leases that it closed: nothing of them is credited any more.
    closed: BTreeSet<LeaseId>,
    /// Leases that it wrote a credit of, counted or void: it used up the number of a return, or the room for one.
    credited: BTreeSet<LeaseId>,
    /// Windows that it moved.
    moved: BTreeSet<AccountRef>,
    /// Budgets whose limit in force is its own.
    limited: BTreeSet<String>,
    /// Leases that it granted or refused.
    answered: BTreeSet<LeaseId>,
    /// Offset of the last record of it that changed anything.
    last: Option<u64>,
}

impl Wasted {
    /// A record of `limits`, of whomever.
    pub(super) fn note(&mut self, offset: u64, fact: &Fact, verdict: Verdict, honest: bool) {
        let counts = verdict == Verdict::Counted;
        if honest {
            if let (Fact::LimitSet(set), true) = (fact, counts) {
                self.limited.remove(&set.budget);
            }
            return;
        }
        if matches!(verdict, Verdict::Ignored(_) | Verdict::Void(Void::WrongEpoch)) {
            return;
        }
        if counts {
            self.last = Some(offset);
        }
        match fact {
            Fact::LeaseGranted(it) if counts => {
                self.answered.insert(it.lease);
                self.own.insert(it.lease);
            }
            Fact::LeaseRefused(it) if counts => {
                self.answered.insert(it.lease);
            }
            Fact::LeaseClosed(it) if counts => {
                self.closed.insert(it.lease);
            }
            Fact::LeaseCredited(it) => {
                self.credited.insert(it.lease);
            }
            Fact::WindowMoved(it) if counts && it.phase != Phase::Open => {
                self.moved.insert(it.account.clone());
            }
            Fact::LimitSet(it) if counts => {
                self.limited.insert(it.budget.clone());
            }
            _ => {}
        }
    }

    /// True when it has said something of a lease after which an honest ledger may credit less of it.
    pub(super) fn spoils(&self, lease: &LeaseId) -> bool {
        self.own.contains(lease) || self.closed.contains(lease) || self.credited.contains(lease)
    }

    /// True for what is void because of an earlier record of it: a grant, when it had answered that question itself; a credit, when it credited the lease and two of its returns no longer fit.
    pub(super) fn explains(&self, fact: &Fact, void: Void) -> bool {
        match (fact, void) {
            (Fact::LeaseGranted(it), Void::AnsweredBefore) => self.answered.contains(&it.lease),
            (Fact::LeaseCredited(it), Void::OverCredit) => self.credited.contains(&it.lease),
            _ => false,
        }
    }

    /// True when it ended a window.
    pub(super) fn ends(&self, account: &AccountRef) -> bool {
        self.moved.contains(account)
    }

    /// True when a budget's limit in force is its own, and not what policy wants.
    pub(super) fn limits(&self, budget: &str) -> bool {
        self.limited.contains(budget)
    }

    /// True when it changed something from that offset on: who had read no further may write what is void now.
    pub(super) fn interferes_since(&self, read: u64) -> bool {
        self.last.is_some_and(|last| last >= read)
    }
}
