//! Streams: the bytes that leave are the bytes that came, whatever the cuts, without the usage chunk that only
//! the shim asked for.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod common;

use bursar_schemas::facts::{AttemptOutcome, Basis, Ending};
use bytes::Bytes;
use common::ledger::micro_dollars;
use common::{Stage, chat, until};
use http_body_util::BodyExt as _;

const CONTENT: &str =
    "data: {\"model\":\"m-2026\",\"choices\":[{\"delta\":{\"content\":\"hé\"}}],\"usage\":null}\n\n";
const STOP: &str = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

async fn stream(stage: &Stage, options: &str, pieces: &[&[u8]]) -> String {
    let feed = stage.provider.stream();
    let body = chat("m", 10, &format!(r#","stream":true{options}"#));
    let answering = stage.chat(&body);
    let feeding = async {
        for piece in pieces {
            feed.send(Some(Bytes::copy_from_slice(piece))).await.unwrap();
        }
        drop(feed);
    };
    let (answer, ()) = tokio::join!(answering, feeding);
    assert_eq!(answer.status, 200);
    String::from_utf8(answer.body.to_vec()).unwrap()
}

#[tokio::test]
async fn usage_is_asked_for_and_withheld() {
    let stage = Stage::plain().await;
    let whole = [CONTENT, STOP, USAGE, DONE].concat();
    let answer = stream(&stage, "", &[whole.as_bytes()]).await;
    assert_eq!(answer, [CONTENT, STOP, DONE].concat());
    until("it is closed", || !all_of!(stage.journal, Requests, RequestClosed).is_empty()).await;
    assert_eq!(stage.provider.seen()[0].json()["stream_options"]["include_usage"], true);
    let settled = &all_of!(stage.journal, Spend, Settled)[0];
    assert_eq!((settled.amount, settled.basis), (micro_dollars(20), Basis::Usage));
    let ended = &all_of!(stage.journal, Routes, AttemptEnded)[0];
    assert_eq!(
        (ended.served_model.as_deref(), ended.finish_reason.as_deref()),
        (Some("m-2026"), Some("stop"))
    );
    let closed = &all_of!(stage.journal, Requests, RequestClosed)[0];
    assert_eq!((closed.ending, closed.answer_bytes), (Ending::Finished, answer.len() as u64));
    assert_eq!(ended.answer_bytes, whole.len() as u64);
}

#[tokio::test]
async fn a_client_that_asks_for_usage_gets_it_and_its_body_is_untouched() {
    let stage = Stage::plain().await;
    let whole = [CONTENT, STOP, USAGE, DONE].concat();
    let options = r#","stream_options":{"include_usage":true}"#;
    assert_eq!(stream(&stage, options, &[whole.as_bytes()]).await, whole);
    let sent = chat("m", 10, &format!(r#","stream":true{options}"#));
    assert_eq!(stage.provider.seen()[0].body, sent);
}

#[tokio::test]
async fn cut_at_every_byte_the_same_leaves_and_the_same_is_settled() {
    let stage = Stage::plain().await;
    let whole = [CONTENT, STOP, USAGE, DONE].concat();
    let raw = whole.as_bytes();
    for cut in 1..raw.len() {
        let answer = stream(&stage, "", &[&raw[..cut], &raw[cut..]]).await;
        assert_eq!(answer, [CONTENT, STOP, DONE].concat(), "cut at {cut}");
    }
    until("all are settled", || all_of!(stage.journal, Spend, Settled).len() == raw.len() - 1).await;
    let settled = all_of!(stage.journal, Spend, Settled);
    assert!(settled.iter().all(|fact| fact.amount == micro_dollars(20)));
}

#[tokio::test]
async fn an_event_leaves_as_soon_as_it_is_whole() {
    let stage = Stage::plain().await;
    let feed = stage.provider.stream();
    let request = stage.request("/v1/chat/completions", chat("m", 10, r#","stream":true"#));
    feed.send(Some(Bytes::from(CONTENT))).await.unwrap();
    let mut answer = stage.client.request(request).await.unwrap().into_body();
    // The provider has sent nothing more: what is read here cannot have waited for it.
    let first = answer.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, CONTENT);
    feed.send(Some(Bytes::from([USAGE, DONE].concat()))).await.unwrap();
    drop(feed);
    assert_eq!(answer.collect().await.unwrap().to_bytes(), DONE);
}

#[tokio::test]
async fn a_client_that_leaves_after_the_usage_pays_what_it_cost() {
    let stage = Stage::dropping().await;
    let feed = stage.provider.stream();
    let request = stage.request("/v1/chat/completions", chat("m", 10, r#","stream":true"#));
    // Usage comes beside content here, so a frame leaves that shows the shim has read it.
    let both = "data: {\"choices\":[{\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":1}}\n\n";
    feed.send(Some(Bytes::from(both))).await.unwrap();
    let mut answer = stage.client.request(request).await.unwrap().into_body();
    assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), both);
    drop(answer);
    until("it is closed", || !all_of!(stage.journal, Requests, RequestClosed).is_empty()).await;
    assert_eq!(all_of!(stage.journal, Spend, Settled)[0].amount, micro_dollars(12));
    assert_eq!(all_of!(stage.journal, Routes, AttemptEnded)[0].outcome, AttemptOutcome::Abandoned);
}

#[tokio::test]
async fn usage_on_the_way_is_no_price_of_an_answer_that_was_cut() {
    let stage = Stage::dropping().await;
    let both = "data: {\"choices\":[{}],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":1}}\n\n";
    for leaves in [true, false] {
        let feed = stage.provider.stream();
        let request = stage.request("/v1/chat/completions", chat("m", 10, r#","stream":true"#));
        feed.send(Some(Bytes::from(both))).await.unwrap();
        let mut answer = stage.client.request(request).await.unwrap().into_body();
        assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), both);
        if leaves {
            drop(answer);
        } else {
            feed.send(None).await.unwrap();
            assert!(answer.collect().await.is_err());
        }
    }
    until("both are closed", || all_of!(stage.journal, Requests, RequestClosed).len() == 2).await;
    let settled = all_of!(stage.journal, Spend, Settled);
    let amounts: Vec<_> = settled.into_iter().map(|fact| (fact.amount, fact.basis)).collect();
    assert_eq!(amounts, [(micro_dollars(117), Basis::Reservation); 2]);
}

#[tokio::test]
async fn an_answer_is_read_on_without_its_client_to_learn_what_it_cost() {
    let stage = Stage::plain().await;
    let feed = stage.provider.stream();
    let request = stage.request("/v1/chat/completions", chat("m", 10, r#","stream":true"#));
    feed.send(Some(Bytes::from(CONTENT))).await.unwrap();
    let mut answer = stage.client.request(request).await.unwrap().into_body();
    assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), CONTENT);
    drop(answer);
    feed.send(Some(Bytes::from([USAGE, DONE].concat()))).await.unwrap();
    drop(feed);
    until("it is closed", || !all_of!(stage.journal, Requests, RequestClosed).is_empty()).await;
    let settled = &all_of!(stage.journal, Spend, Settled)[0];
    assert_eq!((settled.amount, settled.basis), (micro_dollars(20), Basis::Usage));
}

#[tokio::test]
async fn what_is_read_on_is_closed_before_the_incarnation_ends() {
    let stage = Stage::plain().await;
    let feed = stage.provider.stream();
    let request = stage.request("/v1/chat/completions", chat("m", 10, r#","stream":true"#));
    feed.send(Some(Bytes::from(CONTENT))).await.unwrap();
    let mut answer = stage.client.request(request).await.unwrap().into_body();
    assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), CONTENT);
    drop(answer);
    let Stage { journal, shim, .. } = stage;
    // The provider never ends its answer: the grace does.
    assert!(shim.shutdown(std::time::Duration::from_millis(100)).await);
    assert_eq!(all_of!(journal, Requests, RequestClosed)[0].ending, Ending::Abandoned);
    assert_eq!(all_of!(journal, Spend, Settled)[0].amount, micro_dollars(117));
    let last = common::facts(&journal, bursar_schemas::position::Topic::Requests).pop().unwrap();
    assert!(matches!(last, bursar_schemas::facts::Fact::ProducerHead(head) if head.ended));
    drop(feed);
}
