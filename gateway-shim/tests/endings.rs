//! Every way in which a request can end, and the facts that say so.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod common;

use bursar_schemas::facts::{
    AttemptOutcome, Basis, Confidence, Ending, Endpoint, RefusalCode, RouteReason, VoidReason,
};
use bursar_schemas::ids::Digest;
use bursar_schemas::meters::Meter;
use bursar_schemas::position::Topic;
use bytes::Bytes;
use common::ledger::micro_dollars;
use common::provider::{CHAT, Script};
use common::{KEY, PROVIDER_KEY, Stage, chat, kinds, until};
use http_body_util::BodyExt as _;
use sha2::Digest as _;

#[tokio::test]
async fn a_finished_request_tells_its_whole_story() {
    let stage = Stage::plain().await;
    let body = chat("alias", 10, r#", "user":"anna" , "x": 1.50e1"#);
    let answer = stage.chat(&body).await;
    assert_eq!((answer.status, answer.body.as_ref()), (200, CHAT.as_bytes()));
    assert_eq!(answer.header("x-other"), Some("kept"));
    assert_eq!(answer.header("content-length").unwrap(), CHAT.len().to_string());
    assert!(answer.header("x-bursar-request-id").is_some());
    assert_eq!(answer.header("x-bursar-output-cap"), None);

    let seen = &stage.provider.seen()[0];
    assert_eq!(seen.path, "/v1/chat/completions");
    assert_eq!(seen.headers["authorization"], format!("Bearer {PROVIDER_KEY}"));
    assert_eq!(seen.headers["accept-encoding"], "identity");
    assert_eq!(seen.body, body.replace("\"alias\"", "\"m\""), "all other bytes as they came");

    let journal = &stage.journal;
    until("it is closed", || !all_of!(journal, Requests, RequestClosed).is_empty()).await;
    assert_eq!(kinds(journal, Topic::Requests), ["RequestOpened", "RequestClosed"]);
    assert_eq!(kinds(journal, Topic::Routes), ["RouteDecided", "AttemptEnded"]);
    assert_eq!(kinds(journal, Topic::Spend), ["Reserved", "Settled"]);

    let opened = &all_of!(journal, Requests, RequestOpened)[0];
    let about = &opened.about;
    assert_eq!(opened.head.at, about.accounting_at);
    assert_eq!((opened.endpoint, opened.model.as_str()), (Endpoint::ChatCompletions, "alias"));
    assert_eq!(opened.body_bytes, body.len() as u64);
    assert_ne!(opened.body_digest, Digest(sha2::Sha256::digest(body.as_bytes()).into()), "keyed");
    assert_eq!((about.organisation.as_str(), about.key.as_str()), ("acme", "key-1"));
    assert_eq!(about.tags["env"], "test");
    assert!(about.end_user.is_some());

    let reserved = &all_of!(journal, Spend, Reserved)[0];
    // A field without a rule leaves an estimate: 17 bytes of text as 6 tokens, 64 + 16 around it at 1 µ$, and ten tokens
    // of output at 2 µ$.
    assert_eq!((reserved.amount, reserved.lease), (micro_dollars(86 + 20), None));
    let settled = &all_of!(journal, Spend, Settled)[0];
    assert_eq!((settled.amount, settled.overrun.pico()), (micro_dollars(10 + 10), 0));
    assert_eq!((settled.confidence, settled.basis), (Confidence::Reported, Basis::Usage));
    let lines: Vec<_> = settled.lines.iter().map(|line| (line.meter, line.quantity)).collect();
    assert_eq!(lines, [(Meter::Input, 10), (Meter::Output, 5)]);
    assert_eq!(
        settled.usage.as_deref(),
        Some(r#"{"completion_tokens":5,"prompt_tokens":10,"total_tokens":15}"#)
    );
    let ended = &all_of!(journal, Routes, AttemptEnded)[0];
    assert_eq!((ended.outcome, ended.status), (AttemptOutcome::Answered, Some(200)));
    assert_eq!(
        (ended.served_model.as_deref(), ended.finish_reason.as_deref(), ended.provider_request.as_deref()),
        (Some("m-2026"), Some("stop"), Some("req-77"))
    );
    let closed = &all_of!(journal, Requests, RequestClosed)[0];
    assert_eq!((closed.ending, closed.status, closed.attempts), (Ending::Finished, 200, 1));
    assert_eq!(closed.answer_bytes, CHAT.len() as u64);
    assert_eq!(closed.settled, micro_dollars(20));
    assert!(closed.first_byte_us.is_some_and(|first| first <= closed.duration_us));
    assert_eq!(&closed.about, about);
}

#[tokio::test]
async fn the_same_person_has_the_same_pseudonym_by_header_or_body() {
    let stage = Stage::plain().await;
    stage.chat(&chat("m", 1, r#","user":"anna""#)).await;
    let mut request = stage.request("/v1/chat/completions", chat("m", 1, ""));
    request.headers_mut().insert("x-bursar-end-user", "anna".parse().unwrap());
    stage.send(request).await;
    stage.chat(&chat("m", 1, r#","user":"bert""#)).await;
    let users: Vec<_> =
        all_of!(stage.journal, Requests, RequestOpened).into_iter().map(|fact| fact.about.end_user).collect();
    assert_eq!(users[0], users[1]);
    assert_ne!(users[0], users[2]);
    assert!(stage.provider.seen()[1].headers.get("x-bursar-end-user").is_none());
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_settled_at_its_bound() {
    let stage = Stage::plain().await;
    let feed = stage.provider.stream();
    feed.send(Some(Bytes::from("data: {\"choices\":[{}]}\n\n"))).await.unwrap();
    let request = stage.request("/v1/chat/completions", chat("m", 10, r#","stream":true"#));
    let answer = stage.client.request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    assert!(body.frame().await.unwrap().unwrap().is_data());
    feed.send(None).await.unwrap();
    assert!(body.collect().await.is_err(), "the client sees that it broke off");
    until("it is closed", || !all_of!(stage.journal, Requests, RequestClosed).is_empty()).await;
    let settled = &all_of!(stage.journal, Spend, Settled)[0];
    assert_eq!((settled.amount, settled.reserved), (micro_dollars(117), micro_dollars(117)));
    assert_eq!((settled.confidence, settled.basis), (Confidence::Estimated, Basis::Reservation));
    assert_eq!(all_of!(stage.journal, Routes, AttemptEnded)[0].outcome, AttemptOutcome::Broken);
    assert_eq!(all_of!(stage.journal, Requests, RequestClosed)[0].ending, Ending::Failed);
}

#[tokio::test]
async fn a_client_that_leaves_drops_the_provider_and_is_settled_once() {
    let stage = Stage::dropping().await;
    let feed = stage.provider.stream();
    feed.send(Some(Bytes::from("data: {\"choices\":[{}]}\n\n"))).await.unwrap();
    let request = stage.request("/v1/chat/completions", chat("m", 10, r#","stream":true"#));
    let mut answer = stage.client.request(request).await.unwrap().into_body();
    assert!(answer.frame().await.unwrap().unwrap().is_data());
    drop(answer);
    tokio::time::timeout(std::time::Duration::from_secs(10), feed.closed())
        .await
        .expect("the provider notices");
    until("it is closed", || !all_of!(stage.journal, Requests, RequestClosed).is_empty()).await;
    let closed = &all_of!(stage.journal, Requests, RequestClosed);
    assert_eq!((closed.len(), closed[0].ending), (1, Ending::Abandoned));
    assert_eq!(all_of!(stage.journal, Routes, AttemptEnded)[0].outcome, AttemptOutcome::Abandoned);
    assert_eq!(all_of!(stage.journal, Spend, Settled)[0].amount, micro_dollars(117));
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_is_settled_too() {
    let stage = Stage::plain().await;
    stage.provider.next(Script::Hang);
    let request = stage.request("/v1/chat/completions", chat("m", 10, ""));
    let sending = tokio::spawn(stage.client.request(request));
    until("the provider is called", || !stage.provider.seen().is_empty()).await;
    sending.abort();
    until("it is closed", || !all_of!(stage.journal, Requests, RequestClosed).is_empty()).await;
    let closed = &all_of!(stage.journal, Requests, RequestClosed)[0];
    assert_eq!((closed.ending, closed.status), (Ending::Abandoned, 0));
    assert_eq!(all_of!(stage.journal, Spend, Settled)[0].amount, micro_dollars(117));
}

#[tokio::test]
async fn a_providers_error_passes_and_costs_nothing() {
    let stage = Stage::plain().await;
    let body = Bytes::from_static(b"{\"error\":{\"message\":\"no\"}}");
    stage.provider.next(Script::Answer(400, "application/json", body.clone()));
    let answer = stage.chat(&chat("m", 10, "")).await;
    assert_eq!((answer.status, answer.body), (400, body));
    until("it is closed", || !all_of!(stage.journal, Requests, RequestClosed).is_empty()).await;
    let voided = &all_of!(stage.journal, Spend, Voided)[0];
    assert_eq!((voided.reason, voided.reserved), (VoidReason::Rejected, micro_dollars(117)));
    let closed = &all_of!(stage.journal, Requests, RequestClosed)[0];
    assert_eq!((closed.ending, closed.status, closed.settled.pico()), (Ending::Failed, 400, 0));
}

#[tokio::test]
async fn a_time_out_in_front_of_the_model_is_paid_for() {
    let stage = Stage::plain().await;
    for status in [408, 499, 504, 520, 524] {
        stage.provider.next(Script::Answer(status, "text/html", Bytes::from_static(b"late")));
        assert_eq!(stage.chat(&chat("m", 10, "")).await.status, status);
    }
    // As well where the next target is tried.
    stage.provider.next(Script::Answer(504, "text/html", Bytes::from_static(b"late")));
    assert_eq!(stage.chat(&chat("two", 10, "")).await.status, 200);
    until("they are settled", || all_of!(stage.journal, Spend, Settled).len() == 7).await;
    let settled = all_of!(stage.journal, Spend, Settled);
    let late = |fact: &&bursar_schemas::facts::Settled| {
        (fact.amount, fact.basis) == (micro_dollars(117), Basis::Reservation)
    };
    assert_eq!(settled.iter().filter(late).count(), 6);
    assert!(settled.iter().filter(late).all(|fact| fact.confidence == Confidence::Estimated));
    for status in [500, 502, 503, 529] {
        stage.provider.next(Script::Answer(status, "text/html", Bytes::from_static(b"no")));
        assert_eq!(stage.chat(&chat("m", 10, "")).await.status, status);
    }
    until("they are voided", || all_of!(stage.journal, Spend, Voided).len() == 4).await;
}

#[tokio::test]
async fn a_provider_that_is_slow_or_gone_ends_in_an_error_of_its_own() {
    let stage = Stage::plain().await;
    stage.provider.next(Script::Hang);
    let answer = stage.chat(&chat("m", 10, "")).await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (504, Some("provider_timeout")));
    stage.provider.next(Script::Close);
    let answer = stage.chat(&chat("m", 10, "")).await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (502, Some("provider_broke_off")));
    let outcomes: Vec<_> =
        all_of!(stage.journal, Routes, AttemptEnded).into_iter().map(|fact| fact.outcome).collect();
    assert_eq!(outcomes, [AttemptOutcome::TimedOut, AttemptOutcome::Broken]);
    let amounts: Vec<_> =
        all_of!(stage.journal, Spend, Settled).into_iter().map(|fact| (fact.amount, fact.basis)).collect();
    assert_eq!(amounts, [(micro_dollars(117), Basis::Reservation); 2], "it may have been served");
}

#[tokio::test]
async fn refusals_have_their_status_code_and_one_fact() {
    let stage = Stage::plain().await;
    let with_key = |key: &str, body: String| {
        let mut request = stage.request("/v1/chat/completions", body);
        request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        request
    };
    let cases = [
        (with_key("bsk-unknown", chat("m", 1, "")), 401, RefusalCode::InvalidKey),
        (with_key("bsk-only-two", chat("m", 1, "")), 403, RefusalCode::ModelNotAllowed),
        (with_key(KEY, chat("nobody", 1, "")), 404, RefusalCode::ModelNotFound),
        (with_key(KEY, chat("unpriced", 1, "")), 400, RefusalCode::UnknownPrice),
        (with_key(KEY, "{\"model\":".to_owned()), 400, RefusalCode::InvalidRequest),
        (
            with_key(KEY, r#"{"model":"m","messages":[],"model":"m"}"#.to_owned()),
            400,
            RefusalCode::InvalidRequest,
        ),
        (with_key(KEY, r#"{"messages":[]}"#.to_owned()), 400, RefusalCode::InvalidRequest),
    ];
    let count = cases.len();
    for (index, (request, status, code)) in cases.into_iter().enumerate() {
        let answer = stage.send(request).await;
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status, error["code"].as_str()), (status, Some(code.word())));
        assert_eq!(error["type"], "invalid_request_error");
        assert!(error["message"].is_string() && error.as_object().unwrap().contains_key("param"));
        let refused = all_of!(stage.journal, Requests, RequestRefused);
        assert_eq!(refused.len(), index + 1);
        assert_eq!((refused[index].code, refused[index].status), (code, u32::from(status)));
        assert_eq!(refused[index].about.is_some(), code != RefusalCode::InvalidKey);
    }
    let mut broken = stage.request("/v1/chat/completions", Bytes::from_static(b"{\"model\":\"\xff\"}"));
    broken.headers_mut().remove("content-type");
    assert_eq!(stage.send(broken).await.status, 400);
    assert_eq!(kinds(&stage.journal, Topic::Requests), vec!["RequestRefused"; count + 1]);
    assert!(kinds(&stage.journal, Topic::Spend).is_empty() && stage.provider.seen().is_empty());
}

#[tokio::test]
async fn a_refusals_fact_repeats_no_free_text() {
    let stage = Stage::plain().await;
    for (model, recorded) in [("nobody", Some("nobody")), ("tell CANARY", None), ("main/tell CANARY", None)] {
        let answer = stage.chat(&chat(model, 1, "")).await;
        let message = answer.json()["error"]["message"].to_string();
        assert!(message.contains(model), "the client sees its own text: {message}");
        let refused = all_of!(stage.journal, Requests, RequestRefused).pop().unwrap();
        assert_eq!(refused.model.as_deref(), recorded);
        assert!(refused.detail.contains(recorded.unwrap_or("(unknown)")), "{}", refused.detail);
        assert!(!refused.detail.contains("CANARY"), "{}", refused.detail);
    }
}

#[tokio::test]
async fn a_compressed_body_is_refused_in_whichever_line_it_says_so() {
    let stage = Stage::plain().await;
    for (lines, status) in [(["identity", "gzip"], 400), (["identity", "identity"], 200)] {
        let mut request = stage.request("/v1/chat/completions", chat("m", 1, ""));
        for line in lines {
            request.headers_mut().append("content-encoding", line.parse().unwrap());
        }
        assert_eq!(stage.send(request).await.status, status, "{lines:?}");
    }
}

#[tokio::test]
async fn facts_about_unknown_keys_are_bounded() {
    let stage = Stage::plain().await;
    for _ in 0..60 {
        let mut request = stage.request("/v1/chat/completions", "{}");
        request.headers_mut().insert("authorization", "Bearer bsk-guess".parse().unwrap());
        assert_eq!(stage.send(request).await.status, 401);
    }
    let written = all_of!(stage.journal, Requests, RequestRefused).len();
    let metrics = stage.shim.metrics();
    let dropped: usize = metrics
        .lines()
        .find_map(|line| line.strip_prefix("bursar_unrecorded_refusals_total "))
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(written + dropped, 60);
    assert!(written >= 10);
    assert!(metrics.contains("bursar_refusals_total{code=\"invalid_api_key\"} 60"));
}

#[tokio::test]
async fn a_body_above_the_bound_is_refused() {
    let stage = Stage::set(common::Setting {
        config: Box::new(|config| config.max_body_bytes = 1000),
        ..common::Setting::default()
    })
    .await;
    let answer = stage.chat(&"x".repeat(1001)).await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (413, Some("request_too_large")));
    assert_eq!(stage.chat(&chat("m", 1, "")).await.status, 200);
}

#[tokio::test]
async fn embeddings_are_served_and_models_listed() {
    let stage = Stage::plain().await;
    let usage = r#"{"data":[],"model":"m","usage":{"prompt_tokens":7,"total_tokens":7}}"#;
    stage.provider.next(Script::Answer(200, "application/json", Bytes::from(usage)));
    let answer = stage.send(stage.request("/v1/embeddings", r#"{"model":"m","input":["a","b"]}"#)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(stage.provider.seen()[0].path, "/v1/embeddings");
    until("it is closed", || !all_of!(stage.journal, Requests, RequestClosed).is_empty()).await;
    assert_eq!(all_of!(stage.journal, Spend, Settled)[0].amount, micro_dollars(7));
    assert_eq!(all_of!(stage.journal, Requests, RequestOpened)[0].endpoint, Endpoint::Embeddings);

    let models = stage.get("/v1/models").await.json();
    let names: Vec<_> =
        models["data"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["alias", "m", "two", "unpriced"]);
    assert_eq!(stage.get("/healthz").await.status, 200);
    let ready = stage.get("/readyz").await;
    assert_eq!((ready.status, ready.json()["ready"].as_bool()), (200, Some(true)));
    assert_eq!(stage.get("/nowhere").await.status, 404);
}

#[tokio::test]
async fn the_next_target_is_tried_with_its_own_reservation() {
    let stage = Stage::plain().await;
    stage.provider.next(Script::Answer(503, "application/json", Bytes::from_static(b"{}")));
    let answer = stage.chat(&chat("two", 10, "")).await;
    assert_eq!((answer.status, answer.body.as_ref()), (200, CHAT.as_bytes()));
    until("it is closed", || !all_of!(stage.journal, Requests, RequestClosed).is_empty()).await;
    assert_eq!(
        kinds(&stage.journal, Topic::Routes),
        ["RouteDecided", "AttemptEnded", "RouteDecided", "AttemptEnded"]
    );
    assert_eq!(kinds(&stage.journal, Topic::Spend), ["Reserved", "Voided", "Reserved", "Settled"]);
    let decided = &all_of!(stage.journal, Routes, RouteDecided);
    assert_eq!((decided[1].attempt, decided[1].chosen), (2, Some(1)));
    assert_eq!(decided[1].reason, RouteReason::FallbackStatus);
    let reserved: Vec<_> = all_of!(stage.journal, Spend, Reserved)
        .into_iter()
        .map(|fact| (fact.provider, fact.amount))
        .collect();
    // The other target's tokenizer is unknown: two strings may begin with a token each; its prices are double.
    let expected =
        [("main".to_owned(), micro_dollars(117)), ("other".to_owned(), micro_dollars(2 * 99 + 40))];
    assert_eq!(reserved, expected);
    let closed = &all_of!(stage.journal, Requests, RequestClosed)[0];
    assert_eq!((closed.attempts, closed.ending, closed.settled), (2, Ending::Finished, micro_dollars(40)));
    assert!(stage.second.seen()[0].headers.get("authorization").is_none(), "it asks for no key");
}

#[tokio::test]
async fn a_timed_out_attempt_is_paid_for_and_the_last_error_is_the_providers_own() {
    let stage = Stage::plain().await;
    stage.provider.next(Script::Hang);
    let error = Bytes::from_static(b"{\"error\":\"busy\"}");
    stage.second.next(Script::Answer(429, "application/json", error.clone()));
    let answer = stage.chat(&chat("two", 10, "")).await;
    assert_eq!((answer.status, answer.body), (429, error));
    until("it is closed", || !all_of!(stage.journal, Requests, RequestClosed).is_empty()).await;
    assert_eq!(kinds(&stage.journal, Topic::Spend), ["Reserved", "Settled", "Reserved", "Voided"]);
    assert_eq!(all_of!(stage.journal, Spend, Settled)[0].amount, micro_dollars(117));
    assert_eq!(all_of!(stage.journal, Routes, RouteDecided)[1].reason, RouteReason::FallbackTimeout);
}
