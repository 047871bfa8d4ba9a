//! The budgets that requests draw on, indexed by what they limit.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::budget::{Budget, Each, Scope, UNNAMED};
use super::owners::Owners;
use super::state::PolicyState;
use crate::avro::Micros;
use crate::facts::{About, AccountRef};
use crate::ids::Pseudonym;
use crate::window::{Span, zone};

/// A budget that a request draws on.
#[derive(Debug, Clone)]
pub struct Draw<'a> {
    /// The budget as policy has it.
    pub budget: &'a Arc<Budget>,
    /// Id of its account: the budget's own, or a member's.
    pub id: Cow<'a, str>,
    /// Zone of its windows, where the account is a member's.
    zone: Option<&'a TimeZone>,
}

impl<'a> Draw<'a> {
    /// A budget with one account for all.
    #[must_use]
    pub fn whole(budget: &'a Arc<Budget>) -> Self {
        Self { budget, id: Cow::Borrowed(&budget.id), zone: None }
    }

    /// A member of a budget that gives each an account of its own, in windows of that zone.
    #[must_use]
    pub fn member(budget: &'a Arc<Budget>, member: &str, zone: &'a TimeZone) -> Self {
        Self { budget, id: Cow::Owned(budget.account_of(member)), zone: Some(zone) }
    }

    /// A member's account at an instant, as its ledger will open it when it is first named; none for a budget whose
    /// windows are opened without being asked for.
    #[must_use]
    pub fn on_demand(&self, at: Micros) -> Option<AccountRef> {
        let window = self.span(at)?.id();
        Some(AccountRef { budget: self.id.clone().into_owned(), window })
    }

    /// When that account's window ends; none for `total`.
    #[must_use]
    pub fn ends_at(&self, at: Micros) -> Option<Micros> {
        self.span(at)?.ends_at
    }

    fn span(&self, at: Micros) -> Option<Span> {
        self.budget.window.span(at, self.zone?).ok()
    }
}

#[derive(Debug, Clone)]
struct Entry {
    budget: Arc<Budget>,
    zone: TimeZone,
}

type ByName = HashMap<String, Vec<Entry>>;

/// The budgets of one organisation.
#[derive(Debug, Clone, Default)]
struct Index {
    all: Vec<Entry>,
    teams: ByName,
    projects: ByName,
    keys: ByName,
    models: ByName,
    providers: ByName,
    tags: HashMap<String, ByName>,
    users: HashMap<Pseudonym, Vec<Entry>>,
}

impl Index {
    fn add(&mut self, entry: Entry) {
        let by_name =
            |map: &mut ByName, name: &str, entry| map.entry(name.to_owned()).or_default().push(entry);
        match &Arc::clone(&entry.budget).scope {
            Scope::Organisation(_) => self.all.push(entry),
            Scope::Team(id) => by_name(&mut self.teams, id, entry),
            Scope::Project(id) => by_name(&mut self.projects, id, entry),
            Scope::Key(id) => by_name(&mut self.keys, id, entry),
            Scope::Model(name) => by_name(&mut self.models, name, entry),
            Scope::Provider(id) => by_name(&mut self.providers, id, entry),
            Scope::Tag(name, value) => by_name(self.tags.entry(name.clone()).or_default(), value, entry),
            Scope::Pseudonym(pseudonym) => self.users.entry(*pseudonym).or_default().push(entry),
            // A name is never published; one that was nevertheless limits nobody.
            Scope::EndUser(_) => {}
        }
    }
}

/// All budgets in force, by organisation.
#[derive(Debug, Clone, Default)]
pub(super) struct Draws(HashMap<String, Index>);

impl Draws {
    pub(super) fn new(state: &PolicyState) -> Self {
        let owners = Owners::new(state);
        let mut draws: HashMap<String, Index> = HashMap::new();
        for budget in &state.document.budgets {
            let Some(organisation) = owners.of(budget) else { continue };
            let named = state.document.zone_of(organisation).unwrap_or("UTC");
            let Ok(zone) = zone(named) else { continue };
            let entry = Entry { budget: Arc::new(budget.clone()), zone };
            draws.entry(organisation.to_owned()).or_default().add(entry);
        }
        Self(draws)
    }

    /// Those that do not depend on where the request goes.
    pub(super) fn of_request(&self, about: &About) -> Vec<Draw<'_>> {
        let Some(index) = self.0.get(&about.organisation) else { return Vec::new() };
        let mut found: Vec<Draw<'_>> = Vec::with_capacity(8);
        let by_tag = about.tags.iter().filter_map(|(name, value)| index.tags.get(name)?.get(value));
        let lists = [
            Some(&index.all),
            about.team.as_ref().and_then(|team| index.teams.get(team)),
            about.project.as_ref().and_then(|project| index.projects.get(project)),
            index.keys.get(&about.key),
            about.end_user.as_ref().and_then(|user| index.users.get(user)),
        ];
        for entry in lists.into_iter().flatten().chain(by_tag).flatten() {
            found.push(draw(entry, about));
        }
        found
    }

    /// Those of the provider and model of one attempt.
    pub(super) fn of_target(&self, about: &About, provider: &str, model: &str) -> Vec<Draw<'_>> {
        let Some(index) = self.0.get(&about.organisation) else { return Vec::new() };
        let lists = [index.providers.get(provider), index.models.get(model)];
        lists.into_iter().flatten().flatten().map(|entry| draw(entry, about)).collect()
    }

    /// Those of any provider or model.
    pub(super) fn of_targets(&self, about: &About) -> Vec<Draw<'_>> {
        let Some(index) = self.0.get(&about.organisation) else { return Vec::new() };
        let lists = index.providers.values().chain(index.models.values());
        lists.flatten().map(|entry| draw(entry, about)).collect()
    }
}

fn draw<'a>(entry: &'a Entry, about: &About) -> Draw<'a> {
    match entry.budget.each {
        None => Draw::whole(&entry.budget),
        Some(Each::Key) => Draw::member(&entry.budget, &about.key, &entry.zone),
        Some(Each::EndUser) => {
            let user = about.end_user.map(|user| user.to_string());
            Draw::member(&entry.budget, user.as_deref().unwrap_or(UNNAMED), &entry.zone)
        }
    }
}
