//! Images and audio in messages: counted as far as a published formula bounds them, and named where none does.

use std::borrow::Cow;

use base64::Engine as _;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Shape;

/// Tokens of a second of audio. Ten are stated for what users say and twenty for what models say; the larger is taken.
const AUDIO_TOKENS_A_SECOND: u64 = 20;
/// Bytes of a second of MP3 at its lowest bit rate, 8 kbit/s.
const MP3_BYTES_A_SECOND: u64 = 1000;
/// Bytes of the header that a WAV file of plain samples begins with.
const WAV_HEADER: usize = 36;

/// The `image_url` of a part: an address or the image itself. How large the image is does not matter for its bound.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Known<'a> {
    #[serde(rename = "url")]
    _url: IgnoredAny,
    #[serde(borrow, default)]
    detail: Option<Cow<'a, str>>,
}

/// An image.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Image<'a> {
    #[serde(borrow)]
    Is(Known<'a>),
    Odd(IgnoredAny),
}

impl Image<'_> {
    pub(super) fn count(&self, shape: &mut Shape) {
        let bounded = match self {
            Self::Is(known) => matches!(known.detail.as_deref(), None | Some("auto" | "low" | "high")),
            Self::Odd(_) => false,
        };
        shape.images = shape.images.saturating_add(1);
        if !bounded {
            shape.no_rule(|| "messages[].content[].image_url".to_owned());
        }
    }
}

/// The `input_audio` of a part.
#[derive(Deserialize)]
pub(super) struct Sound<'a> {
    #[serde(borrow)]
    data: Cow<'a, str>,
    #[serde(borrow)]
    format: Cow<'a, str>,
}

/// Audio.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Audio<'a> {
    #[serde(borrow)]
    Is(Sound<'a>),
    Odd(IgnoredAny),
}

impl Audio<'_> {
    pub(super) fn count(&self, shape: &mut Shape) {
        let tokens = match self {
            Self::Is(sound) => sound.tokens(),
            Self::Odd(_) => None,
        };
        match tokens {
            Some(tokens) => shape.audio = shape.audio.saturating_add(tokens.max(1)),
            None => shape.no_rule(|| "messages[].content[].input_audio".to_owned()),
        }
    }
}

impl Sound<'_> {
    /// The most tokens that it can be: its bytes at the least that a second of it takes.
    fn tokens(&self) -> Option<u64> {
        let bytes = u64::try_from(self.data.len()).ok()?;
        let a_second = match self.format.as_ref() {
            "mp3" => MP3_BYTES_A_SECOND,
            "wav" => wav_bytes_a_second(&self.data)?,
            _ => return None,
        };
        // Base64 has four characters for three bytes, so this is more than there are.
        Some(bytes.saturating_mul(AUDIO_TOKENS_A_SECOND).div_ceil(a_second))
    }
}

/// Bytes of a second of a WAV file with plain samples and a header without contradictions.
fn wav_bytes_a_second(data: &str) -> Option<u64> {
    let head = data.get(..WAV_HEADER / 3 * 4)?;
    let head = base64::engine::general_purpose::STANDARD.decode(head).ok()?;
    let word = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    let half = |at: usize| Some(u16::from_le_bytes(head.get(at..at + 2)?.try_into().ok()?));
    let plain = head.get(..4)? == b"RIFF" && head.get(8..16)? == b"WAVEfmt " && half(20)? == 1;
    let (channels, rate, bytes_a_second) = (u32::from(half(22)?), word(24)?, word(28)?);
    let (frame, bits) = (u32::from(half(32)?), u32::from(half(34)?));
    let sound = plain
        && (8_000..=192_000).contains(&rate)
        && matches!(bits, 8 | 16 | 24 | 32)
        && channels > 0
        && frame == channels * bits / 8
        && rate.checked_mul(frame) == Some(bytes_a_second);
    sound.then_some(u64::from(bytes_a_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wav(rate: u32, frame: u16, bits: u16, seconds: usize) -> String {
        let mut bytes = b"RIFF\0\0\0\0WAVEfmt ".to_vec();
        bytes.extend(16_u32.to_le_bytes());
        bytes.extend(1_u16.to_le_bytes());
        bytes.extend(1_u16.to_le_bytes());
        bytes.extend(rate.to_le_bytes());
        bytes.extend((rate * u32::from(frame)).to_le_bytes());
        bytes.extend(frame.to_le_bytes());
        bytes.extend(bits.to_le_bytes());
        bytes.extend(b"data\0\0\0\0");
        bytes.resize(44 + usize::try_from(rate).unwrap_or(0) * usize::from(frame) * seconds, 0);
        base64::engine::general_purpose::STANDARD.encode(bytes)
    }

    fn tokens(data: &str, format: &str) -> Option<u64> {
        Sound { data: data.into(), format: format.into() }.tokens()
    }

    #[test]
    fn audio_is_bounded_by_its_bytes_and_what_a_second_of_it_takes() {
        let three_seconds = tokens(&wav(16_000, 2, 16, 3), "wav").unwrap_or(0);
        // A third more than 60, since base64 is counted as it comes.
        assert!((60..=82).contains(&three_seconds), "{three_seconds}");
        assert_eq!(tokens(&"A".repeat(2000), "mp3"), Some(40));
        for (data, format) in [
            (wav(100, 2, 16, 3), "wav"),
            (wav(16_000, 1, 16, 3), "wav"),
            ("UklGRg==".to_owned(), "wav"),
            ("A".repeat(2000), "flac"),
        ] {
            assert_eq!(tokens(&data, format), None, "{format}");
        }
    }
}
