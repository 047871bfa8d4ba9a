//! A small world checked exhaustively: every order of events, no depth bound. Two ledgers that write whatever they
//! like, two shims that crash, two windows, repeated records; what counts is said by the production fold.
//!
//! The ledgers here are worse than confused: each may at any time, under any epoch that was ever its own, grant any
//! lease on any path, credit any return again, move any window, repeat any old record. Nothing is assumed of them but
//! that they do not invent returns. Whatever the fold lets count, no account may be overspent.

use std::collections::{BTreeMap, BTreeSet};

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{
    AccountRef, CreditReason, EpochMarked, Fact, Head, LeaseCredited, LeaseGranted, LeaseId, LimitSet, Mode,
    Phase, Recovery, Role, WindowMoved,
};
use bursar_schemas::fold::{Fold, Ignored, Verdict};
use bursar_schemas::ids::ProducerId;
use bursar_schemas::money::Money;
use stateright::{Model, Property};

/// Bounds of the model.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Grants that count, at most.
    pub grants: u8,
    /// Lease numbers of each incarnation.
    pub leases: u64,
    /// Crashes of each shim.
    pub crashes: u8,
    /// Markers of each ledger.
    pub markers: u8,
    /// Units that the longer window may be spent.
    pub limit: u8,
    /// Units of each grant.
    pub amount: u8,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { grants: 3, leases: 2, crashes: 1, markers: 2, limit: 3, amount: 2 }
    }
}

/// The two short windows, and the long one that holds both.
const DAYS: [i64; 2] = [0, 86_400];
const LEDGERS: usize = 2;
const SHIMS: usize = 2;

/// What a lease's holder knows of it. Units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Held {
    day: u8,
    left: u8,
    returned: u8,
}

/// A running shim.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Shim {
    incarnation: u8,
    held: BTreeMap<u64, Held>,
    /// Leases whose grant it has read once; a second reading changes nothing.
    known: BTreeSet<u64>,
}

/// A state of the model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    fold: Fold,
    /// The epoch that each ledger believes to be its own.
    epochs: [Option<u64>; LEDGERS],
    /// Numbers that each ledger has used.
    numbers: [u64; LEDGERS],
    markers: [u8; LEDGERS],
    shims: [Shim; SHIMS],
    /// Returns on `spend`: lease and units. Each lease returns once.
    returns: BTreeSet<(LeaseId, u8)>,
    grants: u8,
    /// Units billed in each day.
    billed: [u8; 2],
    /// The most that the long window and each day may be billed.
    ceilings: [u8; 3],
    /// The last record of each ledger, to be repeated.
    last: [Option<Fact0>; LEDGERS],
    cut: bool,
    /// A record that does not count changed something.
    leaked: bool,
}

/// A record with its writer and number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fact0 {
    write: Write,
    epoch: Option<u64>,
    number: u64,
}

/// What a ledger may write.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Write {
    /// A marker.
    Mark,
    /// A grant of a lease on a day and the long window.
    Grant(LeaseId, u8),
    /// A credit of a return.
    Credit(LeaseId, u8),
    /// A day's window moves.
    Move(u8, Phase),
    /// The long window's limit is cut to one unit.
    Cut,
}

/// What may happen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// A ledger writes under the epoch that it believes to be its own.
    Write(usize, Write),
    /// A ledger's last record arrives again.
    Repeat(usize),
    /// A ledger's process is replaced by a new one, which has no epoch.
    Restart(usize),
    /// A shim reads a grant.
    Learn(usize, u64),
    /// A shim spends a unit under a lease.
    Spend(usize, u64),
    /// A shim returns what is left of a lease.
    Return(usize, u64),
    /// A shim crashes; its successor has another incarnation.
    Crash(usize),
}

fn holder(shim: usize, incarnation: u8) -> ProducerId {
    let mut id = [0; 16];
    (id[0], id[1]) = (u8::try_from(shim).unwrap_or(0) + 1, incarnation);
    ProducerId(id)
}

fn units(count: u8) -> Money {
    Money::from_pico(i128::from(count))
}

fn day(which: u8) -> AccountRef {
    AccountRef { budget: "day".into(), window: DAYS[usize::from(which)] }
}

fn long() -> AccountRef {
    AccountRef { budget: "long".into(), window: 0 }
}

fn path(which: u8) -> Vec<AccountRef> {
    vec![day(which), long()]
}

impl Bounds {
    fn fact(
        &self,
        ledger: usize,
        write: &Write,
        epoch: Option<u64>,
        latest: Option<u64>,
        number: u64,
    ) -> Fact {
        let mut head = Head::draft(Micros(0), 0, "");
        (head.producer, head.role, head.number) = (holder(ledger, 200), Role::Ledger, number);
        let (e, amount) = (epoch.unwrap_or(u64::MAX), units(self.amount));
        match write {
            Write::Mark => {
                EpochMarked { head: head.clone(), instance: head.producer, supersedes: latest }.into()
            }
            Write::Grant(lease, which) => {
                let (lease, accounts) = (*lease, path(*which));
                LeaseGranted { head, epoch: e, lease, accounts, amount, cause: 0, read: 0 }.into()
            }
            Write::Credit(lease, back) => LeaseCredited {
                head,
                epoch: e,
                lease: *lease,
                number: 1,
                amount: units(*back),
                accounts: path(0).into_iter().chain(path(1)).collect::<BTreeSet<_>>().into_iter().collect(),
                reason: CreditReason::Returned,
                cause: None,
                read: 0,
            }
            .into(),
            Write::Move(which, phase) => WindowMoved {
                head,
                epoch: e,
                account: day(*which),
                starts_at: Micros(0),
                ends_at: None,
                phase: *phase,
            }
            .into(),
            Write::Cut => limit(head, e, "long", 1, 2),
        }
    }
}

fn limit(head: Head, epoch: u64, budget: &str, amount: u8, step: u64) -> Fact {
    LimitSet {
        head,
        epoch,
        budget: budget.to_owned(),
        amount: units(amount),
        mode: Mode::Hard,
        recovery: Recovery::Forfeit,
        policy_version: 1,
        step,
    }
    .into()
}

/// What a record that does not count must leave as it was.
fn core_of(fold: &Fold) -> (Option<u64>, Vec<String>) {
    let accounts = fold.accounts().map(|it| format!("{it:?}"));
    let leases = fold.leases().map(|it| format!("{it:?}"));
    (fold.epoch(), accounts.chain(leases).collect())
}

impl State {
    /// A record arrives. What does not count must change nothing, and is then as if it had never been written; so
    /// void records do not multiply the states.
    fn append(&self, bounds: &Bounds, ledger: usize, record: &Fact0) -> Self {
        let mut next = self.clone();
        let offset = self.fold.last().map_or(0, |last| last + 1);
        let latest = match record.write {
            // A marker names the epoch that its writer knew; a repeated one the same.
            Write::Mark => record.epoch,
            _ => self.fold.epoch(),
        };
        let mut fact = bounds.fact(ledger, &record.write, record.epoch, latest, record.number);
        if let (Fact::LeaseCredited(credit), Write::Credit(lease, _)) = (&mut fact, &record.write)
            && let Some(lease) = self.fold.lease(lease)
        {
            credit.accounts.clone_from(&lease.accounts);
        }
        let verdict = next.fold.apply(offset, &fact);
        if verdict != Ok(Verdict::Counted) {
            let mut unchanged = self.clone();
            let repeats = record.number < self.numbers[ledger];
            unchanged.leaked |= core_of(&next.fold) != core_of(&self.fold)
                || (repeats && verdict != Ok(Verdict::Ignored(Ignored::SeenBefore)));
            return unchanged;
        }
        next.numbers[ledger] = next.numbers[ledger].max(record.number + 1);
        next.last[ledger] = Some(record.clone());
        match &record.write {
            Write::Mark => {
                next.epochs[ledger] = Some(offset);
                next.markers[ledger] += 1;
            }
            Write::Grant(..) => next.grants += 1,
            Write::Cut => {
                next.cut = true;
                let committed = next.committed(&long());
                next.ceilings[2] = committed.max(1);
            }
            Write::Credit(..) | Write::Move(..) => {}
        }
        next
    }

    fn committed(&self, account: &AccountRef) -> u8 {
        let committed = self.fold.account(account).map_or(0, |account| account.committed.pico());
        u8::try_from(committed).unwrap_or(u8::MAX)
    }

    /// What may yet be billed in a day: what live holders have left and may learn of.
    fn exposure(&self, which: u8) -> u8 {
        let mut sum = self.billed[usize::from(which)];
        for shim in &self.shims {
            sum += shim.held.values().filter(|held| held.day == which).map(|held| held.left).sum::<u8>();
        }
        sum
    }
}

impl Model for Bounds {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut fold = Fold::default();
        let mut numbers = [0; LEDGERS];
        let mut head = Head::draft(Micros(0), 0, "");
        (head.producer, head.role) = (holder(0, 200), Role::Ledger);
        let mut offset = 0;
        let mut push = |fact: &dyn Fn(Head) -> Fact| {
            head.number = numbers[0];
            let verdict = fold.apply(offset, &fact(head.clone()));
            assert_eq!(verdict, Ok(Verdict::Counted), "the beginning counts");
            (offset, numbers[0]) = (offset + 1, numbers[0] + 1);
        };
        push(&|head| self.fact(0, &Write::Mark, None, None, head.number));
        push(&|head| limit(head, 0, "long", self.limit, 1));
        push(&|head| limit(head, 0, "day", 2, 1));
        push(&|head| self.fact(0, &Write::Move(0, Phase::Open), Some(0), None, head.number));
        push(&|head| {
            WindowMoved {
                head,
                epoch: 0,
                account: long(),
                starts_at: Micros(0),
                ends_at: None,
                phase: Phase::Open,
            }
            .into()
        });
        vec![State {
            fold,
            epochs: [Some(0), None],
            numbers,
            markers: [1, 0],
            shims: Default::default(),
            returns: BTreeSet::new(),
            grants: 0,
            billed: [0, 0],
            ceilings: [2, 2, self.limit],
            last: [None, None],
            cut: false,
            leaked: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for ledger in 0..LEDGERS {
            if state.markers[ledger] < self.markers {
                actions.push(Action::Write(ledger, Write::Mark));
            }
            if state.last[ledger].is_some() {
                actions.push(Action::Repeat(ledger));
            }
            if state.epochs[ledger].is_none() {
                continue;
            }
            actions.push(Action::Restart(ledger));
            for which in 0..2 {
                for phase in [Phase::Open, Phase::Draining, Phase::Closed] {
                    actions.push(Action::Write(ledger, Write::Move(which, phase)));
                }
                for (shim, it) in state.shims.iter().enumerate() {
                    for number in 1..=self.leases {
                        let lease = LeaseId { holder: holder(shim, it.incarnation), number };
                        if state.grants < self.grants {
                            actions.push(Action::Write(ledger, Write::Grant(lease, which)));
                        }
                    }
                }
            }
            for (lease, back) in &state.returns {
                actions.push(Action::Write(ledger, Write::Credit(*lease, *back)));
            }
            if !state.cut {
                actions.push(Action::Write(ledger, Write::Cut));
            }
        }
        for (shim, it) in state.shims.iter().enumerate() {
            if it.incarnation < self.crashes {
                actions.push(Action::Crash(shim));
            }
            for number in 1..=self.leases {
                let lease = LeaseId { holder: holder(shim, it.incarnation), number };
                if !it.known.contains(&number) && state.fold.lease(&lease).is_some() {
                    actions.push(Action::Learn(shim, number));
                }
                if let Some(held) = it.held.get(&number).filter(|held| held.left > 0) {
                    actions.push(Action::Spend(shim, number));
                    if held.returned == 0 {
                        actions.push(Action::Return(shim, number));
                    }
                }
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Write(ledger, write) => {
                let epoch = if write == Write::Mark { state.fold.epoch() } else { state.epochs[ledger] };
                let number = state.numbers[ledger];
                next = state.append(self, ledger, &Fact0 { write, epoch, number });
            }
            Action::Repeat(ledger) => {
                let record = state.last[ledger].clone()?;
                next = state.append(self, ledger, &record);
            }
            Action::Restart(ledger) => next.epochs[ledger] = None,
            Action::Learn(shim, number) => {
                let it = &mut next.shims[shim];
                let lease = LeaseId { holder: holder(shim, it.incarnation), number };
                let granted = state.fold.lease(&lease)?;
                let which = u8::from(granted.accounts.contains(&day(1)));
                let left = u8::try_from(granted.amount.pico()).ok()?;
                it.known.insert(number);
                it.held.insert(number, Held { day: which, left, returned: 0 });
            }
            Action::Spend(shim, number) => {
                let held = next.shims[shim].held.get_mut(&number)?;
                held.left -= 1;
                next.billed[usize::from(held.day)] += 1;
            }
            Action::Return(shim, number) => {
                let it = &mut next.shims[shim];
                let lease = LeaseId { holder: holder(shim, it.incarnation), number };
                let held = it.held.get_mut(&number)?;
                held.returned = std::mem::take(&mut held.left);
                next.returns.insert((lease, held.returned));
            }
            Action::Crash(shim) => {
                let incarnation = state.shims[shim].incarnation + 1;
                next.shims[shim] = Shim { incarnation, ..Shim::default() };
            }
        }
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no account is billed above the limit at its grants", |_, state: &State| {
                let long: u8 = state.billed.iter().sum();
                state.billed[0] <= state.ceilings[0]
                    && state.billed[1] <= state.ceilings[1]
                    && long <= state.ceilings[2]
            }),
            Property::always("what may yet be billed is committed", |_, state: &State| {
                let open = |which| state.fold.account(&day(which)).is_some();
                let days =
                    (0..2).all(|which| !open(which) || state.exposure(which) <= state.committed(&day(which)));
                days && state.exposure(0) + state.exposure(1) <= state.committed(&long())
            }),
            Property::always("what does not count changes nothing", |_, state: &State| !state.leaked),
            Property::sometimes("both days are spent in full", |_, state: &State| {
                state.billed[0] > 0 && state.billed[1] > 0
            }),
            Property::sometimes("the long window is spent to its limit", |model: &Self, state: &State| {
                state.billed.iter().sum::<u8>() == model.limit.min(model.amount * 2 - 1)
            }),
            Property::sometimes("a ledger takes over from another", |_, state: &State| {
                state.markers[1] > 0 && state.grants > 0
            }),
            Property::sometimes("all grants are made", |model: &Self, state: &State| {
                state.grants == model.grants
            }),
        ]
    }
}
