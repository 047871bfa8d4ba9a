//! The fold of `policy`: which version, keys and raises are in force. Versions count only in sequence, so two
//! publishers at once cannot both win.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::document::Document;
use crate::avro::Micros;
use crate::facts::{Fact, Role};
use crate::ids::{Digest, ProducerId};
use crate::money::Money;

/// A virtual key as it was issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// Its id.
    pub key: String,
    /// Its organisation.
    pub organisation: String,
    /// Its team.
    pub team: Option<String>,
    /// Its project.
    pub project: Option<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Models that it may use; all that its team may when empty.
    pub models: Vec<String>,
    /// SHA-256 of its secret.
    pub secret_hash: Digest,
    /// When it was made.
    pub issued_at: Micros,
    /// Who made it.
    pub author: String,
    /// When and by whom it was revoked.
    pub revoked: Option<(Micros, String)>,
}

/// A change of a budget's limit by an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raise {
    /// The budget.
    pub budget: String,
    /// The change.
    pub change: Money,
    /// When it ends.
    pub expires_at: Option<Micros>,
}

/// What a fact did to the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyVerdict {
    /// It counts.
    Counted,
    /// It does not: out of sequence, seen before, or not of this topic.
    Ignored,
}

/// What is in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyState {
    /// The version in force; 0 before the first.
    pub version: u64,
    /// Its document.
    pub document: Document,
    /// Keys by id, revoked ones included.
    pub keys: BTreeMap<String, Issued>,
    /// Raises since the version in force was published, in order.
    pub raises: Vec<Raise>,
    /// Incarnations that an operator retired, by partition; with the end of `spend` at that time.
    pub retired: BTreeMap<u32, BTreeMap<ProducerId, u64>>,
    /// Into how many partitions organisations are spread; none before the first start has recorded it.
    pub partitions: Option<u32>,
    seen: BTreeMap<ProducerId, u64>,
}

impl PolicyState {
    /// Takes the next fact of the topic.
    pub fn apply(&mut self, fact: &Fact) -> PolicyVerdict {
        let head = fact.head();
        if head.role != Role::Policy {
            return PolicyVerdict::Ignored;
        }
        if self.seen.get(&head.producer).is_some_and(|seen| head.number <= *seen) {
            return PolicyVerdict::Ignored;
        }
        self.seen.insert(head.producer, head.number);
        match fact {
            Fact::PolicyPublished(published) if published.version == self.version + 1 => {
                let Ok(document) = Document::from_json(&published.document) else {
                    return PolicyVerdict::Ignored;
                };
                self.version = published.version;
                self.document = document;
                self.raises.clear();
            }
            Fact::KeyIssued(issued) if !self.keys.contains_key(&issued.key) => {
                let key = Issued {
                    key: issued.key.clone(),
                    organisation: issued.organisation.clone(),
                    team: issued.team.clone(),
                    project: issued.project.clone(),
                    tags: issued.tags.clone(),
                    models: issued.models.clone(),
                    secret_hash: issued.secret_hash,
                    issued_at: head.at,
                    author: issued.author.clone(),
                    revoked: None,
                };
                self.keys.insert(issued.key.clone(), key);
            }
            Fact::KeyRevoked(revoked) => match self.keys.get_mut(&revoked.key) {
                Some(key) if key.revoked.is_none() => key.revoked = Some((head.at, revoked.author.clone())),
                _ => return PolicyVerdict::Ignored,
            },
            Fact::PartitionsSet(set) if self.partitions.is_none() => self.partitions = Some(set.partitions),
            Fact::ShimRetired(retired) => {
                // Once is enough: what it had acknowledged by then is all that there is.
                let of = self.retired.entry(retired.partition).or_default();
                of.entry(retired.incarnation).or_insert(retired.spend_end);
            }
            Fact::BudgetRaised(raised) => self.raises.push(Raise {
                budget: raised.budget.clone(),
                change: raised.change,
                expires_at: raised.expires_at,
            }),
            _ => return PolicyVerdict::Ignored,
        }
        PolicyVerdict::Counted
    }

    /// The limit that policy wants a budget, or a member of one, to have at a time: its amount and all raises in force,
    /// never below nothing. The second value is the step: it rises with each raise and each expiry. A raise of a budget
    /// that gives each member an account is a raise of each.
    #[must_use]
    pub fn wanted_limit(&self, budget: &str, at: Micros) -> Option<(Money, u64)> {
        let (found, _) = self.document.budget(budget)?;
        let mut limit = found.amount;
        let mut step = 0;
        for raise in self.raises.iter().filter(|raise| raise.budget == budget || raise.budget == found.id) {
            step += 1;
            if raise.expires_at.is_some_and(|end| at >= end) {
                step += 1;
            } else {
                limit = limit.plus(raise.change);
            }
        }
        Some((limit.max(Money::ZERO), step))
    }
}
