//! Server-sent events, cut anywhere: finds usage, and withholds the usage chunk that the client did not ask for.
//!
//! An event is held until its blank line has come only when it may have to be withheld; the bytes that leave
//! are those that came, whatever the cuts.

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::{Learned, plain_word};
use crate::usage;

/// An event longer than this passes without being read.
const LONGEST_EVENT: usize = 1 << 20;

/// The scanner of one stream.
#[derive(Debug)]
pub struct SseScan {
    /// True when the usage chunk was asked for by the shim, not by the client.
    withhold: bool,
    /// The beginning of an event whose end has not come.
    held: BytesMut,
    /// The event is too long to be read: pass until its end.
    passing: bool,
    /// The last two bytes of the event so far; none before its first.
    last: [Option<u8>; 2],
    /// What was learned.
    pub learned: Learned,
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    service_tier: Option<&'a RawValue>,
    #[serde(default)]
    choices: Option<Vec<IgnoredAny>>,
}

impl SseScan {
    /// A scanner that withholds the usage chunk, or passes everything.
    #[must_use]
    pub fn new(withhold: bool) -> Self {
        Self { withhold, held: BytesMut::new(), passing: false, last: [None; 2], learned: Learned::default() }
    }

    /// Takes a piece of the stream.
    pub fn push(&mut self, piece: Bytes, out: &mut Vec<Bytes>) {
        // Without withholding the piece leaves as it is; it is only read.
        if !self.withhold {
            out.push(piece.clone());
        }
        let (mut at, mut run) = (0, 0);
        while let Some(length) = self.event_end(&piece[at..]) {
            let end = at + length;
            if self.held.is_empty() {
                let keep = self.passing || self.read_event(&piece[at..end]);
                if !keep {
                    self.leave(piece.slice(run..at), out);
                    run = end;
                }
            } else {
                // The event began in an earlier piece: it leaves whole, apart from this piece's run.
                self.held.extend_from_slice(&piece[at..end]);
                let event = self.held.split().freeze();
                run = end;
                if self.read_event(&event) {
                    self.leave(event, out);
                }
            }
            self.passing = false;
            self.last = [None; 2];
            at = end;
        }
        let rest = &piece[at..];
        self.last = match *rest {
            [] => self.last,
            [only] => [self.last[1], Some(only)],
            [.., before, last] => [Some(before), Some(last)],
        };
        if self.passing {
            self.leave(piece.slice(run..), out);
        } else if self.held.len() + rest.len() > LONGEST_EVENT {
            self.passing = true;
            let held = self.held.split().freeze();
            self.leave(held, out);
            self.leave(piece.slice(run..), out);
        } else {
            self.leave(piece.slice(run..at), out);
            self.held.extend_from_slice(rest);
        }
    }

    /// The stream is over: what is held leaves, unless it is the usage chunk.
    pub fn finish(&mut self, out: &mut Vec<Bytes>) {
        let event = self.held.split().freeze();
        if !event.is_empty() && self.read_event(&event) {
            self.leave(event, out);
        }
    }

    fn leave(&self, bytes: Bytes, out: &mut Vec<Bytes>) {
        if self.withhold && !bytes.is_empty() {
            out.push(bytes);
        }
    }

    /// Bytes of `rest` up to and with the end of the event so far: a line feed that ends an empty line.
    fn event_end(&self, rest: &[u8]) -> Option<usize> {
        let byte_before = |index: usize, back: usize| match index.checked_sub(back) {
            Some(at) => Some(rest[at]),
            None => self.last[(2 + index).saturating_sub(back).min(1)],
        };
        let begins_line = |byte: Option<u8>| byte.is_none_or(|byte| byte == b'\n');
        memchr::memchr_iter(b'\n', rest)
            .find(|&index| match byte_before(index, 1) {
                Some(b'\r') => begins_line(byte_before(index, 2)),
                other => begins_line(other),
            })
            .map(|index| index + 1)
    }

    /// Reads a whole event; false when it is to be withheld.
    fn read_event(&mut self, event: &[u8]) -> bool {
        if self.learned.model.is_none() {
            self.learned.model = text_after(event, b"\"model\"").and_then(|text| plain_word(text, 128));
        }
        if let Some(reason) = text_after(event, b"\"finish_reason\"").and_then(|text| plain_word(text, 32)) {
            self.learned.finish_reason = Some(reason);
        }
        if event.starts_with(b"data: [DONE]") || event.starts_with(b"data:[DONE]") {
            self.learned.done = true;
            self.learned.whole = true;
        }
        // Some say the tier at the beginning only.
        if let Some(tier) = text_after(event, b"\"service_tier\"").and_then(|text| plain_word(text, 32)) {
            self.learned.service_tier = Some(tier);
        }
        // The word may also stand for something else in the same event, such as a tool of that name.
        if after_name(event, b"\"usage\"").all(|value| value.starts_with(b"null")) {
            return true;
        }
        let Some(chunk) = data_of(event).and_then(|data| serde_json::from_slice::<Chunk<'_>>(data).ok())
        else {
            return true;
        };
        let reported = chunk.usage.and_then(|raw| usage::read(raw.get())).filter(|reported| reported.both);
        let Some(reported) = reported else { return true };
        self.learned.usage = Some(reported);
        if let Some(tier) = chunk.service_tier.and_then(super::quoted_word) {
            self.learned.service_tier = Some(tier);
        }
        let extra = chunk.choices.is_some_and(|choices| choices.is_empty());
        // Some report what it has come to with every piece; only at the end is that what it cost.
        self.learned.whole = extra || self.learned.finish_reason.is_some();
        !(self.withhold && extra)
    }
}

/// What follows a name in JSON text wherever it stands, blanks skipped. Inside a string the quotes would be escaped,
/// so the bytes cannot be mistaken for content.
fn after_name<'a>(event: &'a [u8], name: &'static [u8]) -> impl Iterator<Item = &'a [u8]> {
    let after = move |at: usize| {
        let rest = event.get(at + name.len()..)?.trim_ascii_start().strip_prefix(b":")?;
        Some(rest.trim_ascii_start())
    };
    memmem::find_iter(event, name).filter_map(after)
}

/// The first text that a name has.
fn text_after<'a>(event: &'a [u8], name: &'static [u8]) -> Option<&'a str> {
    after_name(event, name).find_map(|value| {
        let text = value.strip_prefix(b"\"")?;
        std::str::from_utf8(&text[..memchr::memchr(b'"', text)?]).ok()
    })
}

/// The data of an event that has one data line.
fn data_of(event: &[u8]) -> Option<&[u8]> {
    event.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"data:")).map(<[u8]>::trim_ascii)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const FIRST: &str = "data: {\"model\":\"m-1\",\"choices\":[{\"delta\":{\"content\":\"a \\\"usage\\\":{\"}}],\"usage\":null}\n\n";
    const LAST: &str =
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\r\n\r\n";
    const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":5}}\n\n";
    const DONE: &str = ": comment\n\ndata: [DONE]\n\n";

    fn pass(pieces: &[&[u8]], withhold: bool) -> (Vec<u8>, Learned) {
        let mut scan = SseScan::new(withhold);
        let mut out = Vec::new();
        for piece in pieces {
            scan.push(Bytes::copy_from_slice(piece), &mut out);
        }
        scan.finish(&mut out);
        (out.concat(), scan.learned)
    }

    #[test]
    fn cut_anywhere_the_same_bytes_leave_and_the_same_is_learned() {
        let whole = [FIRST, LAST, USAGE, DONE].concat();
        let without = [FIRST, LAST, DONE].concat();
        for (withhold, expected) in [(true, &without), (false, &whole)] {
            let (bytes, learned) = pass(&[whole.as_bytes()], withhold);
            assert_eq!(&String::from_utf8(bytes).unwrap(), expected);
            assert_eq!(learned.usage.as_ref().unwrap().usage[&bursar_schemas::meters::Meter::Output], 5);
            assert_eq!(
                (learned.model.as_deref(), learned.finish_reason.as_deref(), learned.done),
                (Some("m-1"), Some("stop"), true)
            );
            let raw = whole.as_bytes();
            for first in 0..=raw.len() {
                for second in [first, (first + 1).min(raw.len()), (first + 7).min(raw.len()), raw.len()] {
                    let pieces = [&raw[..first], &raw[first..second], &raw[second..]];
                    let (bytes, again) = pass(&pieces, withhold);
                    assert_eq!(&String::from_utf8(bytes).unwrap(), expected, "cut at {first} and {second}");
                    assert_eq!(again, learned, "cut at {first} and {second}");
                }
            }
            let single: Vec<&[u8]> = raw.chunks(1).collect();
            assert_eq!(pass(&single, withhold), (expected.clone().into_bytes(), learned));
        }
    }

    #[test]
    fn usage_beside_content_is_learned_but_passes() {
        let event = "data: {\"choices\":[{}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":5}}\n\n";
        let (bytes, learned) = pass(&[event.as_bytes()], true);
        assert_eq!(bytes, event.as_bytes());
        assert!(learned.usage.is_some());
    }

    #[test]
    fn a_broken_off_event_leaves_and_one_without_its_blank_line_is_still_read() {
        let cut = &FIRST[..20];
        assert_eq!(pass(&[cut.as_bytes()], true).0, cut.as_bytes());
        let (bytes, learned) = pass(&[USAGE.trim_end().as_bytes()], true);
        assert!(bytes.is_empty() && learned.usage.is_some());
    }

    #[test]
    fn usage_is_found_behind_the_same_word() {
        const TOOL: &str = r#"{"choices":[{"delta":{"tool_calls":[{"function":{"name":"usage"}}]}}]"#;
        const NULL: &str = r#"{"x":{"usage":null},"choices":[]"#;
        for before in [TOOL, NULL] {
            let event =
                format!("data: {before},\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":5}}}}\n\n");
            assert!(pass(&[event.as_bytes()], false).1.usage.is_some(), "{before}");
        }
        let half = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3}}\n\n";
        assert_eq!(pass(&[half.as_bytes()], true), (half.as_bytes().to_vec(), Learned::default()));
    }

    #[test]
    fn the_service_tier_is_the_last_one_said() {
        let tier = |before: &str| {
            let whole = [before, USAGE, DONE].concat();
            pass(&[whole.as_bytes()], true).1.service_tier
        };
        let early = "data: {\"service_tier\":\"auto\"}\n\ndata: {\"service_tier\":\"priority\"}\n\n";
        assert_eq!(tier(early).as_deref(), Some("priority"));
        assert_eq!(tier("data: {\"service_tier\":null}\n\n"), None);
    }

    #[test]
    fn usage_on_the_way_is_not_the_whole_answers() {
        let on_the_way =
            "data: {\"choices\":[{}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\n";
        let last = on_the_way.replace("{}", "{\"finish_reason\":\"stop\"}");
        let whole = |pieces: &[&str]| pass(&[pieces.concat().as_bytes()], false).1.whole;
        assert!(!whole(&[on_the_way]));
        assert!(!whole(&[on_the_way, LAST]), "the end came without a newer one");
        assert!(whole(&[on_the_way, &last]));
        assert!(whole(&[on_the_way, USAGE]));
        assert!(whole(&[on_the_way, LAST, DONE]));
    }

    #[test]
    fn an_endless_event_is_not_held() {
        let long = format!("data: {}", "x".repeat(LONGEST_EVENT));
        let whole = [&long, "\n", "\n", USAGE, DONE].concat();
        let pieces: Vec<&[u8]> = whole.as_bytes().chunks(70_001).collect();
        let (bytes, learned) = pass(&pieces, true);
        assert_eq!(bytes.len(), long.len() + 2 + DONE.len());
        assert!(learned.usage.is_some() && learned.done);
    }
}
