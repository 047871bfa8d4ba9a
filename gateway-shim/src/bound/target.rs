//! What a target is by the names of its provider and its model: which fields it takes, and what it does besides
//! answering.

use bursar_schemas::meters::Meter;
use bursar_schemas::policy::Target;
use bursar_schemas::price::Price;

/// The field in which older models and everybody's copies of the API take a cap.
const OLDER_CAP: &str = "max_tokens";

/// The provider as the price table names it.
pub(super) fn vendor(target: &Target) -> &str {
    target.provider.prices.as_deref().unwrap_or(&target.provider.id)
}

/// A model's name without the provider that a relay puts before it.
fn base(model: &str) -> &str {
    model.rsplit('/').next().unwrap_or(model)
}

fn numbered(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// Whether it runs a model of OpenAI's own. Azure serves others, too, so there the name has to say so.
pub(super) fn is_openai(target: &Target) -> bool {
    let model = target.model.to_ascii_lowercase();
    let name = base(&model);
    match vendor(target) {
        "openai" => true,
        "azure" => {
            ["gpt-", "chatgpt-", "text-embedding-"].iter().any(|prefix| name.starts_with(prefix))
                || numbered(name, "o")
        }
        _ => false,
    }
}

/// The field that carries a cap: newer OpenAI models refuse `max_tokens`, everything else knows it.
#[must_use]
pub fn cap_field(model: &str) -> &'static str {
    let name = base(model);
    if numbered(name, "o") || name.strip_prefix("gpt-").is_some_and(newer_gpt) {
        "max_completion_tokens"
    } else {
        OLDER_CAP
    }
}

fn newer_gpt(rest: &str) -> bool {
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse::<u32>().is_ok_and(|version| version >= 5)
}

/// Whether a cap in another field than [`cap_field`] may pass a target by: most copies of OpenAI's API know `max_tokens`
/// only, while OpenAI and Azure know both names and refuse a request that has both.
#[must_use]
pub fn knows_one_cap(target: &Target) -> bool {
    !matches!(vendor(target), "openai" | "azure") && cap_field(&target.model) == OLDER_CAP
}

/// Whether it takes `stream_options`. Mistral refuses fields that it does not know, and reports usage unasked.
#[must_use]
pub fn takes_stream_options(target: &Target) -> bool {
    vendor(target) != "mistral"
}

/// Parts of names of models that search, cite or draw by themselves, for which no meter counts what is charged.
const UNMETERED: [&str; 9] = [
    "-search-preview",
    "-search-api",
    "-pro-search",
    "deep-research",
    ":online",
    "-image",
    "nano-banana",
    "gemini-omni",
    "relace-search",
];

/// What a model does unasked besides answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Besides {
    /// Nothing.
    Nothing,
    /// It searches, which is covered where the price has one for the call.
    Searches,
    /// It searches, cites or draws, and no meter counts that.
    Unmetered,
}

impl Besides {
    pub(super) fn of(model: &str) -> Self {
        let model = model.to_ascii_lowercase();
        let name = base(&model);
        if UNMETERED.iter().any(|part| name.contains(part)) || name.starts_with("compound") {
            Self::Unmetered
        } else if name.starts_with("sonar") || name.contains("-sonar-") {
            Self::Searches
        } else {
            Self::Nothing
        }
    }

    /// Whether a price covers it.
    pub(super) fn is_covered(self, price: &Price) -> bool {
        match self {
            Self::Nothing => true,
            Self::Searches => price.rates.meters.contains_key(&Meter::Requests),
            Self::Unmetered => false,
        }
    }
}
