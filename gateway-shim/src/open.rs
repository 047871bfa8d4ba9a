//! A request that was taken in: every way out of it ends in exactly one closing fact, also when the future that
//! serves it is dropped.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bursar_schemas::facts::{
    About, AttemptEnded, AttemptOutcome, Basis, Confidence, CostLine, Ending, Fact, Head, LeaseId,
    RequestClosed, Settled, VoidReason, Voided,
};
use bursar_schemas::money::Money;
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::price::Price;
use bursar_schemas::producer::Draft;

use crate::content::Capture;
use crate::leases::{GiveBack, Path};
use crate::owed::{Owed, may_have_run, owed};
use crate::scan::Learned;
use crate::usage::Reported;
use crate::world::World;

/// One attempt at a provider, from its reservation on.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) number: u32,
    pub(crate) provider: String,
    pub(crate) model: String,
    pub(crate) accounts: Path,
    pub(crate) lease: Option<LeaseId>,
    /// True when what is reserved is a true upper bound.
    pub(crate) hard: bool,
    pub(crate) reserved: Money,
    pub(crate) price: Option<Arc<Price>>,
    /// True once the provider may have seen it.
    pub(crate) sent: bool,
    pub(crate) started: Instant,
    pub(crate) status: Option<u16>,
    pub(crate) provider_request: Option<String>,
    pub(crate) first_byte: Option<Duration>,
    pub(crate) answer_bytes: u64,
}

/// An open request.
pub(crate) struct OpenRequest {
    pub(crate) world: Arc<World>,
    pub(crate) about: Arc<About>,
    pub(crate) partition: u32,
    pub(crate) policy_version: u64,
    pub(crate) started: Instant,
    /// False when the spool was full and policy let the request pass without facts.
    pub(crate) recorded: bool,
    pub(crate) attempt: Option<Attempt>,
    pub(crate) attempts: u32,
    pub(crate) settled: Money,
    /// Status sent to the client; 0 before anything was.
    pub(crate) status: u16,
    pub(crate) first_byte: Option<Duration>,
    pub(crate) answer_bytes: u64,
    pub(crate) closed: bool,
    /// What the end of an attempt gave back of its lease, to be written after the attempt's own facts.
    pub(crate) given: Vec<GiveBack>,
    pub(crate) capture: Option<Capture>,
}

fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// What an attempt is charged.
struct Charge {
    amount: Money,
    confidence: Confidence,
    basis: Basis,
    lines: Vec<CostLine>,
}

/// What an attempt costs, or why nothing. Pure.
fn charge(attempt: &Attempt, outcome: AttemptOutcome, learned: &Learned) -> Result<Charge, VoidReason> {
    let at_bound = |basis| Charge {
        amount: attempt.reserved,
        confidence: Confidence::Estimated,
        basis,
        lines: Vec::new(),
    };
    // What was reported before an answer broke off is not all that it cost.
    let cut = matches!(outcome, AttemptOutcome::Broken | AttemptOutcome::Abandoned);
    let usage = learned.usage.as_ref().filter(|_| learned.whole || !cut);
    let ruled = if attempt.status.is_some_and(may_have_run) { AttemptOutcome::TimedOut } else { outcome };
    match owed(attempt.sent, ruled, usage.is_some(), attempt.price.is_some()) {
        Owed::Nothing(reason) => Err(reason),
        Owed::Bound(basis) => Ok(at_bound(basis)),
        Owed::Usage => {
            let tier = learned.service_tier.as_deref();
            let cost = |(price, usage): (&Arc<Price>, &Reported)| price.cost(&usage.usage, tier);
            match attempt.price.as_ref().zip(usage).map(cost) {
                Some(Ok(lines)) => Ok(Charge {
                    amount: lines.iter().map(|line| line.amount).sum(),
                    confidence: Confidence::Reported,
                    basis: Basis::Usage,
                    lines,
                }),
                // A meter without a price: never nothing where something was reserved.
                Some(Err(_)) | None => Ok(at_bound(Basis::Unpriced)),
            }
        }
    }
}

impl OpenRequest {
    pub(crate) fn head(&self, prices: &str) -> Head {
        Head::draft(self.world.now(), self.policy_version, prices)
    }

    pub(crate) fn lane(&self, topic: Topic) -> Lane {
        Lane::new(topic, self.partition)
    }

    /// Ends the attempt in flight: settles the book at once and adds the facts that say so.
    pub(crate) fn end_attempt(&mut self, outcome: AttemptOutcome, learned: &Learned, out: &mut Vec<Draft>) {
        let Some(attempt) = self.attempt.take() else { return };
        self.world.metrics.attempt_ended(outcome);
        let charged = charge(&attempt, outcome, learned);
        let amount = charged.as_ref().map_or(Money::ZERO, |charge| charge.amount);
        self.settled = self.settled.plus(amount);
        if let Some(lease) = attempt.lease
            && let Some(limits) = self.world.limits(self.partition)
        {
            self.given.extend(limits.settle(lease, attempt.reserved, amount));
        }
        let ended = AttemptEnded {
            head: self.head(""),
            about: About::clone(&self.about),
            attempt: attempt.number,
            provider: attempt.provider.clone(),
            model: attempt.model.clone(),
            served_model: learned.model.clone(),
            outcome,
            status: attempt.status.map(u32::from),
            provider_request: attempt.provider_request.clone(),
            finish_reason: learned.finish_reason.clone(),
            first_byte_us: attempt.first_byte.map(us),
            duration_us: us(attempt.started.elapsed()),
            answer_bytes: attempt.answer_bytes,
        };
        out.push(Draft { lane: self.lane(Topic::Routes), fact: ended.into() });
        let fact = match charged {
            Ok(charge) => self.settled_fact(attempt, charge, learned),
            Err(reason) => self.voided_fact(attempt, reason),
        };
        out.push(Draft { lane: self.lane(Topic::Spend), fact });
    }

    fn settled_fact(&self, attempt: Attempt, charge: Charge, learned: &Learned) -> Fact {
        let overrun = charge.amount.minus_or_zero(attempt.reserved);
        if overrun.is_positive() && attempt.lease.is_some() && attempt.hard {
            self.world.metrics.overruns.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                request = %self.about.request,
                provider = attempt.provider,
                model = attempt.model,
                reserved = %attempt.reserved,
                amount = %charge.amount,
                "a provider billed more than the upper bound"
            );
        }
        let version = attempt.price.as_ref().map_or("", |price| &price.version);
        Settled {
            head: self.head(version),
            about: About::clone(&self.about),
            attempt: attempt.number,
            provider: attempt.provider,
            model: attempt.model,
            accounts: attempt.accounts.to_vec(),
            lease: attempt.lease,
            reserved: attempt.reserved,
            amount: charge.amount,
            confidence: charge.confidence,
            basis: charge.basis,
            lines: charge.lines,
            usage: learned.usage.as_ref().and_then(|reported| reported.raw.clone()),
            overrun,
            reserved_by: None,
        }
        .into()
    }

    fn voided_fact(&self, attempt: Attempt, reason: VoidReason) -> Fact {
        Voided {
            head: self.head(""),
            about: About::clone(&self.about),
            attempt: attempt.number,
            accounts: attempt.accounts.to_vec(),
            lease: attempt.lease,
            reserved: attempt.reserved,
            reason,
            reserved_by: None,
        }
        .into()
    }

    /// Ends the request, with the attempt in flight if there is one. `first` are facts that belong before.
    pub(crate) fn close(
        &mut self,
        ending: Ending,
        outcome: AttemptOutcome,
        learned: &Learned,
        first: Vec<Draft>,
    ) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let mut drafts = first;
        self.end_attempt(outcome, learned, &mut drafts);
        self.world.metrics.ended(ending);
        let fact = RequestClosed {
            head: self.head(""),
            about: About::clone(&self.about),
            ending,
            status: u32::from(self.status),
            attempts: self.attempts,
            answer_bytes: self.answer_bytes,
            first_byte_us: self.first_byte.map(us),
            duration_us: us(self.started.elapsed()),
            settled: self.settled,
            opened_by: None,
        };
        drafts.push(Draft { lane: self.lane(Topic::Requests), fact: fact.into() });
        self.note(drafts);
        if let Some(capture) = self.capture.take() {
            capture.end(&self.about, self.policy_version);
        }
    }

    /// Writes facts of this request, unless it passed without any, and then what its attempts gave back.
    pub(crate) fn note(&mut self, drafts: Vec<Draft>) {
        if self.recorded {
            self.world.note(drafts);
        }
        let given = std::mem::take(&mut self.given);
        if !given.is_empty()
            && let Some(limits) = self.world.limits(self.partition)
        {
            self.world.give_back(limits, given);
        }
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.close(Ending::Abandoned, AttemptOutcome::Abandoned, &Learned::default(), Vec::new());
    }
}
