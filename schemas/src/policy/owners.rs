//! Which organisation a budget belongs to: its money is kept in that organisation's partition and zone.

use std::collections::{BTreeMap, BTreeSet};

use super::budget::{Budget, Scope};
use super::state::PolicyState;

/// The organisations of teams, projects and keys.
#[derive(Debug, Clone, Default)]
pub struct Owners<'a> {
    organisations: BTreeSet<&'a str>,
    teams: BTreeMap<&'a str, &'a str>,
    projects: BTreeMap<&'a str, &'a str>,
    keys: BTreeMap<&'a str, &'a str>,
}

impl<'a> Owners<'a> {
    /// Those of a state.
    #[must_use]
    pub fn new(state: &'a PolicyState) -> Self {
        let document = &state.document;
        let teams: BTreeMap<&str, &str> =
            document.teams.iter().map(|it| (it.id.as_str(), it.organisation.as_str())).collect();
        let of_team = |team: &str| teams.get(team).copied();
        Self {
            organisations: document.organisations.iter().map(|it| it.id.as_str()).collect(),
            projects: (document.projects.iter())
                .filter_map(|it| Some((it.id.as_str(), of_team(&it.team)?)))
                .collect(),
            keys: state.keys.values().map(|it| (it.key.as_str(), it.organisation.as_str())).collect(),
            teams,
        }
    }

    /// The organisation of a budget; none while nobody has what it limits: a key may be issued later.
    #[must_use]
    pub fn of(&self, budget: &'a Budget) -> Option<&'a str> {
        match &budget.scope {
            Scope::Organisation(id) => self.organisations.get(id.as_str()).copied(),
            Scope::Team(id) => self.teams.get(id.as_str()).copied(),
            Scope::Project(id) => self.projects.get(id.as_str()).copied(),
            Scope::Key(id) => self.keys.get(id.as_str()).copied(),
            Scope::Model(_)
            | Scope::Provider(_)
            | Scope::Tag(..)
            | Scope::EndUser(_)
            | Scope::Pseudonym(_) => match &budget.organisation {
                Some(id) => self.organisations.get(id.as_str()).copied(),
                None if self.organisations.len() == 1 => self.organisations.first().copied(),
                None => None,
            },
        }
    }
}
