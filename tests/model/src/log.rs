//! Records of `limits`: how they are written, arrive, and come again.

use std::collections::BTreeSet;
use std::sync::Arc;

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{
    AccountRef, CreditReason, EpochMarked, Fact, Head, LeaseCredited, LeaseGranted, LeaseRefusal,
    LeaseRefused, LimitSet, Mode, Phase, Recovery, Role, WindowMoved,
};
use bursar_schemas::fold::{Fold, Ignored, Verdict};
use bursar_schemas::money::Money;

use crate::state::{State, day, long, process};
use crate::{Bounds, Fault, NEVER_VOID, ONCE, UNCHANGED, World};

/// Which ledger writes, in which life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Writer {
    /// Its place.
    pub ledger: usize,
    /// Its life.
    pub life: u8,
}

/// What a ledger may write. Requests are named by their place on `spend`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// A marker that supersedes an epoch.
    Mark(usize),
    /// A grant of some units.
    Grant(usize, u8),
    /// A refusal.
    Refuse(usize),
    /// A credit of some units; true when the day takes it as well.
    Credit(usize, u8, bool),
    /// The first day's window closes.
    Close,
}

/// A record as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The epoch that its writer believed to be its own.
    pub epoch: usize,
    /// Its number.
    pub number: u64,
    /// What it says.
    pub write: Write,
}

/// A record that counts.
#[derive(Debug)]
pub struct Entry {
    /// Who wrote it.
    pub by: Writer,
    /// What.
    pub written: Written,
    /// The same, as the fold is given it.
    pub fact: Fact,
    /// The fold after it.
    pub after: Arc<Fold>,
}

impl Write {
    /// The request that it answers.
    #[must_use]
    pub const fn answers(self) -> Option<usize> {
        match self {
            Self::Grant(ask, _) | Self::Refuse(ask) => Some(ask),
            Self::Mark(_) | Self::Credit(..) | Self::Close => None,
        }
    }
}

impl Written {
    /// What tells it apart.
    pub fn identify(&self, key: &mut Vec<u8>) {
        let small = |count: usize| u8::try_from(count).unwrap_or(u8::MAX);
        key.push(small(self.epoch));
        key.extend(match self.write {
            Write::Mark(epoch) => [1, small(epoch), 0, 0],
            Write::Grant(ask, amount) => [2, small(ask), amount, 0],
            Write::Refuse(ask) => [3, small(ask), 0, 0],
            Write::Credit(ask, amount, both) => [4, small(ask), amount, u8::from(both)],
            Write::Close => [5, 0, 0, 0],
        });
    }
}

fn head(by: Writer, number: u64) -> Head {
    let mut head = Head::draft(Micros(0), 0, "");
    (head.producer, head.role, head.number) = (process(2, by.ledger, by.life), Role::Ledger, number);
    head
}

fn money(units: u8) -> Money {
    Money::from_pico(i128::from(units))
}

fn limit(head: Head, budget: &str, amount: u8) -> Fact {
    let (budget, amount) = (budget.to_owned(), money(amount));
    let (mode, recovery) = (Mode::Hard, Recovery::Forfeit);
    LimitSet { head, epoch: 0, budget, amount, mode, recovery, policy_version: 1, step: 1 }.into()
}

fn accounts(path: &[&AccountRef]) -> Vec<AccountRef> {
    path.iter().copied().cloned().collect()
}

fn moved(head: Head, epoch: u64, account: &AccountRef, phase: Phase) -> Fact {
    let account = account.clone();
    WindowMoved { head, epoch, account, starts_at: Micros(0), ends_at: None, phase }.into()
}

/// The fold when the model begins, and how many numbers the first ledger has used.
#[must_use]
pub fn beginning(bounds: &Bounds) -> (Fold, u64) {
    let by = Writer { ledger: 0, life: 0 };
    let head = |number| head(by, number);
    let facts = [
        EpochMarked { head: head(0), instance: head(0).producer, supersedes: None }.into(),
        limit(head(1), "day", bounds.day),
        limit(head(2), "long", bounds.long),
        moved(head(3), 0, day(0), Phase::Open),
        moved(head(4), 0, day(1), Phase::Open),
        moved(head(5), 0, long(), Phase::Open),
    ];
    let (mut fold, mut offset) = (Fold::default(), 0);
    for fact in &facts {
        let verdict = fold.apply(offset, fact);
        assert_eq!(verdict, Ok(Verdict::Counted), "the beginning counts");
        offset += 1;
    }
    (fold, offset)
}

impl State {
    fn fact(&self, world: &World, by: Writer, written: &Written) -> Fact {
        let head = head(by, written.number);
        let own = self.epochs.get(written.epoch).copied().unwrap_or(u64::MAX);
        let epoch = if world.has(Fault::NoEpochCheck) { self.head.epoch().unwrap_or(own) } else { own };
        let (cause, read) = (0, 0);
        match written.write {
            Write::Mark(epoch) => {
                let supersedes = self.epochs.get(epoch).copied();
                EpochMarked { instance: head.producer, head, supersedes }.into()
            }
            Write::Grant(ask, amount) => {
                let (lease, accounts, amount) = (self.lease(ask), accounts(&self.path(ask)), money(amount));
                LeaseGranted { head, epoch, lease, accounts, amount, cause, read }.into()
            }
            Write::Refuse(ask) => {
                let (lease, reason) = (self.lease(ask), LeaseRefusal::InFlight);
                LeaseRefused { head, epoch, lease, reason, account: None, cause, read }.into()
            }
            Write::Credit(ask, amount, both) => {
                let path = self.path(ask);
                let accounts = accounts(if both { &path } else { &path[1..] });
                LeaseCredited {
                    head,
                    epoch,
                    lease: self.lease(ask),
                    number: 1,
                    amount: money(amount),
                    accounts,
                    reason: CreditReason::Returned,
                    cause: None,
                    read,
                }
                .into()
            }
            Write::Close => moved(head, epoch, day(0), Phase::Closed),
        }
    }

    /// A record arrives.
    pub fn arrive(&mut self, world: &World, by: Writer, written: Written) {
        let fact = self.fact(world, by, &written);
        let offset = self.base + self.log.len() as u64;
        let mut next = (*self.head).clone();
        let verdict = next.apply(offset, &fact);
        self.check_repeats(&next, offset, &fact);
        if verdict != Ok(Verdict::Counted) {
            self.note_void(world, &written, &next);
            return;
        }
        let after = Arc::new(next);
        self.head = Arc::clone(&after);
        match written.write {
            Write::Mark(_) => self.epochs.push(offset),
            Write::Grant(ask, _) | Write::Refuse(ask) => {
                if self.answered & bit(ask) != 0 {
                    self.broken = Some(ONCE);
                }
                self.answered |= bit(ask);
            }
            Write::Credit(..) | Write::Close => {}
        }
        self.log.push_back(Arc::new(Entry { by, written, fact, after }));
    }

    /// What is under way and names an old epoch is void whenever it arrives: so it arrives at once.
    pub fn arrive_if_old(&mut self, world: &World) {
        let latest = self.epochs.len() - 1;
        let is_old = |written: &Written| match written.write {
            Write::Mark(epoch) => epoch != latest,
            _ => written.epoch != latest,
        };
        let mut old = Vec::new();
        for ledger in 0..2 {
            let by = Writer { ledger, life: self.ledgers[ledger].life };
            let way = &mut self.ledgers[ledger].way;
            old.extend(way.iter().copied().filter(is_old).map(|written| (by, written)));
            way.retain(|written| !is_old(written));
        }
        for (by, way) in &mut self.zombies {
            old.extend(way.iter().copied().filter(is_old).map(|written| (*by, written)));
            way.retain(|written| !is_old(written));
        }
        self.zombies.retain(|(_, way)| !way.is_empty());
        for (by, written) in old {
            self.arrive(world, by, written);
        }
    }

    /// It and all that some ledger has yet to read come again.
    fn check_repeats(&mut self, fold: &Fold, offset: u64, fact: &Fact) {
        let mut again = fold.clone();
        let facts = self.log.iter().map(|entry| &entry.fact).chain(std::iter::once(fact));
        for (later, fact) in (offset + 1..).zip(facts) {
            if again.apply(later, fact) != Ok(Verdict::Ignored(Ignored::SeenBefore)) {
                self.broken = Some(UNCHANGED);
            }
        }
        if !is_same(&again, fold) {
            self.broken = Some(UNCHANGED);
        }
    }

    /// A void record is, for everybody, as if it had never been written; whoever wrote it is done with it.
    fn note_void(&mut self, world: &World, written: &Written, after: &Fold) {
        if !is_same(&self.head, after) {
            self.broken = Some(UNCHANGED);
        }
        let marks = matches!(written.write, Write::Mark(_));
        if !marks && written.epoch + 1 == self.epochs.len() {
            self.broken = Some(NEVER_VOID);
        }
        if let (Write::Grant(ask, _), true) = (written.write, world.has(Fault::VoidAnswers)) {
            self.ledgers.iter_mut().for_each(|ledger| ledger.answered |= bit(ask));
        }
    }
}

/// The bit of a request in a set of them.
#[must_use]
pub const fn bit(ask: usize) -> u8 {
    1 << ask
}

/// True when two folds say the same of everything that binds.
fn is_same(one: &Fold, other: &Fold) -> bool {
    let budgets: BTreeSet<&str> = one.accounts().map(|(account, _)| account.budget.as_str()).collect();
    one.epoch() == other.epoch()
        && one.accounts().eq(other.accounts())
        && one.leases().eq(other.leases())
        && budgets.into_iter().all(|budget| one.budget(budget) == other.budget(budget))
}
