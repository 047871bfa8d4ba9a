//! What a request's body says, read in one pass without building a tree: the spans that may have to be
//! rewritten, and how much text it holds. Everything that has no rule is named, so that it has no bound.

mod media;
mod messages;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use bursar_schemas::facts::Endpoint;

pub use messages::Text;

/// Fields beyond this many make a body invalid; the endpoints know about forty.
const MOST_FIELDS: usize = 256;

/// Where the model's name or an option stands in the body, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field<T> {
    /// Its value.
    pub value: T,
    /// The bytes of the value in the body.
    pub span: Range<usize>,
}

/// An output cap that the caller gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cap {
    /// None, or `null`.
    Absent,
    /// That many tokens.
    Tokens(u64),
}

/// What was read from a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// The model asked for.
    pub model: Field<String>,
    /// Whether a stream is asked for.
    pub stream: bool,
    /// The stream options' span and whether they ask for usage.
    pub stream_options: Option<Field<StreamOptions>>,
    /// The output cap given.
    pub cap: Cap,
    /// Spans of `null` where a cap could stand, by field.
    pub empty_caps: Vec<(&'static str, Range<usize>)>,
    /// Spans of the caps that the caller gave, by field.
    pub given_caps: Vec<(&'static str, Range<usize>)>,
    /// Choices asked for.
    pub choices: u64,
    /// The service tier asked for, unless it is the ordinary one; `auto` leaves it to the provider.
    pub service_tier: Option<String>,
    /// The `user` field.
    pub user: Option<String>,
    /// Text that becomes input tokens.
    pub text: Text,
    /// Whether it declares tools or functions.
    pub tools: bool,
    /// Images; what each is worth in tokens differs by model.
    pub images: u64,
    /// Tokens of audio, at most.
    pub audio: u64,
    /// The first thing that has no rule for an upper bound.
    pub unbounded: Option<String>,
    /// Offset of the body's opening brace.
    pub open: usize,
}

/// What `stream_options` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamOptions {
    /// Whether the usage chunk is asked for.
    pub include_usage: bool,
    /// Span of the `include_usage` value, where it is there.
    pub usage_span: Option<Range<usize>>,
    /// True when it is an object without fields.
    pub empty: bool,
    /// True when it is an object and not `null`.
    pub object: bool,
}

/// Why a body is not what the endpoint takes. No content is repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Not UTF-8.
    #[error("the body is not UTF-8")]
    Encoding,
    /// Not a JSON object, by line and column.
    #[error("the body is not a valid JSON object (line {0}, column {1})")]
    Json(usize, usize),
    /// A field stands twice, so that readers could differ.
    #[error("the field {0:?} is there twice")]
    Twice(String),
    /// Too many fields.
    #[error("the body has more than {MOST_FIELDS} fields")]
    ManyFields,
    /// A field that must be there is missing.
    #[error("the field {0:?} is missing")]
    Missing(&'static str),
    /// A field has another type than the endpoint takes.
    #[error("the field {0:?} has the wrong type")]
    Type(&'static str),
}

/// The top level of a body: each field's name and raw value.
struct Fields<'a> {
    fields: Vec<(Cow<'a, str>, &'a RawValue)>,
    /// There are more than may be.
    many: bool,
}

impl<'de> serde::Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Top;
        impl<'de> Visitor<'de> for Top {
            type Value = Fields<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::with_capacity(16);
                let mut many = false;
                while let Some(Name(name)) = map.next_key()? {
                    if fields.len() < MOST_FIELDS {
                        fields.push((name, map.next_value()?));
                    } else {
                        many = true;
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Fields { fields, many })
            }
        }
        deserializer.deserialize_map(Top)
    }
}

/// A name, borrowed where it has no escapes.
pub(crate) struct Name<'a>(pub(crate) Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Reads a body.
///
/// # Errors
/// Why it is not what the endpoint takes.
pub fn inspect(endpoint: Endpoint, body: &[u8]) -> Result<Shape, BodyError> {
    let text = std::str::from_utf8(body).map_err(|_| BodyError::Encoding)?;
    let Fields { fields, many } =
        serde_json::from_str(text).map_err(|error| BodyError::Json(error.line(), error.column()))?;
    if many {
        return Err(BodyError::ManyFields);
    }
    for (index, (name, _)) in fields.iter().enumerate() {
        if fields[..index].iter().any(|(other, _)| other == name) {
            return Err(BodyError::Twice(messages::short(name)));
        }
    }
    let mut reader = Reader { text, shape: Shape::empty(text), model: None, content: false };
    for (name, raw) in &fields {
        match endpoint {
            Endpoint::ChatCompletions => reader.chat_field(name, raw)?,
            Endpoint::Embeddings => reader.embeddings_field(name, raw)?,
        }
    }
    reader.shape.model = reader.model.ok_or(BodyError::Missing("model"))?;
    if !reader.content {
        let field = if endpoint == Endpoint::Embeddings { "input" } else { "messages" };
        return Err(BodyError::Missing(field));
    }
    Ok(reader.shape)
}

impl Shape {
    fn empty(text: &str) -> Self {
        Self {
            model: Field { value: String::new(), span: 0..0 },
            stream: false,
            stream_options: None,
            cap: Cap::Absent,
            empty_caps: Vec::new(),
            given_caps: Vec::new(),
            choices: 1,
            service_tier: None,
            user: None,
            text: Text::default(),
            tools: false,
            images: 0,
            audio: 0,
            unbounded: None,
            open: text.find('{').unwrap_or(0),
        }
    }

    /// Whether the caller gave a cap in that field.
    #[must_use]
    pub fn gives_cap(&self, field: &str) -> bool {
        self.given_caps.iter().any(|(name, _)| *name == field)
    }

    /// Notes that something has no rule; the first is kept.
    pub(crate) fn no_rule(&mut self, place: impl FnOnce() -> String) {
        if self.unbounded.is_none() {
            self.unbounded = Some(place());
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    shape: Shape,
    model: Option<Field<String>>,
    content: bool,
}

impl Reader<'_> {
    fn span(&self, raw: &str) -> Range<usize> {
        let start = (raw.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        start..start + raw.len()
    }

    fn chat_field(&mut self, name: &str, raw: &RawValue) -> Result<(), BodyError> {
        let value = raw.get();
        match name {
            "messages" => {
                self.content = true;
                messages::read_messages(value, &mut self.shape)?;
            }
            "stream" => {
                self.shape.stream = match value {
                    "true" => true,
                    "false" | "null" => false,
                    _ => return Err(BodyError::Type("stream")),
                };
            }
            "stream_options" => self.stream_options(value)?,
            "max_tokens" => self.cap("max_tokens", value),
            "max_completion_tokens" => self.cap("max_completion_tokens", value),
            "n" => match value {
                "null" => {}
                _ => match value.parse::<u64>() {
                    Ok(choices) => self.shape.choices = choices.max(1),
                    Err(_) => self.shape.no_rule(|| "n".to_owned()),
                },
            },
            "tools" => messages::read_tools(value, &mut self.shape),
            // A schema is shown to the model in the provider's own notation.
            "functions" => {
                self.shape.tools |= value != "null";
                self.shape.text.schema(value);
            }
            "response_format" => self.shape.text.schema(value),
            "tool_choice" | "function_call" => self.shape.text.raw(value),
            "modalities" => {
                if value != "null" && serde_json::from_str::<Vec<&str>>(value).ok() != Some(vec!["text"]) {
                    self.shape.no_rule(|| "modalities".to_owned());
                }
            }
            "service_tier" => match serde_json::from_str::<Option<&str>>(value) {
                Ok(None | Some("default")) => {}
                Ok(Some(tier)) if tier.len() <= 32 => self.shape.service_tier = Some(tier.to_owned()),
                _ => self.shape.no_rule(|| "service_tier".to_owned()),
            },
            "temperature"
            | "top_p"
            | "stop"
            | "seed"
            | "metadata"
            | "logprobs"
            | "top_logprobs"
            | "logit_bias"
            | "presence_penalty"
            | "frequency_penalty"
            | "parallel_tool_calls"
            | "reasoning_effort"
            | "verbosity"
            | "store"
            | "safety_identifier"
            | "prompt_cache_key"
            | "prompt_cache_retention" => {}
            _ => return self.common_field(name, raw),
        }
        Ok(())
    }

    fn embeddings_field(&mut self, name: &str, raw: &RawValue) -> Result<(), BodyError> {
        match name {
            "input" => {
                self.content = true;
                messages::read_input(raw.get(), &mut self.shape)
            }
            "encoding_format" | "dimensions" => Ok(()),
            _ => self.common_field(name, raw),
        }
    }

    fn common_field(&mut self, name: &str, raw: &RawValue) -> Result<(), BodyError> {
        let value = raw.get();
        match name {
            "model" => {
                let model: String = serde_json::from_str(value).map_err(|_| BodyError::Type("model"))?;
                if model.is_empty() || model.len() > 256 || model.chars().any(char::is_control) {
                    return Err(BodyError::Type("model"));
                }
                self.model = Some(Field { value: model, span: self.span(value) });
            }
            "user" => {
                self.shape.user = serde_json::from_str(value).map_err(|_| BodyError::Type("user"))?;
            }
            // A field set to nothing asks for nothing.
            _ if value == "null" => {}
            _ => self.shape.no_rule(|| messages::short(name)),
        }
        Ok(())
    }

    fn cap(&mut self, name: &'static str, value: &str) {
        if value == "null" {
            let span = self.span(value);
            self.shape.empty_caps.push((name, span));
            return;
        }
        let span = self.span(value);
        self.shape.given_caps.push((name, span));
        match (value.parse::<u64>(), &self.shape.cap) {
            // Some relays leave a zero out, and then nothing caps the answer.
            (Ok(0), _) => self.shape.no_rule(|| name.to_owned()),
            (Ok(tokens), Cap::Tokens(other)) => self.shape.cap = Cap::Tokens(tokens.max(*other)),
            (Ok(tokens), Cap::Absent) => self.shape.cap = Cap::Tokens(tokens),
            (Err(_), _) => self.shape.no_rule(|| name.to_owned()),
        }
    }

    fn stream_options(&mut self, value: &str) -> Result<(), BodyError> {
        let wrong = BodyError::Type("stream_options");
        let span = self.span(value);
        let mut options =
            StreamOptions { include_usage: false, usage_span: None, empty: true, object: false };
        if value != "null" {
            let Fields { fields, many } = serde_json::from_str(value).map_err(|_| wrong.clone())?;
            if many {
                return Err(wrong);
            }
            options.object = true;
            options.empty = fields.is_empty();
            for (name, raw) in fields.iter().filter(|(name, _)| name == "include_usage") {
                if options.usage_span.is_some() {
                    return Err(BodyError::Twice(messages::short(name)));
                }
                options.include_usage = match raw.get() {
                    "true" => true,
                    "false" | "null" => false,
                    _ => return Err(wrong),
                };
                options.usage_span = Some(self.span(raw.get()));
            }
        }
        self.shape.stream_options = Some(Field { value: options, span });
        Ok(())
    }
}
