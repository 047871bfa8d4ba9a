#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;

use proptest::prelude::*;

use super::tests::{book, leased, money, path, second, unanswered};
use super::*;

/// Asks with a mark, and gets a lease.
fn marked(book: &mut LeaseBook, path: &Path, minimum: i128, amount: i128) -> (LeaseId, Money) {
    let mut ask = book.ask(path, money(minimum), None, second(0), unanswered).unwrap();
    book.mark_asked(&mut ask);
    assert!(book.granted(ask.lease, path, money(amount), second(0)));
    (ask.lease, ask.mark.unwrap())
}

#[test]
fn nothing_above_the_mark_is_admitted_before_a_higher_one_is_acknowledged() {
    let (mut book, path) = (book(), path(&["a"]));
    let (lease, mark) = marked(&mut book, &path, 10, 1000);
    assert_eq!(mark, money(20), "twice what the first request needs");
    assert_eq!(book.reserve(&path, money(15), second(0)), Some(lease));
    let ahead = book.take_raises();
    assert_eq!(ahead.len(), 1, "before anybody has to wait for it");
    assert_eq!(book.reserve(&path, money(10), second(0)), None);
    assert!(book.awaits_mark(&path, money(10)));
    assert_eq!(book.take_raises(), [], "one is under way");
    book.raised(ahead[0], false);
    assert_eq!(book.reserve(&path, money(10), second(0)), None, "it was not taken");
    assert!(book.awaits_mark(&path, money(10)));
    let again = book.take_raises();
    book.raised(again[0], true);
    assert_eq!(book.reserve(&path, money(10), second(0)), Some(lease));
    assert!(!book.awaits_mark(&path, money(2000)), "no mark makes a lease larger");
}

#[test]
fn a_return_is_sent_after_a_mark_that_covers_it() {
    let (mut book, path) = (book(), path(&["a"]));
    let (lease, _) = marked(&mut book, &path, 10, 1000);
    assert_eq!(book.reserve(&path, money(10), second(0)), Some(lease));
    let given = book.give_back_sharing(None).pop().unwrap();
    assert_eq!((given.amount, given.mark), (money(990), Some(money(1000))));
    let unmarked = leased(&mut book, &path, 50, second(0));
    let given = book.give_back_sharing(None).pop().unwrap();
    assert_eq!((given.lease, given.mark), (unmarked, None));
}

#[test]
fn marks_only_rise_also_of_a_lease_that_is_granted_after_its_refusal() {
    let (mut book, path) = (book(), path(&["a"]));
    let mut ask = book.ask(&path, money(30), None, second(0), unanswered).unwrap();
    book.mark_asked(&mut ask);
    book.refused(ask.lease, LeaseRefusal::InFlight, None);
    // A confused ledger may grant it all the same; the mark of its question stands in the log.
    assert!(book.granted(ask.lease, &path, money(100), second(0)));
    assert_eq!(book.reserve(&path, money(1), second(0)), Some(ask.lease));
    assert_eq!(book.reserve(&path, money(70), second(0)), None);
    assert!(book.awaits_mark(&path, money(70)));
    assert!(book.take_raises().pop().unwrap().mark > ask.mark.unwrap());
}

#[test]
fn a_grant_whose_question_is_forgotten_is_of_no_use_before_a_new_mark() {
    let (mut book, path) = (book(), path(&["a"]));
    let mut ask = || {
        let mut ask = book.ask(&path, money(30), None, second(0), unanswered).unwrap();
        book.mark_asked(&mut ask);
        book.refused(ask.lease, LeaseRefusal::InFlight, None);
        ask.lease
    };
    let first = ask();
    for _ in 0..1024 {
        ask();
    }
    assert!(book.granted(first, &path, money(100), second(0)));
    assert_eq!(book.reserve(&path, money(1), second(0)), None);
    assert!(book.awaits_mark(&path, money(1)));
    let raise = book.take_raises().pop().unwrap();
    assert_eq!(raise.mark, money(100), "it covers whatever its question stated");
    book.raised(raise, true);
    assert_eq!(book.reserve(&path, money(1), second(0)), Some(first));
}

#[test]
fn more_open_questions_than_marks_are_remembered_leave_no_lease_without_one() {
    let mut book = book();
    let asks: Vec<_> = (0..1100)
        .map(|member| {
            let path = path(&[&format!("member-{member}")]);
            let mut ask = book.ask(&path, money(30), None, second(0), unanswered).unwrap();
            book.mark_asked(&mut ask);
            ask
        })
        .collect();
    for ask in &asks {
        assert!(book.granted(ask.lease, &ask.path, money(100), second(0)));
        assert_eq!(book.reserve(&ask.path, money(90), second(0)), None, "no mark covers that");
    }
    assert_eq!(book.reserve(&asks[1099].path, money(30), second(0)), Some(asks[1099].lease));
    // One that has no mark asks for its first one.
    assert!(book.awaits_mark(&asks[0].path, money(30)));
    let raise = book.take_raises().into_iter().find(|raise| raise.lease == asks[0].lease).unwrap();
    book.raised(raise, true);
    assert_eq!(book.reserve(&asks[0].path, money(30), second(0)), Some(asks[0].lease));
}

proptest! {
    /// Whatever happens in whatever order, `spend` holds a mark that covers what is used, and what is returned was
    /// covered when it was sent.
    #[test]
    fn what_is_used_was_marked(steps in proptest::collection::vec((0..7_u8, 1..60_i128), 1..200)) {
        let (mut book, path) = (book(), path(&["a"]));
        // What `spend` holds, what is on its way there, and what was reserved.
        let (mut marks, mut under_way) = (HashMap::<LeaseId, Money>::new(), Vec::new());
        let mut open: Vec<(LeaseId, Money)> = Vec::new();
        for (now, (step, amount)) in steps.into_iter().enumerate() {
            let now = second(i64::try_from(now).unwrap());
            let mut given = Vec::new();
            match step {
                0 => {
                    if let Some(mut ask) = book.ask(&path, money(amount), None, now, unanswered) {
                        book.mark_asked(&mut ask);
                        marks.insert(ask.lease, ask.mark.unwrap());
                        book.granted(ask.lease, &path, money(amount * 20), now);
                    }
                }
                1 | 2 => match book.reserve(&path, money(amount), now) {
                    Some(lease) => open.push((lease, money(amount))),
                    None => drop(book.awaits_mark(&path, money(amount))),
                },
                3 => {
                    if let Some((lease, reserved)) = open.pop() {
                        given = book.settle(lease, reserved, money(amount).min(reserved));
                    }
                }
                4 => given = book.turn(now, |_| false, |_| false),
                5 => given = book.give_back_crumbs(&path, money(amount)),
                _ => {
                    for raise in std::mem::take(&mut under_way) {
                        let Raise { lease, mark } = raise;
                        let acknowledged = amount > 10;
                        if acknowledged {
                            let known = marks.entry(lease).or_default();
                            *known = mark.max(*known);
                        }
                        book.raised(raise, acknowledged);
                    }
                }
            }
            under_way.extend(book.take_raises());
            for it in given {
                if let Some(mark) = it.mark {
                    let known = marks.entry(it.lease).or_default();
                    *known = mark.max(*known);
                }
            }
            for held in book.held() {
                let used = held.settled.plus(held.reserved).plus(held.returned);
                prop_assert!(used <= marks[&held.lease], "{used} is used, {} marked", marks[&held.lease]);
            }
        }
    }
}
