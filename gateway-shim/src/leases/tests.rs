#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const HOLDER: ProducerId = ProducerId([7; 16]);

pub(super) fn book() -> LeaseBook {
    book_for(Duration::ZERO)
}

fn book_for(outage_reserve: Duration) -> LeaseBook {
    let sizing = LeaseSizing {
        outage_reserve,
        horizon_seconds: 3,
        idle_after: Duration::from_secs(15),
        ask_again_after: Duration::from_secs(30),
    };
    LeaseBook::new(HOLDER, sizing, 1)
}

fn account(budget: &str) -> AccountRef {
    AccountRef { budget: budget.to_owned(), window: 0 }
}

pub(super) fn path(budgets: &[&str]) -> Path {
    budgets.iter().map(|budget| account(budget)).collect()
}

pub(super) fn money(pico: i128) -> Money {
    Money::from_pico(pico)
}

pub(super) fn second(count: i64) -> Micros {
    Micros(count * 1_000_000)
}

/// As long as no confused ledger answers what nobody has asked.
pub(super) const fn unanswered(_: &LeaseId) -> bool {
    false
}

/// Asks for and gets a lease.
pub(super) fn leased(book: &mut LeaseBook, path: &Path, amount: i128, now: Micros) -> LeaseId {
    let ask = book.ask(path, money(1), None, now, unanswered).unwrap();
    assert!(book.granted(ask.lease, path, money(amount), now));
    ask.lease
}

#[test]
fn a_lease_admits_what_is_left_and_no_more() {
    let (mut book, path) = (book(), path(&["a", "b"]));
    assert_eq!(book.reserve(&path, money(1), second(0)), None);
    let lease = leased(&mut book, &path, 100, second(0));
    assert_eq!(book.reserve(&path, money(60), second(0)), Some(lease));
    assert_eq!(book.reserve(&path, money(41), second(0)), None);
    assert_eq!(book.reserve(&path, money(40), second(0)), Some(lease));
    book.settle(lease, money(60), money(10));
    assert_eq!(book.reserve(&path, money(51), second(0)), None);
    assert_eq!(book.reserve(&path, money(50), second(0)), Some(lease));
    assert_eq!(book.reserve(&self::path(&["a"]), money(1), second(0)), None, "another path");
}

#[test]
fn what_an_attempt_costs_beyond_its_reservation_is_beside_the_lease() {
    let (mut book, path) = (book(), path(&["a"]));
    let lease = leased(&mut book, &path, 100, second(0));
    assert!(book.reserve(&path, money(30), second(0)).is_some());
    book.settle(lease, money(30), money(90));
    assert_eq!(book.left(&path), money(70), "the ledger counts the other sixty beside the lease");
}

#[test]
fn where_money_is_scarce_each_waiting_request_asks_once_for_itself() {
    let (mut book, path) = (book(), path(&["a"]));
    let first = book.ask(&path, money(10), None, second(0), unanswered).unwrap();
    assert_eq!(book.ask(&path, money(10), None, second(0), unanswered), None, "the first may help all");
    assert!(book.granted(first.lease, &path, money(19), second(0)));
    assert_eq!(book.reserve(&path, money(10), second(0)), Some(first.lease));
    let second_one = book.ask(&path, money(10), Some(first.lease), second(0), unanswered).unwrap();
    let third = book.ask(&path, money(10), None, second(0), unanswered).unwrap();
    assert_eq!(third.wanted, money(20), "hardly more than it needs itself");
    assert_eq!(book.ask(&path, money(10), Some(third.lease), second(0), unanswered), None, "it has asked");
    while book.ask(&path, money(10), None, second(0), unanswered).is_some() {}
    let open = i128::try_from(book.paths[&path].asked.len()).unwrap();
    assert_eq!(open, 16, "no more at once");
    assert!(book.granted(second_one.lease, &path, money(20), second(0)));
    assert_eq!(book.ask(&path, money(10), None, second(0), unanswered), None, "it is plentiful again");
}

#[test]
fn one_question_at_a_time_and_a_lost_one_is_asked_again() {
    let (mut book, path) = (book(), path(&["a"]));
    let first = book.ask(&path, money(10), None, second(0), unanswered).unwrap();
    assert_eq!((first.minimum, first.wanted), (money(10), money(40)));
    assert_eq!(book.ask(&path, money(10), None, second(29), unanswered), None);
    let again = book.ask(&path, money(10), None, second(30), unanswered).unwrap();
    assert_eq!(again.lease.number, first.lease.number + 1);
    // The first may still be granted: it names this holder, so it may be used.
    assert!(book.granted(first.lease, &path, money(40), second(31)));
    assert!(!book.granted(first.lease, &path, money(40), second(31)), "only once");
    let stranger = LeaseId { holder: ProducerId([8; 16]), number: 1 };
    assert!(!book.granted(stranger, &path, money(40), second(31)));
    let unasked = LeaseId { holder: HOLDER, number: 99 };
    assert!(!book.granted(unasked, &path, money(40), second(31)));
}

#[test]
fn numbers_that_were_answered_before_they_were_asked_with_are_passed_over() {
    let (mut book, path) = (book(), path(&["a"]));
    let answered = |lease: &LeaseId| [2, 3, 5].contains(&lease.number);
    let mut next = |minimum| book.ask(&path, money(minimum), None, second(0), answered).unwrap().lease.number;
    assert_eq!([next(100), next(40), next(15), next(7)], [1, 4, 6, 7]);
}

#[test]
fn what_was_never_asked_for_is_not_used_and_goes_back_whole() {
    let (mut book, path) = (book(), path(&["a"]));
    let unasked = LeaseId { holder: HOLDER, number: 7 };
    assert!(!book.granted(unasked, &path, money(40), second(0)));
    assert_eq!((book.reserve(&path, money(1), second(0)), book.left(&path)), (None, money(0)));
    let given = book.turn(second(1), |_| false, |_| false);
    assert_eq!(given, [GiveBack { lease: unasked, number: 1, amount: money(40), last: true, mark: None }]);
    assert!(book.turn(second(2), |_| false, |_| false).is_empty(), "once");
}

#[test]
fn a_grant_on_another_path_answers_the_question() {
    let (mut book, path, other) = (book(), path(&["a"]), path(&["b"]));
    let ask = book.ask(&path, money(10), None, second(0), unanswered).unwrap();
    assert!(book.granted(ask.lease, &other, money(40), second(0)));
    assert!(book.ask(&path, money(10), None, second(0), unanswered).is_some());
}

#[test]
fn a_refusal_answers_the_question() {
    let (mut book, path) = (book(), path(&["a"]));
    let ask = book.ask(&path, money(10), None, second(0), unanswered).unwrap();
    book.refused(ask.lease, LeaseRefusal::Spent, Some(account("a")));
    let (count, refusal) = book.refusals(&path);
    assert_eq!((count, refusal.unwrap().minimum), (1, money(10)));
    assert!(book.ask(&path, money(10), None, second(0), unanswered).is_some());
}

#[test]
fn foreign_credits_and_revocations_stop_a_lease() {
    for case in ["credit", "amount", "reason", "revoked"] {
        let (mut book, path) = (book(), path(&["a"]));
        let lease = leased(&mut book, &path, 100, second(0));
        assert!(book.reserve(&path, money(30), second(0)).is_some());
        let given = book.give_back_sharing(None).pop().unwrap();
        assert_eq!((given.number, given.amount, given.last), (1, money(70), false));
        book.settle(lease, money(30), money(10));
        match case {
            "credit" => book.credited(lease, 2, money(70), CreditReason::Returned),
            "amount" => book.credited(lease, 1, money(71), CreditReason::Returned),
            "reason" => book.credited(lease, 1, money(70), CreditReason::Retired),
            _ => book.revoked(lease),
        }
        assert_eq!(book.reserve(&path, money(1), second(0)), None, "{case}");
    }
    let (mut book, path) = (book(), path(&["a"]));
    let lease = leased(&mut book, &path, 100, second(0));
    assert!(book.reserve(&path, money(30), second(0)).is_some());
    assert_eq!(book.give_back_sharing(None).len(), 1);
    book.settle(lease, money(30), money(10));
    book.credited(lease, 1, money(70), CreditReason::Returned);
    assert_eq!(book.reserve(&path, money(20), second(0)), Some(lease), "its own return");
}

#[test]
fn idle_and_ended_leases_go_back() {
    let never = |_: &AccountRef| false;
    let (mut book, path) = (book(), path(&["a"]));
    let lease = leased(&mut book, &path, 100, second(0));
    book.reserve(&path, money(30), second(1)).unwrap();
    book.settle(lease, money(30), money(25));
    assert_eq!(book.turn(second(15), never, never), []);
    let given = GiveBack { lease, number: 1, amount: money(75), last: true, mark: None };
    assert_eq!(book.turn(second(16), never, never), [given]);
    assert_eq!(book.turn(second(99), never, never), []);

    let lease = leased(&mut book, &path, 100, second(20));
    book.reserve(&path, money(30), second(20)).unwrap();
    let given = GiveBack { lease, number: 1, amount: money(70), last: false, mark: None };
    assert_eq!(book.turn(second(21), |_| true, never), [given], "its window has ended");
    let given = GiveBack { lease, number: 2, amount: money(20), last: true, mark: None };
    assert_eq!(
        book.settle(lease, money(30), money(10)),
        [given],
        "not a turn later: somebody may wait for it"
    );
    assert_eq!(book.turn(second(22), |_| true, never), []);
}

#[test]
fn what_is_left_goes_back_while_one_window_of_its_path_can_still_take_it() {
    let hour = |account: &AccountRef| account.budget == "hour";
    let (mut book, path) = (book(), path(&["hour", "month"]));
    let lease = leased(&mut book, &path, 100, second(0));
    // A shim that stood still reads of the hour's end and of its closing at once.
    let given = GiveBack { lease, number: 1, amount: money(100), last: true, mark: None };
    assert_eq!(book.turn(second(1), hour, hour), [given]);
}

#[test]
fn what_is_left_is_forgotten_once_no_window_of_its_path_takes_it_and_nothing_is_in_flight() {
    let (mut book, path) = (book(), path(&["hour", "month"]));
    let lease = leased(&mut book, &path, 100, second(0));
    book.reserve(&path, money(30), second(0)).unwrap();
    let given = GiveBack { lease, number: 1, amount: money(70), last: false, mark: None };
    assert_eq!(book.turn(second(1), |_| true, |_| true), [given], "an attempt is still to be settled");
    book.revoked(lease);
    assert_eq!(book.held().count(), 1);
    let idle = leased(&mut book, &path, 100, second(1));
    assert_eq!(book.turn(second(2), |_| true, |_| true), []);
    assert!(book.held().all(|held| held.lease != idle));
}

#[test]
fn a_path_is_forgotten_with_the_first_of_its_windows_that_closes() {
    let hour = |account: &AccountRef| account.budget == "hour";
    let (mut book, ended, month) = (book(), path(&["hour", "month"]), path(&["month"]));
    leased(&mut book, &ended, 100, second(0));
    leased(&mut book, &month, 100, second(0));
    leased(&mut book, &ended, 100, second(0));
    let lease = book.reserve(&ended, money(100), second(0)).unwrap();
    book.turn(second(1), hour, hour);
    assert_eq!(book.paths.len(), 2, "one attempt of it is still to be settled");
    book.settle(lease, money(100), money(100));
    book.turn(second(2), hour, hour);
    assert_eq!(book.paths.keys().collect::<Vec<_>>(), [&month], "no request can draw on the other");
}

#[test]
fn what_a_revoked_lease_gets_back_goes_on_at_once_but_not_in_crumbs() {
    let (mut book, path) = (book(), path(&["a"]));
    let lease = leased(&mut book, &path, 100, second(0));
    for _ in 0..4 {
        // By the eighth: a reservation is usually of 11 or so.
        book.reserve(&path, money(25), second(0)).unwrap();
    }
    book.revoked(lease);
    assert_eq!(book.give_back_stopped(), [], "all of it is in flight");
    let given = |number, amount, last| GiveBack { lease, number, amount: money(amount), last, mark: None };
    assert_eq!(book.settle(lease, money(25), money(20)), [], "five would be a crumb");
    assert_eq!(book.settle(lease, money(25), money(10)), [given(1, 20, false)]);
    assert_eq!(book.settle(lease, money(25), money(24)), []);
    assert_eq!(book.settle(lease, money(25), money(22)), [given(2, 4, true)], "the last closes it");
}

#[test]
fn much_more_than_needed_goes_back_in_part() {
    let never = |_: &AccountRef| false;
    let (mut book, path) = (book(), path(&["a"]));
    let lease = leased(&mut book, &path, 1_000_000, second(0));
    let given = (0..60).find_map(|now| {
        book.reserve(&path, money(10), second(now)).unwrap();
        book.settle(lease, money(10), money(10));
        book.turn(second(now), never, never).pop()
    });
    let given = given.unwrap();
    assert!(!given.last && given.amount > money(999_000));
    assert!(book.reserve(&path, money(10), second(60)).is_some(), "what is needed stays");
}

#[derive(Debug, Clone)]
enum Event {
    Ask(i128),
    Grant(i128),
    Refuse,
    Reserve(i128),
    Settle(i128),
    Turn(i64),
    GiveBack,
    Revoke,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let amount = 1..200_i128;
    prop::collection::vec(
        prop_oneof![
            amount.clone().prop_map(Event::Ask),
            amount.clone().prop_map(Event::Grant),
            Just(Event::Refuse),
            amount.clone().prop_map(Event::Reserve),
            amount.prop_map(Event::Settle),
            (0..20_i64).prop_map(Event::Turn),
            Just(Event::GiveBack),
            Just(Event::Revoke),
        ],
        0..80,
    )
}

proptest! {
    /// Whatever happens in whatever order: what was settled, is reserved and was returned never exceeds what
    /// was granted, counted here apart from the book.
    #[test]
    fn nothing_is_spent_or_returned_twice(events in events()) {
        let (mut book, path) = (book(), path(&["a"]));
        let (mut granted, mut used, mut now) = (0_i128, 0_i128, 0_i64);
        let mut questions = Vec::new();
        let mut flying: Vec<(LeaseId, i128)> = Vec::new();
        let mut leases = Vec::new();
        for event in events {
            match event {
                Event::Ask(amount) => questions.extend(book.ask(&path, money(amount), None, second(now), unanswered)),
                Event::Grant(amount) => if let Some(ask) = questions.pop() {
                    prop_assert!(book.granted(ask.lease, &path, money(amount), second(now)));
                    granted += amount;
                    leases.push(ask.lease);
                },
                Event::Refuse => if let Some(ask) = questions.pop() {
                    book.refused(ask.lease, LeaseRefusal::InFlight, None);
                },
                Event::Reserve(amount) => if let Some(lease) = book.reserve(&path, money(amount), second(now)) {
                    flying.push((lease, amount));
                    used += amount;
                },
                Event::Settle(cost) => if let Some((lease, reserved)) = flying.pop() {
                    let cost = cost.min(reserved);
                    book.settle(lease, money(reserved), money(cost));
                    used -= reserved - cost;
                },
                Event::Turn(step) => {
                    now += step;
                    let given = book.turn(second(now), |_| false, |_| false);
                    used += given.iter().map(|given| given.amount.pico()).sum::<i128>();
                }
                Event::GiveBack => {
                    let given = book.give_back_sharing(Some(&account("a")));
                    used += given.iter().map(|given| given.amount.pico()).sum::<i128>();
                }
                Event::Revoke => if let Some(lease) = leases.last() {
                    book.revoked(*lease);
                },
            }
            prop_assert!(used <= granted, "{used} of {granted}");
            prop_assert!(book.left(&path).pico() <= granted - used);
        }
    }
}

#[test]
fn an_outage_to_be_outlived_lengthens_what_is_asked_for_and_when() {
    let amounts = |outage: u64| {
        let book = PathBook { rate: money(100), usual: money(1), ..PathBook::default() };
        let sizing = book_for(Duration::from_secs(outage)).sizing;
        (book.target(&sizing).pico(), book.low(money(0), &sizing).pico())
    };
    // 1.5 times three seconds of spending, asked for when a second of it is left; and so for a minute more.
    assert_eq!(amounts(0), (400, 100));
    assert_eq!(amounts(60), (9_400, 9_100));
}
