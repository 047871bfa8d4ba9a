//! What a request asks for, in the OpenAI dialect.

use bytes::Bytes;
use serde::Deserialize;

use super::commands::Commands;
use super::prices::{ModelPrices, Tokens};

/// Choices of one request: as many as a stand-in needs, few enough to hold their text in memory.
const MOST_CHOICES: u64 = 8;

/// Output tokens where the text does not say.
const DEFAULT_COMPLETION: u64 = 16;

#[derive(Deserialize)]
struct ChatBody {
    model: String,
    messages: Vec<Message>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    n: Option<u64>,
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    content: Option<Content>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    text: String,
}

impl Content {
    fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Parts(parts) => parts.into_iter().map(|part| part.text).collect(),
        }
    }
}

#[derive(Deserialize)]
struct EmbeddingsBody {
    model: String,
    input: Input,
    encoding_format: Option<String>,
    dimensions: Option<usize>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    One(String),
    Many(Vec<String>),
}

/// A fault of the request: its `code` and a message.
pub(crate) type Fault = (&'static str, String);

/// A request for a chat completion.
#[derive(Debug)]
pub(crate) struct Chat {
    pub(crate) model: String,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) choices: u64,
    pub(crate) commands: Commands,
    /// Bytes of text in all messages: no tokenizer makes more tokens of them.
    text_bytes: u64,
    cap: Option<u64>,
}

/// What is generated for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Generated {
    /// What is reported and billed.
    pub(crate) tokens: Tokens,
    /// Output tokens of one choice.
    pub(crate) per_choice: u64,
    /// Whether a cap ended it.
    pub(crate) capped: bool,
}

fn length(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}

fn bad_command(word: &str) -> Fault {
    ("stand_in_command", format!("the stand-in does not understand {word:?}"))
}

fn prompt_tokens(asked: Option<u64>, text_bytes: u64) -> Result<u64, Fault> {
    match asked {
        Some(tokens) if tokens > text_bytes => Err((
            "stand_in_prompt",
            format!("{tokens} tokens cannot come of {text_bytes} bytes of text; pad the message"),
        )),
        Some(tokens) => Ok(tokens),
        None => Ok(text_bytes.div_ceil(4).max(1)),
    }
}

impl Chat {
    /// Reads a body.
    pub(crate) fn read(body: &Bytes) -> Result<Self, Fault> {
        let body: ChatBody =
            serde_json::from_slice(body).map_err(|error| ("invalid_body", error.to_string()))?;
        let choices = body.n.unwrap_or(1);
        if !(1..=MOST_CHOICES).contains(&choices) {
            return Err(("invalid_value", format!("n must be from 1 to {MOST_CHOICES}")));
        }
        let (mut last_user, mut text_bytes) = (String::new(), 0_u64);
        for message in body.messages {
            let text = message.content.map(Content::text).unwrap_or_default();
            text_bytes = text_bytes.saturating_add(length(&text));
            if message.role == "user" {
                last_user = text;
            }
        }
        let stream = body.stream.unwrap_or(false);
        let options = body.stream_options.as_ref();
        if options.is_some() && !stream {
            return Err(("invalid_value", "stream_options is only allowed with stream".to_owned()));
        }
        Ok(Self {
            model: body.model,
            stream,
            include_usage: options.and_then(|options| options.include_usage).unwrap_or(false),
            choices,
            commands: Commands::read(&last_user).map_err(|word| bad_command(&word))?,
            text_bytes,
            cap: body.max_completion_tokens.or(body.max_tokens),
        })
    }

    /// The tokens of the answer, within the caller's and the model's cap unless the text says otherwise.
    pub(crate) fn generate(&self, prices: &ModelPrices) -> Result<Generated, Fault> {
        let prompt = prompt_tokens(self.commands.prompt_tokens, self.text_bytes)?;
        let wanted = self.commands.completion_tokens.unwrap_or(DEFAULT_COMPLETION);
        let cap = self.cap.unwrap_or(u64::MAX).min(prices.max_output);
        let per_choice = wanted.min(cap);
        let completion = per_choice.saturating_mul(self.choices).saturating_add(self.commands.overbill);
        let tokens = Tokens {
            prompt,
            cached: self.commands.cached_tokens.min(prompt),
            completion,
            reasoning: self.commands.reasoning_tokens.min(completion),
        };
        Ok(Generated { tokens, per_choice, capped: wanted > cap })
    }
}

/// A request for embeddings.
#[derive(Debug)]
pub(crate) struct Embeddings {
    pub(crate) model: String,
    pub(crate) inputs: usize,
    pub(crate) base64: bool,
    pub(crate) dimensions: usize,
    pub(crate) commands: Commands,
    text_bytes: u64,
}

impl Embeddings {
    /// Reads a body; the commands stand in the first input.
    pub(crate) fn read(body: &Bytes) -> Result<Self, Fault> {
        let body: EmbeddingsBody =
            serde_json::from_slice(body).map_err(|error| ("invalid_body", error.to_string()))?;
        let inputs = match body.input {
            Input::One(text) => vec![text],
            Input::Many(texts) => texts,
        };
        let dimensions = body.dimensions.unwrap_or(16);
        if inputs.is_empty() || inputs.len() > 2048 || !(1..=4096).contains(&dimensions) {
            return Err(("invalid_value", "input or dimensions out of range".to_owned()));
        }
        let first = inputs.first().map_or("", String::as_str);
        Ok(Self {
            model: body.model,
            base64: body.encoding_format.as_deref() == Some("base64"),
            dimensions,
            commands: Commands::read(first).map_err(|word| bad_command(&word))?,
            text_bytes: inputs.iter().map(|text| length(text)).fold(0, u64::saturating_add),
            inputs: inputs.len(),
        })
    }

    /// The tokens that are reported and billed.
    pub(crate) fn tokens(&self) -> Result<Tokens, Fault> {
        let prompt = prompt_tokens(self.commands.prompt_tokens, self.text_bytes)?;
        Ok(Tokens { prompt, ..Tokens::default() })
    }
}
