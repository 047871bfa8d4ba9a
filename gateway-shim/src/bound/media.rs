//! What a target makes of text, images and audio. Where nothing is known of a model there is no rule.
//!
//! Images, by OpenAI's published formulas for their models. *Tiles*: an image is fitted into 2048 × 2048 and then to
//! 768 on its short side, which leaves at most 2 × 4 tiles of 512; it costs a base and so much a tile. *Patches*: it is
//! scaled to at most 1536 patches of 32 × 32, times the model's factor. BUDGETS.md names the sources.

use bursar_schemas::meters::Meter;
use bursar_schemas::policy::Target;
use bursar_schemas::price::Price;

use super::Tokenizer;
use super::target::{Besides, is_openai};
use crate::inspect::Shape;

/// Tiles of one image, at most.
const TILES: u64 = 8;
/// Patches of one image, at most.
const PATCHES: u64 = 1536;
/// What the frame of an image may add.
const FRAME: u64 = 64;
/// Tokens of a usual image, in an estimate: a megapixel by tiles.
pub(super) const USUAL_IMAGE: u64 = 1100;

/// What other vendors put around tools, at most: a prompt that explains them, of up to about 700 tokens where it is
/// documented.
const TOOL_FRAME: u64 = 1024;

/// What a target makes of a request's parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Of text.
    pub tokenizer: Tokenizer,
    /// The most tokens that an image becomes, where that is known.
    pub image: Option<u64>,
    /// Whether the rate of tokens by the second of audio is known.
    pub audio: bool,
    /// Tokens that the vendor may put around tools.
    pub tool_frame: u64,
    /// What the model does besides answering.
    pub besides: Besides,
}

impl Rules {
    /// The rules for a target; the tokenizer of one that nothing is known of may normalise.
    #[must_use]
    pub fn of(target: &Target) -> Self {
        let besides = Besides::of(&target.model);
        if is_openai(target) {
            let family = family(&target.model);
            let audio = matches!(family, "gpt-audio" | "gpt-audio-mini")
                || matches!(family, "gpt-4o-audio-preview" | "gpt-4o-mini-audio-preview");
            Self { tokenizer: Tokenizer::ByteLevel, image: image(family), audio, tool_frame: 0, besides }
        } else {
            let tokenizer = Tokenizer::Normalising;
            Self { tokenizer, image: None, audio: false, tool_frame: TOOL_FRAME, besides }
        }
    }

    /// The most tokens that images and audio become; the place that has no rule otherwise.
    pub(super) fn media_tokens(&self, shape: &Shape, price: &Price) -> Result<u64, &'static str> {
        let images = match (shape.images, self.image) {
            (0, _) => 0,
            (count, Some(each)) => count.saturating_mul(each),
            (_, None) => return Err("messages[].content[].image_url"),
        };
        let priced = price.rates.meters.contains_key(&Meter::InputAudio);
        if shape.audio > 0 && !(self.audio && priced) {
            return Err("messages[].content[].input_audio");
        }
        Ok(images.saturating_add(shape.audio))
    }
}

/// A model's name without the date of its snapshot.
fn family(model: &str) -> &str {
    let dated = |rest: &str| {
        rest.len() == 10
            && rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
            && rest.starts_with("20")
    };
    let cut = model.len().checked_sub(11).and_then(|at| model.split_at_checked(at));
    match cut {
        Some((family, rest)) if rest.strip_prefix('-').is_some_and(dated) => family,
        _ => model.strip_suffix("-latest").unwrap_or(model),
    }
}

/// The most tokens that an image becomes.
fn image(family: &str) -> Option<u64> {
    let tiles = |base: u64, tile: u64| Some(base + TILES * tile + FRAME);
    // The factor in hundredths.
    let patches = |factor: u64| Some((PATCHES * factor).div_ceil(100) + FRAME);
    match family {
        "gpt-4o" | "gpt-4.1" | "gpt-4-turbo" | "chatgpt-4o" => tiles(85, 170),
        "gpt-4o-mini" => tiles(2833, 5667),
        "gpt-5" | "gpt-5-chat" => tiles(70, 140),
        "o1" | "o1-pro" | "o3" => tiles(75, 150),
        "gpt-4.1-mini" | "gpt-5-mini" => patches(162),
        "o4-mini" => patches(172),
        "gpt-4.1-nano" | "gpt-5-nano" => patches(246),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_bounded_by_the_formula_of_its_model() {
        assert_eq!(image(family("gpt-4o-2024-11-20")), Some(85 + 8 * 170 + 64));
        assert_eq!(image(family("gpt-4o-mini")), Some(48_169 + 64));
        // The most that was ever seen billed of it is 2488.
        assert_eq!(image(family("gpt-4.1-mini-2025-04-14")), Some(2489 + 64));
        for unknown in ["gpt-5.2", "gpt-4o-audio-preview", "gpt-4o-2024-11-2x", "llama-3", "", "é-2024-11-20"]
        {
            assert_eq!(image(family(unknown)), None, "{unknown}");
        }
    }
}
