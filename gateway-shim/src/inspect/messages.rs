//! How much text the messages, tools or inputs of a body hold.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::media::{Audio, Image};
use super::{BodyError, Name, Shape};

/// Tokens that a message adds besides its text: role, separators, the name.
const PER_MESSAGE: u64 = 16;
/// Tokens that a content part adds besides its text.
const PER_PART: u64 = 4;
/// Tokens that a tool call in a message adds besides its strings.
const PER_CALL: u64 = 32;
/// Tokens that a declared tool adds besides its schema.
const PER_TOOL: u64 = 64;
/// Tokens that any conversation adds: priming of the answer, the frame around tools.
const PER_REQUEST: u64 = 64;

/// Text by bytes, and tokens that no text stands for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Text {
    /// Bytes of ASCII characters.
    pub ascii: u64,
    /// Bytes of all other characters; a normalising tokenizer may make more of them.
    pub wide: u64,
    /// Strings; some tokenizers begin each with a token of its own.
    pub strings: u64,
    /// Tokens on top of the text.
    pub tokens: u64,
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

impl Text {
    /// Adds one string.
    pub(crate) fn string(&mut self, text: &str) {
        let ascii = count(text.bytes().filter(u8::is_ascii).count());
        self.ascii = self.ascii.saturating_add(ascii);
        self.wide = self.wide.saturating_add(count(text.len()).saturating_sub(ascii));
        self.strings = self.strings.saturating_add(1);
    }

    /// Adds JSON as it was sent. Whoever decodes it makes up to three bytes that are not ASCII of each `\uXXXX`.
    pub(crate) fn raw(&mut self, raw: &str) {
        self.string(raw);
        let escapes = count(raw.matches("\\u").count());
        self.wide = self.wide.saturating_add(escapes.saturating_mul(3));
    }

    /// Adds a JSON schema: providers show it in another notation, which is not twice as long.
    pub(crate) fn schema(&mut self, raw: &str) {
        self.raw(raw);
        self.raw(raw);
        self.tokens(PER_REQUEST);
    }

    pub(crate) fn tokens(&mut self, tokens: u64) {
        self.tokens = self.tokens.saturating_add(tokens);
    }
}

pub(super) fn read_messages(raw: &str, shape: &mut Shape) -> Result<(), BodyError> {
    shape.text.tokens(PER_REQUEST);
    run(raw, List { shape, item: Item::Message }).map_err(|_| BodyError::Type("messages"))
}

/// Tools that the provider itself does not run.
pub(super) fn read_tools(raw: &str, shape: &mut Shape) {
    #[derive(serde::Deserialize)]
    struct Tool<'a> {
        #[serde(borrow, rename = "type")]
        kind: std::borrow::Cow<'a, str>,
    }
    if raw == "null" {
        return;
    }
    match serde_json::from_str::<Vec<Tool<'_>>>(raw) {
        Ok(tools) if tools.iter().all(|tool| tool.kind == "function") => {
            shape.tools |= !tools.is_empty();
            shape.text.schema(raw);
            shape.text.tokens(PER_TOOL.saturating_mul(count(tools.len())));
        }
        _ => shape.no_rule(|| "tools".to_owned()),
    }
}

/// The input of embeddings: a string, strings, token ids, or lists of token ids.
pub(super) fn read_input(raw: &str, shape: &mut Shape) -> Result<(), BodyError> {
    shape.text.tokens(PER_REQUEST);
    run(raw, Input { shape, depth: 0 }).map_err(|_| BodyError::Type("input"))
}

fn run<'a, S: DeserializeSeed<'a, Value = ()>>(raw: &'a str, seed: S) -> Result<(), serde_json::Error> {
    seed.deserialize(&mut serde_json::Deserializer::from_str(raw))
}

#[derive(Clone, Copy)]
enum Item {
    Message,
    Part,
}

/// A list of messages or parts.
struct List<'s> {
    shape: &'s mut Shape,
    item: Item,
}

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.item {
            Item::Message => deserializer.deserialize_seq(self),
            Item::Part => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }
    /// A message's content as one string.
    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.shape.text.string(text);
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Object { shape: self.shape, item: self.item })?.is_some() {}
        Ok(())
    }
}

/// One message or part.
struct Object<'s> {
    shape: &'s mut Shape,
    item: Item,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { shape, item } = self;
        shape.text.tokens(match item {
            Item::Message => PER_MESSAGE,
            Item::Part => PER_PART,
        });
        let (mut says, mut holds) = (None, None);
        while let Some(Name(name)) = map.next_key()? {
            match (item, name.as_ref()) {
                (Item::Message, "content") => {
                    map.next_value_seed(List { shape: &mut *shape, item: Item::Part })?;
                }
                (Item::Message, "tool_calls" | "function_call") => {
                    map.next_value_seed(Strings { shape: &mut *shape, depth: 0 })?;
                }
                // SDKs send an answer back as they got it: with its citations, and some with its reasoning.
                (Item::Message, "role" | "name" | "refusal" | "tool_call_id" | "annotations")
                | (Item::Message, "reasoning" | "reasoning_content")
                | (Item::Part, "text" | "refusal") => {
                    map.next_value_seed(Strings { shape: &mut *shape, depth: 0 })?;
                }
                (Item::Part, "image_url") => {
                    let image: Option<Image<'de>> = map.next_value()?;
                    holds = image.is_some().then_some("image_url");
                    image.into_iter().for_each(|image| image.count(shape));
                }
                (Item::Part, "input_audio") => {
                    let audio: Option<Audio<'de>> = map.next_value()?;
                    holds = audio.is_some().then_some("input_audio");
                    audio.into_iter().for_each(|audio| audio.count(shape));
                }
                (Item::Part, "type") => {
                    let Name(kind) = map.next_value()?;
                    match kind.as_ref() {
                        "text" | "refusal" => {}
                        "image_url" => says = Some("image_url"),
                        "input_audio" => says = Some("input_audio"),
                        _ => shape.no_rule(|| format!("messages[].content[].{}", short(&kind))),
                    }
                }
                (_, other) => {
                    let nothing = map.next_value::<Option<IgnoredAny>>()?.is_none();
                    let place = if matches!(item, Item::Message) { "" } else { "content[]." };
                    if !nothing {
                        shape.no_rule(|| format!("messages[].{place}{}", short(other)));
                    }
                }
            }
        }
        // What it says it is and does not hold could be found elsewhere.
        if let Some(kind) = says.filter(|kind| holds != Some(*kind)) {
            shape.no_rule(|| format!("messages[].content[].{kind}"));
        }
        Ok(())
    }
}

/// The names of fields come from the caller: they are cut, and only plain ones are repeated.
pub(super) fn short(name: &str) -> String {
    if name.len() <= 32 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        name.to_owned()
    } else {
        "(unknown)".to_owned()
    }
}

/// All strings below a value, whatever its form.
struct Strings<'s> {
    shape: &'s mut Shape,
    depth: u8,
}

impl<'de> DeserializeSeed<'de> for Strings<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strings<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.shape.text.string(text);
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.shape.text.tokens(24);
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.shape.text.tokens(24);
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.shape.text.tokens(32);
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let depth = self.depth.saturating_add(1);
        while seq.next_element_seed(Strings { shape: &mut *self.shape, depth })?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.shape.text.tokens(PER_CALL);
        let depth = self.depth.saturating_add(1);
        while let Some(Name(name)) = map.next_key()? {
            self.shape.text.string(&name);
            map.next_value_seed(Strings { shape: &mut *self.shape, depth })?;
        }
        Ok(())
    }
}

/// The input of embeddings.
struct Input<'s> {
    shape: &'s mut Shape,
    depth: u8,
}

impl<'de> DeserializeSeed<'de> for Input<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Input<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a list of strings or of token ids")
    }
    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.shape.text.string(text);
        self.shape.text.tokens(PER_PART);
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.shape.text.tokens(1);
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if self.depth >= 2 {
            return Err(A::Error::custom("too deep"));
        }
        let depth = self.depth + 1;
        self.shape.text.tokens(PER_PART);
        while seq.next_element_seed(Input { shape: &mut *self.shape, depth })?.is_some() {}
        Ok(())
    }
}
