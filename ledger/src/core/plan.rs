//! What policy wants of this partition's budgets: limits, and windows in the organisations' zones.

use std::collections::{BTreeMap, BTreeSet};

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{AccountRef, Mode, Recovery};
use bursar_schemas::fold;
use bursar_schemas::ids::Pseudonym;
use bursar_schemas::money::Money;
use bursar_schemas::policy::{Budget, Each, Owners, PolicyState, Scope, UNNAMED};
use bursar_schemas::position::partition_of;
use bursar_schemas::window::{Span, Window, zone};
use jiff::tz::TimeZone;

use serde::{Deserialize, Serialize};

use super::Timing;
use super::alerts::Rule;

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
    /// Each of these has an account of its own.
    each: Option<Each>,
    /// How many of them there may ever be.
    members: usize,
    alerts: Option<Rule>,
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
        self.budgets = owned(policy, partition)
            .into_iter()
            .map(|(budget, _, zone)| {
                let planned = Planned {
                    zone,
                    window: budget.window,
                    amount: budget.amount,
                    mode: budget.mode,
                    recovery: budget.recovery,
                    each: budget.each,
                    members: usize::try_from(budget.most_members()).unwrap_or(usize::MAX),
                    alerts: Rule::of(budget, &policy.document.webhooks),
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
        let Some(planned) = self.planned(id) else {
            let (mode, recovery) = (Mode::Hard, Recovery::Forfeit);
            return Wanted { amount: Money::ZERO, mode, recovery, version: (policy.version, 0) };
        };
        let (amount, step) = match policy.raises.is_empty() {
            true => (planned.amount, 0),
            false => policy.wanted_limit(id, now).unwrap_or((planned.amount, 0)),
        };
        let version = (policy.version, step);
        Wanted { amount, mode: planned.mode, recovery: planned.recovery, version }
    }

    /// The budget that an account's id names: one account for all, or a member's.
    fn planned(&self, id: &str) -> Option<&Planned> {
        let whole = self.budgets.get(id).filter(|planned| planned.each.is_none());
        whole.or_else(|| self.budgets.get(member_of(id)?.0).filter(|planned| planned.each.is_some()))
    }

    /// What policy wants to be told of an account's budget.
    pub(super) fn alerts(&self, id: &str) -> Option<&Rule> {
        self.planned(id)?.alerts.as_ref()
    }

    /// True when policy has the budget, with one account for all or a member's.
    pub(super) fn has(&self, id: &str) -> bool {
        self.planned(id).is_some()
    }

    /// True when each member of the budget has an account of its own, and the budget itself none.
    pub(super) fn is_for_each(&self, id: &str) -> bool {
        self.budgets.get(id).is_some_and(|planned| planned.each.is_some())
    }

    /// How many members may ever have an account like this one; none when it is no member's.
    pub(super) fn most_members(&self, id: &str, policy: &PolicyState) -> Option<usize> {
        let (budget, member) = member_of(id)?;
        let planned = self.budgets.get(budget)?;
        let is_one = match planned.each? {
            Each::EndUser => member == UNNAMED || member.parse::<Pseudonym>().is_ok(),
            Each::Key => policy.keys.contains_key(member),
        };
        is_one.then_some(planned.members)
    }

    /// The windows that are to be opened for a member's account that was named: the one named and the current one before
    /// it, since an older one can never open; the current one where the one named is neither that nor the next.
    pub(super) fn windows_on_demand(
        &mut self,
        account: &AccountRef,
        newest: Option<&(i64, Span)>,
        now: Micros,
        timing: &Timing,
    ) -> Vec<(AccountRef, Span)> {
        let Some((budget, _)) = member_of(&account.budget) else { return Vec::new() };
        let Some(planned) = self.budgets.get_mut(budget) else { return Vec::new() };
        let mut due = planned.due(newest, now, timing);
        let is_due = due.iter().any(|(window, _)| *window == account.window);
        due.retain(|(window, span)| if is_due { *window <= account.window } else { span.holds(now) });
        let own = |window| AccountRef { budget: account.budget.clone(), window };
        due.into_iter().map(|(window, span)| (own(window), span)).collect()
    }

    /// All owners known.
    pub(super) const fn owners(&self) -> &BTreeMap<String, Owner> {
        &self.owners
    }

    /// Owners known from a snapshot.
    pub(super) fn remember_owners(&mut self, owners: BTreeMap<String, Owner>) {
        self.owners = owners;
    }

    /// Whose a budget is, or was.
    pub(super) fn owner(&self, id: &str) -> Option<&Owner> {
        self.owners.get(id).or_else(|| self.owners.get(member_of(id)?.0))
    }

    /// Windows that should be open at a time and never were. `newest` names each budget's newest window in the log.
    /// Those of members are opened on demand.
    pub(super) fn windows(
        &mut self,
        newest: &BTreeMap<String, (i64, Span)>,
        now: Micros,
        timing: &Timing,
    ) -> Vec<(AccountRef, Span)> {
        let mut windows = Vec::new();
        for (id, planned) in self.budgets.iter_mut().filter(|(_, planned)| planned.each.is_none()) {
            let due = planned.due(newest.get(id), now, timing);
            let account = |window| AccountRef { budget: id.clone(), window };
            windows.extend(due.into_iter().map(|(window, span)| (account(window), span)));
        }
        windows
    }
}

impl Planned {
    /// Windows that should be open at a time and never were: the one that holds it, and the next one shortly
    /// before. A window older than the newest can never open, so that one which is not newer by its first second, of a
    /// budget whose kind of window has changed, gets the next id.
    fn due(&mut self, newest: Option<&(i64, Span)>, now: Micros, timing: &Timing) -> Vec<(i64, Span)> {
        let open_early = |span: &Span| {
            let length = span.ends_at.map_or(0, |end| end.0.saturating_sub(span.starts_at.0));
            timing.open_early.min(length / 10)
        };
        let is_near =
            |span: &Span| span.ends_at.is_some_and(|end| now.0.saturating_add(open_early(span)) >= end.0);
        if self.current.is_none_or(|span| !span.holds(now)) {
            self.current = self.window.span(now, &self.zone).ok();
        }
        let next = self.current.filter(is_near).and_then(|span| span.ends_at);
        let next = next.and_then(|end| self.window.span(end, &self.zone).ok());
        let window = |span: Span| match newest {
            Some((last, known)) if *last >= span.id() => {
                // A window that began and is not the one that policy wants now.
                let changed = known.starts_at <= now && *known != span && span.holds(now);
                changed.then(|| (last.saturating_add(1), span))
            }
            _ => Some((span.id(), span)),
        };
        [self.current, next].into_iter().flatten().filter_map(window).collect()
    }
}

/// Budget and member, where an account's id may be a member's.
pub(super) fn member_of(id: &str) -> Option<(&str, &str)> {
    id.rsplit_once('/')
}

/// The budgets of a partition's organisations, with their organisation and its zone.
fn owned(policy: &PolicyState, (partition, partitions): (u32, u32)) -> Vec<(&Budget, &str, TimeZone)> {
    let document = &policy.document;
    let ours: BTreeMap<&str, TimeZone> = (document.organisations.iter())
        .filter(|it| partition_of(&it.id, partitions) == partition)
        .filter_map(|it| Some((it.id.as_str(), zone(&it.time_zone).ok()?)))
        .collect();
    let owners = Owners::new(policy);
    // A key may be issued after the budget that names it: until then the budget is nobody's.
    let owned = document.budgets.iter().filter_map(|budget| {
        let (organisation, zone) = ours.get_key_value(owners.of(budget)?)?;
        Some((budget, *organisation, zone.clone()))
    });
    owned.collect()
}
