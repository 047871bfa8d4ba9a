//! A shim as far as the ledger can see: a certified producer of facts on `spend`.

use std::collections::BTreeMap;

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{
    About, AccountRef, Basis, Confidence, Fact, Head, LeaseId, LeaseRequested, LeaseReturned, Reserved, Role,
    Settled, ShimEnded, VoidReason, Voided,
};
use bursar_schemas::ids::{ProducerId, RequestId};
use bursar_schemas::money::Money;
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::producer::{Chains, Identity};

use super::{Logs, identity};

pub struct Attempt {
    pub request: RequestId,
    pub accounts: Vec<AccountRef>,
    pub lease: Option<LeaseId>,
    pub reserved: Money,
}

pub struct Shim {
    pub producer: ProducerId,
    chains: Chains,
    pub attempts: BTreeMap<String, Attempt>,
    made: u32,
    /// The next fact gets a number and never reaches the log.
    pub loses_next: bool,
    /// The next fact reaches the log as another than was written.
    pub tampers_next: bool,
}

impl Shim {
    pub fn new(number: u8) -> Self {
        Self::with(identity(number, Role::Shim))
    }

    /// One whose certificate another deployment has signed.
    pub fn impostor(number: u8) -> Self {
        Self::with(Identity::new(ProducerId([number; 16]), Role::Shim, [number; 32], &[66; 32]))
    }

    fn with(identity: Identity) -> Self {
        let producer = identity.producer;
        let chains = Chains::new(identity);
        let (attempts, loses_next, tampers_next) = (BTreeMap::new(), false, false);
        Self { producer, chains, attempts, made: 0, loses_next, tampers_next }
    }

    pub fn write(&mut self, fact: impl Into<Fact>, logs: &mut Logs) {
        let mut entries = Vec::new();
        self.chains.stamp(Lane::new(Topic::Spend, 0), fact.into(), &mut entries);
        if std::mem::take(&mut self.loses_next) {
            entries.pop();
        }
        let mut values: Vec<_> = entries.into_iter().map(|entry| entry.value.to_vec()).collect();
        if std::mem::take(&mut self.tampers_next) {
            let value = values.last_mut().unwrap();
            let at = value.windows(5).position(|bytes| bytes == b"gpt-5").unwrap();
            value[at] = b'h';
        }
        logs.spend.append(&mut values);
    }

    pub fn heads(&mut self, ended: bool, logs: &mut Logs) {
        let mut entries = Vec::new();
        self.chains.heads(Micros(logs.now), ended, &mut entries);
        logs.spend.extend(entries.into_iter().map(|entry| entry.value.to_vec()));
    }

    pub fn lease(&self, number: u64) -> LeaseId {
        LeaseId { holder: self.producer, number }
    }

    pub fn ask(
        &mut self,
        number: u64,
        accounts: &[AccountRef],
        wanted: Money,
        minimum: Money,
        logs: &mut Logs,
    ) {
        let mut accounts = accounts.to_vec();
        accounts.sort();
        let (head, lease) = (head(logs), self.lease(number));
        self.write(LeaseRequested { head, lease, accounts, wanted, minimum }, logs);
    }

    pub fn give_back(&mut self, number: u64, count: u64, amount: Money, last: bool, logs: &mut Logs) {
        let (head, lease) = (head(logs), self.lease(number));
        self.write(LeaseReturned { head, lease, number: count, amount, last }, logs);
    }

    pub fn end(&mut self, incarnation: ProducerId, logs: &mut Logs) {
        let head = head(logs);
        self.write(ShimEnded { head, incarnation }, logs);
    }

    pub fn reserve(
        &mut self,
        name: &str,
        accounts: &[AccountRef],
        lease: Option<u64>,
        amount: Money,
        logs: &mut Logs,
    ) {
        self.made += 1;
        let mut request = [0; 16];
        request[..4].copy_from_slice(&self.made.to_be_bytes());
        request[4..].copy_from_slice(&self.producer.0[..12]);
        let request = RequestId(request);
        let lease = lease.map(|number| self.lease(number));
        let attempt = Attempt { request, accounts: accounts.to_vec(), lease, reserved: amount };
        let fact = Reserved {
            head: head(logs),
            about: about(request, logs),
            attempt: 1,
            provider: "openai".into(),
            model: "gpt-5".into(),
            accounts: attempt.accounts.clone(),
            lease,
            amount,
        };
        self.attempts.insert(name.to_owned(), attempt);
        self.write(fact, logs);
    }

    pub fn settle(&mut self, attempt: &Attempt, amount: Money, by: Option<ProducerId>, logs: &mut Logs) {
        let fact = Settled {
            head: head(logs),
            about: about(attempt.request, logs),
            attempt: 1,
            provider: "openai".into(),
            model: "gpt-5".into(),
            accounts: attempt.accounts.clone(),
            lease: attempt.lease,
            reserved: attempt.reserved,
            amount,
            confidence: Confidence::Reported,
            basis: Basis::Usage,
            lines: Vec::new(),
            usage: None,
            overrun: amount.minus_or_zero(attempt.reserved),
            reserved_by: by,
        };
        self.write(fact, logs);
    }

    pub fn void(&mut self, attempt: &Attempt, by: Option<ProducerId>, logs: &mut Logs) {
        let fact = Voided {
            head: head(logs),
            about: about(attempt.request, logs),
            attempt: 1,
            accounts: attempt.accounts.clone(),
            lease: attempt.lease,
            reserved: attempt.reserved,
            reason: VoidReason::Rejected,
            reserved_by: by,
        };
        self.write(fact, logs);
    }
}

fn head(logs: &Logs) -> Head {
    Head::draft(Micros(logs.now), 1, "2026-11-01")
}

fn about(request: RequestId, logs: &Logs) -> About {
    About {
        request,
        accounting_at: Micros(logs.now),
        organisation: "acme".into(),
        team: Some("red".into()),
        project: None,
        key: "k1".into(),
        end_user: None,
        cost_center: None,
        tags: BTreeMap::from([("stage".to_owned(), "test".to_owned())]),
    }
}
