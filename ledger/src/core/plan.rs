//! What policy wants of this partition's budgets: limits, and windows in the organisations' zones.

use std::collections::{BTreeMap, BTreeSet};

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{AccountRef, Mode, Recovery};
use bursar_schemas::fold;
use bursar_schemas::money::Money;
use bursar_schemas::policy::{Budget, PolicyState, Scope};
use bursar_schemas::position::partition_of;
use bursar_schemas::window::{Span, Window, zone};
use jiff::tz::TimeZone;

use serde::{Deserialize, Serialize};

use super::Timing;

/// Whose a budget is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub organisation: String,
    pub scope: Scope,
}

/// A budget of this partition.
#[derive(Debug, Clone)]
struct Planned {
    zone: TimeZone,
    window: Window,
    amount: Money,
    mode: Mode,
    recovery: Recovery,
    raised: bool,
    /// The window that held the last instant asked about.
    current: Option<Span>,
}

/// A limit that policy wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub amount: Money,
    pub mode: Mode,
    pub recovery: Recovery,
    pub version: (u64, u64),
}

impl Wanted {
    /// True when a record must be written: the log says something else, of an older version.
    pub(super) fn differs(&self, logged: Option<&fold::Budget>) -> bool {
        logged.is_none_or(|it| {
            (it.amount, it.mode, it.recovery) != (self.amount, self.mode, self.recovery)
                && it.version < self.version
        })
    }
}

/// The budgets of one partition's organisations, as policy has them.
#[derive(Debug, Default)]
pub(super) struct Plan {
    budgets: BTreeMap<String, Planned>,
    owners: BTreeMap<String, Owner>,
    /// Budgets whose wanted limit may differ from the log.
    pub due: BTreeSet<String>,
    /// The next expiry of a raise.
    next_expiry: Option<Micros>,
}

impl Plan {
    /// Follows a change of policy. `logged` are all budgets that the log has a limit of.
    pub(super) fn follow(
        &mut self,
        policy: &PolicyState,
        logged: &BTreeSet<String>,
        partition: (u32, u32),
        now: Micros,
    ) {
        self.remember(policy, partition);
        let raised: BTreeSet<&str> = policy.raises.iter().map(|it| it.budget.as_str()).collect();
        self.budgets = owned(policy, partition)
            .into_iter()
            .map(|(budget, _, zone)| {
                let planned = Planned {
                    zone,
                    window: budget.window,
                    amount: budget.amount,
                    mode: budget.mode,
                    recovery: budget.recovery,
                    raised: raised.contains(budget.id.as_str()),
                    current: None,
                };
                (budget.id.clone(), planned)
            })
            .collect();
        self.due = self.budgets.keys().chain(logged).cloned().collect();
        self.expire(policy, now);
    }

    /// Keeps whose the budgets of a version are, for the books of windows that outlive it.
    pub(super) fn remember(&mut self, policy: &PolicyState, partition: (u32, u32)) {
        for (budget, organisation, _) in owned(policy, partition) {
            let owner = Owner { organisation: organisation.to_owned(), scope: budget.scope.clone() };
            self.owners.insert(budget.id.clone(), owner);
        }
    }

    /// Finds raises that end, and when the next one does.
    pub(super) fn expire(&mut self, policy: &PolicyState, now: Micros) {
        let ends = policy.raises.iter().filter_map(|raise| Some((raise.expires_at?, &raise.budget)));
        if self.next_expiry.is_some_and(|next| next <= now) {
            self.due.extend(ends.clone().filter(|(end, _)| *end <= now).map(|(_, budget)| budget.clone()));
        }
        self.next_expiry = ends.map(|(end, _)| end).filter(|end| *end > now).min();
    }

    /// True when a raise ends before or at a time.
    pub(super) fn has_expiry(&self, now: Micros) -> bool {
        self.next_expiry.is_some_and(|next| next <= now)
    }

    /// The limit that policy wants a budget to have; nothing for one that it does not have (any more).
    pub(super) fn wanted(&self, id: &str, policy: &PolicyState, now: Micros) -> Wanted {
        let Some(planned) = self.budgets.get(id) else {
            let (mode, recovery) = (Mode::Hard, Recovery::Forfeit);
            return Wanted { amount: Money::ZERO, mode, recovery, version: (policy.version, 0) };
        };
        let (amount, step) = match planned.raised {
            true => policy.wanted_limit(id, now).unwrap_or((planned.amount, 0)),
            false => (planned.amount, 0),
        };
        let version = (policy.version, step);
        Wanted { amount, mode: planned.mode, recovery: planned.recovery, version }
    }

    /// True when policy has the budget.
    pub(super) fn has(&self, id: &str) -> bool {
        self.budgets.contains_key(id)
    }

    /// Whose a budget is, or was.
    /// All owners known.
    pub(super) const fn owners(&self) -> &BTreeMap<String, Owner> {
        &self.owners
    }

    /// Owners known from a snapshot.
    pub(super) fn remember_owners(&mut self, owners: BTreeMap<String, Owner>) {
        self.owners = owners;
    }

    pub(super) fn owner(&self, id: &str) -> Option<&Owner> {
        self.owners.get(id)
    }

    /// Windows that should be open at a time and never were: the one that holds it, and the next one shortly
    /// before. `newest` names each budget's newest window in the log; an older one can never open, so that one which
    /// is not newer by its first second, of a budget whose kind of window has changed, gets the next id.
    pub(super) fn windows(
        &mut self,
        newest: &BTreeMap<String, (i64, Span)>,
        now: Micros,
        timing: &Timing,
    ) -> Vec<(AccountRef, Span)> {
        let mut windows = Vec::new();
        for (id, planned) in &mut self.budgets {
            let open_early = |span: &Span| {
                let length = span.ends_at.map_or(0, |end| end.0.saturating_sub(span.starts_at.0));
                Micros(timing.open_early.min(length / 10))
            };
            let is_near = |span: &Span| {
                span.ends_at.is_some_and(|end| now.0.saturating_add(open_early(span).0) >= end.0)
            };
            if planned.current.is_none_or(|span| !span.holds(now)) {
                planned.current = planned.window.span(now, &planned.zone).ok();
            }
            let next = planned.current.filter(is_near).and_then(|span| span.ends_at);
            let next = next.and_then(|end| planned.window.span(end, &planned.zone).ok());
            let newest = newest.get(id);
            for span in [planned.current, next].into_iter().flatten() {
                let window = match newest {
                    Some((last, known)) if *last >= span.id() => {
                        // A window that began and is not the one that policy wants now.
                        let changed = known.starts_at <= now && *known != span && span.holds(now);
                        changed.then(|| last.saturating_add(1))
                    }
                    _ => Some(span.id()),
                };
                windows.extend(window.map(|window| (AccountRef { budget: id.clone(), window }, span)));
            }
        }
        windows
    }
}

/// The budgets of a partition's organisations, with their organisation and its zone.
fn owned(policy: &PolicyState, (partition, partitions): (u32, u32)) -> Vec<(&Budget, &str, TimeZone)> {
    let document = &policy.document;
    let ours: BTreeMap<&str, TimeZone> = (document.organisations.iter())
        .filter(|it| partition_of(&it.id, partitions) == partition)
        .filter_map(|it| Some((it.id.as_str(), zone(&it.time_zone).ok()?)))
        .collect();
    let teams: BTreeMap<&str, &str> =
        document.teams.iter().map(|it| (it.id.as_str(), it.organisation.as_str())).collect();
    let projects: BTreeMap<&str, &str> =
        document.projects.iter().map(|it| (it.id.as_str(), it.team.as_str())).collect();
    let mut owned = Vec::new();
    for budget in &document.budgets {
        let organisation = match &budget.scope {
            Scope::Organisation(id) => Some(id.as_str()),
            Scope::Team(id) => teams.get(id.as_str()).copied(),
            Scope::Project(id) => projects.get(id.as_str()).and_then(|team| teams.get(team)).copied(),
            // A key may be issued after the budget that names it: until then the budget is nobody's.
            Scope::Key(id) => policy.keys.get(id).map(|key| key.organisation.as_str()),
        };
        if let Some((organisation, zone)) = organisation.and_then(|id| ours.get_key_value(id)) {
            owned.push((budget, *organisation, zone.clone()));
        }
    }
    owned
}
