//! A streamed answer: server-sent events, with the bill's view of a client that leaves.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{Stream, unfold};
use hyper::body::Frame;
use serde::Serialize;

use super::answer::{Names, Usage, finish_reason, text, usage};
use super::asked::{Chat, Generated};
use super::bill::{Bill, BillLine};

/// The answer is broken off on purpose; the connection closes without its end.
#[derive(Debug, thiserror::Error)]
#[error("the stand-in broke its answer off as it was asked to")]
pub(crate) struct Broken;

/// One event, or the end that a request asked for.
enum Event {
    /// A piece of text with its tokens.
    Text(Bytes, u64),
    /// What frames the text: roles, finish reasons, usage, the end mark.
    Frame(Bytes),
    Break,
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    service_tier: &'static str,
    system_fingerprint: &'static str,
    choices: &'a [Choice<'a>],
    /// Absent unless the usage was asked for, and then null in all chunks but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u64,
    delta: Delta<'a>,
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
}

#[derive(Serialize, Default)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
}

struct Writer<'a> {
    names: &'a Names,
    chat: &'a Chat,
    with_usage: bool,
}

impl Writer<'_> {
    fn event(&self, choices: &[Choice<'_>], usage: Option<Usage>) -> serde_json::Result<Bytes> {
        let mut event = b"data: ".to_vec();
        let chunk = Chunk {
            id: &self.names.answer,
            object: "chat.completion.chunk",
            created: self.names.created,
            model: &self.chat.model,
            service_tier: "default",
            system_fingerprint: "fp_stand_in",
            choices,
            usage: self.with_usage.then_some(usage),
        };
        serde_json::to_writer(&mut event, &chunk)?;
        event.extend_from_slice(b"\n\n");
        Ok(Bytes::from(event))
    }

    fn choice(&self, index: u64, delta: Delta<'_>, end: Option<&'static str>) -> serde_json::Result<Bytes> {
        self.event(&[Choice { index, delta, logprobs: None, finish_reason: end }], None)
    }
}

/// All events of an answer, in order.
fn events(
    names: &Names,
    chat: &Chat,
    generated: &Generated,
    tokens_per_chunk: u64,
) -> serde_json::Result<VecDeque<Event>> {
    let with_usage = chat.include_usage && !chat.commands.no_usage;
    let writer = Writer { names, chat, with_usage };
    let mut events = VecDeque::new();
    for index in 0..chat.choices {
        let delta = Delta { role: Some("assistant"), content: Some("") };
        events.push_back(Event::Frame(writer.choice(index, delta, None)?));
    }
    let mut pieces = 0_usize;
    for index in 0..chat.choices {
        let mut rest = generated.per_choice;
        while rest > 0 {
            if chat.commands.cut_after_chunks == Some(pieces) {
                events.push_back(Event::Break);
                return Ok(events);
            }
            let tokens = rest.min(tokens_per_chunk.max(1));
            let words = text(tokens);
            let delta = Delta { role: None, content: Some(&words) };
            events.push_back(Event::Text(writer.choice(index, delta, None)?, tokens));
            rest -= tokens;
            pieces += 1;
        }
    }
    if chat.commands.cut_after_chunks.is_some() {
        // The text is shorter than the request thought: break off before its end is told.
        events.push_back(Event::Break);
        return Ok(events);
    }
    for index in 0..chat.choices {
        let end = Some(finish_reason(generated));
        events.push_back(Event::Frame(writer.choice(index, Delta::default(), end)?));
    }
    if with_usage {
        events.push_back(Event::Frame(writer.event(&[], Some(usage(generated.tokens)))?));
    }
    events.push_back(Event::Frame(Bytes::from_static(b"data: [DONE]\n\n")));
    Ok(events)
}

/// Watches over a billed stream: dropped before its end, it counts and bills a client that left.
pub(crate) struct Watch {
    bill: Arc<Bill>,
    /// What is taken off the bill for output tokens that were not sent; none when a leaver pays the whole.
    refund: Option<Box<dyn Fn(u64) -> BillLine + Send>>,
    unsent: u64,
    over: bool,
}

impl Watch {
    /// A watch over so many output tokens.
    pub(crate) fn new(
        bill: Arc<Bill>,
        refund: Option<Box<dyn Fn(u64) -> BillLine + Send>>,
        tokens: u64,
    ) -> Self {
        Self { bill, refund, unsent: tokens, over: false }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        self.bill.count(|totals| totals.left += 1);
        if let Some(refund) = self.refund.as_ref().filter(|_| self.unsent > 0) {
            // A line that cannot be written is counted by the bill itself.
            self.bill.append(&refund(self.unsent)).ok();
        }
    }
}

/// The body of a streamed answer.
pub(crate) fn body(
    names: &Names,
    chat: &Chat,
    generated: &Generated,
    (tokens_per_chunk, delay): (u64, Duration),
    watch: Watch,
) -> serde_json::Result<impl Stream<Item = Result<Frame<Bytes>, Broken>> + Send + use<>> {
    let events = events(names, chat, generated, tokens_per_chunk)?;
    Ok(unfold((events, watch, false), move |(mut events, mut watch, mut begun)| async move {
        let bytes = match events.pop_front()? {
            Event::Frame(bytes) => bytes,
            Event::Text(bytes, tokens) => {
                if begun && !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                begun = true;
                watch.unsent = watch.unsent.saturating_sub(tokens);
                bytes
            }
            Event::Break => {
                // Once around, so that the server sends what it holds before it sees the break.
                tokio::task::yield_now().await;
                watch.over = true;
                return Some((Err(Broken), (VecDeque::new(), watch, begun)));
            }
        };
        watch.over = events.is_empty();
        Some((Ok(Frame::data(bytes)), (events, watch, begun)))
    }))
}

/// The body of an unstreamed answer that breaks off in its middle.
pub(crate) fn broken(whole: &Bytes) -> impl Stream<Item = Result<Frame<Bytes>, Broken>> + Send + use<> {
    let half = whole.slice(..whole.len() / 2);
    unfold(Some(Some(half)), |state| async move {
        match state? {
            Some(half) => Some((Ok(Frame::data(half)), Some(None))),
            None => {
                tokio::task::yield_now().await;
                Some((Err(Broken), None))
            }
        }
    })
}
