//! What a ledger is told, and what it wants done.

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{Fact, Finding};
use bursar_schemas::fold::FoldError;
use bursar_schemas::ids::{Digest, ProducerId};
use bursar_schemas::wire::Unreadable;

use super::deliveries::Told;

/// How long things take, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// The acting ledger writes at least one record in this time.
    pub heartbeat: i64,
    /// A standby takes over when it has heard nothing for this time, and a random part of it more.
    pub takeover_after: i64,
    /// The next window opens this long before it begins, or a tenth of the window if that is less.
    pub open_early: i64,
    /// A window closes this long after its end when nothing is in flight ...
    pub drain: i64,
    /// ... and in any case this long after it.
    pub drain_at_most: i64,
    /// A request waits this long for money that is recalled from idle leases: less than a shim's client waits, which
    /// then learns why there is none. One that would not fit even then waits a fifth of it.
    pub recall_wait: i64,
    /// A holder that wrote nothing for this time has its leases revoked, and a moment later what is unused of them goes
    /// back to the bounded accounts of their paths; never to hard ones.
    pub reclaim_after: i64,
    /// A shim counts as active when its last fact is no older.
    pub active_for: i64,
    /// An account is stated at once when money of it was settled; when only reservations changed, no more often.
    pub balance_every: i64,
    /// Most statements in a second; beyond that, accounts wait for their turn.
    pub statements: i64,
}

impl Default for Timing {
    fn default() -> Self {
        const SECOND: i64 = 1_000_000;
        Self {
            heartbeat: 3 * SECOND,
            takeover_after: 15 * SECOND,
            open_early: 60 * SECOND,
            drain: 600 * SECOND,
            drain_at_most: 3600 * SECOND,
            recall_wait: 3 * SECOND / 2,
            reclaim_after: 120 * SECOND,
            active_for: 600 * SECOND,
            balance_every: SECOND / 5,
            statements: 5_000,
        }
    }
}

/// What a ledger is told at its start.
#[derive(Debug, Clone)]
pub struct Config {
    /// The partition of `spend` and `limits` that it keeps.
    pub partition: u32,
    /// How many partitions there are.
    pub partitions: u32,
    /// The incarnation that writes; its epoch markers name it.
    pub instance: ProducerId,
    /// The deployment's public key, which certifies shims.
    pub deployment_key: Digest,
    /// How long things take.
    pub timing: Timing,
}

/// What can happen to a ledger.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// The next record of `limits`, as it was read.
    Limits {
        /// Its offset.
        offset: u64,
        /// The fact, or why it is none.
        fact: &'a Result<Fact, Unreadable>,
    },
    /// The next record of `spend`.
    Spend {
        /// Its offset.
        offset: u64,
        /// Its bytes.
        value: &'a [u8],
    },
    /// Offsets of `spend` that are not held any more.
    SpendLost {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
    /// The next fact of `policy`.
    Policy(&'a Fact),
    /// A webhook was told of an alert, or is given up.
    Told(Told<'a>),
    /// All three lanes were read to the ends that they had at the start.
    Ready,
    /// Nothing more is at hand: time to decide.
    Pause {
        /// The time now; one that goes back is taken as no progress.
        now: Micros,
    },
    /// Time passed.
    Tick {
        /// The time now; one that goes back is taken as no progress.
        now: Micros,
        /// A random number of 0 to 1000, which spreads the take-overs of several standbys.
        spread: u16,
    },
}

/// What a ledger wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Append the fact to `limits` of its partition; producer, role and number are stamped.
    Append(Fact),
    /// Append the finding to `requests`.
    Find(Finding),
    /// Its marker counts: it decides from now on.
    Acting {
        /// Its epoch.
        epoch: u64,
    },
    /// Another ledger acts; pending decisions were dropped.
    Superseded,
}

/// What a ledger is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It reads what was there at its start.
    CatchingUp,
    /// It appended a marker and has not read it back.
    Claiming {
        /// When it did.
        since: Micros,
    },
    /// It decides.
    Acting {
        /// Its epoch: the offset of its marker.
        epoch: u64,
    },
    /// It follows, and takes over when nobody acts.
    Standby,
}

impl Standing {
    /// In words, for people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::CatchingUp => "catching up",
            Self::Claiming { .. } => "claiming",
            Self::Acting { .. } => "acting",
            Self::Standby => "standing by",
        }
    }
}

/// Why a ledger must stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// The log of `limits` cannot be followed.
    #[error("failed to follow limits: {0}")]
    Fold(FoldError),
    /// Records of `spend` came twice or out of order.
    #[error("offset {offset} of spend came after offset {after}")]
    SpendBackwards {
        /// The offset that came.
        offset: u64,
        /// The offset before it.
        after: u64,
    },
}

// The text has the other's, so that is no source: a chain of causes would say it twice.
impl From<FoldError> for Halt {
    fn from(error: FoldError) -> Self {
        Self::Fold(error)
    }
}
