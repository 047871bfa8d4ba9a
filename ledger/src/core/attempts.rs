//! Open reservations, and which attempts are over: one effective end for each.

use std::collections::HashSet;
use std::hash::BuildHasherDefault;

use bursar_schemas::facts::LeaseId;
use bursar_schemas::ids::RequestId;
use bursar_schemas::money::Money;

use serde::{Deserialize, Serialize};

use super::accounts::PathIndex;
use super::hash::{Mix, Table};

/// An attempt's name.
pub(super) type AttemptKey = (RequestId, u32);

/// Ended attempts are remembered for at least this many later ends. A repeated fact is caught by its number
/// long before; this catches a producer that says the same thing twice under two numbers.
const REMEMBERED: usize = 1 << 17;

/// A reservation that is neither settled nor voided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Open {
    pub path: PathIndex,
    pub lease: Option<LeaseId>,
    pub amount: Money,
}

/// The attempts.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Attempts {
    #[serde(with = "bursar_schemas::snapshot::pairs")]
    open: Table<AttemptKey, Open>,
    ended: HashSet<AttemptKey, BuildHasherDefault<Mix>>,
    ended_before: HashSet<AttemptKey, BuildHasherDefault<Mix>>,
}

impl Attempts {
    /// Opens a reservation; false when the attempt is open or over already.
    pub(super) fn open(&mut self, key: AttemptKey, open: Open) -> bool {
        if self.is_over(&key) || self.open.contains_key(&key) {
            return false;
        }
        self.open.insert(key, open);
        true
    }

    /// Ends an attempt: its reservation, if it had one; none when it is over already.
    #[expect(clippy::option_option, reason = "over already, or never reserved, or reserved")]
    pub(super) fn end(&mut self, key: AttemptKey) -> Option<Option<Open>> {
        let open = self.open.remove(&key);
        if open.is_none() && self.is_over(&key) {
            return None;
        }
        if self.ended.len() >= REMEMBERED {
            self.ended_before = std::mem::take(&mut self.ended);
        }
        self.ended.insert(key);
        Some(open)
    }

    fn is_over(&self, key: &AttemptKey) -> bool {
        self.ended.contains(key) || self.ended_before.contains(key)
    }

    /// How many reservations are open.
    pub(super) fn count(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_stays_over_for_as_many_later_ones_as_are_promised() {
        let mut attempts = Attempts::default();
        let key = |number: usize| (RequestId((number as u128).to_be_bytes()), 1);
        // Wherever in a generation it ends.
        for first in [0, 1, REMEMBERED - 1, REMEMBERED] {
            let last = first + REMEMBERED;
            for number in first..=last {
                attempts.end(key(number));
            }
            assert_eq!(attempts.end(key(first)), None, "{first}");
        }
    }
}
