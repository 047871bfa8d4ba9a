//! Which lease numbers of each holder are used up. Holders count, so that what is over lies in few ranges.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::facts::LeaseId;
use crate::ids::ProducerId;

/// Numbers by holder: the last of each range by its first. Ranges neither overlap nor touch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Numbers(BTreeMap<ProducerId, BTreeMap<u64, u64>>);

impl Numbers {
    /// A number is used up.
    pub(super) fn insert(&mut self, id: &LeaseId) {
        let ranges = self.0.entry(id.holder).or_default();
        let number = id.number;
        let before = ranges.range(..=number).next_back().map(|(first, last)| (*first, *last));
        if before.is_some_and(|(_, last)| last >= number) {
            return;
        }
        let first = match before {
            Some((first, last)) if last.checked_add(1) == Some(number) => first,
            _ => number,
        };
        let joined = number.checked_add(1).and_then(|next| ranges.remove(&next));
        ranges.insert(first, joined.unwrap_or(number));
    }

    pub(super) fn contains(&self, id: &LeaseId) -> bool {
        let ranges = self.0.get(&id.holder);
        let before = ranges.and_then(|ranges| ranges.range(..=id.number).next_back());
        before.is_some_and(|(_, last)| *last >= id.number)
    }

    /// Nothing of a holder is granted any more, whatever its number.
    pub(super) fn forget(&mut self, holder: &ProducerId) {
        self.0.remove(holder);
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const fn id(number: u64) -> LeaseId {
        LeaseId { holder: ProducerId([1; 16]), number }
    }

    #[test]
    fn numbers_that_follow_each_other_are_one_range_in_whichever_order_they_come() {
        for order in [[1, 2, 3, 4], [4, 3, 2, 1], [1, 3, 2, 4], [2, 4, 1, 3]] {
            let mut numbers = Numbers::default();
            order.iter().for_each(|number| numbers.insert(&id(*number)));
            assert_eq!(numbers.0[&id(0).holder], BTreeMap::from([(1, 4)]), "{order:?}");
        }
    }

    proptest! {
        #[test]
        fn as_a_plain_set(all in prop::collection::vec(prop_oneof![0_u64..40, (u64::MAX - 5)..=u64::MAX], 0..60)) {
            let (mut numbers, mut plain) = (Numbers::default(), BTreeSet::new());
            for number in all {
                numbers.insert(&id(number));
                plain.insert(number);
                for asked in (0..41).chain((u64::MAX - 6)..=u64::MAX) {
                    prop_assert_eq!(numbers.contains(&id(asked)), plain.contains(&asked));
                }
            }
        }
    }
}
