//! One JSON document that passes: kept aside up to a bound and read at its end. Of a longer one only the tail
//! is kept, where providers put the usage.

use bytes::Bytes;
use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Learned, plain_word};
use crate::usage;

/// Largest document that is read as a whole.
const WHOLE: usize = 8 << 20;
/// What is kept of the end of a larger one.
const TAIL: usize = 16 << 10;

/// The scanner of one document.
#[derive(Debug, Default)]
pub struct JsonScan {
    pieces: Vec<Bytes>,
    length: usize,
    large: bool,
    /// What was learned; only after [`JsonScan::finish`].
    pub learned: Learned,
}

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(default)]
    model: Option<String>,
    #[serde(borrow, default)]
    service_tier: Option<&'a RawValue>,
    #[serde(default)]
    choices: Option<Vec<Choice>>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    finish_reason: Option<String>,
}

impl JsonScan {
    /// Takes a piece.
    pub fn push(&mut self, piece: &Bytes) {
        self.length += piece.len();
        self.pieces.push(piece.clone());
        if self.length > WHOLE || self.pieces.len() > 8192 {
            self.large = true;
            let joined = self.pieces.concat();
            let tail = Bytes::copy_from_slice(&joined[joined.len().saturating_sub(TAIL)..]);
            self.length = tail.len();
            self.pieces = vec![tail];
        }
    }

    /// The document is over: reads it.
    pub fn finish(&mut self) {
        let pieces = std::mem::take(&mut self.pieces);
        let whole = match pieces.as_slice() {
            [one] => one.clone(),
            many => Bytes::from(many.concat()),
        };
        if self.large {
            self.learned.usage = usage_in_tail(&whole);
            self.learned.whole = self.learned.usage.is_some();
            return;
        }
        let Ok(document) = serde_json::from_slice::<Document<'_>>(&whole) else { return };
        // An answer has an output; embeddings have no choices and none.
        let chat = document.choices.is_some();
        let reported = document.usage.and_then(|raw| usage::read(raw.get()));
        self.learned.usage = reported.filter(|reported| reported.both || !chat);
        self.learned.whole = self.learned.usage.is_some();
        self.learned.model = document.model.and_then(|model| plain_word(&model, 128));
        self.learned.service_tier = document.service_tier.and_then(super::quoted_word);
        let reason = document.choices.and_then(|choices| choices.into_iter().next()?.finish_reason);
        self.learned.finish_reason = reason.and_then(|reason| plain_word(&reason, 32));
    }
}

/// The last usage object in the end of a document.
fn usage_in_tail(tail: &[u8]) -> Option<usage::Reported> {
    const NAME: &[u8] = b"\"usage\"";
    let at = memmem::rfind(tail, NAME)? + NAME.len();
    let value = tail[at..].trim_ascii_start().strip_prefix(b":")?;
    let mut values = serde_json::Deserializer::from_slice(value).into_iter::<&RawValue>();
    usage::read(values.next()?.ok()?.get())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use bursar_schemas::meters::Meter;

    fn learn(document: &str, size: usize) -> Learned {
        let mut scan = JsonScan::default();
        for piece in document.as_bytes().chunks(size) {
            scan.push(&Bytes::copy_from_slice(piece));
        }
        scan.finish();
        scan.learned
    }

    #[test]
    fn usage_is_found_in_small_and_large_documents() {
        let document = |length: usize| {
            format!(
                r#"{{"model":"m","choices":[{{"finish_reason":"length"}}],"data":"{}","usage":{{"prompt_tokens":4,"completion_tokens":2}}}}"#,
                "0".repeat(length)
            )
        };
        for size in [1, 7, 10_000] {
            let learned = learn(&document(10), size);
            assert_eq!(learned.usage.unwrap().usage[&Meter::Input], 4);
            assert_eq!(
                (learned.model.as_deref(), learned.finish_reason.as_deref()),
                (Some("m"), Some("length"))
            );
        }
        let learned = learn(&document(WHOLE + 5), 100_000);
        assert_eq!(learned.usage.unwrap().usage[&Meter::Output], 2);
        assert_eq!(learn("not json", 3), Learned::default());
    }

    #[test]
    fn an_answers_usage_has_both_sides() {
        let usage = |document: &str| learn(document, 100).usage.is_some();
        assert!(!usage(r#"{"choices":[],"usage":{"prompt_tokens":4,"total_tokens":4}}"#));
        assert!(!usage(r#"{"choices":[],"usage":{"completion_tokens":4}}"#));
        assert!(usage(r#"{"data":[],"usage":{"prompt_tokens":4,"total_tokens":4}}"#));
    }
}
