//! Topic `spend`: reservations, settlements, and the lease messages of the shims.

use super::{About, Head};
use crate::avro::{avro_enum, avro_record};
use crate::ids::ProducerId;
use crate::meters::Meter;
use crate::money::Money;

avro_record! {
    /// A budget in one of its windows: the unit that money is debited from.
    pub struct AccountRef {
        /// The budget's id.
        pub budget: String,
        /// The window's id: its first second as Unix time; 0 for `total`.
        pub window: i64,
    }

    /// A lease, named by who asked for it and that holder's own count; redelivery names the same one.
    pub struct LeaseId {
        /// The incarnation that may use it.
        pub holder: ProducerId,
        /// The holder's count of leases asked for, from 1.
        pub number: u64,
    }

    /// One priced meter of an attempt: rounded once, half up to the pico-dollar.
    pub struct CostLine {
        /// The meter.
        pub meter: Meter,
        /// Units counted.
        pub quantity: u64,
        /// Dollars per million units.
        pub price_per_million: Money,
        /// Quantity × price.
        pub amount: Money,
    }
}

impl PartialOrd for AccountRef {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for AccountRef {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (&self.budget, self.window).cmp(&(&other.budget, other.window))
    }
}
impl std::hash::Hash for AccountRef {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.budget.hash(state);
        self.window.hash(state);
    }
}
impl Copy for LeaseId {}
impl std::hash::Hash for LeaseId {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.holder.hash(state);
        self.number.hash(state);
    }
}
impl PartialOrd for LeaseId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for LeaseId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.holder, self.number).cmp(&(other.holder, other.number))
    }
}
impl std::fmt::Display for LeaseId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.holder, self.number)
    }
}

avro_enum! {
    /// How sure a settlement is.
    pub enum Confidence {
        /// By the provider's own usage report.
        Reported = "reported",
        /// By a stated rule, for want of a report.
        Estimated = "estimated",
        /// Matched with the provider's bill.
        Reconciled = "reconciled",
    }

    /// What a settlement's amount follows from.
    pub enum Basis {
        /// Usage × price.
        Usage = "usage",
        /// The reservation: the upper bound, for want of usage.
        Reservation = "reservation",
        /// Usage without a known price.
        Unpriced = "unpriced",
    }

    /// Why a reservation was given back whole.
    pub enum VoidReason {
        /// The provider was never reached.
        Unreachable = "unreachable",
        /// The provider refused, which it does not bill.
        Rejected = "rejected",
        /// The request ended before the call.
        NotSent = "not_sent",
    }
}

avro_record! {
    /// Money was set aside for an attempt, before the provider is called.
    pub struct Reserved {
        /// What every fact begins with.
        pub head: Head,
        /// The request's attributes.
        pub about: About,
        /// The attempt, from 1.
        pub attempt: u32,
        /// The provider's id in policy.
        pub provider: String,
        /// The model that is priced.
        pub model: String,
        /// The accounts on the path.
        pub accounts: Vec<AccountRef>,
        /// The lease that covers it; none where no account of the path is hard.
        pub lease: Option<LeaseId>,
        /// The upper bound of what the attempt can cost.
        pub amount: Money,
    }

    /// An attempt was charged; exactly one such fact, or a void, for each reservation.
    pub struct Settled {
        /// What every fact begins with.
        pub head: Head,
        /// The request's attributes.
        pub about: About,
        /// The attempt, from 1.
        pub attempt: u32,
        /// The provider's id in policy.
        pub provider: String,
        /// The model that was priced.
        pub model: String,
        /// The accounts on the path.
        pub accounts: Vec<AccountRef>,
        /// The lease that covered it.
        pub lease: Option<LeaseId>,
        /// What had been reserved.
        pub reserved: Money,
        /// What it cost.
        pub amount: Money,
        /// How sure that is.
        pub confidence: Confidence,
        /// What it follows from.
        pub basis: Basis,
        /// One line for each meter.
        pub lines: Vec<CostLine>,
        /// The provider's usage object as it came; numbers and field names only.
        pub usage: Option<String>,
        /// What it cost above the reservation; booked and alarmed, never hidden.
        pub overrun: Money,
        /// The dead incarnation that had reserved it, when a successor settles it.
        pub reserved_by: Option<ProducerId>,
    }

    /// A reservation was given back whole.
    pub struct Voided {
        /// What every fact begins with.
        pub head: Head,
        /// The request's attributes.
        pub about: About,
        /// The attempt, from 1.
        pub attempt: u32,
        /// The accounts on the path.
        pub accounts: Vec<AccountRef>,
        /// The lease that covered it.
        pub lease: Option<LeaseId>,
        /// What had been reserved.
        pub reserved: Money,
        /// Why.
        pub reason: VoidReason,
        /// The dead incarnation that had reserved it, when a successor voids it.
        pub reserved_by: Option<ProducerId>,
    }

    /// A shim asks for a lease on a path.
    pub struct LeaseRequested {
        /// What every fact begins with.
        pub head: Head,
        /// The lease's id, if granted; its holder is the asking incarnation.
        pub lease: LeaseId,
        /// The accounts of the path, sorted.
        pub accounts: Vec<AccountRef>,
        /// The amount wished for.
        pub wanted: Money,
        /// The least that would help: the bound of the request that waits.
        pub minimum: Money,
    }

    /// A holder gives back what it will not use; already subtracted on its side.
    pub struct LeaseReturned {
        /// What every fact begins with.
        pub head: Head,
        /// The lease.
        pub lease: LeaseId,
        /// Number of the return within the lease, from 1.
        pub number: u64,
        /// The amount given back; 0 in the last return of a lease that is used up.
        pub amount: Money,
        /// True when the holder will not admit anything under the lease again and nothing is in flight.
        pub last: bool,
    }

    /// How much of a lease its holder may have used: it never uses more before a higher mark is acknowledged. What lies
    /// above the last mark can go back once the holder has ended, whatever became of its disk.
    pub struct LeaseMarked {
        /// What every fact begins with.
        pub head: Head,
        /// The lease; a holder marks it from its request on, or never.
        pub lease: LeaseId,
        /// At least what is settled, reserved and returned under it; rises only.
        pub mark: Money,
    }

    /// A shim incarnation ended: in good order, or as its successor states after replaying its spool.
    pub struct ShimEnded {
        /// What every fact begins with.
        pub head: Head,
        /// The incarnation that ended.
        pub incarnation: ProducerId,
    }
}

impl Reserved {
    /// The settlement of an attempt whose holder is gone: at its bound, since it may have been served and billed.
    #[must_use]
    pub fn settled_at_bound(&self, head: Head, reserved_by: ProducerId) -> Settled {
        Settled {
            head,
            about: self.about.clone(),
            attempt: self.attempt,
            provider: self.provider.clone(),
            model: self.model.clone(),
            accounts: self.accounts.clone(),
            lease: self.lease,
            reserved: self.amount,
            amount: self.amount,
            confidence: Confidence::Estimated,
            basis: Basis::Reservation,
            lines: Vec::new(),
            usage: None,
            overrun: Money::ZERO,
            reserved_by: Some(reserved_by),
        }
    }
}

// Within snapshots.
macro_rules! serde_as_pair {
    ($name:ident, $first:ident, $second:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serde::Serialize::serialize(&(&self.$first, &self.$second), serializer)
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let ($first, $second) = serde::Deserialize::deserialize(deserializer)?;
                Ok(Self { $first, $second })
            }
        }
    };
}
serde_as_pair!(AccountRef, budget, window);
serde_as_pair!(LeaseId, holder, number);
