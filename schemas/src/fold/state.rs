//! What the fold keeps.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::avro::Micros;
use crate::facts::{AccountRef, CreditReason, Mode, Phase, Recovery};
use crate::money::Money;

/// A budget's limit in force.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Budget {
    /// The amount of each window.
    pub amount: Money,
    /// What it promises.
    pub mode: Mode,
    /// How stranded money comes back.
    pub recovery: Recovery,
    /// (Policy version, step): strictly rising.
    pub version: (u64, u64),
    /// The newest window ever opened.
    pub(super) last_window: Option<i64>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            amount: Money::ZERO,
            mode: Mode::Hard,
            recovery: Recovery::Forfeit,
            version: (0, 0),
            last_window: None,
        }
    }
}

/// A budget in one window.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Account {
    /// First instant of the window.
    pub starts_at: Micros,
    /// First instant after it; none for `total`.
    pub ends_at: Option<Micros>,
    /// Where the window is in its life.
    pub phase: Phase,
    /// Σ grants − Σ credits: what shims hold or have spent.
    pub committed: Money,
}

impl Account {
    pub(super) const fn opened(starts_at: Micros, ends_at: Option<Micros>) -> Self {
        Self { starts_at, ends_at, phase: Phase::Open, committed: Money::ZERO }
    }

    /// True when the instant lies in the window.
    #[must_use]
    pub fn holds(&self, at: Micros) -> bool {
        at >= self.starts_at && self.ends_at.is_none_or(|end| at < end)
    }
}

/// A lease as the log has it. Its holder is named by its id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lease {
    /// The path.
    pub accounts: Vec<AccountRef>,
    /// What was granted.
    pub amount: Money,
    /// What went back, by account.
    #[serde(with = "crate::snapshot::pairs")]
    pub credited: BTreeMap<AccountRef, Money>,
    /// Admission must stop.
    pub revoked: bool,
    /// Numbers credited, by reason: each counts once.
    pub(super) numbers: BTreeSet<(CreditReason, u64)>,
}
