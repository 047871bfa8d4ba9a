//! Budgets: what they limit, for whom, and in which windows.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::document::is_default;
use crate::facts::{Mode, Recovery};
use crate::ids::Pseudonym;
use crate::money::Money;
use crate::window::Window;

/// Members of one budget that ever get an account of their own, unless it says otherwise.
pub const MEMBERS: u32 = 100_000;

/// Percentages of its limit at which a budget raises alerts, unless it says otherwise.
pub const THRESHOLDS: [u32; 3] = [50, 80, 100];

/// The member that all requests without an end user are.
pub const UNNAMED: &str = "unnamed";

/// What a budget limits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// A whole organisation.
    Organisation(String),
    /// One team.
    Team(String),
    /// One project.
    Project(String),
    /// One virtual key.
    Key(String),
    /// Attempts at one model, by the provider's name of it.
    Model(String),
    /// Attempts at one provider.
    Provider(String),
    /// Requests that carry a tag.
    Tag(String, String),
    /// One end user by name; only in files, never published.
    EndUser(String),
    /// One end user by keyed pseudonym.
    Pseudonym(Pseudonym),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Organisation(id) => write!(f, "organisation:{id}"),
            Self::Team(id) => write!(f, "team:{id}"),
            Self::Project(id) => write!(f, "project:{id}"),
            Self::Key(id) => write!(f, "key:{id}"),
            Self::Model(name) => write!(f, "model:{name}"),
            Self::Provider(id) => write!(f, "provider:{id}"),
            Self::Tag(name, value) => write!(f, "tag:{name}={value}"),
            Self::EndUser(name) => write!(f, "end_user:{name}"),
            Self::Pseudonym(pseudonym) => write!(f, "pseudonym:{pseudonym}"),
        }
    }
}

impl std::str::FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || {
            format!(
                "{text:?} is not a scope: expected organisation:ID, team:ID, project:ID, key:ID, model:NAME, \
                 provider:ID, tag:NAME=VALUE, end_user:NAME or pseudonym:HEX"
            )
        };
        let (kind, rest) = text.split_once(':').filter(|(_, rest)| !rest.is_empty()).ok_or_else(unknown)?;
        let id = rest.to_owned();
        Ok(match kind {
            "organisation" => Self::Organisation(id),
            "team" => Self::Team(id),
            "project" => Self::Project(id),
            "key" => Self::Key(id),
            "model" => Self::Model(id),
            "provider" => Self::Provider(id),
            "tag" => {
                let tag = rest.split_once('=').filter(|(name, _)| !name.is_empty());
                let (name, value) = tag.ok_or_else(unknown)?;
                Self::Tag(name.to_owned(), value.to_owned())
            }
            "end_user" => Self::EndUser(id),
            "pseudonym" => Self::Pseudonym(rest.parse().map_err(|_| unknown())?),
            _ => return Err(unknown()),
        })
    }
}

impl Serialize for Scope {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Who gets an account of its own under a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Each {
    /// Every end user; requests that name none share the account of [`UNNAMED`].
    EndUser,
    /// Every virtual key.
    Key,
}

/// A limit on what a scope may spend in a window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Its id, unique among all budgets.
    pub id: String,
    /// What it limits.
    pub scope: Scope,
    /// The organisation of a model, provider, tag or end user; may be left out while there is only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
    /// Who gets the amount each, in an account `ID/MEMBER` that is opened when the member is first seen; nobody where
    /// it is absent: then all share one account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each: Option<Each>,
    /// How many members there may ever be; [`MEMBERS`] when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<u32>,
    /// How long the amount has to last.
    pub window: Window,
    /// Dollars a window, as a string.
    pub amount: Money,
    /// What it promises.
    #[serde(default = "hard")]
    pub mode: Mode,
    /// How stranded money comes back.
    #[serde(default = "forfeit", skip_serializing_if = "is_forfeit")]
    pub recovery: Recovery,
    /// Lowers the output cap of requests to what it can still pay, instead of refusing them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub lower_cap: bool,
    /// Percentages of the limit at which an alert is raised; [`Budget::thresholds`] says what holds when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerts: Option<Vec<u32>>,
    /// Raises an alert when the window's spend, at its pace so far, crosses the limit before the window ends;
    /// [`Budget::forecasts`] says what holds when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<bool>,
}

const fn hard() -> Mode {
    Mode::Hard
}

const fn forfeit() -> Recovery {
    Recovery::Forfeit
}

fn is_forfeit(recovery: &Recovery) -> bool {
    *recovery == Recovery::Forfeit
}

impl Budget {
    /// A hard budget with the defaults of a file.
    #[must_use]
    pub fn new(id: &str, scope: Scope, window: Window, amount: Money) -> Self {
        Self {
            id: id.to_owned(),
            scope,
            organisation: None,
            each: None,
            members: None,
            window,
            amount,
            mode: hard(),
            recovery: forfeit(),
            lower_cap: false,
            alerts: None,
            forecast: None,
        }
    }

    /// Percentages of the limit at which alerts are raised: 50, 80 and 100 unless it says otherwise; where it does not,
    /// none if each member has an account of its own, since nobody reads thousands of them. Never any for `track`.
    #[must_use]
    pub fn thresholds(&self) -> &[u32] {
        match &self.alerts {
            _ if self.mode == Mode::Track => &[],
            Some(alerts) => alerts,
            None if self.each.is_some() => &[],
            None => &THRESHOLDS,
        }
    }

    /// Whether a forecast is made: unless it says otherwise, of every budget with one account and a window that ends.
    /// Never for `track`.
    #[must_use]
    pub fn forecasts(&self) -> bool {
        let ends = self.window != Window::Total && self.mode != Mode::Track;
        ends && self.forecast.unwrap_or(self.each.is_none())
    }

    /// True when alerts of any kind are raised.
    #[must_use]
    pub fn has_alerts(&self) -> bool {
        !self.thresholds().is_empty() || self.forecasts()
    }

    /// The id of a member's own account.
    #[must_use]
    pub fn account_of(&self, member: &str) -> String {
        format!("{}/{member}", self.id)
    }

    /// How many members may ever get an account.
    #[must_use]
    pub fn most_members(&self) -> u32 {
        self.members.unwrap_or(MEMBERS)
    }
}
