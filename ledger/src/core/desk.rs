//! What waits for an answer on `limits`: requests for leases, returns, and ends of incarnations. An entry leaves
//! when a record that answers it is read back, so a successor finds exactly what was left.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{AccountRef, AlertKind, LeaseId, LeaseRequested, LeaseReturned, Phase};
use bursar_schemas::ids::ProducerId;
use bursar_schemas::money::Money;
use serde::{Deserialize, Serialize};

/// What is remembered of leases is looked through when it has become twice as much as was of use, and so much more.
const SWEEP: usize = 1024;

/// A request for a lease without an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Request {
    pub lease: LeaseId,
    pub accounts: Vec<AccountRef>,
    pub wanted: Money,
    pub minimum: Money,
    /// When it began to wait for recalled money.
    pub waits_since: Option<Micros>,
}

/// A return without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Return {
    pub offset: u64,
    pub amount: Money,
    pub last: bool,
}

/// What waits.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Desk {
    /// By offset in `spend`.
    pub requests: BTreeMap<u64, Request>,
    #[serde(with = "bursar_schemas::snapshot::pairs")]
    asked: BTreeMap<LeaseId, u64>,
    /// By lease and number.
    #[serde(with = "bursar_schemas::snapshot::pairs")]
    pub returns: BTreeMap<(LeaseId, u64), Return>,
    resolved: BTreeSet<(LeaseId, u64)>,
    /// What holders gave back of leases that are not closed, by lease and number, whether or not it was credited.
    #[serde(with = "bursar_schemas::snapshot::pairs")]
    given: BTreeMap<(LeaseId, u64), Money>,
    /// The accounts that a time-out has credited.
    #[serde(with = "bursar_schemas::snapshot::pairs")]
    reclaimed: BTreeMap<LeaseId, BTreeSet<AccountRef>>,
    /// How much was remembered of leases when that was looked through last.
    #[serde(default)]
    swept: usize,
    /// By incarnation: the offset that says that it ended.
    pub ends: BTreeMap<ProducerId, u64>,
    ended: BTreeSet<ProducerId>,
}

fn numbers_of(lease: LeaseId) -> RangeInclusive<(LeaseId, u64)> {
    (lease, 0)..=(lease, u64::MAX)
}

impl Desk {
    /// A request came that the log has not answered; a repeated one changes nothing.
    pub(super) fn ask(&mut self, offset: u64, asked: &LeaseRequested) {
        if self.asked.contains_key(&asked.lease) {
            return;
        }
        self.asked.insert(asked.lease, offset);
        let request = Request {
            lease: asked.lease,
            accounts: asked.accounts.clone(),
            wanted: asked.wanted.max(asked.minimum),
            minimum: asked.minimum,
            waits_since: None,
        };
        self.requests.insert(offset, request);
    }

    /// A counted record grants or refuses a lease.
    pub(super) fn answer(&mut self, lease: LeaseId) {
        if let Some(offset) = self.asked.remove(&lease) {
            self.requests.remove(&offset);
        }
    }

    /// A return came of a lease that is not over.
    pub(super) fn give_back(&mut self, offset: u64, returned: &LeaseReturned) {
        let key = (returned.lease, returned.number);
        let done = self.resolved.contains(&key) && !returned.last;
        self.given.entry(key).or_insert(returned.amount);
        if !done {
            let entry = Return { offset, amount: returned.amount, last: returned.last };
            self.returns.entry(key).or_insert(entry);
        }
    }

    /// A record under the epoch speaks of a return, whether it counts or is void: it is not written again.
    pub(super) fn resolve(&mut self, lease: LeaseId, number: u64) {
        self.resolved.insert((lease, number));
        if self.returns.get(&(lease, number)).is_some_and(|it| !it.last) {
            self.returns.remove(&(lease, number));
        }
    }

    /// True when a return was resolved.
    pub(super) fn is_resolved(&self, lease: LeaseId, number: u64) -> bool {
        self.resolved.contains(&(lease, number))
    }

    /// A time-out has credited accounts of a lease.
    pub(super) fn reclaim(&mut self, lease: LeaseId, accounts: &[AccountRef]) {
        self.reclaimed.entry(lease).or_default().extend(accounts.iter().cloned());
    }

    /// True when a time-out has credited the account.
    pub(super) fn was_reclaimed(&self, lease: &LeaseId, account: &AccountRef) -> bool {
        self.reclaimed.get(lease).is_some_and(|accounts| accounts.contains(account))
    }

    /// True while a question for the lease waits for an answer.
    pub(super) fn is_asked(&self, lease: &LeaseId) -> bool {
        self.asked.contains_key(lease)
    }

    /// True while a return of the lease waits for an answer.
    pub(super) fn holds_returns(&self, lease: LeaseId) -> bool {
        self.returns.range(numbers_of(lease)).next().is_some()
    }

    /// What a lease's holder gave back and the log has not credited yet.
    pub(super) fn returning(&self, lease: LeaseId) -> Money {
        let entries = self.returns.range(numbers_of(lease));
        entries.filter(|(key, _)| !self.resolved.contains(key)).map(|(_, entry)| entry.amount).sum()
    }

    /// What a lease's holder gave back in all.
    pub(super) fn given(&self, lease: LeaseId) -> Money {
        self.given.range(numbers_of(lease)).map(|(_, amount)| *amount).sum()
    }

    /// The log has forgotten a lease: nothing of it waits any more.
    pub(super) fn forget(&mut self, lease: LeaseId) {
        self.resolved.extract_if(numbers_of(lease), |_| true).for_each(drop);
        self.returns.extract_if(numbers_of(lease), |_, _| true).for_each(drop);
        self.given.extract_if(numbers_of(lease), |_, _| true).for_each(drop);
        self.reclaimed.remove(&lease);
    }

    /// Looks through what is remembered of leases once it has become much more, and forgets all of those that are not to be
    /// kept. A lease that was closed before the log forgot it is found by nothing else.
    pub(super) fn sweep(&mut self, keeps: impl Fn(&LeaseId) -> bool) {
        if self.remembered() > 2 * self.swept + SWEEP {
            self.reclaimed.retain(|lease, _| keeps(lease));
            self.resolved.retain(|(lease, _)| keeps(lease));
            self.given.retain(|(lease, _), _| keeps(lease));
            self.returns.retain(|(lease, _), _| keeps(lease));
            self.swept = self.remembered();
        }
    }

    fn remembered(&self) -> usize {
        self.reclaimed.len() + self.resolved.len() + self.given.len() + self.returns.len()
    }

    /// An incarnation is said to have ended.
    pub(super) fn end(&mut self, offset: u64, incarnation: ProducerId) {
        if !self.ended.contains(&incarnation) {
            self.ends.entry(incarnation).or_insert(offset);
        }
    }

    /// The log says that an incarnation has ended.
    pub(super) fn ended(&mut self, incarnation: ProducerId) {
        self.ends.remove(&incarnation);
        self.ended.insert(incarnation);
        let requests = &self.requests;
        let gone: Vec<u64> = (requests.iter())
            .filter(|(_, request)| request.lease.holder == incarnation)
            .map(|(offset, _)| *offset)
            .collect();
        for offset in gone {
            if let Some(request) = self.requests.remove(&offset) {
                self.asked.remove(&request.lease);
            }
        }
    }
}

/// What this ledger has appended and not read back yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pending {
    /// A budget's limit.
    Limit(String),
    /// A window's move.
    Window(AccountRef, Phase),
    /// A grant or a refusal.
    Answer(LeaseId),
    /// A credit.
    Credit(LeaseId, u64),
    /// A credit of what a dead holder left.
    Recover(LeaseId),
    /// A close.
    Close(LeaseId),
    /// A revocation.
    Revoke(LeaseId),
    /// An end.
    End(ProducerId),
    /// An alert.
    Alert(AccountRef, AlertKind, u32),
    /// What became of telling a webhook: the alert's producer and number, the webhook.
    Delivery(ProducerId, u64, String),
}
