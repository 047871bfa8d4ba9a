//! Captured content: nobody's without policy, handed over once and whole at a request's end, and in no fact.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod common;

use std::sync::{Arc, Mutex};

use bursar_gateway_shim::{Capturing, Content, ContentSink};
use bytes::Bytes;
use common::{Setting, Stage, chat, until};
use http_body_util::BodyExt as _;

const PIECE: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"hé\"}}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";

#[derive(Default)]
struct Taken(Mutex<Vec<Content>>);

impl ContentSink for Taken {
    fn offer(&self, content: Content) {
        self.0.lock().unwrap().push(content);
    }
}

/// A shim that captures for the teams named, so many bytes of each part.
async fn stage(policy: &str, most_bytes: usize) -> (Stage, Arc<Taken>) {
    let taken = Arc::new(Taken::default());
    let sink: Arc<dyn ContentSink> = Arc::clone(&taken) as _;
    let capturing = Capturing { sink, most_bytes };
    let setting = Setting {
        policy: policy.to_owned(),
        config: Box::new(move |config| config.capture = Some(capturing.clone())),
        ..Setting::default()
    };
    (Stage::set(setting).await, taken)
}

const SEARCH: &str = "[content]\ncapture_teams = [\"search\"]";

async fn stream(stage: &Stage, body: &str, pieces: &[&str]) {
    let feed = stage.provider.stream();
    let feeding = async {
        for piece in pieces {
            feed.send(Some(Bytes::copy_from_slice(piece.as_bytes()))).await.unwrap();
        }
        drop(feed);
    };
    let (answer, ()) = tokio::join!(stage.chat(body), feeding);
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn nothing_is_captured_unless_policy_names_the_team() {
    let (stage, taken) = stage("", 1000).await;
    stream(&stage, &chat("m", 10, r#","stream":true"#), &[PIECE, DONE]).await;
    until("it is closed", || !all_of!(stage.journal, Requests, RequestClosed).is_empty()).await;
    assert!(taken.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_was_asked_and_answered_is_handed_over_once() {
    let (stage, taken) = stage(SEARCH, 1000).await;
    let body = chat("m", 10, r#","stream":true"#);
    stream(&stage, &body, &[PIECE, DONE]).await;
    // What is refused before any provider is called is not captured.
    assert_eq!(stage.chat(&chat("no-such-model", 10, "")).await.status, 404);
    until("it is closed", || !all_of!(stage.journal, Requests, RequestClosed).is_empty()).await;
    let taken = std::mem::take(&mut *taken.0.lock().unwrap());
    let [content] = &taken[..] else { panic!("{} contents", taken.len()) };
    assert_eq!(content.prompt, body.as_bytes());
    assert_eq!(content.completion, [PIECE, DONE].concat().as_bytes());
    assert!(!content.cut && content.about.team.as_deref() == Some("search"));
    let closed = &all_of!(stage.journal, Requests, RequestClosed)[0];
    assert_eq!((closed.about.request, closed.head.policy), (content.about.request, content.policy));
}

#[tokio::test]
async fn what_is_too_long_is_cut_and_says_so() {
    let (stage, taken) = stage(SEARCH, 10).await;
    let body = chat("m", 10, r#","stream":true"#);
    stream(&stage, &body, &[PIECE, DONE]).await;
    until("it is closed", || !taken.0.lock().unwrap().is_empty()).await;
    let content = &taken.0.lock().unwrap()[0];
    assert_eq!(
        (&content.prompt[..], &content.completion[..]),
        (&body.as_bytes()[..10], &PIECE.as_bytes()[..10])
    );
    assert!(content.cut);
}

#[tokio::test]
async fn the_rest_of_an_answer_whose_client_has_left_is_captured_too() {
    let (stage, taken) = stage(SEARCH, 1000).await;
    let feed = stage.provider.stream();
    let request = stage.request("/v1/chat/completions", chat("m", 10, r#","stream":true"#));
    let send = async { feed.send(Some(Bytes::from_static(PIECE.as_bytes()))).await.unwrap() };
    let (response, ()) = tokio::join!(stage.client.request(request), send);
    let mut body = response.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    feed.send(Some(Bytes::from_static(DONE.as_bytes()))).await.unwrap();
    drop(feed);
    until("it is closed", || !taken.0.lock().unwrap().is_empty()).await;
    assert_eq!(taken.0.lock().unwrap()[0].completion, [PIECE, DONE].concat().as_bytes());
}
