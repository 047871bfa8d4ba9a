//! The upper bound of what one attempt can cost. Pure.
//!
//! A bound must hold whatever the provider does within its contract: input counts at most one token per byte
//! (or per byte after normalisation), output at most the cap times the choices, each at the dearest price that
//! can apply. What has no rule has no bound, and without a bound no hard budget admits.

use bursar_schemas::facts::Endpoint;
use bursar_schemas::meters::Meter;
use bursar_schemas::money::{Money, line_amount};
use bursar_schemas::policy::Target;
use bursar_schemas::price::Price;

use crate::inspect::{Cap, Shape};

/// Bytes that one byte can become under NFKC, at most (U+FDFA: 3 bytes become 33).
const NORMALISED: u64 = 11;

/// How a target's tokenizer treats text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tokenizer {
    /// Byte-level BPE: at most one token per byte.
    ByteLevel,
    /// It may normalise first, which makes more of what is not ASCII.
    Normalising,
}

impl Tokenizer {
    /// The rule for a target; one that nothing is known of may normalise.
    #[must_use]
    pub fn of(target: &Target) -> Self {
        match target.provider.prices.as_deref().unwrap_or(&target.provider.id) {
            "openai" | "azure" => Self::ByteLevel,
            _ => Self::Normalising,
        }
    }

    /// The most input tokens that a body can become.
    #[must_use]
    pub fn input_tokens(self, shape: &Shape) -> u64 {
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
pub fn bound(
    endpoint: Endpoint,
    shape: &Shape,
    tokenizer: Tokenizer,
    price: &Price,
) -> Result<Bound, NoBound> {
    if let Some(place) = &shape.unbounded {
        dearest(price, shape, false).ok_or(NoBound::Unpriced)?;
        return Err(NoBound::NoRule(place.clone()));
    }
    // `flex` is never dearer than what everyone pays.
    if let Some(tier) = &shape.service_tier
        && tier != "flex"
        && !price.service_tiers.contains_key(tier)
    {
        return Err(NoBound::NoRule("service_tier".to_owned()));
    }
    cost(endpoint, shape, tokenizer.input_tokens(shape), price)
}

/// What an attempt is likely to cost at most, for budgets that are not hard: a token for every three bytes of ASCII and
/// every two of other text, the whole output cap, and nothing for what has no rule.
///
/// # Errors
/// When the price or the output's size is unknown.
pub fn estimate(endpoint: Endpoint, shape: &Shape, price: &Price) -> Result<Bound, NoBound> {
    let text = &shape.text;
    let words = text.ascii.div_ceil(ASCII_A_TOKEN).saturating_add(text.wide.div_ceil(WIDE_A_TOKEN));
    cost(endpoint, shape, words.saturating_add(text.tokens), price)
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

/// The dearest price of a token of text. Audio has no bound at all, so its prices do not enter.
fn dearest(price: &Price, shape: &Shape, output: bool) -> Option<Money> {
    let is_text = |meter: Meter| {
        meter.is_output() == output
            && !matches!(meter, Meter::InputAudio | Meter::OutputAudio | Meter::Requests)
    };
    let plain = if output { Meter::Output } else { Meter::Input };
    price.rates.meters.get(&plain)?;
    let all = price.chargeable(shape.service_tier.as_deref());
    all.filter(|(meter, _)| is_text(*meter)).map(|(_, price)| price).max()
}

/// What rounding can add: each line of a settlement is rounded on its own, by less than a pico-dollar.
fn rounding(price: &Price, shape: &Shape) -> Money {
    let mut all = price.chargeable(shape.service_tier.as_deref());
    if all.any(|(_, price)| price.pico() % 1_000_000 != 0) { Money::from_pico(8) } else { Money::ZERO }
}

/// The field that carries a cap: newer OpenAI models refuse `max_tokens`, everything else knows it.
#[must_use]
pub fn cap_field(model: &str) -> &'static str {
    let name = model.rsplit('/').next().unwrap_or(model);
    let numbered = |prefix: &str| {
        name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    };
    if numbered("o") || name.strip_prefix("gpt-").is_some_and(newer_gpt) {
        "max_completion_tokens"
    } else {
        "max_tokens"
    }
}

fn newer_gpt(rest: &str) -> bool {
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse::<u32>().is_ok_and(|version| version >= 5)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::inspect::inspect;

    fn price() -> Price {
        let mut price = Price { max_output: Some(1000), context_window: Some(8000), ..Price::default() };
        price.rates.meters.insert(Meter::Input, Money::from_pico(1_000_000));
        price.rates.meters.insert(Meter::Output, Money::from_pico(10_000_000));
        price
    }

    fn chat(body: &str, tokenizer: Tokenizer) -> Result<Bound, NoBound> {
        let shape = inspect(Endpoint::ChatCompletions, body.as_bytes()).unwrap();
        bound(Endpoint::ChatCompletions, &shape, tokenizer, &price())
    }

    #[test]
    fn text_counts_by_decoded_bytes_and_output_by_cap_and_choices() {
        let short = chat(
            r#"{"model":"m","messages":[{"role":"user","content":"ab"}],"max_tokens":5}"#,
            Tokenizer::ByteLevel,
        )
        .unwrap();
        let long = chat(
            r#"{"model":"m","messages":[{"role":"user","content":"ab\u00e9\ud83d\ude00"}],"max_tokens":5,"n":3}"#,
            Tokenizer::ByteLevel,
        )
        .unwrap();
        // Six more bytes at 1 pico, ten more output tokens at 10.
        assert_eq!(long.amount.pico() - short.amount.pico(), 6 + 100);
        assert_eq!(short.inject, None);
    }

    #[test]
    fn a_normalising_tokenizer_may_make_eleven_of_one() {
        let body =
            "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"\u{fdfa}\"}],\"max_tokens\":5}";
        let plain = chat(body, Tokenizer::ByteLevel).unwrap().amount.pico();
        let wide = chat(body, Tokenizer::Normalising).unwrap().amount.pico();
        // Three bytes become 33; each of the two strings may begin with a token of its own.
        assert_eq!(wide - plain, 30 + 2);
    }

    #[test]
    fn a_missing_cap_is_the_models_own_maximum_within_its_window() {
        let body = r#"{"model":"m","messages":[]}"#;
        assert_eq!(chat(body, Tokenizer::ByteLevel).unwrap().inject, Some(1000));
        let mut price = price();
        price.max_output = Some(8000);
        let shape = inspect(Endpoint::ChatCompletions, body.as_bytes()).unwrap();
        let found = bound(Endpoint::ChatCompletions, &shape, Tokenizer::ByteLevel, &price).unwrap();
        assert_eq!(found.inject, None, "input and maximum might be more than the window");
        let whole_window = found.amount;
        price.max_output = None;
        let found = bound(Endpoint::ChatCompletions, &shape, Tokenizer::ByteLevel, &price).unwrap();
        assert_eq!((found.inject, found.amount), (None, whole_window), "the model's own maximum is unknown");
        price.context_window = None;
        let none = bound(Endpoint::ChatCompletions, &shape, Tokenizer::ByteLevel, &price);
        assert_eq!(none, Err(NoBound::NoRule("max_completion_tokens".to_owned())));
    }

    #[test]
    fn what_has_no_rule_is_named() {
        let message = |message: &str| format!(r#"{{"model":"m","max_tokens":1,"messages":[{message}]}}"#);
        let option = |option: &str| format!(r#"{{"model":"m","max_tokens":1,"messages":[],{option}}}"#);
        let cases = [
            (
                message(r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://x"}}]}"#),
                "messages[].content[].image_url",
            ),
            (
                message(r#"{"role":"user","content":[{"type":"input_audio"}]}"#),
                "messages[].content[].input_audio",
            ),
            (message(r#"{"role":"assistant","audio":{"id":"a"}}"#), "messages[].audio"),
            (message(r#"{"role":"user","content":"a","secret words":1}"#), "messages[].(unknown)"),
            (option(r#""previous_response_id":"r""#), "previous_response_id"),
            (option(r#""tools":[{"type":"web_search"}]"#), "tools"),
            (option(r#""modalities":["text","audio"]"#), "modalities"),
            (option(r#""service_tier":"priority""#), "service_tier"),
            (option(r#""prediction":{"type":"content"}"#), "prediction"),
            (option(r#""n":1.5"#), "n"),
            (option(r#""max_completion_tokens":-1"#), "max_completion_tokens"),
        ];
        for (body, place) in cases {
            assert_eq!(chat(&body, Tokenizer::ByteLevel), Err(NoBound::NoRule(place.to_owned())), "{body}");
        }
        let fine = option(
            r#""temperature":0.5,"user":"u","tools":[{"type":"function","function":{"name":"f"}}],"previous_response_id":null"#,
        );
        assert!(chat(&fine, Tokenizer::ByteLevel).is_ok());
    }

    #[test]
    fn embeddings_have_no_output_and_count_token_ids() {
        let amount = |input: &str| {
            let shape =
                inspect(Endpoint::Embeddings, format!(r#"{{"model":"m","input":{input}}}"#).as_bytes())
                    .unwrap();
            bound(Endpoint::Embeddings, &shape, Tokenizer::ByteLevel, &price()).unwrap().amount.pico()
        };
        assert_eq!(amount("[1,2,3]") - amount("[1]"), 2);
        assert_eq!(amount("\"abcd\"") - amount("\"a\""), 3);
        assert!(amount(r#"["a","b"]"#) > amount(r#"["a"]"#));
        assert!(inspect(Endpoint::Embeddings, br#"{"model":"m","input":[[[1]]]}"#).is_err());
    }

    #[test]
    fn the_cap_goes_into_the_field_that_the_model_takes() {
        for model in ["o1", "o3-mini", "o4-mini-2025", "gpt-5", "gpt-5.1-mini", "openai/gpt-5-nano", "gpt-10"]
        {
            assert_eq!(cap_field(model), "max_completion_tokens", "{model}");
        }
        for model in ["gpt-4o", "gpt-4.1", "gpt-3.5-turbo", "ollama", "omni", "llama-3", "gpt-oss-20b"] {
            assert_eq!(cap_field(model), "max_tokens", "{model}");
        }
    }
}
