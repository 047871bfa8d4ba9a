//! A lease id is used up for good, also once the fold has forgotten the lease.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::facts::{
    CreditReason, EpochMarked, Head, IncarnationEnded, LeaseCredited, LeaseGranted, Recovery,
};

const LEDGER: ProducerId = ProducerId([1; 16]);
const SHIM: ProducerId = ProducerId([9; 16]);

fn account(window: i64) -> AccountRef {
    AccountRef { budget: "day".to_owned(), window }
}

#[derive(Default)]
struct Log {
    fold: Fold,
    offset: u64,
}

impl Log {
    fn append(&mut self, fact: impl Into<Fact>) -> Verdict {
        let mut fact = fact.into();
        let head = fact.head_mut();
        (head.producer, head.role, head.number) = (LEDGER, Role::Ledger, self.offset);
        self.offset += 1;
        self.fold.apply(self.offset - 1, &fact).unwrap()
    }

    fn head() -> Head {
        Head::draft(Micros(0), 0, "")
    }

    fn window(&mut self, window: i64, phase: Phase) -> Verdict {
        let (starts_at, account) = (Micros(0), account(window));
        self.append(WindowMoved { head: Self::head(), epoch: 0, account, starts_at, ends_at: None, phase })
    }

    fn grant(&mut self, number: u64, window: i64) -> Verdict {
        let lease = LeaseId { holder: SHIM, number };
        let (accounts, amount) = (vec![account(window)], Money::from_pico(4));
        self.append(LeaseGranted { head: Self::head(), epoch: 0, lease, accounts, amount, cause: 0, read: 0 })
    }
}

/// A log with a limit, and a lease whose only window is closed.
fn forgotten() -> Log {
    let mut log = Log::default();
    log.append(EpochMarked { head: Log::head(), instance: LEDGER, supersedes: None });
    let limit = LimitSet {
        head: Log::head(),
        epoch: 0,
        budget: "day".to_owned(),
        amount: Money::from_pico(10),
        mode: Mode::Hard,
        recovery: Recovery::Forfeit,
        policy_version: 1,
        step: 0,
    };
    assert_eq!(log.append(limit), Verdict::Counted);
    assert_eq!(log.window(1, Phase::Open), Verdict::Counted);
    assert_eq!(log.grant(5, 1), Verdict::Counted);
    assert_eq!(log.window(2, Phase::Open), Verdict::Counted);
    assert_eq!(log.window(1, Phase::Closed), Verdict::Counted);
    assert!(log.fold.leases().next().is_none(), "the lease is forgotten");
    log
}

#[test]
fn a_forgotten_lease_is_never_granted_again() {
    let mut log = forgotten();
    let is_used_up = |number| log.fold.is_used_up(&LeaseId { holder: SHIM, number });
    assert_eq!([4, 5, 6].map(is_used_up), [true, true, false]);
    assert_eq!(log.grant(5, 2), Verdict::Void(Void::GrantedBefore));
    assert_eq!(log.grant(4, 2), Verdict::Void(Void::GrantedBefore), "nor one before it");
    assert_eq!(log.grant(6, 2), Verdict::Counted);
    // The return that the first life of lease 5 made can credit nothing.
    let credit = LeaseCredited {
        head: Log::head(),
        epoch: 0,
        lease: LeaseId { holder: SHIM, number: 5 },
        number: 1,
        amount: Money::from_pico(3),
        accounts: vec![account(2)],
        reason: CreditReason::Returned,
        cause: None,
        read: 0,
    };
    assert_eq!(log.append(credit), Verdict::Void(Void::NoLease));
}

#[test]
fn an_ended_holder_needs_no_memory() {
    let mut log = forgotten();
    let (incarnation, cause, read) = (SHIM, 0, 0);
    log.append(IncarnationEnded { head: Log::head(), epoch: 0, incarnation, cause, read });
    assert!(log.fold.forgotten.is_empty());
    assert_eq!(log.grant(5, 2), Verdict::Void(Void::HolderEnded));
}

#[test]
fn what_an_ended_holder_had_is_not_remembered_when_its_window_closes_later() {
    let mut log = forgotten();
    assert_eq!(log.grant(6, 2), Verdict::Counted);
    let (incarnation, cause, read) = (SHIM, 0, 0);
    log.append(IncarnationEnded { head: Log::head(), epoch: 0, incarnation, cause, read });
    assert_eq!(log.window(2, Phase::Closed), Verdict::Counted);
    assert!(log.fold.leases().next().is_none() && log.fold.forgotten.is_empty());
}
