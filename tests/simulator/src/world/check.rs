//! The checkers. Each compares what production code did with the truth, with the rules, or with naive books.

use bursar_gateway_shim::limits::Drawn;
use bursar_schemas::facts::{
    AccountRef, CreditReason, Fact, LeaseCredited, LeaseGranted, LeaseId, LimitSet, Mode, Phase, Recovery,
};
use bursar_schemas::fold::{Ignored, Verdict, Void};

use super::{Broken, World, ledgers};
use crate::marks::Mark;
use crate::settings::BUDGETS;
use crate::truth::Lease;

/// The most that a blocking account may ever be billed, as of now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ceiling {
    most: i128,
    pub opened: i64,
    /// What was credited without having been returned, such as by a time-out: so much more may be spent, by a holder
    /// that was only slow.
    beyond: i128,
}

/// The last limit of a budget in the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub amount: i128,
    mode: Mode,
    version: (u64, u64),
    pub changed: i64,
    recovery: Recovery,
    /// Offset of the record that changed the mode.
    mode_changed: Option<u64>,
    recovery_changed: bool,
}

impl Known {
    pub(super) const fn blocks(&self) -> bool {
        blocking(self.mode)
    }
}

const fn blocking(mode: Mode) -> bool {
    matches!(mode, Mode::Hard | Mode::Bounded)
}

impl World {
    /// What must hold after every step, at every account that the step touched.
    pub(super) fn check(&mut self) -> Result<(), Broken> {
        for name in std::mem::take(&mut self.truth.touched) {
            let Some(account) = self.truth.account(&name) else { continue };
            let Some(ceiling) = self.ceilings.get(&name) else {
                if account.within() > 0 {
                    let detail =
                        format!("{name:?} has no window in the log and {} is billed", account.within());
                    return Err(("nothing is billed under a lease outside a window", detail));
                }
                continue;
            };
            if !self.rules.blocks(&name.budget) {
                continue;
            }
            let committed = self.rules.window(&name).map_or(0, |window| window.committed) + ceiling.beyond;
            let leased = account.within();
            let most = ceiling.most.saturating_add(ceiling.beyond);
            if leased > most {
                let detail = format!("{name:?}: {leased} is billed of at most {most}");
                return Err(("billed <= the limit in force at each grant", detail));
            }
            if leased > committed {
                let detail = format!("{name:?}: {leased} is billed and {committed} committed");
                return Err(("billed <= committed", detail));
            }
            if account.exposure > committed {
                let detail =
                    format!("{name:?}: {} may yet be billed, {committed} is committed", account.exposure);
                return Err(("what may yet be billed <= committed", detail));
            }
            self.check_bounded(&name)?;
        }
        Ok(())
    }

    /// What must hold of a record of `limits`.
    pub(super) fn check_record(
        &mut self,
        offset: u64,
        fact: &Fact,
        verdict: Verdict,
        writer: usize,
    ) -> Result<(), Broken> {
        let honest = !self.broker.writers[writer].confused;
        // What a confused ledger wrote since the writer had read may void it, as what it knew is so no more.
        if let Verdict::Void(void) = verdict
            && honest
            && !self.interferes(offset, writer)
            && !self.wasted.explains(fact, void)
            && !matches!(void, Void::Superseded | Void::WrongEpoch)
        {
            let detail = format!("offset {offset}, {}: {void:?}", super::lanes::brief(fact));
            return Err(("an honest ledger's records are never void under its own epoch", detail));
        }
        if let (Fact::AlertRaised(raised), Verdict::Ignored(Ignored::NotBinding)) = (fact, verdict) {
            self.check_alert(raised, writer)?;
        }
        if verdict == Verdict::Counted && honest {
            match fact {
                Fact::LeaseGranted(grant) => self.check_grant(offset, grant)?,
                Fact::LeaseCredited(credit) => self.check_credit(offset, credit, writer)?,
                _ => {}
            }
        }
        let accounts: &[AccountRef] = match fact {
            Fact::LeaseGranted(grant) => &grant.accounts,
            Fact::LeaseCredited(credit) => &credit.accounts,
            Fact::WindowMoved(moved) => std::slice::from_ref(&moved.account),
            _ => &[],
        };
        for name in accounts {
            let found = self.broker.reference.account(name).map(|it| (it.phase, it.committed.pico()));
            let expected = self.rules.window(name).map(|it| (it.phase, it.committed));
            // The fold forgets closed windows that no lease names.
            let forgotten = found.is_none() && expected.is_some_and(|(phase, _)| phase == Phase::Closed);
            if found != expected && !forgotten {
                let detail = format!("{name:?} after offset {offset}: {found:?} is not {expected:?}");
                return Err(("the fold commits what the rules commit", detail));
            }
        }
        Ok(())
    }

    /// True when a confused ledger changed something since the writer of this record had read `limits`.
    pub(super) fn interferes(&self, offset: u64, writer: usize) -> bool {
        self.wasted.interferes_since(self.read_by(offset, writer))
    }

    /// How far the writer of the record that has just arrived had read `limits` when it wrote that.
    fn read_by(&self, offset: u64, writer: usize) -> u64 {
        let from = &self.broker.writers[writer];
        let read = from.arrived.checked_sub(1).and_then(|last| from.read.get(usize::try_from(last).ok()?));
        read.copied().unwrap_or(offset)
    }

    /// True once a budget's recovery has changed.
    pub(super) fn recovery_changed(&self, budget: &str) -> bool {
        self.limits.get(budget).is_some_and(|known| known.recovery_changed)
    }

    /// When a budget's mode changed last, as an offset of `limits`.
    pub(super) fn mode_changed(&self, budget: &str) -> Option<u64> {
        self.limits.get(budget)?.mode_changed
    }

    /// A grant answers a request: its path, and an amount between the least that helps and what was wished for.
    fn check_grant(&self, offset: u64, grant: &LeaseGranted) -> Result<(), Broken> {
        let fits = self.naive.asked.get(&grant.lease).is_some_and(|asked| {
            asked.accounts == grant.accounts
                && grant.amount >= asked.minimum
                && grant.amount <= asked.wanted.max(asked.minimum)
                && grant.cause < grant.read
        });
        if fits {
            return Ok(());
        }
        Err(("a grant answers a request", format!("offset {offset}: {}", grant.lease)))
    }

    /// A credit of an honest ledger names a return that stands on `spend`.
    fn check_credit(&self, offset: u64, credit: &LeaseCredited, writer: usize) -> Result<(), Broken> {
        let named = self.naive.returned.get(&(credit.lease, credit.number));
        let (amount, cause) = (credit.amount.pico(), credit.cause.unwrap_or(u64::MAX));
        // By the mode in force when it was written; a later change is no fault.
        let read = self.read_by(offset, writer);
        let bounded = |account: &AccountRef| {
            let changed = self.mode_changed(&account.budget);
            self.rules.limit(&account.budget).1 == Mode::Bounded || changed >= Some(read)
        };
        let fits = match credit.reason {
            CreditReason::Returned => named == Some(&(amount, cause)),
            CreditReason::TimedOut => credit.accounts.iter().all(bounded),
            CreditReason::Journal | CreditReason::Retired => return self.check_recovery(offset, credit),
        };
        if fits {
            return Ok(());
        }
        Err(("a credit names a return", format!("offset {offset}: {} no {}", credit.lease, credit.number)))
    }

    /// A record counts: what it means for the truth.
    pub(super) fn record_counts(
        &mut self,
        fact: &Fact,
        honest: bool,
        interferes: bool,
    ) -> Result<(), Broken> {
        match fact {
            Fact::LeaseGranted(grant) => {
                self.hit(Mark::Granted);
                self.truth.granted(grant.lease, &grant.accounts, grant.amount.pico());
                self.truth.touched.extend(grant.accounts.iter().cloned());
                self.bounded_granted(grant, interferes);
                if !self.living().contains(&grant.lease.holder) {
                    self.hit(Mark::GrantedToDead);
                    self.truth.change(grant.lease, self.now, |lease| lease.dead = true);
                }
            }
            Fact::LeaseCredited(credit) => self.credit_counts(credit, honest)?,
            Fact::LimitSet(set) => self.limit_counts(set),
            Fact::WindowMoved(moved) if moved.phase == Phase::Open => {
                let (amount, mode) = self.rules.limit(&moved.account.budget);
                let most = if blocking(mode) { amount } else { i128::MAX };
                let ceiling = Ceiling { most, opened: self.now, beyond: 0 };
                self.ceilings.insert(moved.account.clone(), ceiling);
                self.bounded_opened(&moved.account, most);
            }
            _ => {}
        }
        Ok(())
    }

    fn credit_counts(&mut self, credit: &LeaseCredited, honest: bool) -> Result<(), Broken> {
        self.hit(Mark::Credited);
        let lease = self.rules.lease(&credit.lease);
        let closed = |name: &&AccountRef| self.rules.window(name).is_some_and(|it| it.phase == Phase::Closed);
        let path = lease.map(|lease| lease.accounts.clone()).unwrap_or_default();
        let (shut, open): (Vec<&AccountRef>, Vec<&AccountRef>) = path.iter().partition(closed);
        let day_first = shut.iter().any(|it| it.budget == "red" || it.budget == "blue")
            && open.iter().any(|it| it.budget == "org");
        if !shut.is_empty() {
            self.hit(Mark::PartCredited);
        }
        if day_first {
            self.hit(Mark::DayClosedBeforeMonth);
        }
        self.truth.touched.extend(credit.accounts.iter().cloned());
        let (number, amount) = (credit.number, credit.amount.pico());
        let returned =
            self.truth.lease(&credit.lease).is_some_and(|lease| lease.has_returned(number, amount));
        match credit.reason {
            CreditReason::Returned if !returned => {
                let detail = format!("{} no {} of {}", credit.lease, credit.number, credit.amount);
                return Err(("what is credited was returned", detail));
            }
            CreditReason::Returned => self.bounded_returned(credit),
            // It costs nothing that may yet be billed: that is checked after every step.
            CreditReason::Journal | CreditReason::Retired if honest => self.note_recovery(credit, &path)?,
            reason => {
                if reason == CreditReason::TimedOut && honest {
                    self.hit(Mark::Reclaimed);
                    if path.len() > credit.accounts.len() {
                        self.hit(Mark::ReclaimedBesideHard);
                    }
                }
                self.truth.change(credit.lease, self.now, |lease| lease.foreign = true);
                self.bounded_reclaimed(credit);
                for name in &credit.accounts {
                    if let Some(ceiling) = self.ceilings.get_mut(name) {
                        ceiling.beyond += credit.amount.pico();
                    }
                }
            }
        }
        Ok(())
    }

    fn limit_counts(&mut self, set: &LimitSet) {
        let (amount, blocks) = (set.amount.pico(), blocking(set.mode));
        let version = (set.policy_version, set.step);
        let before = self.limits.get(&set.budget).copied();
        let changes = before.is_some_and(|before| before.mode != set.mode);
        let mode_changed = match before {
            Some(_) if changes => Some(self.broker.limits.len() as u64 - 1),
            before => before.and_then(|before| before.mode_changed),
        };
        let recovery_changed =
            before.is_some_and(|before| before.recovery_changed || before.recovery != set.recovery);
        let (mode, recovery, changed) = (set.mode, set.recovery, self.now);
        let known = Known { amount, mode, version, changed, recovery, mode_changed, recovery_changed };
        self.limits.insert(set.budget.clone(), known);
        let mut below = false;
        for (name, ceiling) in &mut self.ceilings {
            if name.budget != set.budget {
                continue;
            }
            let committed = self.rules.window(name).map_or(0, |window| window.committed);
            ceiling.most = if blocks { amount.max(committed) } else { i128::MAX };
            below |= blocks && committed > amount;
        }
        self.bounded_limited(&set.budget, blocks.then_some(amount));
        let Some(before) = before else { return };
        if amount < before.amount {
            self.hit(if below { Mark::CutBelowCommitted } else { Mark::LimitCut });
        } else if amount > before.amount {
            self.hit(Mark::LimitRaised);
        }
        if before.version.0 == version.0 && version.1 > before.version.1 && before.blocks() == blocks {
            let raises = self
                .broker
                .policy
                .iter()
                .rev()
                .take_while(|fact| !matches!(***fact, Fact::PolicyPublished(_)));
            let raises =
                raises.filter(|fact| matches!(&***fact, Fact::BudgetRaised(it) if it.budget == set.budget));
            if version.1 > raises.count() as u64 {
                self.hit(Mark::RaiseExpired);
            }
        }
    }

    /// The path of a request holds every blocking account that it draws on, by the simulator's own calendar.
    pub(super) fn check_path(
        &mut self,
        slot: usize,
        budgets: &[usize],
        at: i64,
        drawn: &Drawn,
    ) -> Result<(), Broken> {
        let Some(node) = &self.shims[slot].node else { return Ok(()) };
        for (budget, account) in budgets.iter().zip(Self::accounts_at(budgets, at)) {
            let blocks = blocking(node.core.fold().mode(BUDGETS[*budget]));
            let covered = drawn.path.contains(&account) && drawn.blocks;
            if blocks && node.core.fold().budget(BUDGETS[*budget]).is_some() && !covered {
                let detail = format!("{account:?} is not on {:?}", drawn.path);
                return Err(("a request draws on every blocking account of its time", detail));
            }
        }
        Ok(())
    }

    /// A lease that is used was granted to this incarnation, counts, and nobody else took its money back.
    pub(super) fn check_admission(&self, slot: usize, lease: LeaseId) -> Result<(), Broken> {
        let Some(node) = &self.shims[slot].node else { return Ok(()) };
        let holder = self.broker.writers[node.writer].id;
        let known = self.rules.lease(&lease).is_some();
        let read = node.core.fold().lease(&lease);
        if lease.holder != holder || !known {
            let detail = format!("shim {slot} uses {lease}, which is not its own or was never granted");
            return Err(("a lease is used by its holder alone", detail));
        }
        let foreign = read.is_some_and(|read| {
            let returned = self.truth.lease(&lease).map_or(0, Lease::given);
            read.credited.values().any(|credited| credited.pico() > returned)
        });
        let closed = read.is_none() && self.rules.is_closed(&lease) && node.core.fold().is_used_up(&lease);
        if closed || read.is_some_and(|read| read.revoked) {
            return Err(("no lease is used after its revocation", lease.to_string()));
        }
        if foreign {
            return Err(("no lease is used after a credit that was not returned", lease.to_string()));
        }
        Ok(())
    }

    /// A ledger that has read everything shows what the facts add up to.
    pub(super) fn compare_books(&mut self, node: &ledgers::Node) -> Result<(), Broken> {
        self.hit(Mark::ComparedBooks);
        for books in node.core.books() {
            let name = books.account();
            let stand = self.naive.stand(&name);
            let committed = self.rules.window(&name).map(|it| it.committed);
            let found = (books.settled.pico(), books.reserved.pico(), Some(books.committed.pico()));
            let expected = (stand.settled, stand.reserved, committed);
            if found != expected {
                let detail = format!(
                    "{}/{}: settled, reserved, committed are {found:?}, not {expected:?}",
                    books.budget, books.window
                );
                return Err(("the books are what the facts add up to", detail));
            }
        }
        Ok(())
    }
}
