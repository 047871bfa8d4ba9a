//! What may happen next, and what it does.

use std::collections::VecDeque;
use std::sync::Arc;

use bursar_schemas::facts::{AccountRef, Phase};

use crate::log::{Write, Writer, Written, bit};
use crate::state::{Ask, Ledger, State, day, long};
use crate::{Fault, World};

/// Units of a grant, where there are so many.
const GRANT: u8 = 2;

/// Something that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A ledger reads a shim's request for a lease on a day and the long window, and answers it. That it was asked
    /// earlier shows in nothing.
    Ask(usize, usize, usize),
    /// A unit is billed under a lease. That its holder has read the grant shows in its first use.
    Spend(usize),
    /// What is left of a lease goes back.
    Return(usize),
    /// A shim crashes and begins anew, as another incarnation.
    CrashShim(usize),
    /// A ledger writes a marker that names the latest epoch it knows.
    Claim(usize),
    /// A ledger that is superseded and acts on reads the next record of `limits`. Others have read all there is: one
    /// that does not act writes nothing but markers, and one that acts finds in the log nothing but its own records,
    /// which it counts from when it wrote them.
    Read(usize),
    /// The next record that a ledger has under way arrives.
    Arrive(usize),
    /// The next record that a ledger which is gone had under way arrives.
    ArriveLate(usize),
    /// A ledger grants or refuses the first request that it takes for unanswered.
    Decide(usize),
    /// A ledger credits a return.
    Credit(usize, usize),
    /// A ledger closes the first day's window.
    Close(usize),
    /// A ledger crashes and begins anew; what it had under way is lost, or arrives at any later time.
    CrashLedger(usize, bool),
}

impl State {
    /// Everything that may happen next.
    pub fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if self.broken.is_some() {
            return;
        }
        for shim in 0..2 {
            if self.shims.iter().sum::<u8>() < world.bounds.shim_crashes {
                actions.push(Action::CrashShim(shim));
            }
        }
        for (index, ask) in self.asks.iter().enumerate() {
            let lives = ask.incarnation == self.shims[ask.shim];
            let uses = lives || world.has(Fault::SuccessorUsesGrant);
            if uses && self.left(index) > 0 {
                actions.push(Action::Spend(index));
                if ask.returned.is_none() && lives {
                    actions.push(Action::Return(index));
                }
            }
        }
        for which in 0..2 {
            self.ledger_actions(world, which, actions);
        }
        actions.extend((0..self.zombies.len()).map(Action::ArriveLate));
    }

    fn ledger_actions(&self, world: &World, which: usize, actions: &mut Vec<Action>) {
        let ledger = &self.ledgers[which];
        if !ledger.way.is_empty() {
            actions.push(Action::Arrive(which));
        }
        if ledger.at < self.end() {
            actions.push(Action::Read(which));
        }
        if self.ledger_crashes < world.bounds.ledger_crashes {
            actions.push(Action::CrashLedger(which, false));
            if !ledger.way.is_empty() {
                actions.push(Action::CrashLedger(which, true));
            }
        }
        if self.pending(which).count() >= world.bounds.pending {
            return;
        }
        if !self.acts(ledger) {
            if self.epochs.len() < world.bounds.epochs && ledger.way.is_empty() {
                actions.push(Action::Claim(which));
            }
            return;
        }
        let decides = self.decision(world, which).is_some();
        if decides {
            actions.push(Action::Decide(which));
        }
        // To one that is superseded everything may come, as nothing of what it says of it counts.
        let superseded = ledger.epoch != Some(self.epochs.len() - 1);
        if self.asks.len() < world.bounds.asks && (superseded || !decides) {
            // The shims differ in nothing, so the first request is the first one's.
            for shim in 0..if self.asks.is_empty() { 1 } else { 2 } {
                actions.extend([Action::Ask(which, shim, 0), Action::Ask(which, shim, 1)]);
            }
        }
        for index in 0..self.asks.len() {
            if self.credit(which, index).is_some() {
                actions.push(Action::Credit(which, index));
            }
        }
        let closes = self.is_pending(which, |write| write == Write::Close);
        let opened = ledger.view.account(day(0)).is_some_and(|it| it.phase == Phase::Open);
        if opened && !closes {
            actions.push(Action::Close(which));
        }
    }

    /// One above the last offset.
    fn end(&self) -> u64 {
        self.base + self.log.len() as u64
    }

    /// True when the latest epoch that a ledger has read of is its own.
    pub(crate) fn acts(&self, ledger: &Ledger) -> bool {
        ledger.epoch.is_some_and(|epoch| self.epochs.get(epoch).copied() == ledger.view.epoch())
    }

    /// What the holder of a request's lease has left.
    fn left(&self, ask: usize) -> u8 {
        self.asks[ask].left.or_else(|| self.granted(ask)).unwrap_or(0)
    }

    /// What a ledger has written and not read back.
    fn pending(&self, which: usize) -> impl Iterator<Item = Write> {
        let ledger = &self.ledgers[which];
        let by = Writer { ledger: which, life: ledger.life };
        let unread = usize::try_from(ledger.at - self.base).unwrap_or(usize::MAX);
        let arrived = self.log.iter().skip(unread).filter(move |entry| entry.by == by);
        ledger.way.iter().map(|it| it.write).chain(arrived.map(|entry| entry.written.write))
    }

    fn is_pending(&self, which: usize, wanted: impl Fn(Write) -> bool) -> bool {
        self.pending(which).any(wanted)
    }

    /// What a ledger makes of the first request that it takes for unanswered.
    fn decision(&self, world: &World, which: usize) -> Option<Write> {
        let ledger = &self.ledgers[which];
        let about = |ask: usize| move |write: Write| write.answers() == Some(ask);
        let open = |ask: &usize| {
            let forgets = world.has(Fault::DebitForgotten);
            ledger.answered & bit(*ask) == 0 && (forgets || !self.is_pending(which, about(*ask)))
        };
        let ask = (0..self.asks.len()).find(open)?;
        let days = day(self.asks[ask].day);
        let closes = self.asks[ask].day == 0 && self.is_pending(which, |write| write == Write::Close);
        let opened = ledger.view.account(days).is_some_and(|it| it.phase == Phase::Open);
        if !opened || closes {
            return Some(Write::Refuse(ask));
        }
        let left = |account: &AccountRef, limit: u8| {
            let pending: u8 = if world.has(Fault::DebitForgotten) {
                0
            } else {
                let debits = self.pending(which).map(|write| match write {
                    Write::Grant(other, amount) if self.path(other).contains(&account) => amount,
                    _ => 0,
                });
                debits.sum()
            };
            limit.saturating_sub(Self::committed(&ledger.view, account)).saturating_sub(pending)
        };
        let amount = GRANT.min(left(days, world.bounds.day)).min(left(long(), world.bounds.long));
        Some(if amount > 0 { Write::Grant(ask, amount) } else { Write::Refuse(ask) })
    }

    /// The credit of a request's return, when a ledger has it to write.
    fn credit(&self, which: usize, ask: usize) -> Option<Write> {
        let (ledger, amount) = (&self.ledgers[which], self.asks[ask].returned?);
        let lease = ledger.view.lease(&self.lease(ask))?;
        let credits = |write: Write| matches!(write, Write::Credit(it, ..) if it == ask);
        if lease.credited.contains_key(long()) || self.is_pending(which, credits) {
            return None;
        }
        let days = day(self.asks[ask].day);
        let open = ledger.view.account(days).is_some_and(|it| it.phase != Phase::Closed);
        let closes = self.asks[ask].day == 0 && self.is_pending(which, |write| write == Write::Close);
        Some(Write::Credit(ask, amount, open && !closes))
    }

    /// Lets it happen.
    pub fn act(&mut self, world: &World, action: Action) {
        match action {
            Action::Ask(which, shim, day) => {
                let incarnation = self.shims[shim];
                self.asks.push(Ask { shim, incarnation, day, returned: None, left: None });
                self.decide(world, which);
            }
            Action::Spend(ask) => {
                let left = self.left(ask);
                let it = &mut self.asks[ask];
                it.left = Some(left.saturating_sub(1));
                self.billed[it.day] += 1;
            }
            Action::Return(ask) => {
                let left = self.left(ask);
                let it = &mut self.asks[ask];
                (it.returned, it.left) = (Some(left), Some(left));
                if !world.has(Fault::ReturnNotSubtracted) {
                    it.left = Some(0);
                }
            }
            Action::CrashShim(shim) => self.crash_shim(world, shim),
            Action::Claim(which) => {
                let latest = self.ledgers[which].view.epoch();
                let supersedes = self.epochs.iter().position(|offset| Some(*offset) == latest);
                self.write(which, Write::Mark(supersedes.unwrap_or(usize::MAX)));
            }
            Action::Read(which) => self.read(which),
            Action::Arrive(which) => {
                let by = Writer { ledger: which, life: self.ledgers[which].life };
                if let Some(written) = self.ledgers[which].way.pop_front() {
                    self.arrive(world, by, written);
                }
            }
            Action::ArriveLate(index) => {
                let (by, way) = &mut self.zombies[index];
                let (by, written) = (*by, way.pop_front());
                self.zombies.retain(|(_, way)| !way.is_empty());
                if let Some(written) = written {
                    self.arrive(world, by, written);
                }
            }
            Action::Decide(which) => self.decide(world, which),
            Action::Credit(which, ask) => {
                if let Some(write) = self.credit(which, ask) {
                    self.write(which, write);
                }
            }
            Action::Close(which) => self.write(which, Write::Close),
            Action::CrashLedger(which, late) => self.crash_ledger(world, which, late),
        }
        if !self.faulty {
            self.arrive_if_old(world);
        }
        for which in 0..2 {
            while self.reads_on(which) {
                self.read(which);
            }
        }
        self.forget_what_all_have_read();
    }

    /// True when there is a record that a ledger reads at once.
    fn reads_on(&self, which: usize) -> bool {
        let ledger = &self.ledgers[which];
        let next = usize::try_from(ledger.at - self.base).ok().and_then(|index| self.log.get(index));
        let by = Writer { ledger: which, life: ledger.life };
        next.is_some_and(|next| next.by == by || !self.acts(ledger))
    }

    fn decide(&mut self, world: &World, which: usize) {
        if let Some(write) = self.decision(world, which) {
            self.write(which, write);
        }
    }

    fn write(&mut self, which: usize, write: Write) {
        let ledger = &mut self.ledgers[which];
        // A marker names the epoch that it supersedes and is under none.
        let own = ledger.epoch.filter(|_| !matches!(write, Write::Mark(_)));
        let (epoch, number) = (own.unwrap_or(usize::MAX), ledger.numbers);
        ledger.numbers += 1;
        ledger.way.push_back(Written { epoch, number, write });
    }

    fn read(&mut self, which: usize) {
        let index = usize::try_from(self.ledgers[which].at - self.base).unwrap_or(usize::MAX);
        let Some(entry) = self.log.get(index).map(Arc::clone) else { return };
        let offset = self.ledgers[which].at;
        let ledger = &mut self.ledgers[which];
        ledger.at += 1;
        ledger.view = Arc::clone(&entry.after);
        match entry.written.write {
            Write::Mark(_) if entry.by == (Writer { ledger: which, life: ledger.life }) => {
                ledger.epoch = self.epochs.iter().position(|epoch| *epoch == offset);
            }
            Write::Grant(ask, _) | Write::Refuse(ask) => ledger.answered |= bit(ask),
            _ => {}
        }
    }

    fn crash_shim(&mut self, world: &World, shim: usize) {
        self.shims[shim] += 1;
        for ask in self.asks.iter_mut().filter(|ask| ask.shim == shim) {
            ask.left = if world.has(Fault::SuccessorUsesGrant) { None } else { Some(0) };
        }
    }

    /// A new life reads what there is before it does anything; that it reads later is the same as that it lags.
    fn crash_ledger(&mut self, world: &World, which: usize, late: bool) {
        self.ledger_crashes += 1;
        let (at, view) = (self.end(), Arc::clone(&self.head));
        let ledger = &mut self.ledgers[which];
        let by = Writer { ledger: which, life: ledger.life };
        let way = std::mem::take(&mut ledger.way);
        let life = ledger.life + 1;
        let skipped = if world.has(Fault::ResumesAtOffset) { bit(self.asks.len()) - 1 } else { 0 };
        let answered = self.answered | skipped;
        *ledger = Ledger { life, at, view, epoch: None, answered, way: VecDeque::new(), numbers: 0 };
        if late && !way.is_empty() {
            self.zombies.push((by, way));
        }
    }

    fn forget_what_all_have_read(&mut self) {
        let read = self.ledgers.iter().map(|ledger| ledger.at).min().unwrap_or(0);
        while self.base < read && !self.log.is_empty() {
            self.log.pop_front();
            self.base += 1;
        }
    }
}
