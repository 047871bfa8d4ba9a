//! Coverage marks: each fault and each interesting branch, and how often it really happened.

use std::fmt;

macro_rules! marks {
    ($( $name:ident $text:literal, )+) => {
        /// Something that should happen often.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each has its text")]
        pub enum Mark { $( $name, )+ }

        impl Mark {
            /// All of them.
            pub const ALL: &'static [Self] = &[$( Self::$name, )+];

            /// In words.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $( Self::$name => $text, )+ }
            }
        }
    };
}

marks! {
    // Faults of the broker.
    Delayed "broker: a record was delayed by more than a second",
    DuplicatedSpend "broker: records of spend came twice in a row",
    DuplicatedLimits "broker: records of limits came twice in a row",
    LateCopySpend "broker: an old record of spend came again much later",
    LateCopyLimits "broker: an old record of limits came again much later",
    LateMarker "broker: an epoch marker arrived after another instance's had counted",
    DuplicateMarker "broker: an epoch marker came twice",
    CrossReordered "broker: a reader saw a later record of another lane first",
    // What marks recover.
    Marked "marks: a mark was acknowledged",
    AwaitedMark "marks: a request waited for one",
    ReturnMarked "marks: a return was sent after its mark",
    Recovered "marks: what a dead holder left went back",
    RecoveredRetired "marks: what a retired holder left went back",
    RecoveredPart "marks: what a dead holder left went back to a part of its path",
    RetiredLate "marks: something of a retired holder arrived after the attestation",
    LostSuffix "broker: what a crashed ledger had under way was lost",
    // Faults of ledgers.
    LedgerCrashed "ledger: crashed and was restarted",
    LedgerPaused "ledger: was paused beyond the take-over time",
    ZombieLedger "ledger: a zombie's record reached the log after it was superseded",
    TwoAtOnce "ledger: two started at once",
    Rebalanced "ledger: one was stopped and another started, both at work for a while",
    TookOver "ledger: a standby took over",
    StoodDown "ledger: an acting one was superseded and stood by",
    LostClaim "ledger: a claim was void",
    LedgerSnapshot "ledger: started from a snapshot of its state",
    // Faults of shims.
    ShimCrashed "shim: crashed; its successor recovered the spool",
    RecoveredTwice "shim: a predecessor was recovered twice",
    ShimLostDisk "shim: lost all local state",
    ShimStopped "shim: stopped in good order",
    ShimPaused "shim: was paused beyond every time-out",
    ZombieShim "shim: a zombie admitted after it was paused",
    ShimSnapshot "shim: started from a snapshot of the fold",
    SpoolRefused "shim: the spool refused facts",
    ReturnKept "shim: a return was refused by the spool and kept",
    Skewed "shim: a request's time was in another window than the true time",
    LaggingPolicy "shim: a request went by an older policy than the newest",
    // What policy and time do.
    LimitCut "policy: a limit was cut",
    CutBelowCommitted "policy: a limit was cut below what was committed",
    LimitRaised "policy: a limit was raised",
    RaiseExpired "policy: a raise expired",
    ModeChanged "policy: a mode changed",
    RecoveryChanged "policy: what brings stranded money back changed",
    HourRolled "time: an hour's window closed",
    DayRolled "time: a day's window closed",
    MonthRolled "time: a month's window closed",
    DayClosedBeforeMonth "time: a credit came after the path's day had closed and before its month",
    Jumped "time: everything stood still for long",
    // Attempts.
    AdmittedLeased "attempt: admitted under a lease",
    AdmittedFree "attempt: admitted without one, for no budget blocks",
    BilledWhole "attempt: the provider charged all of R",
    TimedOutBilled "attempt: timed out and was billed all the same",
    FellBack "attempt: a fallback after an attempt that may have been billed",
    OtherPath "attempt: a fallback drew on another path than the attempt before",
    Voided "attempt: given back whole",
    Overran "attempt: cost more than its estimate",
    LostInCrash "attempt: in flight when its shim died",
    WholeR "attempt: settled at R for want of usage",
    OldWindow "attempt: admitted for a window that has ended",
    // Shim decisions.
    Waited "shim: a request waited for a lease",
    Asked "shim: asked for a lease",
    AskedAhead "shim: asked ahead of need",
    DeniedSpent "shim: refused, the budget is spent",
    DeniedInFlight "shim: refused, the money is in flight",
    DeniedSilent "shim: refused, the ledger is silent",
    DeniedWindow "shim: refused, a window is not open",
    DeniedTimeout "shim: refused, no lease came in time",
    Regrouped "shim: gave back own idle leases to have them granted in one piece",
    ReturnedIdle "shim: gave back what was idle",
    ReturnedRevoked "shim: gave back what was revoked",
    // Records.
    Granted "limits: a grant counted",
    GrantedToDead "limits: a grant counted for an incarnation that is gone",
    Credited "limits: a credit counted",
    Reclaimed "limits: a silent holder's money went back to bounded accounts",
    ReclaimedBesideHard "limits: it did so on a path with a hard account, which got none",
    PartCredited "limits: a credit counted for some accounts of the path only",
    Revoked "limits: a revocation counted",
    LeaseClosed "limits: a lease was closed",
    RefusedSpent "limits: refused as spent",
    RefusedInFlight "limits: refused as in flight",
    RefusedWindow "limits: refused, a window is not open",
    HolderEnded "limits: an incarnation was ended",
    AlertRaised "limits: an alert was raised",
    VoidSuperseded "void: a marker that does not name the latest epoch",
    VoidWrongEpoch "void: of another epoch",
    VoidOldVersion "void: a limit of an old version",
    VoidWindowOrder "void: a window out of order",
    VoidNoAmount "void: no amount",
    VoidPath "void: a wrong path",
    VoidAnsweredBefore "void: granted or refused before",
    VoidHolderEnded "void: the holder has ended",
    VoidWindowNotOpen "void: a window is not open",
    VoidOverLimit "void: above the limit",
    VoidNoLease "void: no such lease",
    VoidCreditedBefore "void: credited before",
    VoidOverCredit "void: more than was granted",
    VoidCreditForbidden "void: a credit that no account may take",
    SeenBefore "ignored: seen before",
    // Findings and checks.
    FoundDuplicate "finding: a repeated number",
    ComparedBooks "check: a ledger's books compared with the naive ones",
    ComparedFolds "check: a reader's whole fold compared with the reference",
    JudgedRefusal "check: a refusal without faults was judged",
    Healed "check: a world healed and spent what it could",
    BoundedTwice "check: what a time-out had credited to a bounded account was spent all the same",
    BoundedOver "check: a bounded account was billed above its limit",
    BoundedNear "check: a bounded account was overspent by more than half of what its formula allows",
    Exhausted "check: a blocking account was used up to the last unit that fits",
}

/// How often each happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marks(Vec<u64>);

impl Default for Marks {
    fn default() -> Self {
        Self(vec![0; Mark::ALL.len()])
    }
}

impl Marks {
    /// It happened once more.
    pub fn hit(&mut self, mark: Mark) {
        self.0[mark as usize] += 1;
    }

    /// How often it happened.
    #[must_use]
    pub fn count(&self, mark: Mark) -> u64 {
        self.0[mark as usize]
    }

    /// Adds another world's.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(&other.0) {
            *sum += more;
        }
    }

    /// Those that happened less often than that.
    #[must_use]
    pub fn below(&self, least: u64) -> Vec<Mark> {
        Mark::ALL.iter().copied().filter(|mark| self.count(*mark) < least).collect()
    }
}

impl fmt::Display for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mark in Mark::ALL {
            writeln!(f, "{:>12}  {}", self.count(*mark), mark.text())?;
        }
        Ok(())
    }
}
