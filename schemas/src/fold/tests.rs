//! Tables of records and what each must do. One row is one record; a story is read from top to bottom.
#![allow(clippy::type_complexity, reason = "rows of tables")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use super::*;
use crate::avro::AvroError;
use crate::facts::{
    BalanceStated, CreditReason, EpochMarked, Head, IncarnationEnded, LeaseClosed, LeaseCredited,
    LeaseGranted, LeaseRefusal, LeaseRefused, LeaseRevoked, Recovery,
};
use Verdict::{Counted, Ignored as Ignore, Void as Broke};

mod credits;
mod used_up;

const FIRST: ProducerId = ProducerId([1; 16]);
const SECOND: ProducerId = ProducerId([2; 16]);
const SHIM: ProducerId = ProducerId([9; 16]);
const DEAD: ProducerId = ProducerId([8; 16]);

fn dollars(amount: i64) -> Money {
    Money::from_pico(i128::from(amount) * crate::money::PICO_PER_DOLLAR)
}

fn account(budget: &str, window: i64) -> AccountRef {
    AccountRef { budget: budget.to_owned(), window }
}

/// A path of accounts in window 1.
fn path(budgets: &[&str]) -> Vec<AccountRef> {
    budgets.iter().map(|budget| account(budget, 1)).collect()
}

const fn lease(number: u64) -> LeaseId {
    LeaseId { holder: SHIM, number }
}

/// A log in the making, written by one ledger instance at a time.
struct Log {
    fold: Fold,
    offset: u64,
    numbers: BTreeMap<ProducerId, u64>,
    writer: ProducerId,
    epoch: u64,
}

impl Log {
    fn new() -> Self {
        Self { fold: Fold::default(), offset: 0, numbers: BTreeMap::new(), writer: FIRST, epoch: 0 }
    }

    /// A log with an epoch at offset 0 and open windows of `day` (10 dollars), `team` (5) and `soft` (1).
    fn begun() -> Self {
        let mut log = Self::new();
        assert_eq!(log.mark(FIRST, None), Counted);
        for (budget, amount, mode) in
            [("day", 10, Mode::Hard), ("team", 5, Mode::Hard), ("soft", 1, Mode::Soft)]
        {
            assert_eq!(log.limit(budget, amount, mode, (1, 0)), Counted);
            assert_eq!(log.window(budget, 1, Phase::Open), Counted);
        }
        log
    }

    fn head(&mut self) -> Head {
        let number = self.numbers.entry(self.writer).or_default();
        *number += 1;
        let mut head = Head::draft(Micros(0), 1, "");
        (head.producer, head.role, head.number) = (self.writer, Role::Ledger, *number);
        head
    }

    fn append(&mut self, fact: impl Into<Fact>) -> Verdict {
        let verdict = self.fold.apply(self.offset, &fact.into()).expect("the reader goes on");
        self.offset += 1;
        verdict
    }

    fn mark(&mut self, instance: ProducerId, supersedes: Option<u64>) -> Verdict {
        self.writer = instance;
        let head = self.head();
        let offset = self.offset;
        let verdict = self.append(EpochMarked { head, instance, supersedes });
        if verdict == Counted {
            self.epoch = offset;
        }
        verdict
    }

    fn limit(&mut self, budget: &str, amount: i64, mode: Mode, version: (u64, u64)) -> Verdict {
        self.set(budget, (amount, mode, Recovery::Forfeit), version)
    }

    /// A hard budget of ten dollars.
    fn recovers(&mut self, budget: &str, recovery: Recovery, version: (u64, u64)) -> Verdict {
        self.set(budget, (10, Mode::Hard, recovery), version)
    }

    fn set(
        &mut self,
        budget: &str,
        (amount, mode, recovery): (i64, Mode, Recovery),
        (policy_version, step): (u64, u64),
    ) -> Verdict {
        let (head, epoch, budget, amount) = (self.head(), self.epoch, budget.to_owned(), dollars(amount));
        self.append(LimitSet { head, epoch, budget, amount, mode, recovery, policy_version, step })
    }

    fn window(&mut self, budget: &str, window: i64, phase: Phase) -> Verdict {
        let (head, epoch, account) = (self.head(), self.epoch, account(budget, window));
        let (starts_at, ends_at) = (Micros(window * 1_000_000), Some(Micros((window + 1) * 1_000_000)));
        self.append(WindowMoved { head, epoch, account, starts_at, ends_at, phase })
    }

    fn grant(&mut self, lease: LeaseId, budgets: &[&str], amount: i64) -> Verdict {
        let (head, epoch, accounts, amount) = (self.head(), self.epoch, path(budgets), dollars(amount));
        self.append(LeaseGranted { head, epoch, lease, accounts, amount, cause: 0, read: 1 })
    }

    fn credit_for(
        &mut self,
        reason: CreditReason,
        lease: LeaseId,
        number: u64,
        budgets: &[&str],
        amount: i64,
    ) -> Verdict {
        let (head, epoch, accounts, amount) = (self.head(), self.epoch, path(budgets), dollars(amount));
        let (cause, read) = (Some(0), 1);
        self.append(LeaseCredited { head, epoch, lease, number, amount, accounts, reason, cause, read })
    }

    fn credit(&mut self, lease: LeaseId, number: u64, budgets: &[&str], amount: i64) -> Verdict {
        self.credit_for(CreditReason::Returned, lease, number, budgets, amount)
    }

    fn end(&mut self, incarnation: ProducerId) -> Verdict {
        let (head, epoch) = (self.head(), self.epoch);
        self.append(IncarnationEnded { head, epoch, incarnation, cause: 0, read: 1 })
    }

    fn committed(&self, budget: &str) -> Money {
        self.fold.account(&account(budget, 1)).map_or(Money::ZERO, |state| state.committed)
    }
}

#[test]
fn a_grant_debits_every_account_of_its_path_or_none() {
    type Row = (LeaseId, &'static [&'static str], i64, Verdict, i64, i64);
    let mut log = Log::begun();
    let gone = LeaseId { holder: DEAD, number: 1 };
    assert_eq!(log.end(DEAD), Counted);
    let rows: &[Row] = &[
        // lease      path              amount  verdict                     day team
        (lease(1), &["day", "team"], 0, Broke(Void::NoAmount), 0, 0),
        (lease(1), &["day", "team"], -1, Broke(Void::NoAmount), 0, 0),
        (lease(1), &[], 1, Broke(Void::Path), 0, 0),
        (lease(1), &["team", "day"], 1, Broke(Void::Path), 0, 0),
        (lease(1), &["day", "day"], 1, Broke(Void::Path), 0, 0),
        (gone, &["day"], 1, Broke(Void::HolderEnded), 0, 0),
        (lease(1), &["day", "week"], 1, Broke(Void::WindowNotOpen), 0, 0),
        // Six fit the organisation's day and not the team's: neither is debited.
        (lease(1), &["day", "team"], 6, Broke(Void::OverLimit), 0, 0),
        (lease(1), &["day", "team"], 5, Counted, 5, 5),
        (lease(2), &["day", "team"], 1, Broke(Void::OverLimit), 5, 5),
        (lease(2), &["day"], 5, Counted, 10, 5),
        (lease(3), &["day"], 1, Broke(Void::OverLimit), 10, 5),
        // The same lease id again, also for less, also on another path.
        (lease(1), &["soft"], 1, Broke(Void::AnsweredBefore), 10, 5),
        // A soft account never voids a grant, however far above its limit.
        (lease(3), &["soft"], 1000, Counted, 10, 5),
    ];
    for (row, (lease, path, amount, verdict, day, team)) in rows.iter().enumerate() {
        assert_eq!(log.grant(*lease, path, *amount), *verdict, "row {row}");
        let committed = (log.committed("day"), log.committed("team"));
        assert_eq!(committed, (dollars(*day), dollars(*team)), "row {row}");
    }
}

#[test]
fn windows_move_forward_and_never_open_again() {
    let mut log = Log::begun();
    let rows = [
        ("day", 1, Phase::Open, Broke(Void::WindowOrder)),
        ("day", 0, Phase::Open, Broke(Void::WindowOrder)),
        ("day", 2, Phase::Draining, Broke(Void::WindowOrder)),
        ("day", 2, Phase::Open, Counted),
        ("day", 1, Phase::Draining, Counted),
        ("day", 1, Phase::Draining, Broke(Void::WindowOrder)),
        ("day", 1, Phase::Open, Broke(Void::WindowOrder)),
        ("day", 1, Phase::Closed, Counted),
        ("day", 1, Phase::Closed, Broke(Void::WindowOrder)),
        // Nothing names it any more and it is forgotten, and still it cannot open again.
        ("day", 1, Phase::Open, Broke(Void::WindowOrder)),
        // A window may close without draining.
        ("team", 1, Phase::Closed, Counted),
    ];
    for (row, (budget, window, phase, verdict)) in rows.into_iter().enumerate() {
        assert_eq!(log.window(budget, window, phase), verdict, "row {row}");
    }
}

#[test]
fn limits_rise_in_version_and_a_cut_takes_nothing_back() {
    let mut log = Log::begun();
    assert_eq!(log.grant(lease(1), &["day"], 8), Counted);
    let rows = [
        (20, (1, 0), Broke(Void::OldVersion), 10),
        (20, (0, 9), Broke(Void::OldVersion), 10),
        (5, (1, 1), Counted, 5),
        (9, (2, 0), Counted, 9),
        (9, (1, 9), Broke(Void::OldVersion), 9),
    ];
    for (amount, version, verdict, limit) in rows {
        assert_eq!(log.limit("day", amount, Mode::Hard, version), verdict, "{version:?}");
        assert_eq!(log.fold.limit(&account("day", 1)), dollars(limit), "{version:?}");
        assert_eq!(log.committed("day"), dollars(8), "what was granted stays granted");
    }
    assert_eq!(log.grant(lease(2), &["day"], 2), Broke(Void::OverLimit));
    assert_eq!(log.grant(lease(2), &["day"], 1), Counted);
    // A budget without a limit has nothing to grant, and is hard.
    assert_eq!(log.window("none", 1, Phase::Open), Counted);
    assert_eq!(log.grant(lease(3), &["none"], 1), Broke(Void::OverLimit));
    assert_eq!(log.fold.mode("none"), Mode::Hard);
}

#[test]
fn only_the_latest_epoch_counts() {
    let mut log = Log::begun();
    let first = log.epoch;
    // A second instance takes over by naming the epoch that it supersedes.
    assert_eq!(log.mark(SECOND, Some(first)), Counted);
    let second = log.epoch;
    assert_eq!(log.grant(lease(1), &["day"], 1), Counted);
    // The first one does not know yet: whatever it writes under its epoch is void.
    log.writer = FIRST;
    log.epoch = first;
    assert_eq!(log.grant(lease(2), &["day"], 1), Broke(Void::WrongEpoch));
    assert_eq!(log.credit(lease(1), 1, &["day"], 1), Broke(Void::WrongEpoch));
    assert_eq!(log.limit("day", 99, Mode::Hard, (9, 0)), Broke(Void::WrongEpoch));
    assert_eq!(log.window("day", 2, Phase::Open), Broke(Void::WrongEpoch));
    assert_eq!(log.end(SHIM), Broke(Void::WrongEpoch));
    // A late marker of its own fences nobody: it names an epoch that is not the latest.
    assert_eq!(log.mark(FIRST, Some(first)), Broke(Void::Superseded));
    assert_eq!(log.mark(FIRST, None), Broke(Void::Superseded));
    assert_eq!(log.fold.epoch(), Some(second));
    log.writer = SECOND;
    log.epoch = second;
    assert_eq!(log.grant(lease(2), &["day"], 1), Counted);
    // An epoch that never was.
    log.epoch = 9999;
    assert_eq!(log.grant(lease(3), &["day"], 1), Broke(Void::WrongEpoch));
}

#[test]
fn a_record_that_comes_twice_counts_once() {
    let mut log = Log::begun();
    let (head, accounts) = (log.head(), path(&["day"]));
    let (lease, amount) = (lease(1), dollars(1));
    let grant = LeaseGranted { head, epoch: log.epoch, lease, accounts, amount, cause: 0, read: 1 };
    assert_eq!(log.append(grant.clone()), Counted);
    assert_eq!(log.append(grant), Ignore(Ignored::SeenBefore));
    // Also a marker: it would otherwise fence the instance that superseded it.
    let (head, instance) = (log.head(), FIRST);
    let marker = EpochMarked { head, instance, supersedes: log.fold.epoch() };
    assert_eq!(log.append(marker.clone()), Counted);
    assert_eq!(log.append(marker), Ignore(Ignored::SeenBefore));
    assert_eq!(log.committed("day"), dollars(1));
}

#[test]
fn who_is_not_the_ledger_binds_nobody() {
    let mut log = Log::begun();
    let before = log.fold.clone();
    let mut head = log.head();
    head.role = Role::Shim;
    let (instance, supersedes) = (SECOND, log.fold.epoch());
    assert_eq!(log.append(EpochMarked { head, instance, supersedes }), Ignore(Ignored::NotTheLedger));
    assert_eq!(log.fold.epoch(), before.epoch());
    let (head, epoch, account) = (log.head(), log.epoch, account("day", 1));
    let (settled, reserved, overrun) = (dollars(1), Money::ZERO, Money::ZERO);
    let stated = BalanceStated { head, epoch, account, settled, reserved, overrun, read: 1 };
    assert_eq!(log.append(stated), Ignore(Ignored::NotBinding));
    let (head, epoch, lease) = (log.head(), log.epoch, lease(1));
    let (reason, account) = (LeaseRefusal::Spent, None);
    let refused = LeaseRefused { head, epoch, lease, reason, account, cause: 0, read: 1 };
    assert_eq!(log.append(refused), Counted, "a refusal answers, and changes nothing");
    assert_eq!(log.fold.accounts().collect::<Vec<_>>(), before.accounts().collect::<Vec<_>>());
}

#[test]
fn leases_are_revoked_and_closed_by_name() {
    let mut log = Log::begun();
    assert_eq!(log.grant(lease(1), &["day"], 4), Counted);
    for (number, verdict) in [(7, Broke(Void::NoLease)), (1, Counted)] {
        let (head, epoch, lease) = (log.head(), log.epoch, lease(number));
        assert_eq!(log.append(LeaseRevoked { head, epoch, lease }), verdict);
        assert_eq!(log.fold.lease(&lease).map(|it| it.revoked), (verdict == Counted).then_some(true));
        let (head, epoch) = (log.head(), log.epoch);
        assert_eq!(log.append(LeaseClosed { head, epoch, lease }), verdict);
        assert!(log.fold.lease(&lease).is_none());
    }
    assert_eq!(log.committed("day"), dollars(4), "neither credits anything");
}

#[test]
fn a_reader_stops_at_what_it_cannot_know() {
    let mut log = Log::begun();
    let last = log.fold.last().unwrap();
    let fact = Ok(Fact::from(LeaseClosed { head: log.head(), epoch: 0, lease: lease(1) }));
    for offset in [last, 0] {
        let backwards = FoldError::Backwards { offset, after: last };
        assert_eq!(log.fold.apply_record(offset, &fact), Err(backwards));
    }
    let unknown = Unreadable::Schema(4711);
    let stop = FoldError::UnknownKind { offset: last + 1, reason: unknown.clone() };
    assert_eq!(log.fold.apply_record(last + 1, &Err(unknown)), Err(stop));
    // Bytes that are no fact at all come from no ledger; a hole in the offsets is lawful.
    let broken = Err(Unreadable::Datum("LeaseGranted", AvroError::Utf8));
    assert_eq!(log.fold.apply_record(last + 5, &broken), Ok(Ignore(Ignored::NotTheLedger)));
    assert_eq!(log.fold.apply_record(last + 6, &Err(Unreadable::Frame)), Ok(Ignore(Ignored::NotTheLedger)));
    assert_eq!(log.fold.last(), Some(last + 6));
}

#[test]
fn an_account_is_found_by_time() {
    let mut log = Log::begun();
    assert_eq!(log.window("day", 2, Phase::Open), Counted);
    let at =
        |log: &Log, micros| log.fold.account_at("day", Micros(micros)).map(|(account, _)| account.window);
    assert_eq!(at(&log, 1_999_999), Some(1));
    assert_eq!(at(&log, 2_000_000), Some(2));
    assert_eq!(at(&log, 3_000_000), None);
    assert_eq!(log.window("day", 1, Phase::Closed), Counted);
    assert_eq!(at(&log, 1_999_999), None);
}
