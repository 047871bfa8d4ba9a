//! Topic `limits`: the feedback. Only the ledger writes it; [`crate::fold`] says what counts.

use super::{AccountRef, Head, LeaseId};
use crate::avro::{Micros, avro_enum, avro_record};
use crate::ids::ProducerId;
use crate::money::Money;

avro_enum! {
    /// What a budget promises.
    pub enum Mode {
        /// Never overspent: every attempt reserves its upper bound under a lease.
        Hard = "hard",
        /// Overspent by no more than a stated bound.
        Bounded = "bounded",
        /// Never blocks; alerts only.
        Soft = "soft",
        /// Never blocks, never alerts; only counted.
        Track = "track",
    }

    /// How money stranded with a dead holder comes back.
    pub enum Recovery {
        /// Not before the window ends.
        Forfeit = "forfeit",
        /// What lies above the marks that the holder left in `spend`, once it has ended.
        Journal = "journal",
    }

    /// Where a window is in its life.
    pub enum Phase {
        /// Grants count.
        Open = "open",
        /// No new grants; what is in flight may settle, credits count.
        Draining = "draining",
        /// Nothing counts.
        Closed = "closed",
    }

    /// Why a lease was refused.
    pub enum LeaseRefusal {
        /// The money is settled: trying again helps only after the reset.
        Spent = "spent",
        /// The money is reserved or leased: trying again soon may help.
        InFlight = "in_flight",
        /// A window of the path is not open.
        WindowNotOpen = "window_not_open",
        /// A budget of the path has no limit in the log.
        UnknownBudget = "unknown_budget",
        /// The asking incarnation has ended.
        HolderEnded = "holder_ended",
        /// The request's path was empty or doubled, or its amounts were not above nothing.
        Malformed = "malformed",
    }

    /// Why money went back to its accounts.
    pub enum CreditReason {
        /// The holder returned it.
        Returned = "returned",
        /// The holder has ended, and its marks in `spend` show that it was unused.
        Journal = "journal",
        /// The same, where an operator attested the holder's end.
        Retired = "retired",
        /// The holder fell silent for longer than the bound.
        TimedOut = "timed_out",
    }
}

avro_record! {
    /// A new ledger instance; its epoch is this record's offset, if the marker counts.
    pub struct EpochMarked {
        /// What every fact begins with.
        pub head: Head,
        /// The instance.
        pub instance: ProducerId,
        /// The epoch that it supersedes; none for the first. Counts only if that is the latest.
        pub supersedes: Option<u64>,
    }

    /// The limit of a budget from this record on.
    pub struct LimitSet {
        /// What every fact begins with.
        pub head: Head,
        /// Epoch of the writing instance.
        pub epoch: u64,
        /// The budget.
        pub budget: String,
        /// The amount of each window.
        pub amount: Money,
        /// What it promises.
        pub mode: Mode,
        /// How stranded money comes back.
        pub recovery: Recovery,
        /// The policy version that it follows.
        pub policy_version: u64,
        /// The step within that version: raises and their expiry.
        pub step: u64,
    }

    /// A window of a budget opened, drains or closed.
    pub struct WindowMoved {
        /// What every fact begins with.
        pub head: Head,
        /// Epoch of the writing instance.
        pub epoch: u64,
        /// The account: budget and window.
        pub account: AccountRef,
        /// First instant of the window.
        pub starts_at: Micros,
        /// First instant after it; none for `total`.
        pub ends_at: Option<Micros>,
        /// Where it is now.
        pub phase: Phase,
    }

    /// A lease was granted: every account of the path is debited, all or none.
    pub struct LeaseGranted {
        /// What every fact begins with.
        pub head: Head,
        /// Epoch of the writing instance.
        pub epoch: u64,
        /// The lease, which names its holder.
        pub lease: LeaseId,
        /// The accounts of the path, sorted.
        pub accounts: Vec<AccountRef>,
        /// The amount.
        pub amount: Money,
        /// Offset in `spend` of the request that it answers.
        pub cause: u64,
        /// The ledger had read `spend` before this offset.
        pub read: u64,
    }

    /// A lease was refused; answers the request.
    pub struct LeaseRefused {
        /// What every fact begins with.
        pub head: Head,
        /// Epoch of the writing instance.
        pub epoch: u64,
        /// The lease that was asked for.
        pub lease: LeaseId,
        /// Why.
        pub reason: LeaseRefusal,
        /// The account that refused.
        pub account: Option<AccountRef>,
        /// Offset in `spend` of the request that it answers.
        pub cause: u64,
        /// The ledger had read `spend` before this offset.
        pub read: u64,
    }

    /// Money of a lease went back to its accounts.
    pub struct LeaseCredited {
        /// What every fact begins with.
        pub head: Head,
        /// Epoch of the writing instance.
        pub epoch: u64,
        /// The lease.
        pub lease: LeaseId,
        /// Number of the return that it credits, or the fixed number of its reason; counts once.
        pub number: u64,
        /// The amount, for each account.
        pub amount: Money,
        /// The accounts credited: those of the path.
        pub accounts: Vec<AccountRef>,
        /// Why.
        pub reason: CreditReason,
        /// Offset in `spend` of the return that it answers.
        pub cause: Option<u64>,
        /// The ledger had read `spend` before this offset.
        pub read: u64,
    }

    /// Admission under a lease must stop; what is unused should be returned. Never credits.
    pub struct LeaseRevoked {
        /// What every fact begins with.
        pub head: Head,
        /// Epoch of the writing instance.
        pub epoch: u64,
        /// The lease.
        pub lease: LeaseId,
    }

    /// A lease is over: its holder returned the last of it, or what it left came back. Nothing of it counts after that.
    pub struct LeaseClosed {
        /// What every fact begins with.
        pub head: Head,
        /// Epoch of the writing instance.
        pub epoch: u64,
        /// The lease.
        pub lease: LeaseId,
    }

    /// An incarnation has ended: later grants to it are void.
    pub struct IncarnationEnded {
        /// What every fact begins with.
        pub head: Head,
        /// Epoch of the writing instance.
        pub epoch: u64,
        /// The incarnation.
        pub incarnation: ProducerId,
        /// Offset in `spend` of the statement that it follows from.
        pub cause: u64,
        /// The ledger had read `spend` before this offset.
        pub read: u64,
    }

    /// How an account stands, for people and refusals; nothing in the fold follows from it.
    pub struct BalanceStated {
        /// What every fact begins with.
        pub head: Head,
        /// Epoch of the writing instance.
        pub epoch: u64,
        /// The account.
        pub account: AccountRef,
        /// Settled in the window.
        pub settled: Money,
        /// Reserved by attempts in flight.
        pub reserved: Money,
        /// Of the settled, what exceeded reservations.
        pub overrun: Money,
        /// The ledger had read `spend` before this offset.
        pub read: u64,
    }
}
