//! The policy in force, indexed for the hot path: who a key belongs to, which targets a model has, which
//! budgets a request draws on, what it costs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::document::{Document, Provider, UnknownPrice};
use super::draws::{Draw, Draws};
use super::state::{Issued, PolicyState};
use crate::avro::Micros;
use crate::facts::About;
use crate::ids::Digest;
use crate::price::{Price, PriceTable, Rates};

/// Whom a key speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The key's id.
    pub key: String,
    /// Its organisation.
    pub organisation: String,
    /// Its team.
    pub team: Option<String>,
    /// Its project.
    pub project: Option<String>,
    /// The cost centre: the project's, else the team's, else the organisation's.
    pub cost_center: Option<String>,
    /// Tags of team, project and key; the more specific wins.
    pub tags: BTreeMap<String, String>,
    /// Lists of models, each of which must allow a request's model.
    allowed: Vec<Vec<String>>,
}

impl Principal {
    /// True when the key, its project and its team all allow the model. `*` at the end of a name stands
    /// for any rest.
    #[must_use]
    pub fn may_use(&self, model: &str) -> bool {
        let allows =
            |name: &String| name.strip_suffix('*').map_or(name == model, |prefix| model.starts_with(prefix));
        self.allowed.iter().all(|list| list.iter().any(allows))
    }
}

/// Where an attempt can go.
#[derive(Debug, Clone)]
pub struct Target {
    /// The provider.
    pub provider: Arc<Provider>,
    /// Its name of the model.
    pub model: String,
}

/// Ordered targets of a model.
#[derive(Debug, Clone)]
pub struct Route {
    /// The first is tried first.
    pub targets: Vec<Target>,
    /// Statuses that fall back; none for the default of 408, 429 and 500 to 599.
    pub fallback_on: Option<Vec<u16>>,
}

impl Route {
    /// True when an answer of that status is to be tried at the next target.
    #[must_use]
    pub fn falls_back_on(&self, status: u16) -> bool {
        match &self.fallback_on {
            Some(statuses) => statuses.contains(&status),
            None => matches!(status, 408 | 429 | 500..=599),
        }
    }
}

/// Why a model has no route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteError {
    /// The key may not use it.
    NotAllowed,
    /// No alias and no provider serves it.
    NotFound,
}

/// The policy in force, ready for requests.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    /// Its version.
    pub version: u64,
    /// Prices, overrides included.
    pub prices: PriceTable,
    document: Document,
    principals: HashMap<Digest, Arc<Principal>>,
    providers: BTreeMap<String, Arc<Provider>>,
    routes: BTreeMap<String, Arc<Route>>,
    budgets: Draws,
}

impl Directory {
    /// Indexes a state over the shipped (or another) price table.
    #[must_use]
    pub fn new(state: &PolicyState, prices: &PriceTable) -> Self {
        let document = state.document.clone();
        let providers: BTreeMap<_, _> = document
            .providers
            .iter()
            .map(|provider| (provider.id.clone(), Arc::new(provider.clone())))
            .collect();
        let mut routes = BTreeMap::new();
        for model in &document.models {
            let target = |target: &super::ModelTarget| {
                let provider = Arc::clone(providers.get(&target.provider)?);
                Some(Target { provider, model: target.model.clone() })
            };
            let targets = model.targets.iter().filter_map(target).collect();
            routes.insert(
                model.id.clone(),
                Arc::new(Route { targets, fallback_on: model.fallback_on.clone() }),
            );
        }
        let budgets = Draws::new(state);
        let live = state.keys.values().filter(|key| key.revoked.is_none());
        let principals = live.map(|key| (key.secret_hash, Arc::new(principal(&document, key)))).collect();
        let prices = with_overrides(prices, &document, state.version);
        Self { version: state.version, prices, document, principals, providers, routes, budgets }
    }

    /// The document.
    #[must_use]
    pub const fn document(&self) -> &Document {
        &self.document
    }

    /// Whom the key with that hash speaks for; none when it is unknown or revoked.
    #[must_use]
    pub fn principal(&self, secret_hash: &Digest) -> Option<&Arc<Principal>> {
        self.principals.get(secret_hash)
    }

    /// The targets of a model: an alias; else `provider/model`; else the first provider, in the document's
    /// order, whose prices know the name; else, when unknown prices pass, the only provider there is.
    ///
    /// # Errors
    /// When the key may not use it or nothing serves it.
    pub fn route(&self, principal: &Principal, model: &str, at: Micros) -> Result<Arc<Route>, RouteError> {
        if !principal.may_use(model) {
            return Err(RouteError::NotAllowed);
        }
        if let Some(route) = self.routes.get(model) {
            return Ok(Arc::clone(route));
        }
        let single = |provider: &Arc<Provider>, model: &str| {
            let target = Target { provider: Arc::clone(provider), model: model.to_owned() };
            Ok(Arc::new(Route { targets: vec![target], fallback_on: None }))
        };
        if let Some((id, rest)) = model.split_once('/')
            && let Some(provider) = self.providers.get(id)
        {
            return single(provider, rest);
        }
        for provider in &self.document.providers {
            if self.prices.find(price_name(provider), model, at).is_some()
                && let Some(provider) = self.providers.get(&provider.id)
            {
                return single(provider, model);
            }
        }
        match (self.document.unknown_price, self.document.providers.as_slice()) {
            (UnknownPrice::Pass, [only]) => {
                self.providers.get(&only.id).map_or(Err(RouteError::NotFound), |it| single(it, model))
            }
            _ => Err(RouteError::NotFound),
        }
    }

    /// The price of a target at a time.
    #[must_use]
    pub fn price(&self, target: &Target, at: Micros) -> Option<&Arc<Price>> {
        self.prices.find(price_name(&target.provider), &target.model, at)
    }

    /// The budgets that a request draws on wherever it goes.
    #[must_use]
    pub fn budgets(&self, about: &About) -> Vec<Draw<'_>> {
        self.budgets.of_request(about)
    }

    /// The budgets that an attempt at a target draws on beside those.
    #[must_use]
    pub fn budgets_of(&self, about: &About, target: &Target) -> Vec<Draw<'_>> {
        self.budgets.of_target(about, &target.provider.id, &target.model)
    }

    /// The budgets that attempts at one target or another draw on beside those.
    #[must_use]
    pub fn budgets_of_targets(&self, about: &About) -> Vec<Draw<'_>> {
        self.budgets.of_targets(about)
    }

    /// True when the organisation wants output caps lowered rather than requests refused.
    #[must_use]
    pub fn lowers_caps(&self, organisation: &str) -> bool {
        self.document.organisations.iter().any(|found| found.id == organisation && found.lower_cap)
    }

    /// Models that the shipped table or policy prices for the document's providers at a time.
    pub fn priced(&self, at: Micros) -> impl Iterator<Item = &str> {
        self.document.providers.iter().flat_map(move |provider| {
            let name = price_name(provider);
            self.prices.models(name).filter(move |model| self.prices.find(name, model, at).is_some())
        })
    }

    /// Aliases that clients may ask for.
    pub fn aliases(&self) -> impl Iterator<Item = &str> {
        self.routes.keys().map(String::as_str)
    }
}

fn price_name(provider: &Provider) -> &str {
    provider.prices.as_deref().unwrap_or(&provider.id)
}

fn with_overrides(prices: &PriceTable, document: &Document, version: u64) -> PriceTable {
    let mut prices = prices.clone();
    for entry in &document.prices {
        let Some(provider) = document.providers.iter().find(|provider| provider.id == entry.provider) else {
            continue;
        };
        let from = entry.from.as_ref().and_then(|from| {
            let date: jiff::civil::Date = from.parse().ok()?;
            Some(Micros(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_microsecond()))
        });
        let rates = Rates { meters: entry.meters.clone(), tiers: Vec::new() };
        let sizes = (entry.max_output, entry.context_window);
        let version = format!("policy {version}");
        prices.override_price(price_name(provider), &entry.model, from, rates, sizes, version);
    }
    prices
}

fn principal(document: &Document, key: &Issued) -> Principal {
    let organisation = document.organisations.iter().find(|it| it.id == key.organisation);
    let project = key.project.as_ref().and_then(|id| document.projects.iter().find(|it| it.id == *id));
    let team = key.team.as_ref().and_then(|id| document.teams.iter().find(|it| it.id == *id));
    let mut tags = team.map(|team| team.tags.clone()).unwrap_or_default();
    tags.extend(project.map(|project| project.tags.clone()).unwrap_or_default());
    tags.extend(key.tags.clone());
    let lists = [team.map(|it| &it.models), project.map(|it| &it.models), Some(&key.models)];
    Principal {
        key: key.key.clone(),
        organisation: key.organisation.clone(),
        team: key.team.clone(),
        project: key.project.clone(),
        cost_center: project
            .and_then(|it| it.cost_center.clone())
            .or_else(|| team.and_then(|it| it.cost_center.clone()))
            .or_else(|| organisation.and_then(|it| it.cost_center.clone())),
        tags,
        allowed: lists.into_iter().flatten().filter(|list| !list.is_empty()).cloned().collect(),
    }
}
