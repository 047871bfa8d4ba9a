//! The upper bound of what one attempt can cost. Pure.
//!
//! A bound must hold whatever the provider does within its contract: input counts at most one token per byte
//! (or per byte after normalisation), output at most the cap times the choices, each at the dearest price that
//! can apply. What has no rule has no bound, and without a bound no hard budget admits.

use bursar_schemas::facts::Endpoint;
use bursar_schemas::meters::Meter;
use bursar_schemas::money::{Money, line_amount};
use bursar_schemas::price::Price;

use crate::inspect::{Cap, Shape};

/// Bytes that one byte can become under NFKC, at most (U+FDFA: 3 bytes become 33).
const NORMALISED: u64 = 11;

mod media;
mod target;

pub use media::Rules;
pub use target::{Besides, cap_field, knows_one_cap, takes_stream_options};

/// How a target's tokenizer treats text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tokenizer {
    /// Byte-level BPE: at most one token per byte.
    ByteLevel,
    /// It may normalise first, which makes more of what is not ASCII.
    Normalising,
}

impl Tokenizer {
    /// The most tokens that a body's text can become.
    fn text_tokens(self, shape: &Shape) -> u64 {
        let text = &shape.text;
        let (factor, per_string) = match self {
            Self::ByteLevel => (1, 0),
            Self::Normalising => (NORMALISED, 1),
        };
        text.ascii
            .saturating_add(text.wide.saturating_mul(factor))
            .saturating_add(text.strings.saturating_mul(per_string))
            .saturating_add(text.tokens)
    }
}

/// The smallest output cap that is worth a call.
pub const LEAST_CAP: u64 = 16;

/// Bytes of ASCII that a token stands for, in an estimate: prose has rather more, code and JSON about as many.
const ASCII_A_TOKEN: u64 = 3;
/// Bytes of other characters that a token stands for, in an estimate.
const WIDE_A_TOKEN: u64 = 2;

/// An attempt's bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// The most that it can cost.
    pub amount: Money,
    /// The output cap to put in: where the caller gave none, or a larger one than can be paid.
    pub inject: Option<u64>,
    /// The part of it that follows from the cap.
    output: Option<Output>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Output {
    cap: u64,
    choices: u64,
    /// Per million tokens.
    price: Money,
}

impl Output {
    fn amount(self) -> Money {
        line_amount(self.cap.saturating_mul(self.choices), self.price)
    }
}

impl Bound {
    /// Nothing, for what needs no bound and has none.
    pub const NONE: Self = Self { amount: Money::ZERO, inject: None, output: None };

    /// The same attempt with the largest output cap that costs no more than `most`; none where that is below
    /// [`LEAST_CAP`], or no smaller than the cap it has.
    #[must_use]
    pub fn lowered(&self, most: Money) -> Option<Self> {
        let output = self.output.filter(|output| output.price.is_positive())?;
        let fixed = self.amount.minus(output.amount());
        let left = most.minus_or_zero(fixed).pico();
        let tokens = left.saturating_mul(1_000_000) / output.price.pico() / i128::from(output.choices);
        let mut lower = Output { cap: u64::try_from(tokens).ok()?, ..output };
        // A settlement's line is rounded up at half a pico-dollar.
        while lower.cap > 0 && fixed.plus(lower.amount()) > most {
            lower.cap -= 1;
        }
        let fits = lower.cap >= LEAST_CAP && lower.cap < output.cap;
        fits.then(|| Self {
            amount: fixed.plus(lower.amount()),
            inject: Some(lower.cap),
            output: Some(lower),
        })
    }
}

/// Why there is no bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoBound {
    /// The price names no input or no output.
    Unpriced,
    /// Something in the body has no rule.
    NoRule(String),
}

/// The bound of an attempt at a target's price.
///
/// # Errors
/// When there is none.
pub fn bound(endpoint: Endpoint, shape: &Shape, rules: &Rules, price: &Price) -> Result<Bound, NoBound> {
    if let Some(place) = &shape.unbounded {
        dearest(price, shape, false).ok_or(NoBound::Unpriced)?;
        return Err(NoBound::NoRule(place.clone()));
    }
    // `flex` is never dearer than what everyone pays, and `auto` is as dear as the dearest there is.
    if let Some(tier) = &shape.service_tier
        && !matches!(tier.as_str(), "flex" | "auto")
        && !price.service_tiers.contains_key(tier)
    {
        return Err(NoBound::NoRule("service_tier".to_owned()));
    }
    if !rules.besides.is_covered(price) {
        dearest(price, shape, false).ok_or(NoBound::Unpriced)?;
        return Err(NoBound::NoRule("what the model searches, cites or draws by itself".to_owned()));
    }
    let media = rules.media_tokens(shape, price).map_err(|place| NoBound::NoRule(place.to_owned()))?;
    let frame = if shape.tools { rules.tool_frame } else { 0 };
    let text = rules.tokenizer.text_tokens(shape).saturating_add(frame);
    cost(endpoint, shape, text.saturating_add(media), price)
}

/// What an attempt is likely to cost at most, for budgets that are not hard: a token for every three bytes of ASCII and
/// every two of other text, a usual image's for each image, audio by its length, the whole output cap, and nothing for
/// what has no rule.
///
/// # Errors
/// When the price or the output's size is unknown.
pub fn estimate(endpoint: Endpoint, shape: &Shape, price: &Price) -> Result<Bound, NoBound> {
    let text = &shape.text;
    let words = text.ascii.div_ceil(ASCII_A_TOKEN).saturating_add(text.wide.div_ceil(WIDE_A_TOKEN));
    let media = shape.images.saturating_mul(media::USUAL_IMAGE).saturating_add(shape.audio);
    cost(endpoint, shape, words.saturating_add(text.tokens).saturating_add(media), price)
}

/// The cost of so many input tokens, and of the output that the cap allows.
fn cost(endpoint: Endpoint, shape: &Shape, input_tokens: u64, price: &Price) -> Result<Bound, NoBound> {
    let input_price = dearest(price, shape, false).ok_or(NoBound::Unpriced)?;
    let input = line_amount(input_tokens, input_price);
    let call = price.per_request(shape.service_tier.as_deref());
    let fixed = input.plus(call).plus(rounding(price, shape));
    if endpoint == Endpoint::Embeddings {
        return Ok(Bound { amount: fixed, ..Bound::NONE });
    }
    let output_price = dearest(price, shape, true).ok_or(NoBound::Unpriced)?;
    let (cap, inject) = match shape.cap {
        Cap::Tokens(tokens) => (tokens, None),
        Cap::Absent => own_maximum(price, input_tokens)
            .ok_or_else(|| NoBound::NoRule("max_completion_tokens".to_owned()))?,
    };
    let output = Output { cap, choices: shape.choices, price: output_price };
    Ok(Bound { amount: fixed.plus(output.amount()), inject, output: Some(output) })
}

/// The most tokens that the model answers by itself, and the cap to inject. A cap that could be more than the
/// model takes, or than its window leaves beside the input, is not injected: providers refuse such requests.
/// The model's own limits hold then all the same.
fn own_maximum(price: &Price, input_tokens: u64) -> Option<(u64, Option<u64>)> {
    match (price.max_output, price.context_window) {
        (Some(most), Some(window)) if input_tokens.saturating_add(most) > window => {
            Some((most.min(window), None))
        }
        (Some(most), _) => Some((most, Some(most))),
        (None, Some(window)) => Some((window, None)),
        (None, None) => None,
    }
}

/// The dearest price of a token. Audio's enters where there is audio; what is said in audio has no bound.
fn dearest(price: &Price, shape: &Shape, output: bool) -> Option<Money> {
    let counts = |meter: Meter| {
        meter.is_output() == output
            && !matches!(meter, Meter::OutputAudio | Meter::Requests)
            && (meter != Meter::InputAudio || shape.audio > 0)
    };
    let plain = if output { Meter::Output } else { Meter::Input };
    price.rates.meters.get(&plain)?;
    let all = price.chargeable(shape.service_tier.as_deref());
    all.filter(|(meter, _)| counts(*meter)).map(|(_, price)| price).max()
}

/// What rounding can add: each line of a settlement is rounded on its own, by less than a pico-dollar.
fn rounding(price: &Price, shape: &Shape) -> Money {
    let mut all = price.chargeable(shape.service_tier.as_deref());
    if all.any(|(_, price)| price.pico() % 1_000_000 != 0) { Money::from_pico(8) } else { Money::ZERO }
}

#[cfg(test)]
mod tests;
