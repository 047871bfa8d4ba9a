//! The books of `spend` a second time: every attempt with its one effective end, added up from the facts. It shares
//! no code with the ledger.

use std::collections::{HashMap, HashSet};

use bursar_schemas::facts::{AccountRef, Fact, LeaseId, LeaseRequested, Role};
use bursar_schemas::ids::{ProducerId, RequestId};

/// What is settled and reserved at an account, in pico-dollars.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stand {
    /// Charged.
    pub settled: i128,
    /// In flight.
    pub reserved: i128,
}

#[derive(Debug, Clone)]
enum Attempt {
    Open(Vec<AccountRef>, i128, Option<LeaseId>),
    Over,
}

/// A sum, and how it rose and fell with the offsets of `spend`.
#[derive(Debug, Clone, Default)]
struct Course(Vec<(u64, i128)>);

impl Course {
    fn change(&mut self, offset: u64, by: i128) {
        let before = self.0.last().map_or(0, |(_, sum)| *sum);
        self.0.push((offset, before + by));
    }

    /// By the records below an offset.
    fn below(&self, offset: u64) -> i128 {
        let count = self.0.partition_point(|(at, _)| *at < offset);
        count.checked_sub(1).and_then(|last| self.0.get(last)).map_or(0, |(_, sum)| *sum)
    }
}

/// The books of `spend` up to its end.
#[derive(Debug, Default)]
pub struct Naive {
    next: HashMap<ProducerId, u64>,
    attempts: HashMap<(RequestId, u32), Attempt>,
    accounts: HashMap<AccountRef, Stand>,
    /// What is settled and reserved under each lease, within reservations.
    used: HashMap<LeaseId, Course>,
    /// What was settled beyond reservations under leases, by account.
    over: HashMap<AccountRef, Course>,
    /// What was asked for, by lease.
    pub asked: HashMap<LeaseId, LeaseRequested>,
    /// Returns by lease and number, with their amount and offset.
    pub returned: HashMap<(LeaseId, u64), (i128, u64)>,
    /// Marks by lease, in order: each with its offset.
    pub marks: HashMap<LeaseId, Vec<(u64, i128)>>,
    /// Incarnations that are said to have ended.
    pub ended: HashSet<ProducerId>,
}

impl Naive {
    /// Takes the next record.
    pub fn take(&mut self, offset: u64, fact: &Fact) {
        let head = fact.head();
        if head.role != Role::Shim {
            return;
        }
        let next = match (self.next.get(&head.producer), fact) {
            (None, Fact::ProducerOpened(_)) => 0,
            (None, _) => return,
            (Some(next), _) => *next,
        };
        if head.number < next {
            return;
        }
        self.next.insert(head.producer, head.number + 1);
        match fact {
            Fact::Reserved(it) => {
                let key = (it.about.request, it.attempt);
                if !self.attempts.contains_key(&key) {
                    self.each(&it.accounts, |stand| stand.reserved += it.amount.pico());
                    self.use_lease(it.lease, offset, it.amount.pico());
                    self.attempts.insert(key, Attempt::Open(it.accounts.clone(), it.amount.pico(), it.lease));
                }
            }
            Fact::Settled(it) => {
                let key = (it.about.request, it.attempt);
                let (accounts, reserved, lease) = match self.attempts.insert(key, Attempt::Over) {
                    Some(Attempt::Over) => return,
                    Some(Attempt::Open(accounts, reserved, lease)) => {
                        self.each(&accounts, |stand| stand.reserved -= reserved);
                        (accounts, reserved, lease)
                    }
                    None if it.reserved_by.is_some() => return,
                    None => (it.accounts.clone(), 0, it.lease),
                };
                let (amount, bound) = (it.amount.pico(), it.reserved.pico());
                self.each(&accounts, |stand| stand.settled += amount);
                self.use_lease(lease, offset, amount.min(bound) - reserved);
                for account in accounts.into_iter().filter(|_| lease.is_some() && amount > bound) {
                    self.over.entry(account).or_default().change(offset, amount - bound);
                }
            }
            Fact::Voided(it) => {
                if let Some(Attempt::Open(accounts, reserved, lease)) =
                    self.attempts.insert((it.about.request, it.attempt), Attempt::Over)
                {
                    self.each(&accounts, |stand| stand.reserved -= reserved);
                    self.use_lease(lease, offset, -reserved);
                }
            }
            Fact::LeaseRequested(it) => {
                self.asked.entry(it.lease).or_insert_with(|| (**it).clone());
            }
            Fact::LeaseReturned(it) => {
                self.returned.entry((it.lease, it.number)).or_insert((it.amount.pico(), offset));
            }
            Fact::LeaseMarked(it) => {
                self.marks.entry(it.lease).or_default().push((offset, it.mark.pico()));
            }
            Fact::ShimEnded(it) => {
                self.ended.insert(it.incarnation);
            }
            _ => {}
        }
    }

    /// The highest mark of a lease below an offset of `spend`.
    #[must_use]
    pub fn mark(&self, lease: &LeaseId, below: u64) -> Option<i128> {
        let marks = self.marks.get(lease)?.iter().filter(|(offset, _)| *offset < below);
        marks.map(|(_, mark)| *mark).max()
    }

    fn use_lease(&mut self, lease: Option<LeaseId>, offset: u64, by: i128) {
        if let Some(lease) = lease {
            self.used.entry(lease).or_default().change(offset, by);
        }
    }

    /// What the records below an offset say is used of a lease.
    #[must_use]
    pub fn used(&self, lease: &LeaseId, below: u64) -> i128 {
        self.used.get(lease).map_or(0, |course| course.below(below))
    }

    /// What the records below an offset say was settled beyond reservations of an account's leases.
    #[must_use]
    pub fn over(&self, account: &AccountRef, below: u64) -> i128 {
        self.over.get(account).map_or(0, |course| course.below(below))
    }

    fn each(&mut self, accounts: &[AccountRef], change: impl Fn(&mut Stand)) {
        for account in accounts {
            change(self.accounts.entry(account.clone()).or_default());
        }
    }

    /// How an account stands.
    #[must_use]
    pub fn stand(&self, account: &AccountRef) -> Stand {
        self.accounts.get(account).copied().unwrap_or_default()
    }
}
