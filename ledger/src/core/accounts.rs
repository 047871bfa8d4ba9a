//! What `spend` says of each account, and names made small: an account is an index, a path is an index.

use std::collections::{BTreeSet, VecDeque};

use bursar_schemas::avro::{Avro as _, Micros};
use bursar_schemas::facts::{AccountRef, LeaseId, Raised};
use bursar_schemas::money::Money;

use serde::{Deserialize, Serialize};

use super::hash::Table;

/// Index of an account.
pub(super) type AccountIndex = usize;
/// Index of a path.
pub(super) type PathIndex = usize;

/// Where everything goes that names a window already closed: nobody is shown it.
const CLOSED: AccountIndex = 0;

/// The three amounts that a `BalanceStated` carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Balance {
    pub settled: Money,
    pub reserved: Money,
    pub overrun: Money,
}

/// One account. What every attempt changes comes first and fills one cache line: with ten thousand accounts most
/// of the ledger's time would go into fetching more.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[repr(C, align(64))]
pub(super) struct Slot {
    pub balance: Balance,
    /// Of settled and reserved, what a lease covers: within committed, not beside it.
    pub leased: Money,
    pub account: AccountRef,
    /// Attempts settled without a price.
    pub unpriced: u64,
    /// Own grants that were appended and are not read back yet.
    #[serde(skip)]
    pub pending: Money,
    /// Leases over it that are neither closed nor of an ended holder.
    pub live: BTreeSet<LeaseId>,
    /// What the log last stated.
    pub logged: Balance,
    /// What this ledger last stated, and when.
    #[serde(skip)]
    pub stated: Balance,
    #[serde(skip)]
    pub stated_at: Option<Micros>,
    /// Alerts that stand in the log.
    pub raised: Raised,
    paths: Vec<PathIndex>,
}

const _: () = assert!(size_of::<Balance>() + size_of::<Money>() == 64, "one cache line");

impl Slot {
    fn new(account: AccountRef) -> Self {
        Self {
            balance: Balance::default(),
            leased: Money::ZERO,
            account,
            unpriced: 0,
            pending: Money::ZERO,
            live: BTreeSet::new(),
            logged: Balance::default(),
            stated: Balance::default(),
            stated_at: None,
            raised: Raised::default(),
            paths: Vec::new(),
        }
    }

    /// Settled and reserved beside every lease: soft spending, and what exceeded a lease.
    pub(super) const fn beside(&self) -> Money {
        self.balance.settled.plus(self.balance.reserved).minus(self.leased)
    }
}

/// Where the accounts of a path stand among `members`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Path {
    first: usize,
    count: usize,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Windows {
    open: Vec<(i64, AccountIndex)>,
    closed: Option<i64>,
}

/// All accounts and paths met so far.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Accounts {
    budgets: Table<Box<str>, Windows>,
    slots: Vec<Slot>,
    #[serde(with = "bursar_schemas::snapshot::pairs")]
    keys: Table<Box<[u8]>, PathIndex>,
    #[serde(with = "bursar_schemas::snapshot::pairs")]
    rests: Table<Box<[AccountIndex]>, PathIndex>,
    paths: Vec<Path>,
    /// The accounts of all paths, each path's together.
    members: Vec<AccountIndex>,
    /// By path: its Avro array while it can be looked up.
    names: Vec<Box<[u8]>>,
    /// Accounts whose balance may differ from what the log states, in the order of their change.
    pub changed: VecDeque<AccountIndex>,
    /// By account: whether it is in that queue. Apart from the rest, so that all of it stays at hand.
    queued: Vec<bool>,
    /// Accounts that were named for the first time.
    #[serde(skip)]
    pub fresh: Vec<AccountIndex>,
}

impl Default for Accounts {
    fn default() -> Self {
        let nobody = AccountRef { budget: String::new(), window: i64::MIN };
        Self {
            budgets: Table::default(),
            slots: vec![Slot::new(nobody)],
            keys: Table::default(),
            rests: Table::default(),
            paths: Vec::new(),
            members: Vec::new(),
            names: Vec::new(),
            changed: VecDeque::new(),
            queued: vec![false],
            fresh: Vec::new(),
        }
    }
}

impl Accounts {
    /// The index of an account, made when it is new.
    pub(super) fn index(&mut self, account: &AccountRef) -> AccountIndex {
        if !self.budgets.contains_key(account.budget.as_str()) {
            self.budgets.insert(account.budget.as_str().into(), Windows::default());
        }
        let Some(windows) = self.budgets.get_mut(account.budget.as_str()) else { return CLOSED };
        if let Some((_, index)) = windows.open.iter().rev().find(|(window, _)| *window == account.window) {
            return *index;
        }
        if windows.closed.is_some_and(|closed| account.window <= closed) {
            return CLOSED;
        }
        let index = self.slots.len();
        windows.open.push((account.window, index));
        self.fresh.push(index);
        self.slots.push(Slot::new(account.clone()));
        self.queued.push(false);
        index
    }

    /// The index of an account, when it was met and is not closed.
    pub(super) fn find_index(&self, account: &AccountRef) -> Option<AccountIndex> {
        let windows = self.budgets.get(account.budget.as_str())?;
        windows.open.iter().rev().find(|(window, _)| *window == account.window).map(|(_, index)| *index)
    }

    /// The account, when it was met and is not closed.
    pub(super) fn find(&self, account: &AccountRef) -> Option<&Slot> {
        self.slots.get(self.find_index(account)?)
    }

    /// The account, made when it is new.
    pub(super) fn slot_of(&mut self, account: &AccountRef) -> &mut Slot {
        let index = self.index(account);
        &mut self.slots[index]
    }

    /// The account at an index that this table gave.
    pub(super) fn slot(&self, index: AccountIndex) -> &Slot {
        &self.slots[index]
    }

    /// As [`Accounts::slot`], to change it.
    pub(super) fn slot_mut(&mut self, index: AccountIndex) -> &mut Slot {
        &mut self.slots[index]
    }

    /// Every account that is not closed.
    pub(super) fn open(&self) -> impl Iterator<Item = (AccountIndex, &Slot)> {
        self.slots.iter().enumerate().skip(1).filter(|(_, slot)| slot.account.window != i64::MIN)
    }

    /// The index of a path given as an Avro array; none when the bytes are not one.
    pub(super) fn path(&mut self, raw: &[u8]) -> Option<PathIndex> {
        if let Some(index) = self.keys.get(raw) {
            return Some(*index);
        }
        let named = Vec::<AccountRef>::decode(&mut &*raw).ok()?;
        // An account named twice is charged once.
        let mut accounts: BTreeSet<AccountIndex> = named.iter().map(|account| self.index(account)).collect();
        if accounts.remove(&CLOSED) {
            // Days and days of closed windows share the few paths that are left of them.
            let accounts: Box<[AccountIndex]> = accounts.into_iter().collect();
            if let Some(index) = self.rests.get(&accounts) {
                return Some(*index);
            }
            let index = self.add(Box::default(), &accounts);
            self.rests.insert(accounts, index);
            return Some(index);
        }
        let index = self.add(raw.into(), &accounts.into_iter().collect::<Vec<_>>());
        self.keys.insert(raw.into(), index);
        Some(index)
    }

    fn add(&mut self, name: Box<[u8]>, accounts: &[AccountIndex]) -> PathIndex {
        let index = self.paths.len();
        for account in accounts {
            self.slots[*account].paths.push(index);
        }
        self.paths.push(Path { first: self.members.len(), count: accounts.len() });
        self.members.extend_from_slice(accounts);
        self.names.push(name);
        index
    }

    fn members(&mut self, path: PathIndex) -> &mut [AccountIndex] {
        let Some(Path { first, count }) = self.paths.get(path).copied() else { return &mut [] };
        self.members.get_mut(first..first + count).unwrap_or_default()
    }

    /// Changes each account of a path.
    pub(super) fn each(&mut self, path: PathIndex, mut change: impl FnMut(&mut Slot)) {
        let Some(Path { first, count }) = self.paths.get(path).copied() else { return };
        for index in self.members.get(first..first + count).unwrap_or_default() {
            change(&mut self.slots[*index]);
            let queued = &mut self.queued[*index];
            if !*queued && *index != CLOSED {
                *queued = true;
                self.changed.push_back(*index);
            }
        }
    }

    /// Queues an account to be stated.
    pub(super) fn queue(&mut self, index: AccountIndex) {
        if !std::mem::replace(&mut self.queued[index], true) {
            self.changed.push_back(index);
        }
    }

    /// An account left the queue.
    pub(super) fn unqueue(&mut self, index: AccountIndex) {
        self.queued[index] = false;
    }

    /// Forgets a closed account: what still names it goes where nobody looks.
    pub(super) fn close(&mut self, account: &AccountRef) {
        let Some(windows) = self.budgets.get_mut(account.budget.as_str()) else { return };
        windows.closed = windows.closed.max(Some(account.window));
        let Some(place) = windows.open.iter().position(|(window, _)| *window == account.window) else {
            return;
        };
        let (_, index) = windows.open.remove(place);
        let nobody = AccountRef { budget: String::new(), window: i64::MIN };
        let slot = std::mem::replace(&mut self.slots[index], Slot::new(nobody));
        for path in slot.paths {
            if let Some(name) = self.names.get_mut(path) {
                self.keys.remove(&std::mem::take(name));
            }
            self.members(path).iter_mut().filter(|named| **named == index).for_each(|named| *named = CLOSED);
        }
    }
}
