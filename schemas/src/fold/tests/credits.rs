//! What goes back: once, never more than was granted, and only for a reason that each account allows.

use super::*;

#[test]
fn what_goes_back_goes_back_once() {
    type Row = (LeaseId, u64, &'static [&'static str], i64, Verdict, i64, i64);
    let mut log = Log::begun();
    assert_eq!(log.grant(lease(1), &["day", "team"], 4), Counted);
    let rows: &[Row] = &[
        // lease   number  accounts       amount  verdict                      day team
        (lease(7), 1, &["day"], 1, Broke(Void::NoLease), 4, 4),
        (lease(1), 1, &["day", "team"], 0, Broke(Void::NoAmount), 4, 4),
        (lease(1), 1, &["team", "day"], 1, Broke(Void::Path), 4, 4),
        (lease(1), 1, &["day", "soft"], 1, Broke(Void::Path), 4, 4),
        (lease(1), 1, &["day", "day"], 1, Broke(Void::Path), 4, 4),
        (lease(1), 1, &[], 1, Broke(Void::CreditForbidden), 4, 4),
        (lease(1), 1, &["day", "team"], 1, Counted, 3, 3),
        // The same return again, also with another amount.
        (lease(1), 1, &["day", "team"], 1, Broke(Void::CreditedBefore), 3, 3),
        (lease(1), 1, &["day", "team"], 2, Broke(Void::CreditedBefore), 3, 3),
        // Σ credits ≤ amount, for each account of its own: all or none.
        (lease(1), 2, &["day"], 2, Counted, 1, 3),
        (lease(1), 3, &["day", "team"], 2, Broke(Void::OverCredit), 1, 3),
        (lease(1), 3, &["team"], 3, Counted, 1, 0),
        (lease(1), 4, &["team"], 1, Broke(Void::OverCredit), 1, 0),
    ];
    for (row, (lease, number, accounts, amount, verdict, day, team)) in rows.iter().enumerate() {
        assert_eq!(log.credit(*lease, *number, accounts, *amount), *verdict, "row {row}");
        let committed = (log.committed("day"), log.committed("team"));
        assert_eq!(committed, (dollars(*day), dollars(*team)), "row {row}");
    }
}

#[test]
fn a_credit_needs_a_reason_that_its_account_allows() {
    let mut log = Log::begun();
    let both = ["day", "soft"];
    assert_eq!((log.grant(lease(1), &both, 4), log.grant(lease(2), &both, 4)), (Counted, Counted));
    let (forbidden, before) = (Broke(Void::CreditForbidden), Broke(Void::CreditedBefore));
    let credit = |log: &mut Log, (id, reason, number, verdict, day, soft)| {
        let found = log.credit_for(reason, lease(id), number, &both, 1);
        let committed = (log.committed("day"), log.committed("soft"));
        assert_eq!(
            (found, committed),
            (verdict, (dollars(day), dollars(soft))),
            "{reason} of {id} no {number}"
        );
    };
    // A time-out reclaims nothing hard; the path's soft account is still credited.
    credit(&mut log, (1, CreditReason::TimedOut, 1, Counted, 8, 7));
    // Whoever lives may use what it holds yet.
    credit(&mut log, (1, CreditReason::Journal, 1, forbidden, 8, 7));
    credit(&mut log, (1, CreditReason::Retired, 1, forbidden, 8, 7));
    assert_eq!(log.end(SHIM), Counted);
    // Marks give back nothing to a hard account that is to forfeit.
    credit(&mut log, (1, CreditReason::Journal, 0, Counted, 8, 6));
    // What a dead holder left comes back once, whoever says so and under whatever number.
    credit(&mut log, (1, CreditReason::Retired, 0, before, 8, 6));
    credit(&mut log, (1, CreditReason::Journal, 2, before, 8, 6));
    credit(&mut log, (2, CreditReason::Retired, 0, Counted, 7, 5));
    let hard_alone = log.credit_for(CreditReason::TimedOut, lease(1), 2, &["day"], 1);
    assert_eq!(hard_alone, Broke(Void::CreditForbidden));
    // The same number counts once for each reason.
    assert_eq!(log.credit(lease(1), 1, &["day"], 1), Counted);
}

#[test]
fn a_closed_window_takes_no_credit_and_others_on_the_path_still_do() {
    let mut log = Log::begun();
    assert_eq!(log.grant(lease(1), &["day", "team"], 4), Counted);
    assert_eq!(log.grant(lease(2), &["team"], 1), Counted);
    assert_eq!(log.window("team", 1, Phase::Draining), Counted);
    assert_eq!(log.grant(lease(3), &["team"], 1), Broke(Void::WindowNotOpen), "no grants while it drains");
    assert_eq!(log.credit(lease(1), 1, &["day", "team"], 1), Counted, "credits while it drains");
    assert_eq!(log.window("team", 1, Phase::Closed), Counted);
    assert_eq!(log.credit(lease(1), 2, &["day", "team"], 1), Counted);
    assert_eq!(log.committed("day"), dollars(2), "the open account is credited");
    assert_eq!(log.committed("team"), dollars(4), "the closed one stays as it was");
    assert_eq!(log.credit(lease(1), 3, &["team"], 1), Broke(Void::CreditForbidden));
    assert_eq!(log.credit(lease(2), 1, &["team"], 1), Broke(Void::NoLease), "all its windows are closed");
    assert!(log.fold.lease(&lease(2)).is_none());
}

#[test]
fn what_marks_give_back_follows_the_newest_word_on_recovery() {
    let mut log = Log::begun();
    for number in [1, 2, 3] {
        assert_eq!(log.grant(lease(number), &["day"], 1), Counted);
    }
    assert_eq!(log.end(SHIM), Counted);
    let rows = [
        (1, Recovery::Forfeit, Broke(Void::CreditForbidden)),
        (1, Recovery::Journal, Counted),
        (2, Recovery::Forfeit, Broke(Void::CreditForbidden)),
        (3, Recovery::Journal, Counted),
    ];
    for (row, (number, recovery, verdict)) in rows.into_iter().enumerate() {
        let version = (row as u64 + 2, 0);
        assert_eq!(log.recovers("day", recovery, version), Counted, "row {row}");
        let found = log.credit_for(CreditReason::Journal, lease(number), 0, &["day"], 1);
        assert_eq!(found, verdict, "row {row}");
    }
}
