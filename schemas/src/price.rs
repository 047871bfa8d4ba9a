//! Prices are data: per provider, model and meter, from a date on. An unknown price is a state of its own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::avro::Micros;
use crate::facts::CostLine;
use crate::meters::{Meter, Usage};
use crate::money::{Money, line_amount};

/// The dated table that ships with the binary, derived from pydantic's genai-prices (MIT).
const BUILTIN: &str = include_str!("../prices/genai-prices.json");

/// Prices of one model's meters, in dollars per million units.
pub type Meters = BTreeMap<Meter, Money>;

/// Prices that apply to a whole request once its input is longer than a threshold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tier {
    /// The tier applies above so many input tokens of all kinds.
    pub above_input_tokens: u64,
    /// Its prices; a meter that is absent keeps its base price.
    pub meters: Meters,
}

/// The price of one model at one time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Price {
    /// Base prices.
    pub meters: Meters,
    /// Long-context tiers, by rising threshold.
    pub tiers: Vec<Tier>,
    /// Most output tokens that the model gives in one choice, where known.
    pub max_output: Option<u64>,
    /// Tokens that input and output may have together, where known.
    pub context_window: Option<u64>,
    /// Names the price in force: the table's date, or the policy version of an override.
    pub version: String,
}

/// A meter counted something that the price says nothing of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no price for {0}")]
pub struct Unpriced(pub Meter);

impl Price {
    /// The price of a meter when the request has that many input tokens. Caching and reasoning fall back
    /// to plain input and output, as providers bill them where they name no price of their own.
    fn of(&self, meter: Meter, input_tokens: u64) -> Option<Money> {
        let tier = self.tiers.iter().rev().find(|tier| input_tokens > tier.above_input_tokens);
        let named = |meter: Meter| {
            tier.and_then(|tier| tier.meters.get(&meter)).or_else(|| self.meters.get(&meter)).copied()
        };
        named(meter).or_else(|| match meter {
            Meter::CacheRead | Meter::CacheWrite5m | Meter::CacheWrite1h => named(Meter::Input),
            Meter::Reasoning => named(Meter::Output),
            // Most calls have no price per request: that is a price of nothing.
            Meter::Requests => Some(Money::ZERO),
            _ => None,
        })
    }

    /// One line per meter that counted something.
    ///
    /// # Errors
    /// When a meter has no price.
    pub fn cost(&self, usage: &Usage) -> Result<Vec<CostLine>, Unpriced> {
        let input_tokens = usage
            .iter()
            .filter(|(meter, _)| !meter.is_output() && **meter != Meter::Requests)
            .fold(0_u64, |sum, (_, quantity)| sum.saturating_add(*quantity));
        usage
            .iter()
            .filter(|(_, quantity)| **quantity > 0)
            .map(|(&meter, &quantity)| {
                let price_per_million = self.of(meter, input_tokens).ok_or(Unpriced(meter))?;
                let amount = line_amount(quantity, price_per_million);
                Ok(CostLine { meter, quantity, price_per_million, amount })
            })
            .filter(|line| {
                line.as_ref().is_ok_and(|line| line.amount != Money::ZERO || line.meter != Meter::Requests)
                    || line.is_err()
            })
            .collect()
    }

    /// The dearest price that any input (or output) token can have, in any tier; none without a price.
    #[must_use]
    pub fn dearest(&self, output: bool) -> Option<Money> {
        self.tiers
            .iter()
            .flat_map(|tier| &tier.meters)
            .chain(&self.meters)
            .filter(|(meter, _)| meter.is_output() == output && **meter != Meter::Requests)
            .map(|(_, price)| *price)
            .max()
    }

    /// The price of the call itself.
    #[must_use]
    pub fn per_request(&self) -> Money {
        self.meters.get(&Meter::Requests).map_or(Money::ZERO, |price| line_amount(1, *price))
    }
}

#[derive(Debug, Clone)]
struct Entry {
    from: Option<i64>,
    until: Option<i64>,
    price: Price,
}

/// All known prices, by provider and model.
#[derive(Debug, Clone, Default)]
pub struct PriceTable {
    /// The table's date, as facts name it.
    pub date: String,
    exact: BTreeMap<String, BTreeMap<String, Vec<Entry>>>,
    prefixes: BTreeMap<String, BTreeMap<String, String>>,
}

/// A price table could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to read the price table: {0}")]
pub struct PriceError(String);

#[derive(Deserialize)]
struct FileTable {
    date: String,
    prices: Vec<FilePrice>,
}

#[derive(Deserialize, Serialize)]
struct FilePrice {
    provider: String,
    model: String,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    prefixes: Vec<String>,
    from: Option<String>,
    until: Option<String>,
    context_window: Option<u64>,
    max_output: Option<u64>,
    meters: BTreeMap<Meter, String>,
    #[serde(default)]
    tiers: Vec<FileTier>,
}

#[derive(Deserialize, Serialize)]
struct FileTier {
    above_input_tokens: u64,
    meters: BTreeMap<Meter, String>,
}

fn pico(meters: BTreeMap<Meter, String>) -> Result<Meters, PriceError> {
    let read = |(meter, text): (Meter, String)| {
        text.parse()
            .map(|pico| (meter, Money::from_pico(pico)))
            .map_err(|_| PriceError(format!("{text:?} is not a whole number")))
    };
    meters.into_iter().map(read).collect()
}

fn day(text: Option<&str>) -> Result<Option<i64>, PriceError> {
    text.map(|text| {
        let date: jiff::civil::Date =
            text.parse().map_err(|_| PriceError(format!("{text:?} is not a date")))?;
        let start = date.to_zoned(jiff::tz::TimeZone::UTC).map_err(|error| PriceError(error.to_string()))?;
        Ok(start.timestamp().as_microsecond())
    })
    .transpose()
}

impl PriceTable {
    /// The table that ships with the binary.
    ///
    /// # Errors
    /// Never with the file that is checked in, which a test reads.
    pub fn builtin() -> Result<Self, PriceError> {
        Self::from_json(BUILTIN)
    }

    /// Reads a table in the shipped form: integer pico-dollars per million units as strings.
    ///
    /// # Errors
    /// When the text is not such a table.
    pub fn from_json(text: &str) -> Result<Self, PriceError> {
        let file: FileTable = serde_json::from_str(text).map_err(|error| PriceError(error.to_string()))?;
        let mut table = Self { date: file.date, ..Self::default() };
        for entry in file.prices {
            let mut tiers = Vec::new();
            for tier in entry.tiers {
                tiers.push(Tier { above_input_tokens: tier.above_input_tokens, meters: pico(tier.meters)? });
            }
            tiers.sort_by_key(|tier| tier.above_input_tokens);
            let price = Price {
                meters: pico(entry.meters)?,
                tiers,
                max_output: entry.max_output,
                context_window: entry.context_window,
                version: table.date.clone(),
            };
            let (from, until) = (day(entry.from.as_deref())?, day(entry.until.as_deref())?);
            let dated = Entry { from, until, price };
            let names = table.exact.entry(entry.provider.clone()).or_default();
            for name in entry.aliases.iter().filter(|name| **name != entry.model) {
                names.entry(name.clone()).or_default().push(dated.clone());
            }
            names.entry(entry.model.clone()).or_default().push(dated);
            let prefixes = table.prefixes.entry(entry.provider).or_default();
            prefixes.extend(entry.prefixes.into_iter().map(|prefix| (prefix, entry.model.clone())));
        }
        Ok(table)
    }

    /// Puts a price above all that the table has for that model from a time on.
    pub fn override_price(&mut self, provider: &str, model: &str, from: Option<Micros>, price: Price) {
        let entries = self.exact.entry(provider.to_owned()).or_default().entry(model.to_owned()).or_default();
        entries.push(Entry { from: from.map(|at| at.0), until: None, price });
    }

    /// The price of a provider's model at a time: the exact name first, then the longest known prefix; of
    /// several in force the one added last. None when the price is unknown.
    #[must_use]
    pub fn find(&self, provider: &str, model: &str, at: Micros) -> Option<&Price> {
        let names = self.exact.get(provider)?;
        let entries = names.get(model).or_else(|| {
            let prefixes = self.prefixes.get(provider)?;
            let longest = prefixes.iter().filter(|(prefix, _)| model.starts_with(prefix.as_str()));
            names.get(longest.max_by_key(|(prefix, _)| prefix.len())?.1)
        })?;
        let in_force = |entry: &&Entry| {
            entry.from.is_none_or(|from| at.0 >= from) && entry.until.is_none_or(|until| at.0 < until)
        };
        entries.iter().rev().find(in_force).map(|entry| &entry.price)
    }

    /// Models that have a price with that provider at that time.
    pub fn models(&self, provider: &str) -> impl Iterator<Item = &str> {
        self.exact.get(provider).into_iter().flat_map(|names| names.keys().map(String::as_str))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const TABLE: &str = r#"{"date":"2026-01-02","prices":[
        {"provider":"p","model":"m","aliases":["m-latest"],"prefixes":["m-20"],"from":null,"until":"2026-01-01","context_window":null,"max_output":10,
         "meters":{"input":"150000000000","output":"600000000000","cache_read":"75000000000"},
         "tiers":[{"above_input_tokens":1000,"meters":{"input":"300000000000"}}]},
        {"provider":"p","model":"m","from":"2026-01-01","until":null,"context_window":null,"max_output":null,"meters":{"input":"1"}}]}"#;

    fn usage(pairs: &[(Meter, u64)]) -> Usage {
        pairs.iter().copied().collect()
    }

    #[test]
    fn the_price_in_force_is_found_by_name_alias_and_prefix() {
        let table = PriceTable::from_json(TABLE).unwrap();
        let (before, after) = (Micros(1_700_000_000_000_000), Micros(1_800_000_000_000_000));
        for name in ["m", "m-latest", "m-2024-07-18"] {
            assert!(table.find("p", name, before).unwrap().meters.contains_key(&Meter::Output), "{name}");
        }
        assert!(!table.find("p", "m", after).unwrap().meters.contains_key(&Meter::Output));
        assert_eq!(table.find("p", "n", before), None);
        assert_eq!(table.find("q", "m", before), None);
        assert_eq!(table.find("p", "m-latest", after), None, "the alias was not dated on");
    }

    #[test]
    fn a_long_context_reprices_the_whole_request() {
        let table = PriceTable::from_json(TABLE).unwrap();
        let price = table.find("p", "m", Micros(0)).unwrap();
        let total = |pairs: &[(Meter, u64)]| -> i128 {
            price.cost(&usage(pairs)).unwrap().iter().map(|line| line.amount.pico()).sum()
        };
        assert_eq!(total(&[(Meter::Input, 1000), (Meter::Output, 1)]), 150_000_000 + 600_000);
        assert_eq!(total(&[(Meter::Input, 1001)]), 300_300_000);
        assert_eq!(total(&[(Meter::Input, 900), (Meter::CacheRead, 101)]), 270_000_000 + 7_575_000);
        assert_eq!(total(&[(Meter::Reasoning, 2)]), 1_200_000, "reasoning falls back to output");
        assert_eq!(price.cost(&usage(&[(Meter::InputAudio, 1)])), Err(Unpriced(Meter::InputAudio)));
        assert_eq!(price.dearest(false).unwrap().pico(), 300_000_000_000);
    }

    #[test]
    fn the_shipped_table_is_read() {
        let table = PriceTable::builtin().unwrap();
        let price = table.find("openai", "gpt-4o-mini-2024-07-18", Micros(1_790_000_000_000_000)).unwrap();
        assert_eq!(price.meters[&Meter::Input].pico(), 150_000_000_000);
    }
}
