//! From a provider's usage object, in OpenAI's form, to disjoint meters. Pure.

use bursar_schemas::meters::{Meter, Usage};
use serde::Deserialize;
use serde_json::Value;

/// Longest usage object that is kept as it came.
const LONGEST: usize = 4096;

/// What a provider reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// Disjoint quantities.
    pub usage: Usage,
    /// The object as it came; none when it is long or holds anything but numbers.
    pub raw: Option<String>,
    /// Both sides are there, as for an answer; embeddings have an input only.
    pub both: bool,
}

#[derive(Deserialize)]
struct Chat {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
    #[serde(default)]
    total_tokens: Option<u64>,
    #[serde(default)]
    prompt_tokens_details: Option<Prompt>,
    #[serde(default)]
    completion_tokens_details: Option<Completion>,
    /// DeepSeek's name of what OpenAI calls cached tokens.
    #[serde(default)]
    prompt_cache_hit_tokens: Option<u64>,
}

#[derive(Deserialize, Default)]
struct Prompt {
    #[serde(default)]
    cached_tokens: Option<u64>,
    #[serde(default)]
    cache_write_tokens: Option<u64>,
    #[serde(default)]
    audio_tokens: Option<u64>,
}

#[derive(Deserialize, Default)]
struct Completion {
    #[serde(default)]
    reasoning_tokens: Option<u64>,
    #[serde(default)]
    audio_tokens: Option<u64>,
}

/// Reads a usage object. None when it reports no input, or nonsense.
#[must_use]
pub fn read(raw: &str) -> Option<Reported> {
    let chat: Chat = serde_json::from_str(raw).ok()?;
    let mut prompt = chat.prompt_tokens?;
    let prompt_details = chat.prompt_tokens_details.unwrap_or_default();
    let completion_details = chat.completion_tokens_details.unwrap_or_default();
    let input = prompt;
    let mut usage = Usage::from([(Meter::Requests, 1)]);
    // The parts are within the whole; a part that is larger than what is left is cut, so that nothing is
    // counted twice and the sum is always what the provider billed.
    let mut part = |whole: &mut u64, meter: Meter, tokens: Option<u64>| {
        let tokens = tokens.unwrap_or(0).min(*whole);
        *whole -= tokens;
        if tokens > 0 {
            usage.insert(meter, tokens);
        }
    };
    let cached = prompt_details.cached_tokens.or(chat.prompt_cache_hit_tokens);
    part(&mut prompt, Meter::CacheRead, cached);
    part(&mut prompt, Meter::CacheWrite5m, prompt_details.cache_write_tokens);
    part(&mut prompt, Meter::InputAudio, prompt_details.audio_tokens);
    // Some providers count reasoning beside the completion: only the total has it.
    let beside = chat.total_tokens.unwrap_or(0).saturating_sub(input);
    let mut completion = chat.completion_tokens.map_or(0, |tokens| tokens.max(beside));
    part(&mut completion, Meter::Reasoning, completion_details.reasoning_tokens);
    part(&mut completion, Meter::OutputAudio, completion_details.audio_tokens);
    part(&mut prompt.clone(), Meter::Input, Some(prompt));
    part(&mut completion.clone(), Meter::Output, Some(completion));
    Some(Reported { usage, raw: keepable(raw), both: chat.completion_tokens.is_some() })
}

/// The object with only numbers, `null` and nested objects of them kept, since a string could hold anything.
fn keepable(raw: &str) -> Option<String> {
    fn numbers_only(value: &mut Value) -> bool {
        match value {
            Value::Number(_) => true,
            Value::Object(fields) => {
                fields.retain(|name, value| {
                    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
                    name.len() <= 64 && name.bytes().all(plain) && numbers_only(value)
                });
                true
            }
            _ => false,
        }
    }
    if raw.len() > LONGEST {
        return None;
    }
    let mut value: Value = serde_json::from_str(raw).ok()?;
    (value.is_object() && numbers_only(&mut value)).then(|| value.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn parts_are_taken_out_of_the_whole() {
        let reported = read(
            r#"{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150,
                "prompt_tokens_details":{"cached_tokens":60,"audio_tokens":5,"cache_write_tokens":10},
                "completion_tokens_details":{"reasoning_tokens":20,"audio_tokens":1,"rejected_prediction_tokens":3}}"#,
        )
        .unwrap();
        let expected = Usage::from([
            (Meter::Input, 25),
            (Meter::CacheRead, 60),
            (Meter::CacheWrite5m, 10),
            (Meter::InputAudio, 5),
            (Meter::Output, 29),
            (Meter::Reasoning, 20),
            (Meter::OutputAudio, 1),
            (Meter::Requests, 1),
        ]);
        assert_eq!(reported.usage, expected);
    }

    #[test]
    fn contradictory_parts_never_count_twice() {
        let reported = read(
            r#"{"prompt_tokens":10,"completion_tokens":0,"prompt_tokens_details":{"cached_tokens":8,"audio_tokens":9}}"#,
        )
        .unwrap();
        let expected = Usage::from([(Meter::CacheRead, 8), (Meter::InputAudio, 2), (Meter::Requests, 1)]);
        assert_eq!(reported.usage, expected);
    }

    #[test]
    fn what_only_the_total_has_is_output() {
        let reported = |raw: &str| read(raw).unwrap().usage;
        let reasoned = reported(
            r#"{"prompt_tokens":12,"completion_tokens":1,"total_tokens":399,
                "completion_tokens_details":{"reasoning_tokens":386}}"#,
        );
        let expected = Usage::from([
            (Meter::Input, 12),
            (Meter::Output, 1),
            (Meter::Reasoning, 386),
            (Meter::Requests, 1),
        ]);
        assert_eq!(reasoned, expected);
        let unnamed = reported(r#"{"prompt_tokens":2,"completion_tokens":1,"total_tokens":9}"#);
        assert_eq!(unnamed[&Meter::Output], 7);
        let embedded = read(r#"{"prompt_tokens":2,"total_tokens":9}"#).unwrap();
        assert!(!embedded.both && !embedded.usage.contains_key(&Meter::Output));
    }

    #[test]
    fn strings_are_never_kept() {
        let raw = r#"{"prompt_tokens":1,"note":"secret","deep":{"a":2,"text":"secret"},"odd secret":3,"list":["secret"]}"#;
        assert_eq!(read(raw).unwrap().raw.unwrap(), r#"{"deep":{"a":2},"prompt_tokens":1}"#);
    }

    #[test]
    fn what_reports_nothing_is_nothing() {
        for raw in [
            "null",
            "{}",
            r#"{"total_tokens":3}"#,
            r#"{"completion_tokens":3}"#,
            r#"{"prompt_tokens":-1}"#,
            r#"{"prompt_tokens":"1"}"#,
        ] {
            assert_eq!(read(raw), None, "{raw}");
        }
    }
}
