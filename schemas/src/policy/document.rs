//! The policy document as people write it (TOML) and as facts keep it (canonical JSON).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::budget::{Budget, Scope};
use super::retention::{ContentPolicy, Retention};
use super::webhook::Webhook;
use crate::ids::Pseudonym;
use crate::meters::Meter;
use crate::money::Money;

/// What is wrong with a policy document. Every message names the place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The text is not a document: a typo, a wrong type, an unknown key.
    #[error("failed to read {file}: {message}")]
    Text {
        /// The file.
        file: String,
        /// What and where, in the reader's own words.
        message: String,
    },
    /// The document contradicts itself.
    #[error("failed to accept the policy:\n  {}", .0.join("\n  "))]
    Faults(Vec<String>),
}

/// Everything that is decided by people, at one version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// What happens to a model without a known price.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unknown_price: UnknownPrice,
    /// How long sealed records are kept; for ever where it does not say.
    #[serde(default, skip_serializing_if = "is_default")]
    pub retention: Retention,
    /// Whose content is captured.
    #[serde(default, skip_serializing_if = "is_default")]
    pub content: ContentPolicy,
    /// Roots of budget trees.
    #[serde(default, rename = "organisation")]
    pub organisations: Vec<Organisation>,
    /// Teams.
    #[serde(default, rename = "team", skip_serializing_if = "Vec::is_empty")]
    pub teams: Vec<Team>,
    /// Projects of teams.
    #[serde(default, rename = "project", skip_serializing_if = "Vec::is_empty")]
    pub projects: Vec<Project>,
    /// Budgets.
    #[serde(default, rename = "budget", skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<Budget>,
    /// Providers.
    #[serde(default, rename = "provider", skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<Provider>,
    /// Model aliases with ordered targets.
    #[serde(default, rename = "model", skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<Model>,
    /// Prices above the shipped table.
    #[serde(default, rename = "price", skip_serializing_if = "Vec::is_empty")]
    pub prices: Vec<PriceOverride>,
    /// Who is told of alerts.
    #[serde(default, rename = "webhook", skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<Webhook>,
}

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What happens to a model without a known price.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownPrice {
    /// The request is refused.
    #[default]
    Refuse,
    /// The request passes unless a hard budget is on its path, and is settled as unpriced.
    Pass,
}

/// The root of a budget tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Organisation {
    /// Its id.
    pub id: String,
    /// IANA time zone of its windows and months; UTC when absent.
    #[serde(default = "utc", skip_serializing_if = "is_utc")]
    pub time_zone: String,
    /// Cost centre of what no team or project charges elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_center: Option<String>,
    /// Lowers the output cap of requests to what their budgets can still pay, instead of refusing them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub lower_cap: bool,
}

impl Organisation {
    /// An organisation in UTC.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self { id: id.to_owned(), time_zone: utc(), cost_center: None, lower_cap: false }
    }
}

fn utc() -> String {
    "UTC".to_owned()
}

fn is_utc(zone: &str) -> bool {
    zone == "UTC"
}

/// A team of an organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Team {
    /// Its id.
    pub id: String,
    /// Its organisation.
    pub organisation: String,
    /// The cost centre that is charged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_center: Option<String>,
    /// Tags on each of its requests.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Models and aliases that it may use; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
}

/// A project of a team.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// Its id.
    pub id: String,
    /// Its team.
    pub team: String,
    /// The cost centre that is charged instead of the team's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_center: Option<String>,
    /// Tags, above the team's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Models and aliases that it may use; all that its team may when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
}

/// A provider of models.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Its id; also the provider's name in the price table unless `prices` names another.
    pub id: String,
    /// Base URL up to and including the version, such as `https://api.openai.com/v1`, which is also the
    /// default for the id `openai`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// Reference to its key: `env:NAME` or `file:PATH`; none for a provider that asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
    /// The provider's name in the price table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<String>,
    /// Milliseconds to the first byte of an answer before the next target is tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// An alias with its targets, in order of preference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The name that clients use.
    pub id: String,
    /// The first is tried first, the others are fallbacks.
    pub targets: Vec<ModelTarget>,
    /// Statuses that fall back; 408, 429 and 500 to 599 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_on: Option<Vec<u16>>,
}

/// One target of an alias.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelTarget {
    /// The provider's id.
    pub provider: String,
    /// The provider's name of the model.
    pub model: String,
}

/// A price above the shipped table: dollars per million units by meter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceOverride {
    /// The provider's id.
    pub provider: String,
    /// The provider's name of the model.
    pub model: String,
    /// First day, as `YYYY-MM-DD` (UTC); always when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Dollars per million units.
    pub meters: BTreeMap<Meter, Money>,
    /// Most output tokens that the model gives in one choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output: Option<u64>,
    /// Tokens that input and output may have together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_window: Option<u64>,
}

impl Document {
    /// Reads and joins files, each given with its name, and checks the whole.
    ///
    /// # Errors
    /// The first file that cannot be read, or everything in which the whole contradicts itself.
    pub fn from_toml<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, PolicyError> {
        let mut whole = Self::default();
        for (file, text) in files {
            let part: Self = toml::from_str(text)
                .map_err(|error| PolicyError::Text { file: file.to_owned(), message: error.to_string() })?;
            whole.content.capture_teams.extend(part.content.capture_teams);
            whole.organisations.extend(part.organisations);
            whole.teams.extend(part.teams);
            whole.projects.extend(part.projects);
            whole.budgets.extend(part.budgets);
            whole.providers.extend(part.providers);
            whole.models.extend(part.models);
            whole.prices.extend(part.prices);
            whole.retention = whole.retention.joined(part.retention).map_err(|name| {
                PolicyError::Faults(vec![format!("retention: two files say otherwise what {name} is")])
            })?;
            whole.webhooks.extend(part.webhooks);
            if part.unknown_price != UnknownPrice::default() {
                whole.unknown_price = part.unknown_price;
            }
        }
        whole.check()?;
        Ok(whole)
    }

    /// Reads the canonical JSON of a published version.
    ///
    /// # Errors
    /// When the text is not a document.
    pub fn from_json(text: &str) -> Result<Self, PolicyError> {
        serde_json::from_str(text).map_err(|error| PolicyError::Text {
            file: "the published policy".to_owned(),
            message: error.to_string(),
        })
    }

    /// The canonical JSON, as facts keep it.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The organisation's time zone name.
    #[must_use]
    pub fn zone_of(&self, organisation: &str) -> Option<&str> {
        self.organisations.iter().find(|found| found.id == organisation).map(|found| found.time_zone.as_str())
    }

    /// The budget of that id; or the budget that gives each member an account of its own, and the member, where the id
    /// is such an account's.
    #[must_use]
    pub fn budget<'a>(&self, id: &'a str) -> Option<(&Budget, Option<&'a str>)> {
        let named = |id: &str| self.budgets.iter().find(|found| found.id == id);
        if let Some(found) = named(id) {
            return Some((found, None));
        }
        let (template, member) = id.rsplit_once('/')?;
        named(template).filter(|found| found.each.is_some()).map(|found| (found, Some(member)))
    }

    /// The document with every end user that it names replaced by what `pseudonym` makes of organisation and name, so
    /// that no name is published.
    #[must_use]
    pub fn with_pseudonyms(mut self, pseudonym: impl Fn(&str, &str) -> Pseudonym) -> Self {
        let only = match self.organisations.as_slice() {
            [only] => Some(only.id.clone()),
            _ => None,
        };
        for budget in &mut self.budgets {
            let Some(organisation) = budget.organisation.as_ref().or(only.as_ref()) else { continue };
            if let Scope::EndUser(name) = &budget.scope {
                budget.scope = Scope::Pseudonym(pseudonym(organisation, name));
            }
        }
        self
    }

    /// True when it names an end user: such a document must not be published.
    #[must_use]
    pub fn names_end_users(&self) -> bool {
        self.budgets.iter().any(|budget| matches!(budget.scope, Scope::EndUser(_)))
    }
}
