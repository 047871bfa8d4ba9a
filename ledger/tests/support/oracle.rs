//! A second, naive ledger to judge the first: it keeps every fact, and adds all of them up for each question.
//! It shares no code with the ledger and none with the fold.

use std::collections::{BTreeMap, BTreeSet};

use bursar_schemas::facts::{AccountRef, Fact, LeaseCredited, LeaseGranted, LeaseId, Mode, Phase};
use bursar_schemas::ids::ProducerId;
use bursar_schemas::wire;

use super::Logs;

/// Pico-dollars, as plain numbers.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Naive {
    pub settled: i128,
    pub reserved: i128,
    pub committed: i128,
    pub idle: i128,
    pub stranded: i128,
}

/// Facts of `spend`, each (producer, number) once, in order.
fn once(spend: &[Vec<u8>]) -> Vec<Fact> {
    let mut seen = BTreeSet::new();
    let facts = spend.iter().filter_map(|value| wire::decode(value).ok());
    facts.filter(|fact| seen.insert((fact.head().producer, fact.head().number))).collect()
}

/// Records of `limits` that count, by the rules as the design states them. Panics when a grant that counts
/// lifts a hard account above its limit: the ledger must never have tried.
pub fn counted(limits: &[Vec<u8>]) -> Vec<(u64, Fact)> {
    let mut counted: Vec<(u64, Fact)> = Vec::new();
    let mut seen: BTreeSet<(ProducerId, u64)> = BTreeSet::new();
    let mut epoch = None;
    for (offset, value) in limits.iter().enumerate() {
        let fact = wire::decode(value).unwrap();
        if !seen.insert((fact.head().producer, fact.head().number)) {
            continue;
        }
        let under = match &fact {
            Fact::EpochMarked(marker) => {
                if marker.supersedes != epoch {
                    continue;
                }
                epoch = Some(offset as u64);
                epoch
            }
            Fact::LimitSet(it) => Some(it.epoch),
            Fact::WindowMoved(it) => Some(it.epoch),
            Fact::LeaseGranted(it) => Some(it.epoch),
            Fact::LeaseRefused(it) => Some(it.epoch),
            Fact::LeaseCredited(it) => Some(it.epoch),
            Fact::LeaseClosed(it) => Some(it.epoch),
            Fact::IncarnationEnded(it) => Some(it.epoch),
            _ => continue,
        };
        if under == epoch {
            match &fact {
                Fact::LeaseGranted(grant) => may_be_granted(&counted, grant),
                Fact::LeaseCredited(credit) if !may_be_credited(&counted, credit) => continue,
                _ => {}
            }
            counted.push((offset as u64, fact));
        }
    }
    counted
}

fn may_be_granted(counted: &[(u64, Fact)], grant: &LeaseGranted) {
    let again =
        counted.iter().any(|(_, fact)| matches!(fact, Fact::LeaseGranted(it) if it.lease == grant.lease));
    assert!(!again, "lease {} is granted twice", grant.lease);
    let holder = grant.lease.holder;
    let ended = counted
        .iter()
        .any(|(_, fact)| matches!(fact, Fact::IncarnationEnded(it) if it.incarnation == holder));
    assert!(!ended, "lease {} is granted to an incarnation that has ended", grant.lease);
    for account in &grant.accounts {
        let limit = counted.iter().rev().find_map(|(_, fact)| match fact {
            Fact::LimitSet(set) if set.budget == account.budget => Some((set.amount.pico(), set.mode)),
            _ => None,
        });
        let (limit, mode) = limit.expect("a limit before a grant");
        let phase = counted.iter().rev().find_map(|(_, fact)| match fact {
            Fact::WindowMoved(moved) if moved.account == *account => Some(moved.phase),
            _ => None,
        });
        assert_eq!(phase, Some(Phase::Open));
        let sum = committed(counted, account) + grant.amount.pico();
        assert!(mode != Mode::Hard || sum <= limit, "{account:?}: {sum} is committed of {limit}");
    }
}

/// A credit is void when it is for no lease, repeats a number, or gives back more than was granted.
fn may_be_credited(counted: &[(u64, Fact)], credit: &LeaseCredited) -> bool {
    let granted = counted.iter().find_map(|(_, fact)| match fact {
        Fact::LeaseGranted(it) if it.lease == credit.lease => Some(it.amount.pico()),
        _ => None,
    });
    let before: Vec<_> = counted
        .iter()
        .filter_map(|(_, fact)| match fact {
            Fact::LeaseCredited(it) if it.lease == credit.lease => Some(it),
            _ => None,
        })
        .collect();
    let repeated = before.iter().any(|it| it.number == credit.number);
    let over = credit.accounts.iter().any(|account| {
        let to_it = before.iter().filter(|it| it.accounts.contains(account));
        let sum: i128 = to_it.map(|it| it.amount.pico()).sum();
        granted.is_none_or(|granted| sum + credit.amount.pico() > granted)
    });
    !repeated && !over
}

fn committed(counted: &[(u64, Fact)], account: &AccountRef) -> i128 {
    counted
        .iter()
        .map(|(_, fact)| match fact {
            Fact::LeaseGranted(it) if it.accounts.contains(account) => it.amount.pico(),
            Fact::LeaseCredited(it) if it.accounts.contains(account) => -it.amount.pico(),
            _ => 0,
        })
        .sum()
}

/// How an account stands, added up from everything.
pub fn stand(logs: &Logs, account: &AccountRef) -> Naive {
    let counted = counted(&logs.limits);
    let spend = once(&logs.spend);
    let committed = committed(&counted, account);
    let mut under: BTreeMap<LeaseId, i128> = BTreeMap::new();
    let (settled, reserved) = attempts(&spend, account, &mut under);
    let ended: BTreeSet<ProducerId> = counted
        .iter()
        .filter_map(|(_, fact)| match fact {
            Fact::IncarnationEnded(it) => Some(it.incarnation),
            _ => None,
        })
        .collect();
    let (mut idle, mut stranded) = (0, 0);
    for (_, fact) in &counted {
        let Fact::LeaseGranted(grant) = fact else { continue };
        if !grant.accounts.contains(account) {
            continue;
        }
        let credited: i128 = counted
            .iter()
            .map(|(_, fact)| match fact {
                Fact::LeaseCredited(it) if it.lease == grant.lease && it.accounts.contains(account) => {
                    it.amount.pico()
                }
                _ => 0,
            })
            .sum();
        let closed =
            counted.iter().any(|(_, fact)| matches!(fact, Fact::LeaseClosed(it) if it.lease == grant.lease));
        let unused = grant.amount.pico() - credited - under.get(&grant.lease).copied().unwrap_or(0);
        if closed || ended.contains(&grant.lease.holder) {
            stranded += unused;
        } else {
            idle += unused;
        }
    }
    Naive { settled, reserved, committed, idle, stranded }
}

/// Settled and reserved at an account, and what of it is under each lease.
fn attempts(spend: &[Fact], account: &AccountRef, under: &mut BTreeMap<LeaseId, i128>) -> (i128, i128) {
    let (mut settled, mut reserved) = (0, 0);
    let mut open = BTreeMap::new();
    for fact in spend {
        match fact {
            Fact::Reserved(it) if it.accounts.contains(account) => {
                open.insert(it.about.request, it.amount.pico());
                reserved += it.amount.pico();
                if let Some(lease) = it.lease {
                    *under.entry(lease).or_default() += it.amount.pico();
                }
            }
            Fact::Settled(it) if it.accounts.contains(account) => {
                let Some(bound) = open.remove(&it.about.request) else { continue };
                settled += it.amount.pico();
                reserved -= bound;
                if let Some(lease) = it.lease {
                    *under.entry(lease).or_default() += it.amount.pico().min(bound) - bound;
                }
            }
            Fact::Voided(it) if it.accounts.contains(account) => {
                let Some(bound) = open.remove(&it.about.request) else { continue };
                reserved -= bound;
                if let Some(lease) = it.lease {
                    *under.entry(lease).or_default() -= bound;
                }
            }
            _ => {}
        }
    }
    (settled, reserved)
}
