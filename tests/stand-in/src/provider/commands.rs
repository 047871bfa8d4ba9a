//! What a request's own text tells the stand-in to do.
//!
//! The last user message (or the input of an embedding) may begin with `stand-in` and then words such as
//! `prompt_tokens=374 completion_tokens=44 id=r-000123`; the first word that is none of them begins the
//! padding. Being in the text, they pass through any gateway.

use std::time::Duration;

/// The commands of one request; what is not named is left to the stand-in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Commands {
    /// Input tokens to report.
    pub(crate) prompt_tokens: Option<u64>,
    /// Of those, read from a cache.
    pub(crate) cached_tokens: u64,
    /// Output tokens per choice to report, before caps.
    pub(crate) completion_tokens: Option<u64>,
    /// Of those, of reasoning.
    pub(crate) reasoning_tokens: u64,
    /// The request's name on the bill.
    pub(crate) id: Option<String>,
    /// Answer with this status and an error.
    pub(crate) status: Option<u16>,
    /// Never answer: unbilled, or billed.
    pub(crate) hang: Option<Hang>,
    /// Break the answer off after so many pieces of text.
    pub(crate) cut_after_chunks: Option<usize>,
    /// Leave the usage out, also where it was asked for.
    pub(crate) no_usage: bool,
    /// Output tokens to report and bill beyond every cap.
    pub(crate) overbill: u64,
    /// Wait before the first byte, instead of the configured time.
    pub(crate) first_byte: Option<Duration>,
    /// Wait between pieces of a stream, instead of the configured time.
    pub(crate) chunk: Option<Duration>,
}

/// A request that is never answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hang {
    /// And not billed.
    Unbilled,
    /// And billed in full.
    Billed,
}

impl Commands {
    /// Reads the commands at the beginning of a text; none when it does not begin with `stand-in`.
    ///
    /// # Errors
    /// The word that is not understood: a typing error in a test must not pass as padding.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let mut commands = Self::default();
        let mut words = text.split_ascii_whitespace();
        if words.next() != Some("stand-in") {
            return Ok(commands);
        }
        for word in words {
            match word.split_once('=') {
                Some((name, value)) => commands.set(name, value).ok_or_else(|| word.to_owned())?,
                None if !commands.set_flag(word) => break,
                None => {}
            }
        }
        Ok(commands)
    }

    fn set(&mut self, name: &str, value: &str) -> Option<()> {
        match name {
            "prompt_tokens" => self.prompt_tokens = Some(value.parse().ok()?),
            "cached_tokens" => self.cached_tokens = value.parse().ok()?,
            "completion_tokens" => self.completion_tokens = Some(value.parse().ok()?),
            "reasoning_tokens" => self.reasoning_tokens = value.parse().ok()?,
            "id" => self.id = Some(value.to_owned()),
            "status" => self.status = Some(value.parse().ok().filter(|status| (400..600).contains(status))?),
            "cut_after_chunks" => self.cut_after_chunks = Some(value.parse().ok()?),
            "overbill" => self.overbill = value.parse().ok()?,
            "first_byte_ms" => self.first_byte = Some(Duration::from_millis(value.parse().ok()?)),
            "chunk_ms" => self.chunk = Some(Duration::from_millis(value.parse().ok()?)),
            _ => return None,
        }
        Some(())
    }

    fn set_flag(&mut self, word: &str) -> bool {
        match word {
            "hang" => self.hang = Some(Hang::Unbilled),
            "hang_billed" => self.hang = Some(Hang::Billed),
            "no_usage" => self.no_usage = true,
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_up_to_the_padding() {
        let read =
            Commands::read("stand-in prompt_tokens=374 id=r-1 no_usage lorem ipsum completion_tokens=4")
                .unwrap();
        let expected = Commands {
            prompt_tokens: Some(374),
            id: Some("r-1".to_owned()),
            no_usage: true,
            ..Commands::default()
        };
        assert_eq!(read, expected);
        assert_eq!(Commands::read("Tell me of a stand-in status=500").unwrap(), Commands::default());
    }

    #[test]
    fn a_word_that_is_not_understood_is_named() {
        for word in ["promt_tokens=3", "prompt_tokens=-3", "status=200", "status=ok", "overbill="] {
            assert_eq!(Commands::read(&format!("stand-in {word} lorem")), Err(word.to_owned()));
        }
    }
}
