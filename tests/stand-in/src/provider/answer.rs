//! Answers in the shapes of the OpenAI dialect.

use base64::Engine as _;
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use super::asked::{Chat, Embeddings, Generated};
use super::prices::Tokens;

/// The text of one token: four bytes, as an English token has on the average.
const TOKEN: &str = "word";

/// Names that an answer carries.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    /// Such as `chatcmpl-…`.
    pub(crate) answer: String,
    /// Such as `req_…`.
    pub(crate) request: String,
    /// Seconds since 1970.
    pub(crate) created: u64,
}

/// Names drawn from two numbers.
pub(crate) fn names(high: u64, low: u64, created: u64) -> Names {
    let drawn = (u128::from(high) << 64) | u128::from(low);
    Names { answer: format!("chatcmpl-{}", base62(drawn)), request: format!("req_{drawn:032x}"), created }
}

/// 22 characters hold 128 bits.
fn base62(mut number: u128) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    (0..22)
        .map(|_| {
            let digit = usize::try_from(number % 62).ok().and_then(|index| DIGITS.get(index));
            number /= 62;
            char::from(digit.copied().unwrap_or(b'0'))
        })
        .collect()
}

/// The text of so many tokens.
pub(crate) fn text(tokens: u64) -> String {
    TOKEN.repeat(usize::try_from(tokens).unwrap_or(0))
}

/// The usage object.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct PromptDetails {
    cached_tokens: u64,
    audio_tokens: u64,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
    audio_tokens: u64,
    accepted_prediction_tokens: u64,
    rejected_prediction_tokens: u64,
}

/// The usage object for tokens.
pub(crate) fn usage(tokens: Tokens) -> Usage {
    Usage {
        prompt_tokens: tokens.prompt,
        completion_tokens: tokens.completion,
        total_tokens: tokens.prompt.saturating_add(tokens.completion),
        prompt_tokens_details: PromptDetails { cached_tokens: tokens.cached, audio_tokens: 0 },
        completion_tokens_details: CompletionDetails {
            reasoning_tokens: tokens.reasoning,
            audio_tokens: 0,
            accepted_prediction_tokens: 0,
            rejected_prediction_tokens: 0,
        },
    }
}

#[derive(Serialize)]
struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    service_tier: &'static str,
    system_fingerprint: &'static str,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u64,
    message: Message<'a>,
    logprobs: Option<()>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
    refusal: Option<()>,
    annotations: [(); 0],
}

/// Why a choice ended.
pub(crate) fn finish_reason(generated: &Generated) -> &'static str {
    if generated.capped { "length" } else { "stop" }
}

/// A whole chat completion.
pub(crate) fn completion(names: &Names, chat: &Chat, generated: &Generated) -> serde_json::Result<Bytes> {
    let content = text(generated.per_choice);
    let choice = |index| Choice {
        index,
        message: Message { role: "assistant", content: &content, refusal: None, annotations: [] },
        logprobs: None,
        finish_reason: finish_reason(generated),
    };
    serde_json::to_vec(&Completion {
        id: &names.answer,
        object: "chat.completion",
        created: names.created,
        model: &chat.model,
        choices: (0..chat.choices).map(choice).collect(),
        usage: (!chat.commands.no_usage).then(|| usage(generated.tokens)),
        service_tier: "default",
        system_fingerprint: "fp_stand_in",
    })
    .map(Bytes::from)
}

/// Embeddings: vectors of length one for sixteen dimensions, which mean nothing.
pub(crate) fn embeddings(asked: &Embeddings, tokens: Tokens) -> Bytes {
    let entries = [0.25_f32, -0.25].into_iter().cycle().take(asked.dimensions);
    let vector = if asked.base64 {
        let raw: Vec<u8> = entries.flat_map(f32::to_le_bytes).collect();
        Value::from(base64::engine::general_purpose::STANDARD.encode(raw))
    } else {
        entries.collect()
    };
    let data: Vec<Value> = (0..asked.inputs)
        .map(|index| json!({"object": "embedding", "index": index, "embedding": vector}))
        .collect();
    let mut answer = json!({"object": "list", "data": data, "model": asked.model});
    if !asked.commands.no_usage {
        answer["usage"] = json!({"prompt_tokens": tokens.prompt, "total_tokens": tokens.prompt});
    }
    Bytes::from(answer.to_string())
}

/// The list of models.
pub(crate) fn models<'a>(names: impl Iterator<Item = &'a String>) -> Bytes {
    let data: Vec<Value> = names
        .map(|name| json!({"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "stand-in"}))
        .collect();
    Bytes::from(json!({"object": "list", "data": data}).to_string())
}

/// An error object.
pub(crate) fn error(kind: &str, code: &str, message: &str) -> Bytes {
    let error = json!({"message": message, "type": kind, "param": null, "code": code});
    Bytes::from(json!({"error": error}).to_string())
}
