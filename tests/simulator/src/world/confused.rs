//! A confused ledger: it writes under the live epoch whatever a broken or forgetful instance might, except that it
//! does not lie about returns, which only signed facts can prove.

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{
    AccountRef, CreditReason, EpochMarked, Fact, Head, IncarnationEnded, LeaseClosed, LeaseCredited,
    LeaseGranted, LeaseId, LeaseRevoked, LimitSet, Mode, Phase, Recovery, Role, WindowMoved,
};
use bursar_schemas::ids::ProducerId;
use bursar_schemas::money::Money;
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::producer::Chains;

use super::{Broken, World};
use crate::calendar::SECOND;
use crate::random::{Random, mix};
use crate::settings::{BUDGETS, CENT, PATHS};

/// The kind that is never drawn: a credit of what nobody returned.
pub const LIE: u64 = u64::MAX;
/// Records that it tries to write at a time.
const AT_ONCE: u64 = 3;
/// Kinds of nonsense, those that seldom have anything to act on more often.
const KINDS: [u64; 41] = [
    0, 0, 1, 1, 2, 3, 3, 4, 4, 4, 4, 5, 5, 6, 6, 7, 7, 7, 7, 8, 8, 9, 10, 10, 11, 11, 12, 13, 14, 15, 16, 17,
    18, 19, 20, 20, 21, 21, 22, 23, 23,
];

fn one_cent(head: Head, epoch: u64, lease: LeaseId, account: AccountRef) -> Fact {
    let (accounts, amount, cause, read) = (vec![account], Money::from_pico(CENT), 0, 0);
    LeaseGranted { head, epoch, lease, accounts, amount, cause, read }.into()
}

/// The confused instance, once it has begun.
#[derive(Debug, Default)]
pub(super) struct Confused {
    node: Option<(Chains, usize, ProducerId)>,
}

impl World {
    /// Nonsense of some kind is written.
    pub(super) fn confuse(&mut self, kind: u64, with: u64) -> Result<bool, Broken> {
        let Some(epoch) = self.rules.epoch() else { return Ok(false) };
        if self.confused.node.is_none() {
            let identity = self.identity(Role::Ledger);
            let id = identity.producer;
            let writer = self.broker.join(id, Role::Ledger, true);
            self.confused.node = Some((Chains::new(identity), writer, id));
        }
        let mut facts = Vec::new();
        if kind == LIE {
            facts.extend(self.lie(epoch));
        } else {
            for turn in 0..AT_ONCE {
                let mut random = Random::new(mix(mix(kind, with), turn));
                let kind = random.pick(&KINDS);
                facts.extend(self.nonsense(kind, epoch, &mut random));
            }
        }
        let Some((chains, writer, _)) = &mut self.confused.node else { return Ok(false) };
        let (writer, mut entries) = (*writer, Vec::new());
        for fact in facts {
            chains.stamp(Lane::new(Topic::Limits, 0), fact, &mut entries);
        }
        let wrote = !entries.is_empty();
        self.send_entries(writer, entries);
        Ok(wrote)
    }

    /// What no ledger may do and nothing here can prevent: credit what nobody returned. Checkers must see it.
    fn lie(&self, epoch: u64) -> Option<Fact> {
        let head = Head::draft(Micros(self.now), 0, "");
        let (lease, known) = self.broker.reference.leases().find(|(_, it)| it.credited.is_empty())?;
        let (lease, accounts, amount) = (*lease, known.accounts.clone(), Money::from_pico(1));
        let (number, reason, cause, read) = (1 << 42, CreditReason::Returned, None, 0);
        Some(LeaseCredited { head, epoch, lease, number, amount, accounts, reason, cause, read }.into())
    }

    /// Nonsense about leases and budgets that others have finished with, or never had.
    fn strange(&self, kind: u64, head: Head, epoch: u64, random: &mut Random) -> Option<Fact> {
        let closed = |it: &AccountRef| self.rules.window(it).is_none_or(|it| it.phase == Phase::Closed);
        let bounded = |it: &AccountRef| self.rules.limit(&it.budget).1 == Mode::Bounded && !closed(it);
        let mut known: Vec<_> = self.broker.reference.leases().map(|(id, it)| (*id, it.clone())).collect();
        match kind {
            // A credit to windows that are closed, or one that no return explains, to accounts that may take it.
            20 | 21 => {
                let takes = |it: &AccountRef| if kind == 20 { closed(it) } else { bounded(it) };
                known.retain(|(_, it)| (kind == 20 || !it.revoked) && it.accounts.iter().any(takes));
                let end = u64::try_from(known.len()).ok().filter(|end| *end > 0)?;
                let (lease, it) = known.swap_remove(usize::try_from(random.below(end)).ok()?);
                let accounts = it.accounts.into_iter().filter(takes).collect();
                let reason = if kind == 20 { CreditReason::Returned } else { CreditReason::TimedOut };
                let (number, amount, cause, read) =
                    ((1 << 41) + random.below(9), Money::from_pico(1), None, 0);
                Some(
                    LeaseCredited { head, epoch, lease, number, amount, accounts, reason, cause, read }
                        .into(),
                )
            }
            // A budget that nobody has given a limit: its window opens, and then somebody grants of it.
            22 => {
                let account = AccountRef { budget: "wild".to_owned(), window: 0 };
                if self.rules.window(&account).is_none() {
                    let (starts_at, ends_at, phase) = (Micros(0), None, Phase::Open);
                    return Some(WindowMoved { head, epoch, account, starts_at, ends_at, phase }.into());
                }
                let lease = LeaseId { number: 2000 + random.below(1000), ..self.next_lease(random)? };
                Some(one_cent(head, epoch, lease, account))
            }
            // A lease that the log has forgotten, granted again.
            _ => {
                let lease = self.some_lease(random)?;
                let account = Self::accounts_at(PATHS[0], self.now).pop()?;
                self.broker.reference.lease(&lease).is_none().then(|| one_cent(head, epoch, lease, account))
            }
        }
    }

    fn nonsense(&mut self, kind: u64, epoch: u64, random: &mut Random) -> Option<Fact> {
        let head = Head::draft(Micros(self.now), 0, "");
        let at = self.now;
        let path = Self::accounts_at(PATHS[usize::try_from(random.below(5)).unwrap_or(0)], at);
        let lease = self.some_lease(random);
        Some(match kind {
            0..=5 => self.wild_grant(kind, head, epoch, path, random)?,
            6..=10 => self.wild_credit(kind, head, epoch, lease?, random)?,
            11 => {
                let budget = BUDGETS[usize::try_from(random.below(5)).unwrap_or(0)].to_owned();
                let (amount, mode, recovery) = (Money::from_pico(CENT), Mode::Hard, Recovery::Forfeit);
                LimitSet { head, epoch, budget, amount, mode, recovery, policy_version: 1, step: 0 }.into()
            }
            12 | 13 => self.wild_window(head, epoch, random),
            14 => {
                let epoch = if random.once_in(2) { epoch + 1 } else { epoch.saturating_sub(1) };
                LeaseGranted {
                    head,
                    epoch,
                    lease: self.next_lease(random)?,
                    accounts: path,
                    amount: Money::from_pico(CENT),
                    cause: 0,
                    read: 0,
                }
                .into()
            }
            15 => {
                // Now and then it takes the epoch over, and then does nothing with it.
                let supersedes = if random.once_in(4) { Some(epoch) } else { epoch.checked_sub(1) };
                let instance = self.confused.node.as_ref()?.2;
                EpochMarked { head, instance, supersedes }.into()
            }
            16 if random.once_in(4) => {
                let incarnation = self.some_shim(random)?;
                IncarnationEnded { head, epoch, incarnation, cause: 0, read: 0 }.into()
            }
            16 | 17 => LeaseRevoked { head, epoch, lease: lease? }.into(),
            20..=23 => self.strange(kind, head, epoch, random)?,
            18 => LeaseClosed { head, epoch, lease: LeaseId { number: 1 << 50, ..lease? } }.into(),
            _ if random.once_in(4) => LeaseClosed { head, epoch, lease: lease? }.into(),
            _ => LeaseRevoked { head, epoch, lease: LeaseId { number: 1 << 50, ..lease? } }.into(),
        })
    }

    /// A lease that was granted at some time.
    fn some_lease(&self, random: &mut Random) -> Option<LeaseId> {
        let mut known: Vec<LeaseId> =
            self.truth.leases().filter(|(_, it)| it.granted > 0).map(|(id, _)| *id).collect();
        known.sort_unstable();
        let end = u64::try_from(known.len()).ok()?;
        known.get(usize::try_from(random.below(end)).ok()?).copied()
    }

    /// A lease that something has come back of, and more may.
    fn some_credited(&self, random: &mut Random) -> Option<LeaseId> {
        let credited = self.broker.reference.leases().filter(|(_, it)| !it.credited.is_empty());
        let known: Vec<LeaseId> = credited.map(|(id, _)| *id).collect();
        let end = u64::try_from(known.len()).ok().filter(|end| *end > 0)?;
        known.get(usize::try_from(random.below(end)).ok()?).copied()
    }

    fn some_shim(&self, random: &mut Random) -> Option<ProducerId> {
        let nodes: Vec<_> = self.shims.iter().filter_map(|place| place.node.as_ref()).collect();
        let index = usize::try_from(random.below(u64::try_from(nodes.len()).ok()?)).ok()?;
        Some(self.broker.writers[nodes.get(index)?.writer].id)
    }

    /// A lease that a running shim may or may not have asked for.
    fn next_lease(&self, random: &mut Random) -> Option<LeaseId> {
        Some(LeaseId { holder: self.some_shim(random)?, number: 1 + random.below(40) })
    }

    fn wild_grant(
        &self,
        kind: u64,
        head: Head,
        epoch: u64,
        mut accounts: Vec<AccountRef>,
        random: &mut Random,
    ) -> Option<Fact> {
        let mut lease = self.next_lease(random)?;
        let mut amount = Money::from_pico(i128::from(random.within(1, 20_000)) * CENT);
        accounts.sort();
        match kind {
            0 => {}
            1 => lease = self.some_lease(random)?,
            2 if random.once_in(3) => accounts.clear(),
            2 => accounts.push(accounts[0].clone()),
            3 => amount = Money::from_pico(-i128::from(random.within(0, 1)) * CENT),
            4 => {
                // To one that the log says has ended; or to nobody.
                let gone = self.naive.ended.iter().filter(|it| self.rules.has_ended(it)).min();
                lease = LeaseId { holder: *gone?, number: 1000 + random.below(1000) };
                amount = Money::from_pico(CENT);
            }
            _ => {
                // In a window that is over, or not open yet.
                let other = self.now + random.within(-40, 40) * 3600 * SECOND;
                let path = PATHS[1 + usize::try_from(random.below(2)).ok()?];
                accounts = Self::accounts_at(path, other);
                accounts.sort();
                amount = Money::from_pico(CENT);
            }
        }
        Some(LeaseGranted { head, epoch, lease, accounts, amount, cause: 0, read: 0 }.into())
    }

    fn wild_credit(
        &self,
        kind: u64,
        head: Head,
        epoch: u64,
        lease: LeaseId,
        random: &mut Random,
    ) -> Option<Fact> {
        let known = self.truth.lease(&lease)?;
        let blocks = |name: &&AccountRef| self.rules.blocks(&name.budget);
        let mut accounts: Vec<AccountRef> = known.accounts.iter().filter(blocks).cloned().collect();
        let (mut lease, mut number) = (lease, 1 + random.below(3));
        let mut amount = Money::from_pico(known.granted + 1);
        let mut reason = CreditReason::Returned;
        match kind {
            // More than was ever granted.
            6 => number += 1 << 40,
            // A return that may have been credited, once more.
            7 => {
                // One that was, and of a lease that is open yet, every other time.
                if random.once_in(2) {
                    lease = self.some_credited(random).unwrap_or(lease);
                }
                let known = self.truth.lease(&lease)?;
                accounts = known.accounts.iter().filter(blocks).cloned().collect();
                let again = known.returns.first()?;
                (number, amount) = (again.number, Money::from_pico(again.amount));
                // Only what the log has is a return: what is still under way would be credited early.
                if !self.naive.returned.contains_key(&(lease, number)) {
                    return None;
                }
            }
            // A reason that a hard account forbids.
            8 => {
                reason = random.pick(&[CreditReason::TimedOut, CreditReason::Journal]);
                amount = Money::from_pico(1);
                let hard = |name: &&AccountRef| self.rules.limit(&name.budget).1 == Mode::Hard;
                accounts = accounts.iter().filter(hard).cloned().collect();
                if accounts.is_empty() {
                    return None;
                }
            }
            9 => lease.number = 1 << 50,
            _ => {
                accounts.reverse();
                accounts.push(AccountRef { budget: "nobody".into(), window: 0 });
            }
        }
        let (cause, read) = (None, 0);
        Some(LeaseCredited { head, epoch, lease, number, amount, accounts, reason, cause, read }.into())
    }

    fn wild_window(&self, head: Head, epoch: u64, random: &mut Random) -> Fact {
        let other = self.now + random.within(-30, 1) * 3600 * SECOND;
        let path = PATHS[usize::try_from(random.below(5)).unwrap_or(0)];
        let account = Self::accounts_at(path, other).swap_remove(path.len() - 1);
        let known = self.rules.window(&account).map(|window| window.phase);
        // It opens what was open before, and moves what was never open.
        let phase = match known {
            Some(_) => Phase::Open,
            None if random.once_in(2) => Phase::Draining,
            None => Phase::Closed,
        };
        let starts_at = Micros(account.window * SECOND);
        let ends_at = Some(Micros((account.window + 3600) * SECOND));
        WindowMoved { head, epoch, account, starts_at, ends_at, phase }.into()
    }
}
