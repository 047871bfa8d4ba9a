//! A lease id is used up for good, also once the fold has forgotten the lease.

use super::*;
use crate::facts::LeaseGranted;

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

    fn refuse(&mut self, number: u64) -> Verdict {
        let (lease, reason) = (LeaseId { holder: SHIM, number }, LeaseRefusal::Spent);
        let (head, account) = (Self::head(), None);
        self.append(LeaseRefused { head, epoch: 0, lease, reason, account, cause: 0, read: 0 })
    }

    /// Three of four go back.
    fn credit(&mut self, number: u64, window: i64) -> Verdict {
        self.append(LeaseCredited {
            head: Self::head(),
            epoch: 0,
            lease: LeaseId { holder: SHIM, number },
            number: 1,
            amount: Money::from_pico(3),
            accounts: vec![account(window)],
            reason: CreditReason::Returned,
            cause: None,
            read: 0,
        })
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
    assert_eq!([4, 5, 6].map(is_used_up), [false, true, false]);
    assert_eq!(log.grant(5, 2), Verdict::Void(Void::AnsweredBefore));
    assert_eq!(log.grant(4, 2), Verdict::Counted, "one before it that nobody has answered");
    assert_eq!(log.grant(6, 2), Verdict::Counted);
    // The return that the first life of lease 5 made can credit nothing.
    assert_eq!(log.credit(5, 2), Verdict::Void(Void::NoLease));
}

#[test]
fn a_closed_lease_is_forgotten_at_once_and_what_is_used_of_it_stays_committed() {
    let mut log = forgotten();
    assert_eq!(log.grant(6, 2), Verdict::Counted);
    assert_eq!(log.credit(6, 2), Verdict::Counted);
    let lease = LeaseId { holder: SHIM, number: 6 };
    let (closed, revoked) = (
        LeaseClosed { head: Log::head(), epoch: 0, lease },
        LeaseRevoked { head: Log::head(), epoch: 0, lease },
    );
    assert_eq!(log.append(closed.clone()), Verdict::Counted);
    assert!(log.fold.leases().next().is_none());
    assert_eq!(log.fold.committed(&account(2)), Money::from_pico(1));
    assert_eq!(log.append(closed), Verdict::Void(Void::NoLease));
    assert_eq!(log.append(revoked), Verdict::Void(Void::NoLease));
    assert_eq!(log.credit(6, 2), Verdict::Void(Void::NoLease), "nothing of it comes back any more");
    assert_eq!(log.grant(6, 2), Verdict::Void(Void::AnsweredBefore));
    // Its window was all that named the account.
    assert_eq!(log.window(3, Phase::Open), Verdict::Counted);
    assert_eq!(log.window(2, Phase::Closed), Verdict::Counted);
    assert!(log.fold.account(&account(2)).is_none());
}

#[test]
fn a_refused_lease_is_never_granted_and_a_granted_one_is_not_taken_back_by_a_refusal() {
    let mut log = forgotten();
    assert_eq!(log.refuse(6), Verdict::Counted);
    assert_eq!(log.grant(6, 2), Verdict::Void(Void::AnsweredBefore));
    assert_eq!(log.grant(7, 2), Verdict::Counted);
    assert_eq!(log.refuse(7), Verdict::Counted);
    assert_eq!(log.credit(7, 2), Verdict::Counted);
}

#[test]
fn the_last_lease_of_a_closed_window_takes_it_along() {
    let mut log = forgotten();
    let other = AccountRef { budget: "day".to_owned(), window: 3 };
    assert_eq!(log.window(3, Phase::Open), Verdict::Counted);
    let lease = LeaseId { holder: SHIM, number: 6 };
    let (accounts, amount) = (vec![account(2), other], Money::from_pico(1));
    let grant = LeaseGranted { head: Log::head(), epoch: 0, lease, accounts, amount, cause: 0, read: 0 };
    assert_eq!(log.append(grant), Verdict::Counted);
    assert_eq!(log.window(2, Phase::Closed), Verdict::Counted);
    assert!(log.fold.account(&account(2)).is_some(), "a lease names it");
    assert_eq!(log.append(LeaseClosed { head: Log::head(), epoch: 0, lease }), Verdict::Counted);
    assert!(log.fold.account(&account(2)).is_none());
}

#[test]
fn an_ended_holder_needs_no_memory() {
    let mut log = forgotten();
    let (incarnation, cause, read) = (SHIM, 0, 0);
    log.append(IncarnationEnded { head: Log::head(), epoch: 0, incarnation, cause, read });
    assert!(log.fold.used_up.is_empty());
    assert_eq!(log.grant(5, 2), Verdict::Void(Void::HolderEnded));
}

#[test]
fn what_an_ended_holder_had_is_not_remembered_when_its_window_closes_later() {
    let mut log = forgotten();
    assert_eq!(log.grant(6, 2), Verdict::Counted);
    let (incarnation, cause, read) = (SHIM, 0, 0);
    log.append(IncarnationEnded { head: Log::head(), epoch: 0, incarnation, cause, read });
    assert_eq!(log.window(2, Phase::Closed), Verdict::Counted);
    assert!(log.fold.leases().next().is_none() && log.fold.used_up.is_empty());
}
