//! What makes a document contradict itself; every fault names its place, none repeats a secret.

use std::collections::BTreeSet;

use super::budget::{Budget, Each, Scope};
use super::document::{Document, PolicyError};
use crate::facts::{Mode, Recovery};
use crate::money::Money;
use crate::position::Topic;
use crate::window;

impl Document {
    /// Checks that ids are well formed and unique and that every reference holds.
    ///
    /// # Errors
    /// All faults found.
    pub fn check(&self) -> Result<(), PolicyError> {
        let mut faults = Vec::new();
        let organisations = ids("organisation", self.organisations.iter().map(|it| &it.id), &mut faults);
        let teams = ids("team", self.teams.iter().map(|it| &it.id), &mut faults);
        let projects = ids("project", self.projects.iter().map(|it| &it.id), &mut faults);
        let providers = ids("provider", self.providers.iter().map(|it| &it.id), &mut faults);
        ids("budget", self.budgets.iter().map(|it| &it.id), &mut faults);
        ids("webhook", self.webhooks.iter().map(|it| &it.id), &mut faults);
        ids("model", self.models.iter().map(|it| &it.id), &mut faults);
        let mut refer = |holds: bool, place: String, missing: String| {
            if !holds {
                faults.push(format!("{place}: there is no {missing}"));
            }
        };
        for team in &self.teams {
            let place = format!("team {:?}", team.id);
            refer(
                organisations.contains(&team.organisation),
                place,
                format!("organisation {:?}", team.organisation),
            );
        }
        for project in &self.projects {
            refer(
                teams.contains(&project.team),
                format!("project {:?}", project.id),
                format!("team {:?}", project.team),
            );
        }
        for budget in &self.budgets {
            let holds = match &budget.scope {
                Scope::Organisation(id) => organisations.contains(id),
                Scope::Team(id) => teams.contains(id),
                Scope::Project(id) => projects.contains(id),
                Scope::Provider(id) => providers.contains(id),
                // Keys are made after policy is published, so a budget may name one that is still to come; models,
                // tags and end users are named by requests.
                Scope::Key(_)
                | Scope::Model(_)
                | Scope::Tag(..)
                | Scope::EndUser(_)
                | Scope::Pseudonym(_) => true,
            };
            let place = format!("budget {:?}", budget.id);
            refer(holds, place.clone(), budget.scope.to_string());
            if let Some(id) = &budget.organisation {
                refer(organisations.contains(id), place, format!("organisation {id:?}"));
            }
        }
        for (owner, provider) in (self.models.iter())
            .flat_map(|model| {
                model.targets.iter().map(move |target| (format!("model {:?}", model.id), &target.provider))
            })
            .chain(self.prices.iter().map(|price| (format!("price of {:?}", price.model), &price.provider)))
        {
            refer(providers.contains(provider), owner, format!("provider {provider:?}"));
        }
        for team in &self.content.capture_teams {
            refer(teams.contains(team), "content.capture_teams".to_owned(), format!("team {team:?}"));
        }
        for budget in &self.budgets {
            self.check_budget(budget, &mut faults);
        }
        self.check_webhooks(&mut faults);
        self.check_values(&mut faults);
        if faults.is_empty() { Ok(()) } else { Err(PolicyError::Faults(faults)) }
    }

    fn check_budget(&self, budget: &Budget, faults: &mut Vec<String>) {
        let mut fault = |what: &str| faults.push(format!("budget {:?}: {what}", budget.id));
        if budget.amount < Money::ZERO {
            fault("the amount is below nothing");
        }
        if budget.recovery == Recovery::Journal && !matches!(budget.mode, Mode::Hard | Mode::Bounded) {
            fault("recovery is for budgets that are hard or bounded: no other holds money back");
        }
        let named = budget.organisation.as_deref();
        match &budget.scope {
            Scope::Organisation(id) if named.is_some_and(|it| it != id) => {
                fault("its organisation is another than that of its scope");
            }
            Scope::Team(_) | Scope::Project(_) | Scope::Key(_) if named.is_some() => {
                fault("organisation is for budgets on models, providers, tags and end users only");
            }
            Scope::Model(_)
            | Scope::Provider(_)
            | Scope::Tag(..)
            | Scope::EndUser(_)
            | Scope::Pseudonym(_)
                if named.is_none() && self.organisations.len() != 1 =>
            {
                fault("say whose it is with organisation = \"ID\": there is more than one");
            }
            _ => {}
        }
        if let Scope::Model(name) = &budget.scope
            && self.models.iter().any(|model| model.id == *name)
            && !self.models.iter().flat_map(|model| &model.targets).any(|target| target.model == *name)
        {
            fault("its scope names an alias; name the provider's model, since an attempt goes to one");
        }
        let alone = match budget.each {
            Some(Each::EndUser) => matches!(budget.scope, Scope::EndUser(_) | Scope::Pseudonym(_)),
            Some(Each::Key) => matches!(budget.scope, Scope::Key(_)),
            None => false,
        };
        if alone {
            fault("each is of no use where the scope is a single one");
        }
        if budget.members.is_some_and(|most| budget.each.is_none() || !(1..=1_000_000).contains(&most)) {
            fault("members is for budgets with each, and from 1 to 1000000");
        }
        let own = |other: &&Budget| other.each.is_some() && budget.id.starts_with(&other.account_of(""));
        if let Some(other) = self.budgets.iter().find(own) {
            fault(&format!("its id looks like an account of a member of {:?}", other.id));
        }
    }

    fn check_values(&self, faults: &mut Vec<String>) {
        for organisation in &self.organisations {
            if let Err(error) = window::zone(&organisation.time_zone) {
                faults.push(format!("organisation {:?}: {error}", organisation.id));
            }
        }
        for topic in Topic::ALL.into_iter().filter(|topic| self.retention.of(*topic) == Some(0)) {
            faults.push(format!("retention: {topic}_days is at least 1; leave it out to keep them for ever"));
        }
        if self.retention.content_days == Some(0) {
            faults.push(
                "retention: content_days is at least 1; leave [content] out to capture none".to_owned(),
            );
        }
        for model in self.models.iter().filter(|model| model.targets.is_empty()) {
            faults.push(format!("model {:?}: it has no targets", model.id));
        }
        for provider in &self.providers {
            let place = format!("provider {:?}", provider.id);
            match &provider.base_url {
                None if provider.id != "openai" => faults.push(format!("{place}: base_url is missing")),
                Some(url) if !(url.starts_with("http://") || url.starts_with("https://")) => {
                    faults.push(format!("{place}: base_url does not begin with http:// or https://"));
                }
                _ => {}
            }
            let reference = |key: &String| key.starts_with("env:") || key.starts_with("file:");
            if provider.api_key.as_ref().is_some_and(|key| !reference(key)) {
                // The value is not repeated: it may be the secret itself.
                faults.push(format!(
                    "{place}: api_key is not a reference; write env:NAME or file:PATH, never the key"
                ));
            }
        }
        for price in &self.prices {
            let place = format!("price of {:?}", price.model);
            if price.meters.values().any(|amount| *amount < Money::ZERO) {
                faults.push(format!("{place}: a price is below nothing"));
            }
            if price.from.as_ref().is_some_and(|from| from.parse::<jiff::civil::Date>().is_err()) {
                faults.push(format!("{place}: from is not a date such as 2026-11-01"));
            }
        }
    }
}

fn ids<'a>(
    kind: &str,
    all: impl Iterator<Item = &'a String>,
    faults: &mut Vec<String>,
) -> BTreeSet<&'a String> {
    let mut seen = BTreeSet::new();
    for id in all {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@".contains(&byte);
        if id.is_empty() || id.len() > 128 || !id.bytes().all(plain) {
            let shown: String = id.chars().take(64).collect();
            faults
                .push(format!("{kind} {shown:?}: an id has 1 to 128 letters, digits or any of - _ . / : @"));
        }
        if !seen.insert(id) {
            faults.push(format!("{kind} {id:?} is there twice"));
        }
    }
    seen
}
