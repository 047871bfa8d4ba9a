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
    Open(Vec<AccountRef>, i128),
    Over,
}

/// The books of `spend` up to its end.
#[derive(Debug, Default)]
pub struct Naive {
    next: HashMap<ProducerId, u64>,
    attempts: HashMap<(RequestId, u32), Attempt>,
    accounts: HashMap<AccountRef, Stand>,
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
                    self.attempts.insert(key, Attempt::Open(it.accounts.clone(), it.amount.pico()));
                }
            }
            Fact::Settled(it) => {
                let key = (it.about.request, it.attempt);
                let accounts = match self.attempts.insert(key, Attempt::Over) {
                    Some(Attempt::Over) => return,
                    Some(Attempt::Open(accounts, reserved)) => {
                        self.each(&accounts, |stand| stand.reserved -= reserved);
                        accounts
                    }
                    None if it.reserved_by.is_some() => return,
                    None => it.accounts.clone(),
                };
                self.each(&accounts, |stand| stand.settled += it.amount.pico());
            }
            Fact::Voided(it) => {
                if let Some(Attempt::Open(accounts, reserved)) =
                    self.attempts.insert((it.about.request, it.attempt), Attempt::Over)
                {
                    self.each(&accounts, |stand| stand.reserved -= reserved);
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
