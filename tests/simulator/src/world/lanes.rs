//! Records on their way, and their arrival.

use bursar_schemas::facts::{Fact, FindingKind, Phase, Role};
use bursar_schemas::fold::{Ignored, Verdict, Void};
use bursar_schemas::ports::Entry;
use bytes::Bytes;

use super::{Broken, Event, World};
use crate::calendar::SECOND;
use crate::marks::Mark;
use crate::random::mix;

/// Most records that arrive in one step.
const AT_ONCE: usize = 16;
/// How many of a writer's last records may be repeated.
const RECENT: usize = 3;

fn fingerprint(value: &[u8]) -> u64 {
    use std::hash::Hasher as _;
    let mut hasher = crate::broker::Folded(0);
    hasher.write(value);
    hasher.finish()
}

impl World {
    /// Sends entries: they arrive in order, after a while.
    pub(super) fn send(&mut self, writer: usize, values: impl IntoIterator<Item = Bytes>) {
        let (seed, slow) = (self.settings.delay, self.chance(30, writer as u64).is_multiple_of(3));
        let from = &self.broker.writers[writer];
        let name = mix(writer as u64, from.arrived + from.under_way.len() as u64);
        let longest = if self.healing {
            20_000
        } else if slow {
            seed * 2
        } else {
            seed
        };
        let delay =
            1 + i64::try_from(self.chance(31, name) % u64::try_from(longest).unwrap_or(1)).unwrap_or(0);
        let from = &mut self.broker.writers[writer];
        let arrival = (self.now + delay).max(from.last_arrival).max(from.held_until);
        let before = from.under_way.len();
        from.under_way.extend(values.into_iter().map(|value| (arrival, value)));
        let late = from.under_way.len() > before && arrival - self.now > SECOND;
        if from.under_way.len() > before {
            from.last_arrival = arrival;
            self.at(arrival, Event::Arrive(writer));
        }
        if late {
            self.hit(Mark::Delayed);
        }
    }

    pub(super) fn send_entries(&mut self, writer: usize, entries: Vec<Entry>) {
        self.send(writer, entries.into_iter().map(|entry| entry.value));
    }

    /// What is under way from a writer arrives.
    pub(super) fn arrive(&mut self, writer: usize) -> Result<bool, Broken> {
        let held = self.broker.writers[writer].held_until;
        if held > self.now && !self.healing {
            self.at(held, Event::Arrive(writer));
            return Ok(false);
        }
        let mut arrived = 0;
        while arrived < AT_ONCE {
            let from = &mut self.broker.writers[writer];
            if from.under_way.front().is_none_or(|(at, _)| *at > self.now) {
                break;
            }
            let Some((_, value)) = from.under_way.pop_front() else { break };
            from.arrived += 1;
            from.recent.push_back(value.clone());
            if from.recent.len() > RECENT {
                from.recent.pop_front();
            }
            self.append(writer, value)?;
            arrived += 1;
        }
        if let Some((at, _)) = self.broker.writers[writer].under_way.front().filter(|_| arrived == AT_ONCE) {
            let at = *at;
            self.at(at, Event::Arrive(writer));
        }
        if arrived > 0 {
            self.acknowledge(writer);
            self.repeat(writer)?;
        }
        Ok(arrived > 0)
    }

    /// A writer that saw no acknowledgement sends its last records again; a copy may turn up much later.
    fn repeat(&mut self, writer: usize) -> Result<(), Broken> {
        let (role, arrived) = (self.broker.writers[writer].role, self.broker.writers[writer].arrived);
        let name = mix(writer as u64, arrived);
        let spend = role == Role::Shim;
        if self.happens(32, name, self.settings.faults.repeats) {
            let again: Vec<Bytes> = self.broker.writers[writer].recent.iter().cloned().collect();
            self.note(|| format!("writer {writer}: its last {} records come again", again.len()));
            for value in again {
                self.append(writer, value)?;
            }
            self.hit(if spend { Mark::DuplicatedSpend } else { Mark::DuplicatedLimits });
        }
        if self.happens(33, name, self.settings.faults.late_copies) {
            let lane = if spend { self.broker.spend.len() } else { self.broker.limits.len() };
            let index = usize::try_from(self.chance(34, name)).unwrap_or(0) % lane;
            let after = i64::try_from(self.chance(35, name) % 15_000_000).unwrap_or(0);
            self.at(self.now + after, Event::Copy { spend, index });
        }
        Ok(())
    }

    /// A copy of an old record arrives.
    pub(super) fn copy(&mut self, spend: bool, index: usize) -> Result<bool, Broken> {
        let record = if spend { self.broker.spend.get(index) } else { self.broker.limits.get(index) };
        let Some(record) = record.cloned() else { return Ok(false) };
        self.note(|| {
            format!("a copy of offset {index} of {} arrives", if spend { "spend" } else { "limits" })
        });
        self.hit(if spend { Mark::LateCopySpend } else { Mark::LateCopyLimits });
        if matches!(record.fact, Ok(Fact::EpochMarked(_))) {
            self.hit(Mark::DuplicateMarker);
        }
        self.append(record.writer, record.value.clone())?;
        Ok(true)
    }

    fn append(&mut self, writer: usize, value: Bytes) -> Result<(), Broken> {
        self.digest = mix(self.digest, fingerprint(&value));
        match self.broker.writers[writer].role {
            Role::Ledger => self.append_limits(writer, value),
            _ => {
                let (offset, record) = self.broker.append_spend(writer, value);
                if let Ok(fact) = &record.fact {
                    self.naive.take(offset, fact);
                }
                for slot in 0..self.ledgers.len() {
                    self.wake_ledger(slot);
                }
                Ok(())
            }
        }
    }

    fn append_limits(&mut self, writer: usize, value: Bytes) -> Result<(), Broken> {
        let (offset, record, verdict) =
            self.broker.append_limits(writer, value).map_err(|error| ("the fold stops", error))?;
        if let Ok(fact) = &record.fact {
            let counts = self.rules.judge(offset, fact);
            self.note(|| format!("limits {offset}: {} by {writer}: {verdict:?}", brief(fact)));
            if counts != (verdict == Verdict::Counted) {
                let detail = format!("offset {offset}, {}: the fold says {verdict:?}", brief(fact));
                return Err(("the fold follows the rules", detail));
            }
            self.mark_record(fact, verdict, writer);
            let honest = !self.broker.writers[writer].confused;
            self.check_record(offset, fact, verdict, writer)?;
            let interferes = self.interferes(offset, writer);
            self.wasted.note(offset, fact, verdict, honest);
            if counts {
                self.record_counts(fact, honest, interferes)?;
            }
        }
        for slot in 0..self.ledgers.len() {
            self.wake_ledger(slot);
        }
        for slot in 0..self.shims.len() {
            self.wake_shim(slot);
        }
        Ok(())
    }

    fn mark_record(&mut self, fact: &Fact, verdict: Verdict, writer: usize) {
        let from = &self.broker.writers[writer];
        if from.gone && verdict == Verdict::Void(Void::WrongEpoch) {
            self.hit(Mark::ZombieLedger);
        }
        match (fact, verdict) {
            (_, Verdict::Ignored(Ignored::SeenBefore)) => {
                self.hit(Mark::SeenBefore);
                if matches!(fact, Fact::EpochMarked(_)) {
                    self.hit(Mark::DuplicateMarker);
                }
            }
            (_, Verdict::Void(void)) => self.hit(void_mark(void)),
            (Fact::LeaseRevoked(_), Verdict::Counted) => self.hit(Mark::Revoked),
            (Fact::LeaseClosed(_), Verdict::Counted) => self.hit(Mark::LeaseClosed),
            (Fact::IncarnationEnded(_), Verdict::Counted) => self.hit(Mark::HolderEnded),
            (Fact::LeaseRefused(refused), Verdict::Counted) => {
                use bursar_schemas::facts::LeaseRefusal as R;
                match refused.reason {
                    R::Spent => self.hit(Mark::RefusedSpent),
                    R::InFlight => self.hit(Mark::RefusedInFlight),
                    R::WindowNotOpen => self.hit(Mark::RefusedWindow),
                    _ => {}
                }
            }
            (Fact::WindowMoved(moved), Verdict::Counted) if moved.phase == Phase::Closed => {
                match moved.account.budget.as_str() {
                    "px/k" => self.hit(Mark::HourRolled),
                    "red" | "blue" => self.hit(Mark::DayRolled),
                    _ => self.hit(Mark::MonthRolled),
                }
            }
            _ => {}
        }
        if matches!((fact, verdict), (Fact::EpochMarked(_), Verdict::Void(_))) {
            self.hit(Mark::LateMarker);
        }
    }

    /// A ledger recorded a fault of `spend`.
    pub(super) fn found(&mut self, kind: FindingKind) -> Result<(), Broken> {
        if kind != FindingKind::Duplicate {
            return Err(("honest producers are believed", format!("a finding: {kind}")));
        }
        self.hit(Mark::FoundDuplicate);
        if self.settings.faults.none() {
            return Err(("no findings without faults", format!("a finding: {kind}")));
        }
        Ok(())
    }
}

const fn void_mark(void: Void) -> Mark {
    match void {
        Void::Superseded => Mark::VoidSuperseded,
        Void::WrongEpoch => Mark::VoidWrongEpoch,
        Void::OldVersion => Mark::VoidOldVersion,
        Void::WindowOrder => Mark::VoidWindowOrder,
        Void::NoAmount => Mark::VoidNoAmount,
        Void::Path => Mark::VoidPath,
        Void::AnsweredBefore => Mark::VoidAnsweredBefore,
        Void::HolderEnded => Mark::VoidHolderEnded,
        Void::WindowNotOpen => Mark::VoidWindowNotOpen,
        Void::OverLimit => Mark::VoidOverLimit,
        Void::NoLease => Mark::VoidNoLease,
        Void::CreditedBefore => Mark::VoidCreditedBefore,
        Void::OverCredit => Mark::VoidOverCredit,
        Void::CreditForbidden => Mark::VoidCreditForbidden,
    }
}

/// A record of `limits` in few words.
pub(super) fn brief(fact: &Fact) -> String {
    let path = |accounts: &[bursar_schemas::facts::AccountRef]| {
        accounts.iter().map(|it| format!("{}/{}", it.budget, it.window)).collect::<Vec<_>>().join(" ")
    };
    let short = |lease: &bursar_schemas::facts::LeaseId| {
        format!("lease {}.{}", &lease.holder.to_string()[28..], lease.number)
    };
    match fact {
        Fact::EpochMarked(it) => format!("marker superseding {:?}", it.supersedes),
        Fact::LimitSet(it) => {
            format!("limit {} {} {} v{}.{}", it.budget, it.amount, it.mode, it.policy_version, it.step)
        }
        Fact::WindowMoved(it) => format!("window {}/{} {}", it.account.budget, it.account.window, it.phase),
        Fact::LeaseGranted(it) => {
            format!("grant {} {} on {}", short(&it.lease), it.amount, path(&it.accounts))
        }
        Fact::LeaseRefused(it) => format!("refusal {} {}", short(&it.lease), it.reason),
        Fact::LeaseCredited(it) => {
            let (lease, accounts) = (short(&it.lease), path(&it.accounts));
            format!("credit {lease} no {} {} {} to {accounts}", it.number, it.amount, it.reason)
        }
        Fact::LeaseRevoked(it) => format!("revocation {}", short(&it.lease)),
        Fact::LeaseClosed(it) => format!("close {}", short(&it.lease)),
        Fact::AlertRaised(it) => {
            format!("alert {}/{} {} {}", it.account.budget, it.account.window, it.alert, it.percent)
        }
        Fact::IncarnationEnded(it) => format!("end of {}", &it.incarnation.to_string()[28..]),
        other => other.kind().to_owned(),
    }
}
