//! The stand-in as its clients see it: shapes, caps, faults, and a bill that says what was served.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

mod common;

use std::time::Duration;

use bursar_stand_in::provider::{
    BillOutcome, Charge, LeaveCharge, RunningStandIn, StandIn, StandInConfig, read_bill,
};
use common::{ask, begin, chat, post};
use http_body_util::BodyExt;
use serde_json::{Value, json};

/// 374 input and 44 output tokens of gpt-4o-mini at $0.15 and $0.60 per million: $0.0000825.
const PICO_OF_374_AND_44: i128 = 82_500_000;

async fn start(change: impl FnOnce(&mut StandInConfig)) -> RunningStandIn {
    let mut config = StandInConfig::default();
    change(&mut config);
    StandIn::start(config).await.unwrap()
}

fn text(commands: &str) -> String {
    format!("stand-in {commands} {}", "padding ".repeat(100))
}

async fn until(what: &str, test: impl Fn() -> bool) {
    let wait = async {
        while !test() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn an_unstreamed_answer_has_the_shape_of_openai() {
    let provider = start(|_| ()).await;
    let text = text("prompt_tokens=374 completion_tokens=44 cached_tokens=100 reasoning_tokens=7");
    let answer = ask(&provider.base_url, chat(&text, json!({"n": 1}))).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "application/json");
    assert!(answer.headers["x-request-id"].to_str().unwrap().starts_with("req_"));
    let told = answer.json();
    assert!(told["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(told["object"], "chat.completion");
    assert_eq!(told["model"], "gpt-4o-mini");
    assert_eq!(told["choices"][0]["finish_reason"], "stop");
    assert_eq!(told["choices"][0]["message"]["role"], "assistant");
    assert_eq!(told["choices"][0]["message"]["content"].as_str().unwrap().len(), 44 * 4);
    assert_eq!(
        told["usage"],
        json!({
            "prompt_tokens": 374, "completion_tokens": 44, "total_tokens": 418,
            "prompt_tokens_details": {"cached_tokens": 100, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 7, "audio_tokens": 0,
                "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
        })
    );
    // 274 × $0.15 + 100 × $0.075 + 44 × $0.60, per million.
    assert_eq!(provider.stop().await.billed_pico, 75_000_000);
}

#[tokio::test]
async fn a_stream_tells_its_usage_when_asked_and_only_then() {
    let provider = start(|config| config.tokens_per_chunk = 10).await;
    let text = text("prompt_tokens=20 completion_tokens=44");
    for (options, asked) in [
        (json!({"include_usage": true}), true),
        (json!({"include_usage": false}), false),
        (Value::Null, false),
    ] {
        let answer =
            ask(&provider.base_url, chat(&text, json!({"stream": true, "stream_options": options}))).await;
        assert_eq!(answer.headers["content-type"], "text/event-stream; charset=utf-8");
        let mut events = answer.events();
        assert!(!answer.broken);
        assert_eq!(events.pop().unwrap(), "[DONE]");
        if asked {
            let last = events.pop().unwrap();
            assert_eq!(last["choices"], json!([]));
            assert_eq!(last["usage"]["prompt_tokens"], 20);
            assert_eq!(last["usage"]["completion_tokens"], 44);
            assert!(events.iter().all(|event| event.get("usage") == Some(&Value::Null)));
        } else {
            assert!(events.iter().all(|event| event.get("usage").is_none()));
        }
        assert!(events.iter().all(|event| event["object"] == "chat.completion.chunk"));
        assert!(events.iter().all(|event| event["id"] == events[0]["id"]));
        assert_eq!(events[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
        let last = events.pop().unwrap();
        assert_eq!(
            (&last["choices"][0]["finish_reason"], &last["choices"][0]["delta"]),
            (&json!("stop"), &json!({}))
        );
        let said: String =
            events.iter().map(|event| event["choices"][0]["delta"]["content"].as_str().unwrap()).collect();
        assert_eq!((events.len(), said.len()), (1 + 5, 44 * 4), "44 tokens in pieces of 10");
    }
    assert_eq!(provider.stop().await.left, 0);
}

#[tokio::test]
async fn output_stays_below_every_cap() {
    let provider = start(|config| {
        config.prices.get_mut("gpt-4o-mini").unwrap().max_output = 50;
    })
    .await;
    let ask = async |commands: &str, more: Value| {
        let told = ask(&provider.base_url, chat(&text(commands), more)).await.json();
        (
            told["usage"]["completion_tokens"].as_u64().unwrap(),
            told["choices"][0]["finish_reason"].to_string(),
        )
    };
    let (stop, length) = ("\"stop\"".to_owned(), "\"length\"".to_owned());
    assert_eq!(ask("completion_tokens=44", json!({"max_tokens": 44})).await, (44, stop.clone()));
    assert_eq!(ask("completion_tokens=44", json!({"max_tokens": 43})).await, (43, length.clone()));
    assert_eq!(
        ask("completion_tokens=44", json!({"max_completion_tokens": 5, "max_tokens": 9})).await,
        (5, length.clone())
    );
    assert_eq!(ask("completion_tokens=51", json!({})).await, (50, length), "the model's own cap");
    assert_eq!(ask("completion_tokens=5", json!({"n": 3})).await, (15, stop), "per choice");
    assert_eq!(ask("completion_tokens=51 overbill=100", json!({})).await.0, 150, "a dishonest provider");
}

#[tokio::test]
async fn faults_come_as_the_text_asks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bill");
    let provider = start(|config| config.bill = Some(path.clone())).await;
    let send = async |commands: &str, more: Value| ask(&provider.base_url, chat(&text(commands), more)).await;

    let failed = send("id=failed status=503", json!({})).await;
    assert_eq!((failed.status.as_u16(), &failed.json()["error"]["type"]), (503, &json!("server_error")));
    let limited = send("id=limited status=429", json!({"stream": true})).await;
    assert_eq!((limited.status.as_u16(), &limited.headers["retry-after"]), (429, &"1".parse().unwrap()));
    let silent =
        send("id=silent no_usage", json!({"stream": true, "stream_options": {"include_usage": true}})).await;
    assert!(!silent.body.contains("usage"), "{}", silent.body);
    assert!(send("id=mute no_usage", json!({})).await.json().get("usage").is_none());
    let cut = send("id=cut cut_after_chunks=3 completion_tokens=80", json!({"stream": true})).await;
    assert!(cut.broken);
    assert_eq!(cut.events().len(), 1 + 3, "the role and three pieces");
    let half = send("id=half cut_after_chunks=0", json!({})).await;
    assert!(half.broken && half.body.starts_with("{\"id\""), "{}", half.body);

    let typed = send("promt_tokens=4", json!({})).await;
    assert_eq!((typed.status.as_u16(), &typed.json()["error"]["code"]), (400, &json!("stand_in_command")));
    let short = ask(&provider.base_url, chat("stand-in prompt_tokens=374", json!({}))).await;
    assert_eq!((short.status.as_u16(), &short.json()["error"]["code"]), (400, &json!("stand_in_prompt")));
    let unknown = send("", json!({"model": "gpt-17"})).await;
    assert_eq!((unknown.status.as_u16(), &unknown.json()["error"]["code"]), (404, &json!("model_not_found")));

    let totals = provider.stop().await;
    assert_eq!((totals.received, totals.billed, totals.failed, totals.refused, totals.left), (9, 4, 2, 3, 0));
    let lines = read_bill(&path).unwrap();
    let billed: Vec<_> = lines.iter().map(|line| (line.id.as_str(), line.outcome)).collect();
    use BillOutcome::{Answered, Cut};
    assert_eq!(billed, [("silent", Answered), ("mute", Answered), ("cut", Cut), ("half", Cut)]);
    assert_eq!(lines.iter().map(|line| line.amount_pico).sum::<i128>(), totals.billed_pico);
}

#[tokio::test]
async fn a_request_that_hangs_is_billed_only_where_it_says_so() {
    let provider = start(|_| ()).await;
    for (commands, billed) in [("hang", 0), ("hang_billed", 1)] {
        let base_url = provider.base_url.clone();
        let request = chat(&text(commands), json!({}));
        let hanging = tokio::spawn(async move { begin(&base_url, request).await.0.status() });
        until(commands, || provider.totals().hung + provider.totals().billed == 1 + billed).await;
        assert_eq!(provider.totals().billed, billed);
        assert!(!hanging.is_finished());
        hanging.abort();
    }
    assert_eq!(provider.stop().await.hung, 1);
}

#[tokio::test]
async fn a_bill_is_written_before_the_first_byte_and_names_the_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bill");
    for round in 1..=2 {
        let provider = start(|config| {
            config.bill = Some(path.clone());
            config.chunk_delay = Duration::from_secs(3600);
        })
        .await;
        let mut request =
            chat(&text("id=inner prompt_tokens=374 completion_tokens=44"), json!({"stream": true}));
        request.headers_mut().insert("x-stand-in-id", "outer".parse().unwrap());
        request.headers_mut().insert("x-request-id", "made-on-the-way".parse().unwrap());
        let (response, _connection) = begin(&provider.base_url, request).await;
        assert_eq!(response.status(), 200);
        let lines = read_bill(&path).unwrap();
        assert_eq!(lines.len(), round, "a restart appends");
        let line = lines.last().unwrap();
        assert_eq!((line.id.as_str(), line.amount_pico, line.stream), ("outer", PICO_OF_374_AND_44, true));
        assert_eq!((line.prompt, line.completion, line.outcome), (374, 44, BillOutcome::Answered));
        assert_eq!(provider.stop().await.billed_pico, PICO_OF_374_AND_44);
    }
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("\"amount_pico\":\"82500000\""), "{text}");
}

#[tokio::test]
async fn who_leaves_pays_the_whole_or_what_was_generated() {
    for (on_leave, completion_tokens, pico) in
        [(LeaveCharge::Whole, 44, PICO_OF_374_AND_44), (LeaveCharge::Generated, 10, 56_100_000 + 6_000_000)]
    {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bill");
        let provider = start(|config| {
            config.bill = Some(path.clone());
            config.chunk_delay = Duration::from_secs(3600);
            config.tokens_per_chunk = 10;
            config.on_leave = on_leave;
        })
        .await;
        let request = chat(&text("prompt_tokens=374 completion_tokens=44"), json!({"stream": true}));
        let (mut response, connection) = begin(&provider.base_url, request).await;
        response.body_mut().frame().await.unwrap().unwrap();
        until("the first piece", || provider.totals().billed == 1).await;
        let mut read = String::new();
        while !read.contains("word") {
            let frame = response.body_mut().frame().await.unwrap().unwrap();
            read.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
        connection.abort();
        until("the client's leaving", || provider.totals().left == 1).await;
        until("the corrected bill", || provider.totals().billed_pico == pico).await;
        assert_eq!(provider.totals().completion_tokens, completion_tokens);
        let sum: i128 = read_bill(&path).unwrap().iter().map(|line| line.amount_pico).sum();
        assert_eq!(sum, pico, "{on_leave:?}");
    }
}

#[tokio::test]
async fn errors_are_drawn_by_the_seed_and_cost_nothing() {
    let ids: Vec<String> = (0..200).map(|number| format!("r-{number}")).collect();
    let mut drawn = Vec::new();
    for (seed, rate) in [(1, 300), (1, 300), (2, 300), (1, 1000), (1, 0)] {
        let provider = start(|config| (config.seed, config.error_rate_per_mille) = (seed, rate)).await;
        let mut failed = Vec::new();
        for id in &ids {
            let answer = ask(&provider.base_url, chat(&text(&format!("id={id}")), json!({}))).await;
            if answer.status != 200 {
                assert!([429, 500, 503].contains(&answer.status.as_u16()));
                failed.push(id.clone());
            }
        }
        let totals = provider.stop().await;
        assert_eq!(totals.failed, u64::try_from(failed.len()).unwrap());
        assert_eq!(totals.billed + totals.failed, 200);
        drawn.push(failed);
    }
    assert_eq!(drawn[0], drawn[1], "one seed, one draw");
    assert_ne!(drawn[0], drawn[2]);
    assert!((30..=90).contains(&drawn[0].len()), "{}", drawn[0].len());
    assert_eq!((drawn[3].len(), drawn[4].len()), (200, 0));
}

#[tokio::test]
async fn a_marked_up_bill_differs_from_the_usage_told() {
    let provider = start(|config| config.charge = Charge::MarkedUp { per_mille: 100 }).await;
    let answer =
        ask(&provider.base_url, chat(&text("prompt_tokens=374 completion_tokens=44"), json!({}))).await;
    assert_eq!(answer.json()["usage"]["total_tokens"], 418);
    assert_eq!(provider.stop().await.billed_pico, 90_750_000);
}

#[tokio::test]
async fn the_key_is_asked_for_and_what_came_is_kept() {
    let provider = start(|config| (config.api_key, config.capture) = (Some("sk-right".to_owned()), 2)).await;
    for (key, status) in [("sk-wrong", 401), ("sk-right", 200), ("", 401)] {
        let mut request = chat("Hello", json!({"stream": false}));
        request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        assert_eq!(ask(&provider.base_url, request).await.status, status, "{key}");
    }
    let captured = provider.captured();
    assert_eq!(captured.len(), 2);
    assert_eq!((captured[0].method.as_str(), captured[0].path.as_str()), ("POST", "/v1/chat/completions"));
    assert!(captured[0].headers.contains(&("authorization".to_owned(), "Bearer sk-right".to_owned())));
    let body: Value = serde_json::from_slice(&captured[0].body).unwrap();
    assert_eq!(body["messages"][0]["content"], "Hello");
}

#[tokio::test]
async fn embeddings_and_models_are_answered() {
    let provider = start(|_| ()).await;
    let embed = async |more: Value| {
        let mut body =
            json!({"model": "text-embedding-3-small", "input": ["stand-in prompt_tokens=20", "two"]});
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        ask(&provider.base_url, post("/v1/embeddings", &body)).await.json()
    };
    let told = embed(json!({})).await;
    assert_eq!(told["usage"], json!({"prompt_tokens": 20, "total_tokens": 20}));
    assert_eq!(told["data"].as_array().unwrap().len(), 2);
    assert_eq!(told["data"][1]["index"], 1);
    assert_eq!(told["data"][0]["embedding"].as_array().unwrap().len(), 16);
    // 0.25 and -0.25 as 32-bit little-endian numbers.
    assert_eq!(
        embed(json!({"encoding_format": "base64", "dimensions": 2})).await["data"][0]["embedding"],
        "AACAPgAAgL4="
    );
    // 2 × 20 tokens at $0.02 per million.
    assert_eq!(provider.totals().billed_pico, 800_000);

    let mut request = post("/v1/models", &json!({}));
    *request.method_mut() = hyper::Method::GET;
    let models = ask(&provider.base_url, request).await.json();
    let names: Vec<_> = models["data"].as_array().unwrap().iter().map(|model| &model["id"]).collect();
    assert_eq!(names, ["gpt-4o", "gpt-4o-mini", "text-embedding-3-small"]);
    assert_eq!(ask(&provider.base_url, post("/v1/nothing", &json!({}))).await.status, 404);
}
