//! No prompt, answer, key or user name in any fact, log line, metric or error of the shim's own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod common;

use std::io::Write;
use std::sync::{Arc, Mutex};

use bursar_schemas::position::{Lane, Topic};
use bytes::Bytes;
use common::provider::Script;
use common::{KEY, PROVIDER_KEY, Stage, chat, until};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn canaries_are_found_nowhere() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .init();
    let stage = Stage::hard(100_000).await;
    let mut own = Vec::new();
    let user = r#","user":"CANARY-user","stop":"CANARY-stop""#;
    assert_eq!(stage.chat(&chat("m", 10, user)).await.status, 200);
    let bad = [
        r#"{"model":"m","messages":[],"CANARY field":1}"#.to_owned(),
        r#"{"model":"m","messages":[],"CANARY twice":1,"CANARY twice":1}"#.to_owned(),
        r#"{"model":"m","messages":[{"role":"user","content":[{"type":"CANARY type"}]}]}"#.to_owned(),
        r#"{"model":"m","messages":[{"role":"user","CANARY name":1}]}"#.to_owned(),
        r#"{"model":"m","messages":"CANARY"}"#.to_owned(),
        "CANARY".to_owned(),
        chat("m", 10_000_000, user),
    ];
    for body in bad {
        let answer = stage.chat(&body).await;
        assert!([400, 429].contains(&answer.status), "{}", answer.status);
        own.extend_from_slice(&answer.body);
    }
    let odd = r#"{"model":"CANARY model","choices":[{"finish_reason":"CANARY reason","message":{"content":"CANARY"}}],"usage":{"prompt_tokens":1,"completion_tokens":1,"CANARY":"CANARY"}}"#;
    stage.provider.next(Script::Answer(200, "application/json", Bytes::from(odd)));
    stage.chat(&chat("m", 10, "")).await;
    let error = Bytes::from_static(b"{\"error\":\"CANARY\"}");
    stage.provider.next(Script::Answer(500, "application/json", error));
    stage.chat(&chat("m", 10, "")).await;
    stage.provider.next(Script::Close);
    own.extend_from_slice(&stage.chat(&chat("m", 10, "")).await.body);
    until("all are closed", || all_of!(stage.journal, Requests, RequestClosed).len() == 4).await;

    let mut written = vec![("own answers", own), ("metrics", stage.shim.metrics().into_bytes())];
    written.push(("readiness", format!("{:?}", stage.shim.readiness()).into_bytes()));
    for topic in [Topic::Requests, Topic::Routes, Topic::Spend, Topic::Limits] {
        let records = stage.journal.records(Lane::new(topic, 0));
        assert!(!records.is_empty());
        written.push((topic.name(), records.into_iter().flat_map(|record| record.value).collect()));
    }
    let log = log.0.lock().unwrap().clone();
    assert!(!log.is_empty(), "the log was caught");
    written.push(("log", log));
    for (place, bytes) in written {
        for canary in ["CANARY", PROVIDER_KEY, KEY] {
            let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
            assert!(!found, "{canary:?} in {place}");
        }
    }
    // The provider did get what it must get.
    assert!(String::from_utf8_lossy(&stage.provider.seen()[0].body).contains("CANARY prompt"));
}
