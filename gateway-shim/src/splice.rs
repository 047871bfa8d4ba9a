//! Rewriting a body by its spans: every byte outside them stays as the client sent it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::inspect::Shape;

/// One replacement; an empty range inserts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The bytes replaced.
    pub span: Range<usize>,
    /// What stands there instead.
    pub with: Bytes,
}

/// What has to differ for one target.
#[derive(Debug, Clone, Copy)]
pub struct Changes<'a> {
    /// The target's name of the model.
    pub model: &'a str,
    /// The cap to put in, and its field; a cap that the caller gave is replaced where it stands.
    pub cap: Option<(&'static str, u64)>,
    /// Whether the target may know that field only: then it is put in beside a cap in another one.
    pub one_cap: bool,
    /// Whether the usage chunk of a stream is to be asked for.
    pub ask_usage: bool,
}

/// The edits that make a body fit a target, by rising span.
#[must_use]
pub fn edits(shape: &Shape, changes: &Changes<'_>) -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut inserted = String::new();
    if changes.model != shape.model.value {
        let name = serde_json::Value::from(changes.model).to_string();
        edits.push(Edit { span: shape.model.span.clone(), with: name.into() });
    }
    if let Some((field, tokens)) = changes.cap {
        let put = |span: &Range<usize>| Edit { span: span.clone(), with: tokens.to_string().into() };
        edits.extend(shape.given_caps.iter().map(|(_, span)| put(span)));
        if shape.given_caps.is_empty() || changes.one_cap && !shape.gives_cap(field) {
            match shape.empty_caps.iter().find(|(name, _)| *name == field) {
                Some((_, span)) => edits.push(put(span)),
                None => inserted.push_str(&format!("\"{field}\":{tokens},")),
            }
        }
    }
    if changes.ask_usage {
        ask_usage(shape, &mut edits, &mut inserted);
    }
    if !inserted.is_empty() {
        let after = shape.open + 1;
        edits.push(Edit { span: after..after, with: inserted.into() });
    }
    edits.sort_by_key(|edit| edit.span.start);
    edits
}

fn ask_usage(shape: &Shape, edits: &mut Vec<Edit>, inserted: &mut String) {
    const WHOLE: &[u8] = br#"{"include_usage":true}"#;
    let Some(options) = &shape.stream_options else {
        inserted.push_str(r#""stream_options":{"include_usage":true},"#);
        return;
    };
    let (span, with) = match (&options.value.usage_span, options.value.object && !options.value.empty) {
        (Some(span), _) => (span.clone(), Bytes::from_static(b"true")),
        (None, true) => {
            let after = options.span.start + 1;
            (after..after, Bytes::from_static(br#""include_usage":true,"#))
        }
        (None, false) => (options.span.clone(), Bytes::from_static(WHOLE)),
    };
    edits.push(Edit { span, with });
}

/// The body with the edits applied, sharing all that stays.
#[must_use]
pub fn splice(body: &Bytes, edits: &[Edit]) -> Segments {
    let mut parts = VecDeque::with_capacity(edits.len() * 2 + 1);
    let mut done = 0;
    for edit in edits {
        parts.push_back(body.slice(done..edit.span.start.max(done)));
        parts.push_back(edit.with.clone());
        done = edit.span.end.max(done);
    }
    parts.push_back(body.slice(done..));
    parts.retain(|part| !part.is_empty());
    Segments { parts: Box::new(parts) }
}

/// A body in memory, in parts.
#[derive(Debug, Clone, Default)]
pub struct Segments {
    #[expect(
        clippy::box_collection,
        reason = "the client keeps room for 32 requests in each connection's queue"
    )]
    parts: Box<VecDeque<Bytes>>,
}

impl Segments {
    fn left(&self) -> u64 {
        let length: usize = self.parts.iter().map(Bytes::len).sum();
        u64::try_from(length).unwrap_or(u64::MAX)
    }
}

impl Body for Segments {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.parts.pop_front().map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::inspect::inspect;
    use bursar_schemas::facts::Endpoint;
    use proptest::prelude::*;

    fn apply(body: &str, changes: &Changes<'_>) -> String {
        let shape = inspect(Endpoint::ChatCompletions, body.as_bytes()).unwrap();
        let segments = splice(&Bytes::from(body.to_owned()), &edits(&shape, changes));
        let whole: Vec<u8> = segments.parts.iter().flatten().copied().collect();
        assert_eq!(segments.size_hint().exact(), Some(whole.len() as u64));
        String::from_utf8(whole).unwrap()
    }

    #[test]
    fn only_the_spans_change() {
        let body = " {\"messages\": [ ], \"x\":1.00e2,\t\"model\" : \"a\\u0062\" , \"max_tokens\":null}\n";
        let changes =
            Changes { model: "c\"d", cap: Some(("max_tokens", 7)), one_cap: false, ask_usage: true };
        assert_eq!(
            apply(body, &changes),
            " {\"stream_options\":{\"include_usage\":true},\"messages\": [ ], \"x\":1.00e2,\t\"model\" : \"c\\\"d\" , \"max_tokens\":7}\n"
        );
        let same = Changes { model: "ab", cap: None, one_cap: false, ask_usage: false };
        assert_eq!(apply(body, &same), body);
    }

    #[test]
    fn a_cap_that_the_caller_gave_is_lowered_where_it_stands() {
        let body = r#"{"max_tokens": 900,"model":"m","messages":[],"max_completion_tokens":800}"#;
        let changes = Changes { model: "m", cap: Some(("max_tokens", 16)), one_cap: false, ask_usage: false };
        let lowered = r#"{"max_tokens": 16,"model":"m","messages":[],"max_completion_tokens":16}"#;
        assert_eq!(apply(body, &changes), lowered);
    }

    #[test]
    fn a_target_that_knows_one_field_for_a_cap_gets_it_there() {
        let changes = Changes { model: "m", cap: Some(("max_tokens", 800)), one_cap: true, ask_usage: false };
        for (before, after) in [
            (
                r#"{"model":"m","messages":[],"max_completion_tokens":800}"#,
                r#"{"max_tokens":800,"model":"m","messages":[],"max_completion_tokens":800}"#,
            ),
            (
                r#"{"max_tokens":null,"model":"m","messages":[],"max_completion_tokens":900}"#,
                r#"{"max_tokens":800,"model":"m","messages":[],"max_completion_tokens":800}"#,
            ),
            (
                r#"{"max_tokens":900,"model":"m","messages":[]}"#,
                r#"{"max_tokens":800,"model":"m","messages":[]}"#,
            ),
        ] {
            assert_eq!(apply(before, &changes), after);
        }
    }

    #[test]
    fn usage_is_asked_for_wherever_the_options_stand() {
        let changes = Changes { model: "m", cap: None, one_cap: false, ask_usage: true };
        let body = |options: &str| format!(r#"{{"model":"m","messages":[],"stream_options":{options}}}"#);
        let cases = [
            ("null", r#"{"include_usage":true}"#),
            ("{}", r#"{"include_usage":true}"#),
            ("{ }", r#"{"include_usage":true}"#),
            (r#"{"include_usage": false}"#, r#"{"include_usage": true}"#),
            (r#"{"a":1}"#, r#"{"include_usage":true,"a":1}"#),
        ];
        for (before, after) in cases {
            assert_eq!(apply(&body(before), &changes), body(after));
        }
    }

    proptest! {
        /// Whatever else a body holds: a reader sees the same document but for the three changes.
        #[test]
        fn a_reader_sees_only_the_changes(
            prompt in ".{0,40}", extra in ".{0,20}", number in any::<i64>(),
        ) {
            let document = serde_json::json!({
                "model": "before", "messages": [{"role": "user", "content": prompt}],
                "metadata": {"model": extra}, "temperature": number, "stream": true,
            });
            let changes = Changes { model: "after", cap: Some(("max_tokens", 9)), one_cap: false, ask_usage: true };
            let read: serde_json::Value = serde_json::from_str(&apply(&document.to_string(), &changes)).unwrap();
            let mut expected = document;
            expected["model"] = "after".into();
            expected["max_tokens"] = 9.into();
            expected["stream_options"] = serde_json::json!({"include_usage": true});
            prop_assert_eq!(read, expected);
        }
    }
}
