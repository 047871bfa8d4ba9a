//! How long sealed records are kept, by topic.

use serde::{Deserialize, Serialize};

use crate::position::Topic;

/// Days for which records are kept; none is for ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Of topic `requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_days: Option<u32>,
    /// Of topic `routes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes_days: Option<u32>,
    /// Of topic `spend`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spend_days: Option<u32>,
    /// Of topic `limits`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits_days: Option<u32>,
    /// Of topic `policy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_days: Option<u32>,
    /// Of captured content; [`CONTENT_DAYS`] when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_days: Option<u32>,
}

/// Days for which captured content is kept where policy does not say.
pub const CONTENT_DAYS: u32 = 30;

/// Whose content is captured; nobody's unless named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContentPolicy {
    /// Teams whose prompts and completions are kept, encrypted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capture_teams: Vec<String>,
}

impl ContentPolicy {
    /// True when a team's content is captured.
    #[must_use]
    pub fn captures(&self, team: Option<&str>) -> bool {
        team.is_some_and(|team| self.capture_teams.iter().any(|named| named == team))
    }
}

impl Retention {
    /// Days for captured content.
    #[must_use]
    pub fn content(&self) -> u32 {
        self.content_days.unwrap_or(CONTENT_DAYS)
    }

    /// Days for a topic; none for ever.
    #[must_use]
    pub const fn of(&self, topic: Topic) -> Option<u32> {
        match topic {
            Topic::Requests => self.requests_days,
            Topic::Routes => self.routes_days,
            Topic::Spend => self.spend_days,
            Topic::Limits => self.limits_days,
            Topic::Policy => self.policy_days,
        }
    }

    /// What another file says beside this one; none when both speak of a topic otherwise.
    pub(super) fn joined(self, other: Self) -> Result<Self, &'static str> {
        let join = |a: Option<u32>, b: Option<u32>, name| match (a, b) {
            (Some(a), Some(b)) if a != b => Err(name),
            (a, b) => Ok(a.or(b)),
        };
        Ok(Self {
            requests_days: join(self.requests_days, other.requests_days, "requests_days")?,
            routes_days: join(self.routes_days, other.routes_days, "routes_days")?,
            spend_days: join(self.spend_days, other.spend_days, "spend_days")?,
            limits_days: join(self.limits_days, other.limits_days, "limits_days")?,
            policy_days: join(self.policy_days, other.policy_days, "policy_days")?,
            content_days: join(self.content_days, other.content_days, "content_days")?,
        })
    }
}
