//! In which order a ledger reads its three lanes, from where, and when it has read what was there. Pure.
//!
//! It reads from the start, or from where a snapshot of its whole state was taken, never from an offset that somebody
//! committed: what an earlier ledger had read and not yet answered would be lost otherwise.

use bursar_schemas::ports::Bounds;

/// The beginning of a lane that must be whole is not held any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// First offset held.
    pub start: u64,
}

/// A ledger's places in `limits`, `policy` and `spend`, and where those ended at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The next offset of `limits`.
    pub limits: u64,
    /// The next offset of `policy`.
    pub policy: u64,
    /// The next offset of `spend`.
    pub spend: u64,
    ends: [u64; 3],
}

impl Reading {
    /// Goes on from where a snapshot of the whole state left each lane, or from 0 without one. `spend` may have lost what comes next, which
    /// the ledger records; the others may not.
    ///
    /// # Errors
    /// When `limits` or `policy` is cut: first the index of the lane, 0 or 1.
    pub fn go_on(next: [u64; 3], [limits, policy, spend]: [Bounds; 3]) -> Result<Self, (usize, Cut)> {
        for (index, bounds) in [limits, policy].into_iter().enumerate() {
            if bounds.start > next[index] {
                return Err((index, Cut { start: bounds.start }));
            }
        }
        Ok(Self {
            limits: next[0],
            policy: next[1],
            spend: next[2].max(spend.start),
            ends: [limits.end, policy.end, spend.end],
        })
    }

    /// What `spend` does not hold any more of what should have come next: first and last offset.
    #[must_use]
    pub fn lost_after(&self, next: u64) -> Option<(u64, u64)> {
        (self.spend > next).then(|| (next, self.spend - 1))
    }

    /// `limits` was read to its end: what `policy` wants can be compared with it.
    #[must_use]
    pub const fn may_read_policy(&self) -> bool {
        self.limits >= self.ends[0]
    }

    /// `limits` and `policy` were read to their ends: what `spend` says can be understood.
    #[must_use]
    pub const fn may_read_spend(&self) -> bool {
        self.may_read_policy() && self.policy >= self.ends[1]
    }

    /// All was read that was there at the start: the ledger may claim.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.may_read_spend() && self.spend >= self.ends[2]
    }

    /// Where the lanes ended at the start.
    #[must_use]
    pub const fn ends(&self) -> [u64; 3] {
        self.ends
    }
}
