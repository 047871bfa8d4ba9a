//! Reads answers piece by piece: what they tell of usage, errors and their end.

use serde::Deserialize;
use serde_json::Value;

use super::UsageSeen;

/// The longest event that is held; a longer one is a broken answer.
const LONGEST_EVENT: usize = 4 << 20;

#[derive(Deserialize)]
struct Told {
    model: Option<String>,
    usage: Option<Usage>,
    error: Option<ErrorTold>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

#[derive(Deserialize)]
struct ErrorTold {
    code: Option<Value>,
    r#type: Option<String>,
}

/// What an answer has told so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The model that the answer names.
    pub(super) model: Option<String>,
    pub(super) usage: Option<UsageSeen>,
    pub(super) error_code: Option<String>,
    /// A stream's end mark was read.
    pub(super) done: bool,
}

impl Seen {
    /// Takes in one JSON object; false when it is none.
    pub(super) fn object(&mut self, json: &[u8]) -> bool {
        let Ok(told) = serde_json::from_slice::<Told>(json) else { return false };
        self.model = told.model.or(self.model.take());
        if let Some(Usage { prompt_tokens, completion_tokens }) = told.usage {
            self.usage = Some(UsageSeen { prompt_tokens, completion_tokens });
        }
        if let Some(error) = told.error {
            let code = error.code.and_then(|code| match code {
                Value::String(code) => Some(code),
                Value::Number(code) => Some(code.to_string()),
                _ => None,
            });
            self.error_code = code.or(error.r#type);
        }
        true
    }
}

/// A reader of server-sent events.
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Vec<u8>,
}

impl Events {
    /// Takes in a piece of a stream.
    ///
    /// # Errors
    /// What is wrong with an event.
    pub(super) fn read(&mut self, piece: &[u8], seen: &mut Seen) -> Result<(), &'static str> {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if self.line.len() > LONGEST_EVENT {
                return Err("an event is too long");
            }
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                Self::event(&line, seen)?;
            }
        }
        Ok(())
    }

    fn event(line: &[u8], seen: &mut Seen) -> Result<(), &'static str> {
        let Some(data) = line.strip_prefix(b"data:") else { return Ok(()) };
        let data = data.trim_ascii();
        if data == b"[DONE]" {
            seen.done = true;
            return Ok(());
        }
        // Most events hold a piece of text only and are not worth reading; the first names the model.
        let tells = |what: &[u8]| data.windows(what.len()).any(|window| window == what);
        if (seen.model.is_none() || tells(b"\"usage\":{") || tells(b"\"error\":")) && !seen.object(data) {
            return Err("an event is not JSON");
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const STREAM: &[u8] = b"data: {\"choices\":[{\"delta\":{\"content\":\"word\"}}],\"usage\":null}\n\n\
        : a comment\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\n\
        data: [DONE]\n\n";

    #[test]
    fn usage_is_found_however_the_stream_is_cut() {
        for cut in 0..STREAM.len() {
            let (mut events, mut seen) = (Events::default(), Seen::default());
            events.read(&STREAM[..cut], &mut seen).unwrap();
            events.read(&STREAM[cut..], &mut seen).unwrap();
            let usage = Some(UsageSeen { prompt_tokens: 3, completion_tokens: 4 });
            assert_eq!(seen, Seen { model: None, usage, error_code: None, done: true }, "cut at {cut}");
        }
    }

    #[test]
    fn an_error_is_named_by_code_or_type() {
        for (json, code) in [
            (r#"{"error":{"code":"budget_exceeded","type":"x"}}"#, Some("budget_exceeded")),
            (r#"{"error":{"code":null,"type":"server_error"}}"#, Some("server_error")),
            (r#"{"error":{"code":429}}"#, Some("429")),
            (r#"{"id":"1"}"#, None),
        ] {
            let mut seen = Seen::default();
            assert!(seen.object(json.as_bytes()));
            assert_eq!(seen.error_code.as_deref(), code, "{json}");
        }
    }
}
