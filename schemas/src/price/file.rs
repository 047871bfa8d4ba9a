//! The form of the shipped table: integer pico-dollars per million units as strings, one entry per model and
//! period. `schemas/prices/README.md` describes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::table::{Entry, Names, PriceTable};
use super::{Meters, Price, Rates, Tier};
use crate::meters::Meter;
use crate::money::Money;

/// A price table could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to read the price table: {0}")]
pub struct PriceError(String);

/// Entries are read one by one: all of them at once would take several times the file's size.
#[derive(Deserialize)]
struct FileTable<'a> {
    date: String,
    #[serde(default)]
    fallback_providers: BTreeMap<String, Vec<String>>,
    #[serde(borrow)]
    prices: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct FilePrice {
    provider: String,
    model: String,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    prefixes: Vec<String>,
    #[serde(default)]
    patterns: Vec<String>,
    from: Option<String>,
    until: Option<String>,
    context_window: Option<u64>,
    max_output: Option<u64>,
    #[serde(default)]
    alias_max_output: BTreeMap<String, u64>,
    meters: BTreeMap<Meter, String>,
    #[serde(default)]
    tiers: Vec<FileTier>,
    #[serde(default)]
    variants: Vec<FileVariant>,
}

#[derive(Deserialize)]
struct FileTier {
    above_input_tokens: u64,
    meters: BTreeMap<Meter, String>,
}

/// Prices of requests of a certain kind.
#[derive(Deserialize)]
struct FileVariant {
    when: BTreeMap<String, String>,
    meters: BTreeMap<Meter, String>,
    #[serde(default)]
    tiers: Vec<FileTier>,
}

/// Reads a table.
pub(super) fn read(text: &str) -> Result<PriceTable, PriceError> {
    let wrong = |error: serde_json::Error| PriceError(error.to_string());
    let file: FileTable<'_> = serde_json::from_str(text).map_err(wrong)?;
    let mut providers: BTreeMap<String, Names> = BTreeMap::new();
    for entry in file.prices {
        let entry: FilePrice = serde_json::from_str(entry.get()).map_err(wrong)?;
        let names = providers.entry(entry.provider.clone()).or_default();
        add(names, entry, &file.date)?;
    }
    for (provider, others) in file.fallback_providers {
        providers.entry(provider).or_default().fallbacks = others;
    }
    for names in providers.values_mut() {
        // The longest that fits is looked for first.
        names.prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        names.prefixes.dedup();
        names.patterns.dedup();
    }
    Ok(PriceTable::new(file.date, providers))
}

fn add(names: &mut Names, entry: FilePrice, date: &str) -> Result<(), PriceError> {
    let mut service_tiers = BTreeMap::new();
    for variant in entry.variants {
        // What else makes a variant (batches, a provider's own switches) does not pass through here.
        if variant.when.len() == 1
            && let Some(tier) = variant.when.get("service_tier")
        {
            // Of two the first says more.
            service_tiers.entry(tier.clone()).or_insert(rates(variant.meters, variant.tiers)?);
        }
    }
    let price = Arc::new(Price {
        rates: rates(entry.meters, entry.tiers)?,
        service_tiers,
        max_output: entry.max_output,
        context_window: entry.context_window,
        version: date.to_owned(),
    });
    let (from, until) = (day(entry.from.as_deref())?, day(entry.until.as_deref())?);
    let model = entry.model.to_ascii_lowercase();
    for alias in entry.aliases.iter().filter(|alias| alias.to_ascii_lowercase() != model) {
        let price = match entry.alias_max_output.get(alias) {
            Some(most) => Arc::new(Price { max_output: Some(*most), ..(*price).clone() }),
            None => Arc::clone(&price),
        };
        names.exact.entry(alias.to_ascii_lowercase()).or_default().push(Entry { from, until, price });
    }
    let lower = |name: &String| (name.to_ascii_lowercase(), model.clone());
    names.prefixes.extend(entry.prefixes.iter().map(lower));
    names.patterns.extend(entry.patterns.iter().map(lower));
    names.exact.entry(model).or_default().push(Entry { from, until, price });
    Ok(())
}

fn rates(meters: BTreeMap<Meter, String>, tiers: Vec<FileTier>) -> Result<Rates, PriceError> {
    let tier =
        |tier: FileTier| Ok(Tier { above_input_tokens: tier.above_input_tokens, meters: pico(tier.meters)? });
    let mut tiers = tiers.into_iter().map(tier).collect::<Result<Vec<_>, _>>()?;
    tiers.sort_by_key(|tier| tier.above_input_tokens);
    Ok(Rates { meters: pico(meters)?, tiers })
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
