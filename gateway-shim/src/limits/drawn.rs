//! The accounts that a request draws on. Requests with the same budgets share one path, found without building it anew.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState};
use std::sync::Arc;

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{Mode, Recovery};
use bursar_schemas::policy::{Budget, Draw};

use super::core::{LimitsCore, blocks};
use crate::leases::Path;

/// Paths remembered at most; beyond that all are found anew.
const MOST_PATHS: usize = 16_384;

/// Which accounts a request draws on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawn {
    /// The accounts, sorted.
    pub path: Path,
    /// True when a lease must cover the path.
    pub blocks: bool,
    /// True when an attempt must reserve a true upper bound: a hard budget is on the path.
    pub hard: bool,
    /// True when a budget of the path wants output caps lowered rather than requests refused.
    pub lower_cap: bool,
    /// A blocking budget whose window is not in the log (yet).
    pub missing: Option<String>,
}

/// The path of some draws, while the windows of all its accounts last.
#[derive(Debug)]
struct Known {
    /// Held, so that no other budget can come to lie at the same address.
    draws: Vec<(Arc<Budget>, String)>,
    from: Micros,
    until: Micros,
    drawn: Drawn,
}

impl Known {
    fn is_of(&self, draws: &[Draw<'_>], at: Micros) -> bool {
        let same = |(budget, id): &(Arc<Budget>, String), draw: &Draw<'_>| {
            Arc::ptr_eq(budget, draw.budget) && *id == draw.id
        };
        (self.from..self.until).contains(&at)
            && self.draws.len() == draws.len()
            && self.draws.iter().zip(draws).all(|(known, draw)| same(known, draw))
    }
}

/// Paths by what their draws hash to. Whatever sets a limit or moves a window clears them.
#[derive(Debug, Default)]
pub(super) struct KnownPaths {
    paths: HashMap<u64, Known>,
    hasher: RandomState,
}

impl KnownPaths {
    pub(super) fn clear(&mut self) {
        self.paths.clear();
    }

    fn hash(&self, draws: &[Draw<'_>]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        for draw in draws {
            draw.id.hash(&mut hasher);
        }
        hasher.finish()
    }
}

impl LimitsCore {
    /// The accounts that these draws name at an accounting time.
    #[must_use]
    pub fn drawn(&mut self, draws: &[Draw<'_>], at: Micros) -> Drawn {
        let hash = self.known_paths.hash(draws);
        if let Some(known) = self.known_paths.paths.get(&hash)
            && known.is_of(draws, at)
        {
            return known.drawn.clone();
        }
        // Only members whom the log does not know yet are not among the known paths, and only theirs is asked for here.
        for budget in draws.iter().map(|draw| draw.budget).filter(|budget| budget.each.is_some()) {
            if budget.recovery != Recovery::Journal {
                self.members_recover.remove(&budget.id);
            } else if !self.members_recover.contains(&budget.id) {
                self.members_recover.insert(budget.id.clone());
            }
        }
        let (drawn, span) = self.find_drawn(draws, at);
        if let Some((from, until)) = span {
            if self.known_paths.paths.len() >= MOST_PATHS {
                self.known_paths.clear();
            }
            let draws =
                draws.iter().map(|draw| (Arc::clone(draw.budget), draw.id.clone().into_owned())).collect();
            let known = Known { draws, from, until, drawn: drawn.clone() };
            self.known_paths.paths.insert(hash, known);
        }
        drawn
    }

    /// The accounts, and the time in which they stay the same; none when some window is not in the log yet.
    fn find_drawn(&self, draws: &[Draw<'_>], at: Micros) -> (Drawn, Option<(Micros, Micros)>) {
        let mut span = Some((Micros(i64::MIN), Micros(i64::MAX)));
        let mut accounts = Vec::with_capacity(draws.len());
        let (mut blocking, mut hard, mut lower_cap, mut missing) = (false, false, false, None);
        for draw in draws {
            // Before its first `LimitSet` a budget promises what policy says; no grant can count on it yet.
            let mode = self.fold.budget(&draw.id).map_or(draw.budget.mode, |found| found.mode);
            blocking |= blocks(mode);
            hard |= mode == Mode::Hard;
            lower_cap |= draw.budget.lower_cap;
            match self.fold.account_at(&draw.id, at) {
                Some((account, state)) => {
                    let ends_at = state.ends_at.unwrap_or(Micros(i64::MAX));
                    span = span.map(|(from, until)| (from.max(state.starts_at), until.min(ends_at)));
                    accounts.push(account.clone());
                    continue;
                }
                // A member's account is opened by the first lease request or reservation that names it.
                None => match draw.on_demand(at) {
                    Some(account) => accounts.push(account),
                    None if blocks(mode) => missing = Some(draw.id.clone().into_owned()),
                    None => {}
                },
            }
            span = None;
        }
        accounts.sort();
        accounts.dedup();
        (Drawn { path: accounts.into(), blocks: blocking, hard, lower_cap, missing }, span)
    }
}
