//! Which price a name has at a time.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::file::{self, PriceError};
use super::{Price, Rates};
use crate::avro::Micros;

/// The dated table that ships with the binary, derived from pydantic's genai-prices (MIT).
const BUILTIN: &str = include_str!("../../prices/genai-prices.json");

/// A price and when it is in force, in microseconds.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) from: Option<i64>,
    pub(super) until: Option<i64>,
    pub(super) price: Arc<Price>,
}

impl Entry {
    fn in_force(&self, at: Micros) -> bool {
        self.from.is_none_or(|from| at.0 >= from) && self.until.is_none_or(|until| at.0 < until)
    }
}

/// One provider's names, in lower case.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) exact: BTreeMap<String, Vec<Entry>>,
    /// Whole names in which `#` stands for a digit, and the model meant.
    pub(super) patterns: Vec<(String, String)>,
    /// Beginnings of names, the longest first, and the model meant.
    pub(super) prefixes: Vec<(String, String)>,
    /// Whose prices count where this provider, which sells others' models, has none.
    pub(super) fallbacks: Vec<String>,
}

impl Names {
    /// The model's own name or alias; else a pattern that fits; else the longest prefix.
    fn find(&self, name: &str, at: Micros) -> Option<&Arc<Price>> {
        let entries = self.exact.get(name).or_else(|| {
            let pattern = self.patterns.iter().find(|(pattern, _)| fits(pattern, name));
            let meant = pattern.or_else(|| self.prefixes.iter().find(|(prefix, _)| name.starts_with(prefix)));
            self.exact.get(&meant?.1)
        })?;
        entries.iter().rev().find(|entry| entry.in_force(at)).map(|entry| &entry.price)
    }
}

fn fits(pattern: &str, name: &str) -> bool {
    pattern.len() == name.len()
        && pattern
            .bytes()
            .zip(name.bytes())
            .all(|(want, is)| want == is || (want == b'#' && is.is_ascii_digit()))
}

/// All known prices, by provider and model. Clones share what was read from a file.
#[derive(Debug, Clone, Default)]
pub struct PriceTable {
    /// The table's date, as facts name it.
    pub date: String,
    providers: Arc<BTreeMap<String, Names>>,
    overrides: BTreeMap<String, BTreeMap<String, Vec<Entry>>>,
}

impl PriceTable {
    pub(super) fn new(date: String, providers: BTreeMap<String, Names>) -> Self {
        Self { date, providers: Arc::new(providers), overrides: BTreeMap::new() }
    }

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
        file::read(text)
    }

    /// Puts a price above all that the table has for that name from a time on. What it leaves out of the
    /// model's sizes stays as the table has it.
    pub fn override_price(
        &mut self,
        provider: &str,
        model: &str,
        from: Option<Micros>,
        rates: Rates,
        (max_output, context_window): (Option<u64>, Option<u64>),
        version: String,
    ) {
        let known = self.find(provider, model, from.unwrap_or(Micros(i64::MAX)));
        let price = Price {
            rates,
            service_tiers: BTreeMap::new(),
            max_output: max_output.or_else(|| known?.max_output),
            context_window: context_window.or_else(|| known?.context_window),
            version,
        };
        let models = self.overrides.entry(provider.to_owned()).or_default();
        let entry = Entry { from: from.map(|at| at.0), until: None, price: Arc::new(price) };
        models.entry(model.to_ascii_lowercase()).or_default().push(entry);
    }

    /// The price of a provider's model at a time, upper and lower case being the same: an override; else what
    /// the provider's table says of the name; else what the providers say whose models it sells. Of several in
    /// force the one added last. None when the price is unknown.
    #[must_use]
    pub fn find(&self, provider: &str, model: &str, at: Micros) -> Option<&Arc<Price>> {
        let name = match model.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(model.to_ascii_lowercase()),
            false => Cow::Borrowed(model),
        };
        let overrides = self.overrides.get(provider).and_then(|models| models.get(&*name));
        let overridden = overrides.and_then(|them| them.iter().rev().find(|entry| entry.in_force(at)));
        if let Some(entry) = overridden {
            return Some(&entry.price);
        }
        let names = self.providers.get(provider)?;
        let others = names.fallbacks.iter().filter_map(|other| self.providers.get(other));
        std::iter::once(names).chain(others).find_map(|names| names.find(&name, at))
    }

    /// Names that have a price with that provider, at some time.
    pub fn models(&self, provider: &str) -> impl Iterator<Item = &str> {
        let known = self.providers.get(provider).into_iter().flat_map(|names| names.exact.keys());
        let overrides = self.overrides.get(provider).into_iter().flat_map(BTreeMap::keys);
        overrides.chain(known).map(String::as_str)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::meters::{Meter, Usage};
    use crate::price::Unpriced;

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
            assert!(
                table.find("p", name, before).unwrap().rates.meters.contains_key(&Meter::Output),
                "{name}"
            );
        }
        assert!(!table.find("p", "m", after).unwrap().rates.meters.contains_key(&Meter::Output));
        assert_eq!(table.find("p", "n", before), None);
        assert_eq!(table.find("q", "m", before), None);
        assert_eq!(table.find("p", "m-latest", after), None, "the alias was not dated on");
    }

    #[test]
    fn a_long_context_reprices_the_whole_request() {
        let table = PriceTable::from_json(TABLE).unwrap();
        let price = table.find("p", "m", Micros(0)).unwrap();
        let total = |pairs: &[(Meter, u64)]| -> i128 {
            price.cost(&usage(pairs), None).unwrap().iter().map(|line| line.amount.pico()).sum()
        };
        assert_eq!(total(&[(Meter::Input, 1000), (Meter::Output, 1)]), 150_000_000 + 600_000);
        assert_eq!(total(&[(Meter::Input, 1001)]), 300_300_000);
        assert_eq!(total(&[(Meter::Input, 900), (Meter::CacheRead, 101)]), 270_000_000 + 7_575_000);
        assert_eq!(total(&[(Meter::Reasoning, 2)]), 1_200_000, "reasoning falls back to output");
        assert_eq!(price.cost(&usage(&[(Meter::InputAudio, 1)]), None), Err(Unpriced(Meter::InputAudio)));
    }

    #[test]
    fn the_shipped_table_is_read() {
        let table = PriceTable::builtin().unwrap();
        let price = table.find("openai", "gpt-4o-mini-2024-07-18", Micros(1_790_000_000_000_000)).unwrap();
        assert_eq!(price.rates.meters[&Meter::Input].pico(), 150_000_000_000);
    }

    #[test]
    fn a_pattern_stands_for_digits_and_a_longer_prefix_wins() {
        let table = PriceTable::from_json(
            r#"{"date":"d","fallback_providers":{"reseller":["p"]},"prices":[
            {"provider":"p","model":"a","patterns":["a-####-##"],"prefixes":["a-x"],"from":null,"until":null,"context_window":null,"max_output":null,"meters":{"input":"1"}},
            {"provider":"p","model":"b","prefixes":["a-xy"],"from":null,"until":null,"context_window":null,"max_output":null,"meters":{"input":"2"}},
            {"provider":"reseller","model":"b","from":null,"until":null,"context_window":null,"max_output":null,"meters":{"input":"3"}}]}"#,
        )
        .unwrap();
        let input = |provider: &str, name: &str| {
            table.find(provider, name, Micros(0)).map(|price| price.rates.meters[&Meter::Input].pico())
        };
        assert_eq!(input("p", "A-2026-07"), Some(1), "digits fit, in any case of letters");
        assert_eq!(input("p", "a-2026-7x"), None);
        assert_eq!(input("p", "a-2026-071"), None, "a pattern is a whole name");
        assert_eq!(input("p", "a-x9"), Some(1));
        assert_eq!(input("p", "a-xyz"), Some(2));
        assert_eq!(input("reseller", "b"), Some(3), "a reseller's own price comes first");
        assert_eq!(input("reseller", "a"), Some(1));
    }

    #[test]
    fn a_service_tier_has_its_own_prices() {
        let table = PriceTable::from_json(
            r#"{"date":"d","prices":[{"provider":"p","model":"m","from":null,"until":null,"context_window":null,"max_output":null,
            "meters":{"input":"10000000","output":"40000000"},
            "variants":[{"when":{"processing":"batch"},"meters":{"input":"1"}},
                        {"when":{"service_tier":"priority"},"meters":{"input":"20000000"}}]}]}"#,
        )
        .unwrap();
        let price = table.find("p", "m", Micros(0)).unwrap();
        let total = |tier: Option<&str>| -> i128 {
            let counted = usage(&[(Meter::Input, 1), (Meter::Output, 1)]);
            price.cost(&counted, tier).unwrap().iter().map(|line| line.amount.pico()).sum()
        };
        assert_eq!(total(None), 50);
        assert_eq!(total(Some("default")), 50);
        assert_eq!(total(Some("priority")), 60, "output keeps its price");
        assert_eq!(total(Some("batch")), 50, "which is no service tier");
    }

    #[test]
    fn an_override_keeps_the_sizes_that_it_does_not_name() {
        let mut table = PriceTable::from_json(TABLE).unwrap();
        let from = Some(Micros(1_700_000_000_000_000));
        table.override_price("p", "M", from, Rates::default(), (None, Some(5)), "policy 2".to_owned());
        let price = table.find("p", "m", Micros(1_700_000_000_000_000)).unwrap();
        assert_eq!((price.max_output, price.context_window), (Some(10), Some(5)));
        assert_eq!(table.find("p", "m", Micros(0)).unwrap().version, "2026-01-02");
    }
}
