//! Where a fact stands in its producer's numbering.

use std::collections::BTreeMap;

use crate::ids::{IdError, ProducerId};
use crate::wire::Front;

/// A fact among those of its producer on the lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The number that was due. Also what an unreadable record has, as nobody can tell.
    New,
    /// Its number, or a higher one, came before.
    Duplicate,
    /// So many numbers before it never came.
    AfterGap {
        /// How many.
        missing: u64,
    },
}

/// The number that is due next from each producer of one lane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standings {
    next: BTreeMap<ProducerId, u64>,
}

impl Standings {
    /// No producer seen yet; each begins at 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on from a footer's `producers`.
    ///
    /// # Errors
    /// When a key is not a producer id.
    pub fn import(producers: &BTreeMap<String, u64>) -> Result<Self, IdError> {
        let next = producers
            .iter()
            .map(|(producer, next)| Ok((producer.parse()?, *next)))
            .collect::<Result<_, IdError>>()?;
        Ok(Self { next })
    }

    /// As a footer's `producers` states them.
    #[must_use]
    pub fn export(&self) -> BTreeMap<String, u64> {
        self.next.iter().map(|(producer, next)| (producer.to_string(), *next)).collect()
    }

    /// Places the lane's next fact.
    pub fn observe(&mut self, fact: &Front) -> Standing {
        let next = self.next.entry(fact.producer).or_insert(0);
        let due = *next;
        if fact.number < due {
            return Standing::Duplicate;
        }
        *next = fact.number.saturating_add(1);
        match fact.number - due {
            0 => Standing::New,
            missing => Standing::AfterGap { missing },
        }
    }
}
