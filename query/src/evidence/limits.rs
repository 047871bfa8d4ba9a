//! The fold of `limits`, run again, and what each record of it answers.

use std::collections::{BTreeMap, HashMap};

use bursar_schemas::avro::Avro as _;
use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{
    AccountRef, CreditReason, Fact, Head, IncarnationEnded, LeaseCredited, LeaseId, LeaseMarked,
    LeaseRequested, LeaseReturned, ShimEnded,
};
use bursar_schemas::fold::{Fold, Verdict, Void, is_recovery};
use bursar_schemas::ids::ProducerId;
use bursar_schemas::money::Money;
use bursar_schemas::position::Lane;
use bursar_schemas::wire;
use sha2::{Digest as _, Sha256};

use super::report::{Kind, Report};

/// How far clocks may stand apart before a record that answers what was never written counts as an invention.
const CLOCKS_APART: i64 = 10 * 60 * 1_000_000;

const LEASE_REQUESTED: u32 = 33;
const LEASE_RETURNED: u32 = 34;
const SHIM_ENDED: u32 = 35;
const LEASE_MARKED: u32 = 36;

/// What stands in `spend` and can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    Lease(LeaseId, [u8; 8]),
    Return(LeaseId, u64, Money),
    End(ProducerId),
}

impl Asked {
    /// True when this is what was asked, or less of it.
    fn answers(&self, asked: &Self) -> bool {
        match (self, asked) {
            (Self::Return(lease, number, amount), Self::Return(of, nth, returned)) => {
                (lease, number) == (of, nth) && amount <= returned
            }
            _ => self == asked,
        }
    }
}

/// Short digest of a path.
fn path(accounts: &[AccountRef]) -> [u8; 8] {
    let mut hash = Sha256::new();
    for account in accounts {
        hash.update(u64::try_from(account.budget.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(account.budget.as_bytes());
        hash.update(account.window.to_be_bytes());
    }
    let digest: [u8; 32] = hash.finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    [a, b, c, d, e, f, g, h]
}

/// What operators attested in `policy`.
#[derive(Debug, Default)]
pub(super) struct Attested {
    /// Retired incarnations, by partition; with the end of `spend` that each attestation names.
    retired: BTreeMap<(u32, ProducerId), Vec<u64>>,
    /// Time of the newest fact: what comes later may not be sealed yet.
    newest: Option<Micros>,
}

impl Attested {
    pub(super) fn take(&mut self, value: &[u8]) {
        let Ok(fact) = wire::decode(value) else { return };
        self.newest = self.newest.max(Some(fact.head().at));
        if let Fact::ShimRetired(it) = &fact {
            self.retired.entry((it.partition, it.incarnation)).or_default().push(it.spend_end);
        }
    }

    fn explains(&self, partition: u32, ended: &IncarnationEnded) -> bool {
        let ends = self.retired.get(&(partition, ended.incarnation));
        ends.is_some_and(|ends| ends.iter().any(|end| end.saturating_sub(1) == ended.cause))
    }
}

/// The lease messages of one partition of `spend`, by offset.
#[derive(Debug, Default)]
pub(super) struct Causes {
    asked: HashMap<u64, Asked>,
    /// Marks by lease, as their holders stated them; with their offsets.
    marks: HashMap<LeaseId, Vec<(u64, Money)>>,
    /// First offset that is not known.
    pub(super) end: u64,
    /// The latest time of a fact before that.
    newest: Option<Micros>,
    /// True when every record up to the end was read.
    pub(super) whole: bool,
}

impl Causes {
    pub(super) fn new(whole: bool) -> Self {
        Self { whole, ..Self::default() }
    }

    /// Takes the next record; one that does not count asks for nothing.
    pub(super) fn take(&mut self, offset: u64, value: &[u8], counts: bool) {
        self.end = self.end.max(offset.saturating_add(1));
        if !counts {
            return;
        }
        let mut front = value.get(wire::FRAME..).unwrap_or_default();
        self.newest = self.newest.max(Head::decode(&mut front).ok().map(|head| head.at));
        let mut datum = value.get(wire::FRAME..).unwrap_or_default();
        let asked = match wire::schema_id(value) {
            Ok(LEASE_REQUESTED) => LeaseRequested::decode(&mut datum)
                .ok()
                .map(|fact| Asked::Lease(fact.lease, path(&fact.accounts))),
            Ok(LEASE_RETURNED) => {
                let returned = LeaseReturned::decode(&mut datum).ok();
                returned.map(|fact| Asked::Return(fact.lease, fact.number, fact.amount))
            }
            Ok(LEASE_MARKED) => {
                if let Ok(marked) = LeaseMarked::decode(&mut datum)
                    && marked.lease.holder == marked.head.producer
                {
                    self.marks.entry(marked.lease).or_default().push((offset, marked.mark));
                }
                None
            }
            Ok(SHIM_ENDED) => ShimEnded::decode(&mut datum).ok().map(|fact| Asked::End(fact.incarnation)),
            _ => None,
        };
        if let Some(asked) = asked {
            self.asked.insert(offset, asked);
        }
    }

    /// True when an offset that a record names was not written by then: what was written later is sealed.
    fn are_past(&self, at: Micros) -> bool {
        self.newest.is_some_and(|newest| newest.0.saturating_sub(CLOCKS_APART) > at.0)
    }

    /// The highest mark of a lease below an offset.
    fn mark(&self, lease: &LeaseId, below: u64) -> Option<Money> {
        let marks = self.marks.get(lease)?.iter().filter(|(offset, _)| *offset < below);
        marks.map(|(_, mark)| *mark).max()
    }
}

/// One partition of `limits`, folded.
#[derive(Debug)]
pub(super) struct Refold<'a> {
    lane: Lane,
    fold: Fold,
    causes: Option<&'a Causes>,
    attested: &'a Attested,
    /// False once the fold cannot go on.
    runs: bool,
    ahead: u64,
    /// Records that answer a partition of `spend` of which nothing is there.
    alone: u64,
    fenced: u64,
    void: BTreeMap<Void, u64>,
}

impl<'a> Refold<'a> {
    pub(super) fn new(lane: Lane, causes: Option<&'a Causes>, attested: &'a Attested) -> Self {
        let (fold, void) = (Fold::default(), BTreeMap::new());
        Self { lane, fold, causes, attested, runs: true, ahead: 0, alone: 0, fenced: 0, void }
    }

    /// A part of the lane could not be read: nothing that follows can be judged.
    pub(super) fn interrupt(&mut self, report: &mut Report) {
        if std::mem::take(&mut self.runs) {
            report.note(format!("{}: not folded again, as a part of it cannot be read", self.lane));
        }
    }

    pub(super) fn take(&mut self, offset: u64, value: &[u8], report: &mut Report) {
        if !self.runs {
            return;
        }
        let fact = wire::decode(value);
        let verdict = match self.fold.apply_record(offset, &fact) {
            Ok(verdict) => verdict,
            Err(error) => {
                self.runs = false;
                report.add(Kind::Unacceptable, format!("{} offset {offset}", self.lane), error.to_string());
                return;
            }
        };
        let Ok(fact) = fact else { return };
        match verdict {
            Verdict::Counted => self.check_cause(offset, &fact, report),
            // What a superseded ledger wrote late: how fencing works, and no fault.
            Verdict::Void(Void::Superseded | Void::WrongEpoch) => self.fenced += 1,
            Verdict::Void(void) if is_fault(&fact, void) => {
                let detail = format!("{} breaks a rule ({void:?}) and is void for everyone", fact.kind());
                report.add(Kind::Unacceptable, format!("{} offset {offset}", self.lane), detail);
            }
            Verdict::Void(void) => *self.void.entry(void).or_default() += 1,
            Verdict::Ignored(_) => {}
        }
    }

    /// A record that counts must answer what it says that it answers.
    fn check_cause(&mut self, offset: u64, fact: &Fact, report: &mut Report) {
        let (cause, read, expected) = match fact {
            Fact::LeaseGranted(it) => (it.cause, it.read, Asked::Lease(it.lease, path(&it.accounts))),
            Fact::LeaseCredited(it) if is_recovery(it.reason) => {
                return self.check_recovery(offset, it, report);
            }
            Fact::LeaseCredited(it) => match it.cause {
                Some(cause) => (cause, it.read, Asked::Return(it.lease, it.number, it.amount)),
                None if it.reason == CreditReason::Returned => {
                    let detail = "LeaseCredited gives back what was returned, and names no return".to_owned();
                    return self.refuse(offset, detail, report);
                }
                None => return,
            },
            Fact::IncarnationEnded(it) if self.attested.explains(self.lane.partition, it) => return,
            // What operators attested may name an end of `spend` that its ledger had not read.
            Fact::IncarnationEnded(it) => (it.cause, u64::MAX, Asked::End(it.incarnation)),
            _ => return,
        };
        let kind = fact.kind();
        if cause >= read {
            let detail =
                format!("{kind} says that it answers offset {cause} of spend, and was read up to {read}");
            return self.refuse(offset, detail, report);
        }
        let Some(causes) = self.causes else {
            self.alone += 1;
            return;
        };
        let at = fact.head().at;
        // An operator's attestation may not be sealed yet.
        let unsealed = matches!(fact, Fact::IncarnationEnded(_))
            && self.attested.newest.is_none_or(|newest| newest <= at);
        match causes.asked.get(&cause) {
            Some(asked) if expected.answers(asked) => {}
            None if !causes.whole || unsealed => self.ahead += 1,
            None if cause >= causes.end && !causes.are_past(at) => self.ahead += 1,
            _ => {
                let detail = format!(
                    "{kind} says that it answers offset {cause} of spend, which asks for nothing of the kind or for less"
                );
                self.refuse(offset, detail, report);
            }
        }
    }

    fn refuse(&self, offset: u64, detail: String, report: &mut Report) {
        report.add(Kind::Unacceptable, format!("{} offset {offset}", self.lane), detail);
    }

    /// What a dead holder left lies above the last mark that it stated.
    fn check_recovery(&mut self, offset: u64, credit: &LeaseCredited, report: &mut Report) {
        let Some(causes) = self.causes else {
            self.alone += 1;
            return;
        };
        let unread = credit.read > causes.end;
        if !causes.whole || (unread && !causes.are_past(credit.head.at)) {
            self.ahead += 1;
            return;
        }
        let granted = self.fold.lease(&credit.lease).map_or(Money::ZERO, |lease| lease.amount);
        let mark = causes.mark(&credit.lease, credit.read);
        if !unread && mark.is_some_and(|mark| credit.amount <= granted.minus(mark)) {
            return;
        }
        let mark = mark.map_or_else(|| "no mark".to_owned(), |mark| format!("a mark at ${mark}"));
        let detail = format!(
            "LeaseCredited gives back ${} of ${granted} that a holder left, where spend has {mark} below offset {}",
            credit.amount, credit.read
        );
        self.refuse(offset, detail, report);
    }

    pub(super) fn finish(self, report: &mut Report) {
        if self.fenced > 0 {
            report.note(format!(
                "{}: {} records of superseded ledgers are void, as they should be",
                self.lane, self.fenced
            ));
        }
        for (void, count) in self.void {
            report.note(format!("{}: {count} records are void ({void:?})", self.lane));
        }
        if self.alone > 0 {
            report.note(format!(
                "{}: {} records answer a partition of spend of which nothing is in the archive, so nobody can tell whether \
                 anybody asked for them",
                self.lane, self.alone
            ));
        }
        if self.ahead > 0 {
            report.note(format!(
                "{}: {} records answer what is not sealed, or could not be read, on spend",
                self.lane, self.ahead
            ));
        }
    }
}

/// True for rules that no honest ledger breaks, however often it restarts. A return of nothing, or one that comes after
/// its window has closed, is credited in vain by an honest one, too.
const fn is_fault(fact: &Fact, void: Void) -> bool {
    match fact {
        Fact::LeaseCredited(_) => matches!(void, Void::Path | Void::OverCredit),
        _ => matches!(void, Void::NoAmount | Void::Path | Void::OverLimit | Void::AnsweredBefore),
    }
}
