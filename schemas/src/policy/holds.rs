//! The fold of legal holds: which stand. A hold that was placed is released once, and never placed again.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::avro::Micros;
use crate::facts::{Fact, Role};
use crate::position::Topic;

/// A legal hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hold {
    /// Its id.
    pub hold: String,
    /// The topics that it speaks of; every one where a name is not known here.
    pub topics: Vec<Topic>,
    /// Which records it holds, as an SQL condition.
    pub condition: String,
    /// Why.
    pub reason: String,
    /// Who placed it.
    pub author: String,
    /// When.
    pub placed_at: Micros,
    /// When, by whom and why it was released.
    pub released: Option<(Micros, String, String)>,
}

impl Hold {
    /// True while it stands.
    #[must_use]
    pub const fn stands(&self) -> bool {
        self.released.is_none()
    }

    /// True while it holds records of a topic.
    #[must_use]
    pub fn speaks_of(&self, topic: Topic) -> bool {
        self.stands() && self.topics.contains(&topic)
    }
}

/// All holds that were ever placed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holds {
    holds: BTreeMap<String, Hold>,
}

impl Holds {
    /// Takes the next fact of topic `policy`.
    pub fn apply(&mut self, fact: &Fact) {
        if fact.head().role != Role::Policy {
            return;
        }
        match fact {
            Fact::HoldPlaced(placed) if !self.holds.contains_key(&placed.hold) => {
                let topics: Option<Vec<Topic>> =
                    placed.topics.iter().map(|name| Topic::from_name(name)).collect();
                let hold = Hold {
                    hold: placed.hold.clone(),
                    // Rather too much is held than too little.
                    topics: topics.unwrap_or_else(|| Topic::ALL.to_vec()),
                    condition: placed.condition.clone(),
                    reason: placed.reason.clone(),
                    author: placed.author.clone(),
                    placed_at: placed.head.at,
                    released: None,
                };
                self.holds.insert(placed.hold.clone(), hold);
            }
            Fact::HoldReleased(released) => {
                if let Some(hold) = self.holds.get_mut(&released.hold).filter(|hold| hold.stands()) {
                    hold.released =
                        Some((released.head.at, released.author.clone(), released.reason.clone()));
                }
            }
            _ => {}
        }
    }

    /// A hold.
    #[must_use]
    pub fn get(&self, hold: &str) -> Option<&Hold> {
        self.holds.get(hold)
    }

    /// All of them, by id.
    pub fn all(&self) -> impl Iterator<Item = &Hold> {
        self.holds.values()
    }
}
