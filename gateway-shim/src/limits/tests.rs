#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use bursar_schemas::facts::{
    EpochMarked, Head, IncarnationEnded, LeaseGranted, LimitSet, Mode, Phase, Recovery, Role, WindowMoved,
};
use bursar_schemas::policy::{Budget, Scope};
use bursar_schemas::window::Window;

use super::*;
use crate::leases::{Ask, Path};

pub(super) const HOLDER: ProducerId = ProducerId([7; 16]);
const DAY: i64 = 86_400_000_000;

pub(super) fn money(pico: i128) -> Money {
    Money::from_pico(pico)
}

pub(super) fn account(budget: &str, window: i64) -> AccountRef {
    AccountRef { budget: budget.to_owned(), window }
}

/// What a ledger writes into `limits`, and a core that reads it.
pub(super) struct Log {
    ledger: ProducerId,
    epoch: u64,
    offset: u64,
}

impl Log {
    /// The log of a ledger that has just taken over an empty one.
    pub(super) fn begun(core: &mut LimitsCore) -> Self {
        let mut log = Self { ledger: ProducerId([2; 16]), epoch: 0, offset: 0 };
        log.say(core, EpochMarked { head: log.head(), instance: log.ledger, supersedes: None });
        log
    }

    fn head(&self) -> Head {
        let mut head = Head::draft(Micros(0), 1, "");
        (head.producer, head.role, head.number) = (self.ledger, Role::Ledger, self.offset);
        head
    }

    pub(super) fn say(&mut self, core: &mut LimitsCore, fact: impl Into<Fact>) {
        core.apply(self.offset, &Ok(fact.into()), Micros(0)).unwrap();
        self.offset += 1;
    }

    pub(super) fn limit(&mut self, core: &mut LimitsCore, budget: &str, amount: i128) {
        let set = LimitSet {
            head: self.head(),
            epoch: self.epoch,
            budget: budget.to_owned(),
            amount: money(amount),
            mode: Mode::Hard,
            recovery: Recovery::Forfeit,
            policy_version: 1,
            step: 0,
        };
        self.say(core, set);
    }

    /// Opens the window of a day, or moves it on.
    pub(super) fn window(&mut self, core: &mut LimitsCore, account: AccountRef, phase: Phase) {
        let starts_at = Micros(account.window * DAY);
        let ends_at = Some(Micros(starts_at.0 + DAY));
        let (head, epoch) = (self.head(), self.epoch);
        self.say(core, WindowMoved { head, epoch, account, starts_at, ends_at, phase });
    }

    pub(super) fn grant(&mut self, core: &mut LimitsCore, lease: LeaseId, path: &[AccountRef], amount: i128) {
        let grant = LeaseGranted {
            head: self.head(),
            epoch: self.epoch,
            lease,
            accounts: path.to_vec(),
            amount: money(amount),
            cause: 0,
            read: 1,
        };
        self.say(core, grant);
    }

    fn end(&mut self, core: &mut LimitsCore, incarnation: ProducerId) {
        let (head, epoch) = (self.head(), self.epoch);
        self.say(core, IncarnationEnded { head, epoch, incarnation, cause: 0, read: 1 });
    }

    /// Another ledger takes over; returns the one that was superseded, which does not know it yet.
    fn superseded(&mut self, core: &mut LimitsCore) -> Self {
        let old = Self { ledger: self.ledger, epoch: self.epoch, offset: self.offset };
        self.ledger = ProducerId([3; 16]);
        let marker = EpochMarked { head: self.head(), instance: self.ledger, supersedes: Some(self.epoch) };
        self.epoch = self.offset;
        self.say(core, marker);
        old
    }
}

fn core() -> LimitsCore {
    let config = crate::ShimConfig::new(([127, 0, 0, 1], 0).into(), 1, [1; 32], [2; 32]);
    let waits = Waits { lease: Duration::from_secs(2), silence: Duration::from_secs(10) };
    LimitsCore::new(0, HOLDER, config.leases, waits)
}

/// A core that has read of one budget with a limit and a window that is open; and its path.
fn opened(limit: i128) -> (LimitsCore, Log, Path) {
    let mut core = core();
    let mut log = Log::begun(&mut core);
    log.limit(&mut core, "a", limit);
    log.window(&mut core, account("a", 0), Phase::Open);
    (core, log, [account("a", 0)].into())
}

/// The question that a request puts which finds no lease.
fn question(core: &mut LimitsCore, path: &Path, amount: i128, patience: &mut Patience) -> Ask {
    match core.look(path, money(amount), Micros(0), patience) {
        Step::Wait(given, Some(ask)) if given.is_empty() => ask,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_late_grant_of_a_superseded_ledger_is_no_answer() {
    let (mut core, mut log, path) = opened(100);
    let mut patience = Patience::default();
    let ask = question(&mut core, &path, 10, &mut patience);
    let mut old = log.superseded(&mut core);
    old.offset = log.offset;
    old.grant(&mut core, ask.lease, &path, 40);
    log.offset = old.offset;
    assert_eq!(core.look(&path, money(10), Micros(0), &mut patience), Step::Wait(Vec::new(), None));
    log.grant(&mut core, ask.lease, &path, 40);
    let step = core.look(&path, money(10), Micros(0), &mut patience);
    assert!(matches!(step, Step::Got(lease, _) if lease == ask.lease), "its successor's: {step:?}");
}

#[test]
fn a_void_grant_of_the_ledger_in_office_is_a_refusal() {
    let (mut core, mut log, path) = opened(100);
    let mut patience = Patience::default();
    let ask = question(&mut core, &path, 10, &mut patience);
    log.grant(&mut core, ask.lease, &path, 101);
    let step = core.look(&path, money(10), Micros(0), &mut patience);
    let Step::Deny(denied) = step else { panic!("{step:?}") };
    assert!(denied.is_in_flight(), "{denied:?}");
}

#[test]
fn an_incarnation_that_has_read_of_its_end_spends_nothing_more_of_its_leases() {
    let (mut core, mut log, path) = opened(100);
    let mut patience = Patience::default();
    let ask = question(&mut core, &path, 10, &mut patience);
    log.grant(&mut core, ask.lease, &path, 40);
    core.catch_up();
    log.end(&mut core, ProducerId([8; 16]));
    assert!(
        matches!(core.look(&path, money(10), Micros(0), &mut patience), Step::Got(..)),
        "another one's end is nothing to it"
    );
    log.end(&mut core, HOLDER);
    let step = core.look(&path, money(10), Micros(0), &mut Patience::default());
    assert!(matches!(step, Step::Deny(Denied::Unavailable(_))), "{step:?}");
    assert_eq!(core.standing(Micros(0)).stopped.as_deref(), Some("this incarnation was ended in the log"));
}

#[test]
fn a_path_that_is_known_is_drawn_on_from_the_first_instant_of_its_window_to_the_last() {
    let (mut core, mut log, _) = opened(100);
    log.window(&mut core, account("a", 1), Phase::Open);
    let budget = Arc::new(Budget::new("a", Scope::Organisation("acme".to_owned()), Window::Day, money(100)));
    let mut window = |at: i64| {
        let drawn = core.drawn(&[Draw::whole(&budget)], Micros(at));
        assert_eq!(drawn.missing, None);
        drawn.path[0].window
    };
    // Each is asked for while the other's path is the one that is remembered, or its own is.
    assert_eq!(
        [window(DAY - 1), window(DAY), window(DAY), window(DAY - 1), window(DAY - 1)],
        [0, 1, 1, 0, 0]
    );
    assert_eq!([window(0), window(2 * DAY - 1)], [0, 1]);
}
