//! The rules of `limits` a second time, as the design states them and in other terms than the production fold: what
//! counts, and what is committed. Nothing is forgotten here. It shares no code with the fold.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bursar_schemas::facts::{
    AccountRef, CreditReason, Fact, LeaseCredited, LeaseGranted, LeaseId, Mode, Phase, Recovery, Role,
};
use bursar_schemas::ids::ProducerId;

/// A limit in force.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// Pico-dollars.
    pub amount: i128,
    /// What it promises.
    pub mode: Mode,
    recovery: Recovery,
    version: (u64, u64),
}

/// A window.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Where it is in its life.
    pub phase: Phase,
    /// Σ grants − Σ credits.
    pub committed: i128,
}

/// A lease.
#[derive(Debug, Clone)]
pub struct Granted {
    /// Its path.
    pub accounts: Vec<AccountRef>,
    /// What was granted.
    pub amount: i128,
    /// What went back, by account.
    pub credited: BTreeMap<AccountRef, i128>,
    /// Accounts that a time-out has credited.
    pub reclaimed: BTreeSet<AccountRef>,
    numbers: BTreeSet<(CreditReason, u64)>,
}

impl Granted {
    /// True once a return was credited.
    #[must_use]
    pub fn has_returned(&self, number: u64) -> bool {
        self.numbers.contains(&(CreditReason::Returned, number))
    }

    /// True once what its dead holder left came back.
    #[must_use]
    pub fn is_recovered(&self) -> bool {
        self.numbers.iter().any(|(reason, _)| matches!(reason, CreditReason::Journal | CreditReason::Retired))
    }
}

/// What follows from the log.
#[derive(Debug, Default)]
pub struct Rules {
    epoch: Option<u64>,
    seen: HashMap<ProducerId, u64>,
    limits: HashMap<String, Limit>,
    windows: HashMap<AccountRef, Window>,
    newest: HashMap<String, i64>,
    leases: HashMap<LeaseId, Granted>,
    ended: HashSet<ProducerId>,
    /// Leases that were closed.
    closed: HashSet<LeaseId>,
    /// Leases that were granted or refused: neither is ever granted again.
    answered: HashSet<LeaseId>,
}

const fn blocking(mode: Mode) -> bool {
    matches!(mode, Mode::Hard | Mode::Bounded)
}

impl Rules {
    /// Takes the next record; true when it counts.
    pub fn judge(&mut self, offset: u64, fact: &Fact) -> bool {
        let head = fact.head();
        if head.role != Role::Ledger || self.seen.get(&head.producer) >= Some(&head.number) {
            return false;
        }
        self.seen.insert(head.producer, head.number);
        let epoch = match fact {
            Fact::EpochMarked(marker) => {
                let counts = marker.supersedes == self.epoch;
                if counts {
                    self.epoch = Some(offset);
                }
                return counts;
            }
            Fact::LimitSet(it) => it.epoch,
            Fact::WindowMoved(it) => it.epoch,
            Fact::LeaseGranted(it) => it.epoch,
            Fact::LeaseRefused(it) => it.epoch,
            Fact::LeaseCredited(it) => it.epoch,
            Fact::LeaseRevoked(it) => it.epoch,
            Fact::LeaseClosed(it) => it.epoch,
            Fact::IncarnationEnded(it) => it.epoch,
            _ => return false,
        };
        self.epoch == Some(epoch) && self.count(fact)
    }

    fn count(&mut self, fact: &Fact) -> bool {
        match fact {
            Fact::LimitSet(it) => {
                let version = (it.policy_version, it.step);
                let rises = self.limits.get(&it.budget).is_none_or(|limit| version > limit.version);
                if rises && version > (0, 0) {
                    let (amount, mode, recovery) = (it.amount.pico(), it.mode, it.recovery);
                    self.limits.insert(it.budget.clone(), Limit { amount, mode, recovery, version });
                }
                rises
            }
            Fact::WindowMoved(it) => self.move_window(&it.account, it.phase),
            Fact::LeaseGranted(it) => self.grant(it),
            Fact::LeaseCredited(it) => self.credit(it),
            Fact::LeaseRevoked(it) => self.is_kept(&it.lease),
            Fact::LeaseClosed(it) => self.is_kept(&it.lease) && self.closed.insert(it.lease),
            Fact::LeaseRefused(it) => {
                self.answered.insert(it.lease);
                true
            }
            Fact::IncarnationEnded(it) => {
                self.ended.insert(it.incarnation);
                true
            }
            _ => true,
        }
    }

    /// A lease is over for good once it is closed, or all its windows are.
    #[must_use]
    pub fn is_kept(&self, id: &LeaseId) -> bool {
        !self.closed.contains(id) && self.leases.get(id).is_some_and(|lease| self.has_window(lease))
    }

    /// True once it was closed, whatever became of its windows.
    #[must_use]
    pub fn is_closed(&self, id: &LeaseId) -> bool {
        self.closed.contains(id)
    }

    fn has_window(&self, lease: &Granted) -> bool {
        lease.accounts.iter().any(|account| self.windows[account].phase != Phase::Closed)
    }

    fn move_window(&mut self, account: &AccountRef, to: Phase) -> bool {
        let from = self.windows.get(account).map(|window| window.phase);
        let counts = match (from, to) {
            (None, Phase::Open) => self.newest.get(&account.budget).is_none_or(|it| account.window > *it),
            (Some(Phase::Open), Phase::Draining) => true,
            (Some(Phase::Open | Phase::Draining), Phase::Closed) => true,
            _ => false,
        };
        if counts {
            let window = self.windows.entry(account.clone()).or_insert(Window { phase: to, committed: 0 });
            window.phase = to;
            if to == Phase::Open {
                self.newest.insert(account.budget.clone(), account.window);
            }
        }
        counts
    }

    fn grant(&mut self, it: &LeaseGranted) -> bool {
        let amount = it.amount.pico();
        let rising = it.accounts.windows(2).all(|pair| pair[0] < pair[1]);
        let again = self.answered.contains(&it.lease);
        if amount <= 0 || it.accounts.is_empty() || !rising || again || self.ended.contains(&it.lease.holder)
        {
            return false;
        }
        let fits = |account: &AccountRef| {
            let Some(window) = self.windows.get(account) else { return false };
            let (limit, mode) = self.limit(&account.budget);
            window.phase == Phase::Open && (!blocking(mode) || window.committed + amount <= limit)
        };
        if !it.accounts.iter().all(fits) {
            return false;
        }
        for account in &it.accounts {
            if let Some(window) = self.windows.get_mut(account) {
                window.committed += amount;
            }
        }
        let accounts = it.accounts.clone();
        let (credited, reclaimed, numbers) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        self.answered.insert(it.lease);
        self.leases.insert(it.lease, Granted { accounts, amount, credited, reclaimed, numbers });
        true
    }

    fn credit(&mut self, it: &LeaseCredited) -> bool {
        let amount = it.amount.pico();
        let Some(lease) = self.leases.get(&it.lease) else { return false };
        let rising = it.accounts.windows(2).all(|pair| pair[0] < pair[1]);
        let known = it.accounts.iter().all(|account| lease.accounts.contains(account));
        if self.closed.contains(&it.lease)
            || amount <= 0
            || !rising
            || !known
            || lease.numbers.contains(&(it.reason, it.number))
        {
            return false;
        }
        let recovers = |reason| matches!(reason, CreditReason::Journal | CreditReason::Retired);
        // What a holder left comes back once, and after its end.
        let again = lease.numbers.iter().any(|(reason, _)| recovers(*reason));
        if recovers(it.reason) && (again || !self.ended.contains(&it.lease.holder)) {
            return false;
        }
        let takes = |account: &&AccountRef| {
            let (_, mode) = self.limit(&account.budget);
            let recovery = self.limits.get(&account.budget).map_or(Recovery::Forfeit, |it| it.recovery);
            self.windows[*account].phase != Phase::Closed
                && match it.reason {
                    CreditReason::Returned | CreditReason::Retired => true,
                    CreditReason::Journal => mode != Mode::Hard || recovery == Recovery::Journal,
                    CreditReason::TimedOut => mode != Mode::Hard,
                }
        };
        let taking: Vec<AccountRef> = it.accounts.iter().filter(takes).cloned().collect();
        let before = |account: &AccountRef| lease.credited.get(account).copied().unwrap_or(0);
        if taking.is_empty() || taking.iter().any(|account| before(account) + amount > lease.amount) {
            return false;
        }
        if let Some(lease) = self.leases.get_mut(&it.lease) {
            lease.numbers.insert((it.reason, it.number));
            for account in &taking {
                *lease.credited.entry(account.clone()).or_default() += amount;
                if it.reason == CreditReason::TimedOut {
                    lease.reclaimed.insert(account.clone());
                }
            }
        }
        for account in &taking {
            if let Some(window) = self.windows.get_mut(account) {
                window.committed -= amount;
            }
        }
        true
    }

    /// Limit and mode in force; nothing and hard before the first.
    #[must_use]
    pub fn limit(&self, budget: &str) -> (i128, Mode) {
        self.limits.get(budget).map_or((0, Mode::Hard), |limit| (limit.amount, limit.mode))
    }

    /// How a budget's stranded money comes back.
    #[must_use]
    pub fn recovery(&self, budget: &str) -> Recovery {
        self.limits.get(budget).map_or(Recovery::Forfeit, |limit| limit.recovery)
    }

    /// True when an account must not be overspent.
    #[must_use]
    pub fn blocks(&self, budget: &str) -> bool {
        blocking(self.limit(budget).1)
    }

    /// A window, if it was ever open.
    #[must_use]
    pub fn window(&self, account: &AccountRef) -> Option<&Window> {
        self.windows.get(account)
    }

    /// All windows there ever were, in no order.
    pub fn windows(&self) -> impl Iterator<Item = (&AccountRef, &Window)> {
        self.windows.iter()
    }

    /// A lease that was ever granted.
    #[must_use]
    pub fn lease(&self, lease: &LeaseId) -> Option<&Granted> {
        self.leases.get(lease)
    }

    /// The latest epoch.
    #[must_use]
    pub const fn epoch(&self) -> Option<u64> {
        self.epoch
    }

    /// True when grants to the incarnation are void.
    #[must_use]
    pub fn has_ended(&self, incarnation: &ProducerId) -> bool {
        self.ended.contains(incarnation)
    }
}
