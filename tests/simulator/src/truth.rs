//! What really happened, known to nobody in the simulated world: what providers charged, and what each lease may
//! still cost. The safety of hard budgets is checked against this and nothing else.

use std::collections::{HashMap, HashSet};

use bursar_schemas::facts::{AccountRef, LeaseId};

use crate::calendar::SECOND;

/// One lease as it truly is. Pico-dollars.
#[derive(Debug, Clone, Default)]
pub struct Lease {
    /// The accounts that the log debited.
    pub accounts: Vec<AccountRef>,
    /// What the log granted.
    pub granted: i128,
    /// What providers charged for attempts that are over, within what was reserved.
    pub billed: i128,
    /// What the holder takes those attempts to have cost.
    pub settled: i128,
    /// Bounds of attempts in flight.
    pub in_flight: i128,
    /// What its holder may still admit.
    pub left: i128,
    /// Of what is left, what is reserved on record for good, as the attempt's end could not be written.
    pub unended: i128,
    /// Returns that the holder made.
    pub returns: Vec<Given>,
    /// Somebody else credited it: what the holder believes to have left must not be used.
    pub foreign: bool,
    /// The holder can never run again.
    pub dead: bool,
}

/// A return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Given {
    /// Its number.
    pub number: u64,
    /// How much goes back.
    pub amount: i128,
    /// What was used of the lease when it was made.
    pub used: i128,
}

impl Lease {
    /// The most that it can cost from here on, with what it has cost.
    #[must_use]
    pub const fn exposure(&self) -> i128 {
        self.billed + self.in_flight + self.left
    }

    /// What its holder has given back.
    #[must_use]
    pub fn given(&self) -> i128 {
        self.returns.iter().map(|it| it.amount).sum()
    }

    /// True when its holder made that return.
    #[must_use]
    pub fn has_returned(&self, number: u64, amount: i128) -> bool {
        self.returns.iter().any(|it| (it.number, it.amount) == (number, amount))
    }

    /// What is truly used of it.
    #[must_use]
    pub const fn used(&self) -> i128 {
        self.settled + self.in_flight
    }
}

/// One account as it truly is.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// Σ exposure of the leases over it.
    pub exposure: i128,
    /// What providers charged for requests of that budget and time, by the simulator's own calendar.
    pub billed: i128,
    /// Of that, without a lease.
    pub free: i128,
    /// Of that, under a lease and beyond what was reserved.
    pub over: i128,
    /// Σ used of the leases over it.
    pub used: i128,
    /// How used rose and fell.
    used_log: Vec<(i64, i128)>,
}

impl Account {
    /// What was charged under leases, within what was reserved.
    #[must_use]
    pub const fn within(&self) -> i128 {
        self.billed - self.free - self.over
    }

    /// The most that was used at any time since an instant.
    #[must_use]
    pub fn most_used_since(&self, at: i64) -> i128 {
        let mut most = self.used;
        for (time, used) in self.used_log.iter().rev() {
            most = most.max(*used);
            if *time < at {
                break;
            }
        }
        most
    }
}

/// The truth.
#[derive(Debug, Default)]
pub struct Truth {
    leases: HashMap<LeaseId, Lease>,
    accounts: HashMap<AccountRef, Account>,
    /// Accounts that attempts passed beside every lease, whatever they were charged.
    pub passed: HashSet<AccountRef>,
    /// Accounts that changed in this step.
    pub touched: Vec<AccountRef>,
}

/// How long rises and falls are kept.
const MEMORY: i64 = 20 * SECOND;

impl Truth {
    /// Changes a lease, and what its accounts are exposed to.
    pub fn change(&mut self, id: LeaseId, now: i64, change: impl FnOnce(&mut Lease)) {
        let lease = self.leases.entry(id).or_default();
        let (exposure, used) = (lease.exposure(), lease.used());
        change(lease);
        let (exposure, used) = (lease.exposure() - exposure, lease.used() - used);
        if exposure == 0 && used == 0 {
            return;
        }
        for name in &lease.accounts {
            let account = self.accounts.entry(name.clone()).or_default();
            account.exposure += exposure;
            if used != 0 {
                account.used += used;
                if account.used_log.first().is_some_and(|(at, _)| *at < now - 2 * MEMORY) {
                    account.used_log.retain(|(at, _)| *at >= now - MEMORY);
                }
                account.used_log.push((now, account.used));
            }
            self.touched.push(name.clone());
        }
    }

    /// A grant counted.
    pub fn granted(&mut self, id: LeaseId, accounts: &[AccountRef], amount: i128) {
        let lease = self.leases.entry(id).or_default();
        lease.accounts = accounts.to_vec();
        lease.granted = amount;
    }

    /// A provider charged for a request that draws on these accounts, by the simulator's own calendar. `leased` are
    /// those that a lease covers: a soft budget may be on no path, and never blocks. `over` is above nothing when more
    /// was charged than reserved.
    pub fn bill(&mut self, accounts: &[AccountRef], amount: i128, leased: &[AccountRef], over: i128) {
        for name in accounts {
            let account = self.accounts.entry(name.clone()).or_default();
            account.billed += amount;
            if leased.contains(name) {
                account.over += over.max(0);
            } else {
                account.free += amount;
            }
            self.touched.push(name.clone());
        }
    }

    /// A lease.
    #[must_use]
    pub fn lease(&self, id: &LeaseId) -> Option<&Lease> {
        self.leases.get(id)
    }

    /// All leases, in no order.
    pub fn leases(&self) -> impl Iterator<Item = (&LeaseId, &Lease)> {
        self.leases.iter()
    }

    /// An account.
    #[must_use]
    pub fn account(&self, name: &AccountRef) -> Option<&Account> {
        self.accounts.get(name)
    }
}
