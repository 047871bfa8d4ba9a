//! A ledger of a few lines, to answer the shim: it grants while there is money. Its book-keeping is its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bursar_schemas::facts::{
    AccountRef, BalanceStated, CreditReason, EpochMarked, Fact, Head, LeaseCredited, LeaseGranted, LeaseId,
    LeaseRefusal, LeaseRefused, LimitSet, Mode, Phase, Recovery, Role, WindowMoved,
};
use bursar_schemas::ids::ProducerId;
use bursar_schemas::memory::MemoryJournal;
use bursar_schemas::money::Money;
use bursar_schemas::ports::Journal as _;
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::producer::{Draft, Recorder};
use bursar_schemas::wire;

use super::{now, recorder};

const LIMITS: Lane = Lane::new(Topic::Limits, 0);

pub fn micro_dollars(amount: i128) -> Money {
    Money::from_pico(amount * 1_000_000)
}

pub fn account(budget: &str) -> AccountRef {
    AccountRef { budget: budget.to_owned(), window: 0 }
}

pub struct FakeLedger {
    recorder: Arc<Recorder>,
    /// While set, nothing is answered; what came meanwhile is answered afterwards.
    pub silent: Arc<AtomicBool>,
    /// While set, grants are no larger than what is asked for at least.
    pub tight: Arc<AtomicBool>,
}

impl FakeLedger {
    pub fn start(journal: &MemoryJournal, limits: &[(&'static str, i128)]) -> Self {
        let recorder = recorder(2, Role::Ledger, Arc::new(journal.clone()));
        let ledger = Self { recorder, silent: Arc::default(), tight: Arc::default() };
        // The marker stands after the producer's own opening fact: at offset 1, which is the epoch.
        ledger.say(EpochMarked { head: head(), instance: ProducerId([2; 16]), supersedes: None });
        for (budget, amount) in limits {
            ledger.limit(budget, *amount, 1, Mode::Hard);
            ledger.say(WindowMoved {
                head: head(),
                epoch: 1,
                account: account(budget),
                starts_at: bursar_schemas::avro::Micros(0),
                ends_at: None,
                phase: Phase::Open,
            });
        }
        let amounts = limits.iter().map(|(budget, amount)| (account(budget), micro_dollars(*amount)));
        let answering = Answering {
            recorder: Arc::clone(&ledger.recorder),
            free: amounts.collect(),
            leases: BTreeMap::new(),
            tight: Arc::clone(&ledger.tight),
        };
        tokio::spawn(answering.run(journal.clone(), Arc::clone(&ledger.silent)));
        ledger
    }

    pub fn say(&self, fact: impl Into<Fact>) {
        drop(self.recorder.record([Draft { lane: LIMITS, fact: fact.into() }]).unwrap());
    }

    pub fn limit(&self, budget: &str, amount: i128, version: u64, mode: Mode) {
        self.say(LimitSet {
            head: head(),
            epoch: 1,
            budget: budget.to_owned(),
            amount: micro_dollars(amount),
            mode,
            recovery: Recovery::Forfeit,
            policy_version: version,
            step: 0,
        });
    }

    pub fn balance(&self, budget: &str, settled: i128) {
        self.say(BalanceStated {
            head: head(),
            epoch: 1,
            account: account(budget),
            settled: micro_dollars(settled),
            reserved: Money::ZERO,
            overrun: Money::ZERO,
            read: 0,
        });
    }
}

fn head() -> Head {
    Head::draft(now(), 1, "")
}

struct Answering {
    recorder: Arc<Recorder>,
    free: BTreeMap<AccountRef, Money>,
    leases: BTreeMap<LeaseId, Vec<AccountRef>>,
    tight: Arc<AtomicBool>,
}

impl Answering {
    async fn run(mut self, journal: MemoryJournal, silent: Arc<AtomicBool>) {
        let mut spend = journal.read(Lane::new(Topic::Spend, 0), 0).await.unwrap();
        loop {
            let batch = spend.next().await.unwrap();
            while silent.load(Ordering::Acquire) {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
            for record in batch.records {
                if let Some(fact) = self.answer(record.offset, wire::decode(&record.value).unwrap()) {
                    drop(self.recorder.record([Draft { lane: LIMITS, fact }]).unwrap());
                }
            }
        }
    }

    fn answer(&mut self, offset: u64, fact: Fact) -> Option<Fact> {
        match fact {
            Fact::LeaseRequested(asked) => {
                let free = asked.accounts.iter().map(|account| self.free[account]).min()?;
                let (lease, accounts) = (asked.lease, asked.accounts);
                if free < asked.minimum {
                    let reason = LeaseRefusal::Spent;
                    let account = accounts.into_iter().min_by_key(|account| self.free[account]);
                    return Some(
                        LeaseRefused {
                            head: head(),
                            epoch: 1,
                            lease,
                            reason,
                            account,
                            cause: offset,
                            read: offset,
                        }
                        .into(),
                    );
                }
                let tight = self.tight.load(Ordering::Acquire);
                let amount = if tight { asked.minimum } else { asked.wanted.min(free) };
                for account in &accounts {
                    let free = self.free.get_mut(account)?;
                    *free = free.minus(amount);
                }
                self.leases.insert(lease, accounts.clone());
                Some(
                    LeaseGranted {
                        head: head(),
                        epoch: 1,
                        lease,
                        accounts,
                        amount,
                        cause: offset,
                        read: offset,
                    }
                    .into(),
                )
            }
            Fact::LeaseReturned(back) => {
                let accounts = self.leases.get(&back.lease)?.clone();
                for account in &accounts {
                    let free = self.free.get_mut(account)?;
                    *free = free.plus(back.amount);
                }
                Some(
                    LeaseCredited {
                        head: head(),
                        epoch: 1,
                        lease: back.lease,
                        number: back.number,
                        amount: back.amount,
                        accounts,
                        reason: CreditReason::Returned,
                        cause: Some(offset),
                        read: offset,
                    }
                    .into(),
                )
            }
            _ => None,
        }
    }
}
