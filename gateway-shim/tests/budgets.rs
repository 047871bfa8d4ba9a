//! Hard budgets: leases are asked for and used up, what is spent stays spent, a silent ledger is no spent budget.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use bursar_schemas::facts::{
    AccountRef, CandidateVerdict, Ending, Fact, LeaseRevoked, Mode, RefusalCode, RouteReason,
};
use bursar_schemas::money::Money;
use bursar_schemas::position::Topic;
use bytes::Bytes;
use common::ledger::micro_dollars;
use common::provider::Script;
use common::{HARD, Setting, Stage, chat, kinds, until};

fn account() -> AccountRef {
    AccountRef { budget: "team-search".to_owned(), window: 0 }
}

#[tokio::test]
async fn requests_draw_on_leases_of_their_path() {
    let stage = Stage::hard(10_000).await;
    for _ in 0..5 {
        assert_eq!(stage.chat(&chat("m", 10, "")).await.status, 200);
    }
    let reserved = all_of!(stage.journal, Spend, Reserved);
    assert!(reserved.iter().all(|fact| fact.lease.is_some() && fact.accounts == [account()]));
    let asked = all_of!(stage.journal, Spend, LeaseRequested);
    assert_eq!((asked[0].minimum, asked[0].wanted), (micro_dollars(117), micro_dollars(468)));
    assert!(asked.len() < 5, "one lease serves several requests: {}", asked.len());
    // The lease was asked for before the request was opened.
    assert_eq!(kinds(&stage.journal, Topic::Spend)[..2], ["LeaseRequested", "Reserved"]);
}

#[tokio::test]
async fn a_spent_budget_refuses_for_good_with_one_fact() {
    // Enough for two requests: each is bound at 117 and costs 20, so the third finds 60 of 100... left.
    let stage = Stage::hard(140).await;
    assert_eq!(stage.chat(&chat("m", 10, "")).await.status, 200);
    assert_eq!(stage.chat(&chat("m", 10, "")).await.status, 200);
    until("both are settled", || all_of!(stage.journal, Spend, Settled).len() == 2).await;
    stage.ledger.balance("team-search", 40);
    let answer = stage.chat(&chat("m", 10, "")).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    assert_eq!(answer.header("retry-after"), None);
    let expected = serde_json::json!({"error": {
        "message": "Budget \"team-search\" is used up: of $0.00014 there are $0.00004 settled and $0.00 reserved; this request may cost up to $0.000117. It does not reset.",
        "type": "insufficient_quota",
        "param": null,
        "code": "budget_exceeded",
    }});
    let mut got = answer.json();
    // What is still leased differs with the time at which leases go back; the rest is exact.
    let message = got["error"]["message"].as_str().unwrap().to_owned();
    let (before, rest) = message.split_once(" and $").unwrap();
    let (_, after) = rest.split_once(" reserved").unwrap();
    got["error"]["message"] = format!("{before} and $0.00 reserved{after}").into();
    assert_eq!(got, expected);
    let refused = &all_of!(stage.journal, Requests, RequestRefused);
    assert_eq!(refused.len(), 1);
    assert_eq!((refused[0].code, refused[0].retryable), (RefusalCode::BudgetExceeded, false));
    assert_eq!(refused[0].limit, Some(micro_dollars(140)));
    assert_eq!((refused[0].settled, refused[0].needed), (Some(micro_dollars(40)), Some(micro_dollars(117))));
    assert!(refused[0].limits_age_ms.is_some());
    assert_eq!(stage.provider.seen().len(), 2, "nothing was sent");
}

#[tokio::test]
async fn a_burst_never_spends_more_than_the_limit() {
    let stage = Stage::hard(1000).await;
    let bodies: Vec<_> = (0..60).map(|_| chat("m", 10, "")).collect();
    let statuses = bodies.iter().map(|body| stage.chat(body));
    let mut counts = std::collections::BTreeMap::new();
    let mut running: Vec<_> = statuses.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        running.retain_mut(|request| match request.as_mut().poll(context) {
            std::task::Poll::Ready(answer) => {
                *counts.entry(answer.status).or_insert(0) += 1;
                false
            }
            std::task::Poll::Pending => true,
        });
        if running.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    assert!(counts[&200] >= 8, "what fits at once is served: {counts:?}");
    assert!(counts.keys().all(|status| [200, 429].contains(status)), "{counts:?}");
    // At every point of the spend lane: settled and reserved are covered by what was granted.
    until("all are settled", || {
        all_of!(stage.journal, Spend, Settled).len() == all_of!(stage.journal, Spend, Reserved).len()
    })
    .await;
    let mut open = Money::ZERO;
    for fact in common::facts(&stage.journal, Topic::Spend) {
        match fact {
            Fact::Reserved(fact) => open = open.plus(fact.amount),
            Fact::Settled(fact) => open = open.minus(fact.reserved).plus(fact.amount),
            _ => {}
        }
        assert!(open <= micro_dollars(1000), "{open}");
    }
}

#[tokio::test]
async fn a_raised_limit_is_taken_up_without_a_restart() {
    let stage = Stage::hard(100).await;
    let answer = stage.chat(&chat("m", 10, "")).await;
    assert_eq!(answer.status, 429);
    // The small ledger keeps its own sum; a limit of another mode lifts the block in the shim.
    stage.ledger.limit("team-search", 100, 2, Mode::Soft);
    let raised = || async { stage.chat(&chat("m", 10, "")).await.status };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while raised().await != 200 {
        assert!(tokio::time::Instant::now() < deadline);
    }
}

#[tokio::test]
async fn a_silent_ledger_is_not_a_spent_budget() {
    let stage = Stage::set(Setting {
        policy: HARD.to_owned(),
        limits: vec![("team-search", 10_000)],
        config: Box::new(|config| {
            config.lease_wait = Duration::from_millis(100);
            config.ledger_silence = Duration::from_millis(200);
        }),
        ..Setting::default()
    })
    .await;
    stage.ledger.silent.store(true, Ordering::Release);
    let answer = stage.chat(&chat("m", 10, "")).await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (503, Some("ledger_unavailable")));
    assert_eq!((answer.header("retry-after"), answer.header("x-should-retry")), (Some("1"), None));
    until("the shim says so", || !stage.shim.readiness().degraded.is_empty()).await;
    let ready = stage.get("/readyz").await;
    assert_eq!(ready.status, 200, "it still serves what needs no new lease");
    assert!(all_of!(stage.journal, Spend, Reserved).is_empty());
    let asked = all_of!(stage.journal, Spend, LeaseRequested).len();
    assert_eq!(stage.chat(&chat("m", 10, "")).await.status, 503);
    assert_eq!(all_of!(stage.journal, Spend, LeaseRequested).len(), asked, "one question stays open");
    stage.ledger.silent.store(false, Ordering::Release);
    until("the ledger speaks", || stage.shim.readiness().degraded.is_empty()).await;
    assert_eq!(stage.chat(&chat("m", 10, "")).await.status, 200);
}

#[tokio::test]
async fn a_budget_that_is_not_in_the_log_yet_is_waited_for() {
    let stage = Stage::set(Setting {
        policy: HARD.to_owned(),
        config: Box::new(|config| config.lease_wait = Duration::from_millis(50)),
        ..Setting::default()
    })
    .await;
    let answer = stage.chat(&chat("m", 10, "")).await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (503, Some("ledger_unavailable")));
    // Policy says hard, but the log binds: once it says `track`, nothing is needed.
    stage.ledger.limit("team-search", 0, 1, Mode::Track);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while stage.chat(&chat("m", 10, "")).await.status != 200 {
        assert!(tokio::time::Instant::now() < deadline);
    }
}

#[tokio::test]
async fn without_a_bound_a_hard_budget_does_not_admit() {
    let stage = Stage::hard(10_000).await;
    let answer = stage.chat(&chat("m", 10, r#","web_search_options":{}"#)).await;
    let error = answer.json()["error"].clone();
    assert_eq!((answer.status, error["code"].as_str()), (400, Some("no_cost_bound")));
    assert!(error["message"].as_str().unwrap().contains("\"web_search_options\""));
    let soft = Stage::plain().await;
    assert_eq!(soft.chat(&chat("m", 10, r#","web_search_options":{}"#)).await.status, 200);
}

#[tokio::test]
async fn a_missing_cap_is_put_in_and_told() {
    let stage = Stage::hard(10_000).await;
    let body = r#"{"model":"alias","messages":[]}"#;
    let answer = stage.chat(body).await;
    assert_eq!((answer.status, answer.header("x-bursar-output-cap")), (200, Some("100")));
    assert_eq!(stage.provider.seen()[0].body, r#"{"max_tokens":100,"model":"m","messages":[]}"#);
    assert_eq!(all_of!(stage.journal, Spend, Reserved)[0].amount, micro_dollars(64 + 200));
    let soft = Stage::plain().await;
    assert_eq!(soft.chat(body).await.header("x-bursar-output-cap"), None);
    assert_eq!(soft.provider.seen()[0].body, r#"{"model":"m","messages":[]}"#);
}

#[tokio::test]
async fn a_cap_goes_where_the_target_reads_it() {
    let far = "[[model]]\nid = \"far\"\ntargets = [{ provider = \"other\", model = \"m\" }]";
    let stage = Stage::set(Setting {
        policy: format!("{HARD}{far}"),
        limits: vec![("team-search", 10_000)],
        ..Setting::default()
    })
    .await;
    let body = |model: &str| format!(r#"{{"model":"{model}","max_completion_tokens":10,"messages":[]}}"#);
    let answer = stage.chat(&body("far")).await;
    assert_eq!((answer.status, answer.header("x-bursar-output-cap")), (200, None));
    let seen = stage.second.seen()[0].json();
    assert_eq!((&seen["max_tokens"], &seen["max_completion_tokens"]), (&10.into(), &10.into()));
    // OpenAI knows the newer name, and refuses both at once.
    assert_eq!(stage.chat(&body("m")).await.status, 200);
    assert_eq!(stage.provider.seen()[0].body, body("m"));
}

#[tokio::test]
async fn a_fallback_that_cannot_be_paid_ends_with_the_providers_own_error() {
    // The first attempt's bound is 117, the fallback's 238.
    let stage = Stage::hard(200).await;
    let error = Bytes::from_static(b"{\"error\":\"down\"}");
    stage.provider.next(Script::Answer(500, "application/json", error.clone()));
    let answer = stage.chat(&chat("two", 10, "")).await;
    assert_eq!((answer.status, answer.body), (500, error));
    until("it is closed", || !all_of!(stage.journal, Requests, RequestClosed).is_empty()).await;
    let decided = &all_of!(stage.journal, Routes, RouteDecided)[1];
    assert_eq!((decided.chosen, decided.candidates[1].verdict), (None, CandidateVerdict::Unaffordable));
    assert_eq!(all_of!(stage.journal, Requests, RequestClosed)[0].ending, Ending::Failed);
    assert!(stage.second.seen().is_empty());
}

#[tokio::test]
async fn a_cheaper_target_is_taken_when_the_first_cannot_be_paid() {
    let stage = Stage::set(Setting {
        policy: format!(
            r#"{HARD}
            [[model]]
            id = "dear-first"
            targets = [{{ provider = "other", model = "m" }}, {{ provider = "main", model = "m" }}]"#
        ),
        limits: vec![("team-search", 200)],
        ..Setting::default()
    })
    .await;
    assert_eq!(stage.chat(&chat("dear-first", 10, "")).await.status, 200);
    let decided = &all_of!(stage.journal, Routes, RouteDecided)[0];
    assert_eq!((decided.chosen, decided.reason), (Some(1), RouteReason::FallbackBudget));
    assert_eq!(decided.candidates[0].verdict, CandidateVerdict::Unaffordable);
    assert!(stage.second.seen().is_empty());
}

#[tokio::test]
async fn more_than_the_bound_is_booked_as_overrun() {
    let stage = Stage::hard(10_000).await;
    let usage = r#"{"usage":{"prompt_tokens":1000,"completion_tokens":10}}"#;
    stage.provider.next(Script::Answer(200, "application/json", Bytes::from(usage)));
    assert_eq!(stage.chat(&chat("m", 10, "")).await.status, 200);
    until("it is settled", || !all_of!(stage.journal, Spend, Settled).is_empty()).await;
    let settled = &all_of!(stage.journal, Spend, Settled)[0];
    assert_eq!((settled.amount, settled.overrun), (micro_dollars(1020), micro_dollars(1020 - 117)));
    assert!(stage.shim.metrics().contains("bursar_overruns_total 1"));
}

#[tokio::test]
async fn a_revoked_lease_goes_back_and_is_not_used_again() {
    let stage = Stage::hard(10_000).await;
    assert_eq!(stage.chat(&chat("m", 10, "")).await.status, 200);
    let lease = all_of!(stage.journal, Spend, Reserved)[0].lease.unwrap();
    until("it is settled", || !all_of!(stage.journal, Spend, Settled).is_empty()).await;
    let head = bursar_schemas::facts::Head::draft(common::now(), 1, "");
    stage.ledger.say(LeaseRevoked { head, epoch: 1, lease });
    until("it goes back", || {
        all_of!(stage.journal, Spend, LeaseReturned).iter().any(|back| back.lease == lease)
    })
    .await;
    let back =
        all_of!(stage.journal, Spend, LeaseReturned).into_iter().find(|back| back.lease == lease).unwrap();
    assert_eq!((back.amount, back.last), (micro_dollars(468 - 20), true));
    assert_eq!(stage.chat(&chat("m", 10, "")).await.status, 200);
    assert_ne!(all_of!(stage.journal, Spend, Reserved)[1].lease, Some(lease));
}

#[tokio::test]
async fn shutting_down_gives_leases_back_and_states_the_end() {
    let stage = Stage::hard(10_000).await;
    assert_eq!(stage.chat(&chat("m", 10, "")).await.status, 200);
    stage.provider.next(Script::Hang);
    let request = stage.request("/v1/chat/completions", chat("m", 10, ""));
    let hanging = tokio::spawn(stage.client.request(request));
    until("the provider is called", || stage.provider.seen().len() == 2).await;
    let Stage { journal, shim, .. } = stage;
    assert!(shim.shutdown(Duration::from_millis(50)).await);
    assert!(hanging.await.unwrap().is_err());
    let spend = kinds(&journal, Topic::Spend);
    assert_eq!(spend.last(), Some(&"ShimEnded"));
    assert_eq!(all_of!(journal, Requests, RequestClosed).len(), 2);
    // All that was granted is settled or went back.
    let granted: Money = all_of!(journal, Limits, LeaseGranted).iter().map(|fact| fact.amount).sum();
    let settled: Money = all_of!(journal, Spend, Settled).iter().map(|fact| fact.amount).sum();
    let back: Money = all_of!(journal, Spend, LeaseReturned).iter().map(|fact| fact.amount).sum();
    assert_eq!((settled, settled.plus(back)), (micro_dollars(20 + 117), granted));
    for topic in [Topic::Requests, Topic::Routes, Topic::Spend] {
        let last = common::facts(&journal, topic).pop().unwrap();
        assert!(matches!(last, Fact::ProducerHead(head) if head.ended), "{topic}");
    }
}

#[tokio::test]
async fn what_is_left_is_told_before_anybody_is_refused() {
    let stage = Stage::hard(10_000).await;
    let first = stage.chat(&chat("m", 10, "")).await;
    assert_eq!(first.header("x-bursar-budget-remaining"), Some("0.01"), "nothing was stated as settled yet");
    stage.ledger.balance("team-search", 4_000);
    let mut shown = serde_json::Value::Null;
    for _ in 0..500 {
        shown = stage.get("/v1/budgets").await.json();
        if shown["data"][0]["settled"] == "0.004" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let budget = &shown["data"][0];
    assert_eq!((&budget["id"], &budget["scope"]), (&"team-search".into(), &"team:search".into()), "{shown}");
    assert_eq!((&budget["limit"], &budget["remaining"]), (&"0.01".into(), &"0.006".into()), "{shown}");
    assert_eq!(
        (&budget["mode"], &budget["resets_at"]),
        (&"hard".into(), &serde_json::Value::Null),
        "{shown}"
    );
    let second = stage.chat(&chat("m", 10, "")).await;
    assert_eq!(second.header("x-bursar-budget-remaining"), Some("0.006"));
}
