//! Prices are data: per provider, model and meter, from a date on. An unknown price is a state of its own.
//!
//! | Part | Holds |
//! |---|---|
//! | here | what one model's meters cost, and the lines of a settlement |
//! | `table` | which price a name has at a time |
//! | `file` | the form of the shipped table |

mod file;
mod table;

pub use file::PriceError;
pub use table::PriceTable;

use std::collections::BTreeMap;

use crate::facts::CostLine;
use crate::meters::{Meter, Usage};
use crate::money::{Money, line_amount};

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

/// Base prices of meters, and what long inputs change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rates {
    /// Base prices.
    pub meters: Meters,
    /// Long-context tiers, by rising threshold.
    pub tiers: Vec<Tier>,
}

impl Rates {
    fn of(&self, meter: Meter, input_tokens: u64) -> Option<Money> {
        let tier = self.tiers.iter().rev().find(|tier| input_tokens > tier.above_input_tokens);
        tier.and_then(|tier| tier.meters.get(&meter)).or_else(|| self.meters.get(&meter)).copied()
    }

    /// Every price there is, of any tier.
    fn all(&self) -> impl Iterator<Item = (Meter, Money)> {
        let tiers = self.tiers.iter().flat_map(|tier| &tier.meters);
        tiers.chain(&self.meters).map(|(meter, price)| (*meter, *price))
    }
}

/// The price of one model at one time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Price {
    /// What a request costs unless its service tier says otherwise.
    pub rates: Rates,
    /// What requests of a service tier (`priority`, `flex`, ...) cost; a meter that is absent keeps its price.
    pub service_tiers: BTreeMap<String, Rates>,
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
    fn of(&self, service_tier: Option<&Rates>, meter: Meter, input_tokens: u64) -> Option<Money> {
        let named = |meter: Meter| {
            let special = service_tier.and_then(|rates| rates.of(meter, input_tokens));
            special.or_else(|| self.rates.of(meter, input_tokens))
        };
        named(meter).or_else(|| match meter {
            Meter::CacheRead | Meter::CacheWrite5m | Meter::CacheWrite1h => named(Meter::Input),
            Meter::Reasoning => named(Meter::Output),
            // Most calls have no price per request: that is a price of nothing.
            Meter::Requests => Some(Money::ZERO),
            _ => None,
        })
    }

    /// One line per meter that counted something. The service tier is the one that the provider says it
    /// served; one without prices of its own costs what every request does.
    ///
    /// # Errors
    /// When a meter has no price.
    pub fn cost(&self, usage: &Usage, service_tier: Option<&str>) -> Result<Vec<CostLine>, Unpriced> {
        let service_tier = service_tier.and_then(|tier| self.service_tiers.get(tier));
        let input_tokens = usage
            .iter()
            .filter(|(meter, _)| !meter.is_output() && **meter != Meter::Requests)
            .fold(0_u64, |sum, (_, quantity)| sum.saturating_add(*quantity));
        usage
            .iter()
            .filter(|(_, quantity)| **quantity > 0)
            .map(|(&meter, &quantity)| {
                let price_per_million = self.of(service_tier, meter, input_tokens).ok_or(Unpriced(meter))?;
                let amount = line_amount(quantity, price_per_million);
                Ok(CostLine { meter, quantity, price_per_million, amount })
            })
            .filter(|line| {
                line.as_ref().is_ok_and(|line| line.amount != Money::ZERO || line.meter != Meter::Requests)
                    || line.is_err()
            })
            .collect()
    }

    /// Every price that a request of that service tier can be charged by, in any tier of length: a provider may
    /// serve it as an ordinary request as well, and one that leaves the choice to it (`auto`) in any tier.
    pub fn chargeable(&self, service_tier: Option<&str>) -> impl Iterator<Item = (Meter, Money)> {
        let may_be = move |name: &str| service_tier.is_some_and(|tier| tier == name || tier == "auto");
        let special = self.service_tiers.iter().filter(move |(name, _)| may_be(name));
        self.rates.all().chain(special.flat_map(|(_, rates)| rates.all()))
    }

    /// The price of the call itself, at its dearest.
    #[must_use]
    pub fn per_request(&self, service_tier: Option<&str>) -> Money {
        let calls = self.chargeable(service_tier).filter(|(meter, _)| *meter == Meter::Requests);
        calls.map(|(_, price)| line_amount(1, price)).max().unwrap_or(Money::ZERO)
    }
}
