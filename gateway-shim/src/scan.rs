//! Reading a provider's answer while it passes: what it cost, what served it, why it stopped.

mod json;
mod sse;

pub use json::JsonScan;
pub use sse::SseScan;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::usage::Reported;

/// What was learned from an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Learned {
    /// What it cost, by the provider's own word.
    pub usage: Option<Reported>,
    /// The model that served it.
    pub model: Option<String>,
    /// Why it stopped.
    pub finish_reason: Option<String>,
    /// The service tier that it says it was served in.
    pub service_tier: Option<String>,
    /// The stream said that it is done.
    pub done: bool,
    /// The usage is the whole answer's: it came at its end, and not on the way there.
    pub whole: bool,
}

/// A scanner for one answer.
#[derive(Debug)]
pub enum Scan {
    /// Server-sent events.
    Sse(SseScan),
    /// One JSON document.
    Json(JsonScan),
}

impl Scan {
    /// Takes a piece and puts what may leave into `out`, in order.
    pub fn push(&mut self, piece: Bytes, out: &mut Vec<Bytes>) {
        match self {
            Self::Sse(scan) => scan.push(piece, out),
            Self::Json(scan) => {
                scan.push(&piece);
                out.push(piece);
            }
        }
    }

    /// The answer is over: puts what was held back into `out`.
    pub fn finish(&mut self, out: &mut Vec<Bytes>) {
        match self {
            Self::Sse(scan) => scan.finish(out),
            Self::Json(scan) => scan.finish(),
        }
    }

    /// What was learned so far.
    pub fn learned(&mut self) -> &mut Learned {
        match self {
            Self::Sse(scan) => &mut scan.learned,
            Self::Json(scan) => &mut scan.learned,
        }
    }
}

/// A short word that stands in quotes, as a provider names what it did.
fn quoted_word(raw: &RawValue) -> Option<String> {
    plain_word(raw.get().strip_prefix('"')?.strip_suffix('"')?, 32)
}

/// A provider's word in a fact: short and plain, or not at all, since it must carry no content.
#[must_use]
pub fn plain_word(text: &str, longest: usize) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@".contains(&byte);
    let fits = !text.is_empty() && text.len() <= longest && text.bytes().all(plain);
    fits.then(|| text.to_owned())
}
