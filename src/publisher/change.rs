//! Changes of a budget's limit beside the files: raises, cuts and resets, each a fact with who and why.

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::BudgetRaised;
use bursar_schemas::money::Money;
use bursar_schemas::policy::{Budget, Owners, PolicyState};
use bursar_schemas::window::{self, Span};

use super::Publisher;
use crate::exit::{Failure, Outcome};

/// What is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// The limit goes up.
    Raise(Money),
    /// The limit goes down; never below nothing.
    Lower(Money),
    /// The window gets its whole amount again: up by so much of what was settled in it as no raise has made up for.
    Reset {
        /// Settled in the window that is open now.
        settled: Money,
    },
}

/// How long a change lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lasts {
    /// Until the window that is open now ends.
    Window,
    /// Until a time.
    Until(Micros),
    /// Until the next policy version, whose files say anew what each budget has.
    Version,
}

/// The limit after a change, and until when that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) limit: Money,
    pub(crate) until: Option<Micros>,
}

impl Publisher {
    /// The id of an end user's own account under a budget that gives each one.
    pub(crate) fn account_of(&self, budget: &str, end_user: &str) -> Outcome<String> {
        let state = self.state();
        let Some((found, None)) = state.document.budget(budget) else { return Err(unknown(budget)) };
        let Some(organisation) = Owners::new(&state).of(found) else {
            return Err(Failure::refused(format!("budget {budget:?} is of no organisation yet")));
        };
        Ok(found.account_of(&self.pseudonyms.of(organisation, end_user).to_string()))
    }

    /// Changes the limit of a budget, or of one member of a budget that gives each an account of its own.
    pub(crate) async fn change(
        &self,
        budget: &str,
        change: Change,
        lasts: Lasts,
        (author, reason): (&str, &str),
    ) -> Outcome<Changed> {
        let _turn = self.turn.lock().await;
        if reason.trim().is_empty() {
            return Err(Failure::refused("a change of a budget needs a reason"));
        }
        let state = self.catch_up().await?;
        let Some((found, _)) = state.document.budget(budget) else { return Err(unknown(budget)) };
        let now = (self.clock)();
        let by = by_how_much(&state, (budget, found), change, now)?;
        let until = match lasts {
            Lasts::Window => span_of(&state, found, now)?.ends_at,
            Lasts::Until(at) if at <= now => {
                return Err(Failure::refused("the change would be over before it begins"));
            }
            Lasts::Until(at) => Some(at),
            Lasts::Version => None,
        };
        let reset = matches!(change, Change::Reset { .. });
        let fact = BudgetRaised {
            head: self.head(state.version),
            budget: budget.to_owned(),
            change: by,
            expires_at: until,
            author: author.to_owned(),
            reason: if reset { format!("reset: {reason}") } else { reason.to_owned() },
        };
        let after = self.publish(fact.into()).await?;
        let limit = after.wanted_limit(budget, now).map_or(Money::ZERO, |(limit, _)| limit);
        Ok(Changed { limit, until })
    }
}

fn unknown(budget: &str) -> Failure {
    Failure::refused(format!("there is no budget {budget:?}"))
}

/// The change of the limit, below nothing for a cut.
fn by_how_much(
    state: &PolicyState,
    (id, budget): (&str, &Budget),
    change: Change,
    now: Micros,
) -> Outcome<Money> {
    match change {
        Change::Raise(amount) | Change::Lower(amount) if !amount.is_positive() => {
            Err(Failure::refused("the amount is above nothing"))
        }
        Change::Raise(amount) => Ok(amount),
        Change::Lower(amount) => Ok(Money::ZERO.minus(amount)),
        Change::Reset { settled } => {
            let limit = state.wanted_limit(id, now).map_or(Money::ZERO, |(limit, _)| limit);
            let by = budget.amount.minus(limit.minus(settled));
            if by.is_positive() {
                Ok(by)
            } else {
                Err(Failure::refused("the window has its whole amount: there is nothing to reset"))
            }
        }
    }
}

/// The window of a budget at a time, in its organisation's zone.
fn span_of(state: &PolicyState, budget: &Budget, now: Micros) -> Outcome<Span> {
    let organisation = Owners::new(state).of(budget);
    let zone = organisation.and_then(|id| state.document.zone_of(id)).unwrap_or("UTC");
    Ok(budget.window.span(now, &window::zone(zone)?)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use bursar_schemas::policy::{Document, Organisation, Raise, Scope};
    use bursar_schemas::window::Window;

    fn state(raised: &[&str]) -> PolicyState {
        let scope = Scope::Organisation("acme".to_owned());
        let budget = Budget::new("day", scope, Window::Day, "10".parse().unwrap());
        let organisations = vec![Organisation::new("acme")];
        let document = Document { organisations, budgets: vec![budget], ..Document::default() };
        let raise = |change: &&str| Raise {
            budget: "day".to_owned(),
            change: change.parse().unwrap(),
            expires_at: None,
        };
        let mut state = PolicyState::default();
        (state.document, state.raises) = (document, raised.iter().map(raise).collect());
        state
    }

    fn reset(raised: &[&str], settled: &str) -> Option<String> {
        let state = state(raised);
        let change = Change::Reset { settled: settled.parse().unwrap() };
        let budget = &state.document.budgets[0];
        by_how_much(&state, ("day", budget), change, Micros(0)).ok().map(Money::dollars)
    }

    #[test]
    fn a_reset_leaves_the_whole_amount_and_no_more() {
        assert_eq!(reset(&[], "7.50").unwrap(), "7.50");
        assert_eq!(reset(&["7.50"], "9").unwrap(), "1.50", "an earlier reset is not given twice");
        assert_eq!(reset(&["-4"], "6").unwrap(), "10.00", "a cut is undone with the rest");
        assert_eq!(reset(&[], "0"), None);
        assert_eq!(reset(&["5"], "3"), None, "more than the whole amount is left");
    }

    #[test]
    fn amounts_go_up_or_down_and_are_above_nothing() {
        let state = state(&[]);
        let by = |change| by_how_much(&state, ("day", &state.document.budgets[0]), change, Micros(0));
        assert_eq!(by(Change::Lower("2".parse().unwrap())).unwrap().dollars(), "-2.00");
        assert_eq!(by(Change::Raise("2".parse().unwrap())).unwrap().dollars(), "2.00");
        assert!(by(Change::Lower(Money::ZERO)).is_err());
        assert!(by(Change::Raise("-1".parse().unwrap())).is_err());
    }
}
