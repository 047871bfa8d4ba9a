//! The ledger of one partition as a pure state machine: inputs in, effects out.
//!
//! | Part | Holds |
//! |---|---|
//! | `follow` | what the log of `limits` says: the fold, epochs, and answers read back |
//! | `spend` | what `spend` says: numbers and certificates, reservations, settlements, lease messages |
//! | `plan`, `upkeep` | limits and windows that policy wants |
//! | `decide`, `recall`, `reclaim`, `recover` | grants, refusals, revocations, credits |
//! | `members` | accounts of members, opened on demand |
//! | `saved` | all of it as a snapshot |
//! | `alerts`, `deliveries` | what people are told of a budget that nears or passes its limit, and what became of it |
//! | `holders` | who holds leases, for people |
//! | `balance` | statements of how accounts stand, and the heartbeat |
//!
//! Invariant: no clock, randomness, IO or log; the same inputs give the same effects.
//! Invariant: what counts is read back. A decision changes nothing here but a note that it is pending, and a
//! debit that keeps the ledger from granting the same money again while its own record is under way.

mod accounts;
mod alerts;
mod attempts;
mod balance;
mod books;
mod decide;
mod deliveries;
mod desk;
mod follow;
mod hash;
mod holders;
mod leases;
mod members;
mod plan;
mod producers;
mod recall;
mod reclaim;
mod recover;
mod saved;
mod spend;
mod terms;
mod upkeep;

pub use deliveries::Told;
pub use saved::Places;
pub use terms::{Config, Effect, Halt, Input, Standing, Timing};

use std::collections::{BTreeMap, BTreeSet};

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{AccountRef, EpochMarked, Fact, Finding, FindingKind, Head, LeaseId, Mode};
use bursar_schemas::fold::Fold;
use bursar_schemas::ids::ProducerId;
use bursar_schemas::money::Money;
use bursar_schemas::policy::PolicyState;
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::window::Span;

use accounts::Accounts;
use attempts::Attempts;
use desk::{Desk, Pending};
use leases::Leases;
use plan::Plan;
use producers::Producers;
use recover::Marks;

/// Findings kept while another ledger acts, to be recorded if it did not.
const FINDINGS: usize = 1024;

/// The ledger of one partition.
#[derive(Debug)]
pub struct Core {
    config: Config,
    now: Micros,
    spread: u16,
    standing: Standing,
    /// Since when it acts and has not paused: before that it may have missed what others said.
    listening_since: Micros,
    /// Last sign of life under the current epoch.
    heard_at: Micros,
    /// How long a standby waits after it.
    patience: i64,
    /// Claims lost in a row.
    lost: i64,
    fold: Fold,
    policy: PolicyState,
    policy_changed: bool,
    plan: Plan,
    /// Budgets that the log has a limit of, and each budget's newest window.
    logged: BTreeSet<String>,
    newest: BTreeMap<String, (i64, Span)>,
    /// How many members of a budget the log has a limit of.
    members: BTreeMap<String, usize>,
    producers: Producers,
    accounts: Accounts,
    attempts: Attempts,
    leases: Leases,
    marks: Marks,
    desk: Desk,
    pending: BTreeSet<Pending>,
    pending_grants: BTreeMap<LeaseId, (Vec<AccountRef>, Money)>,
    pending_limits: BTreeMap<String, (Money, Mode)>,
    /// One above the last offset of `spend` taken.
    read: u64,
    /// Findings below this offset were recorded by an earlier or another ledger.
    told: u64,
    findings: Vec<Finding>,
    /// Findings beyond those: first and last offset, and how many.
    unkept: Option<(u64, u64, u64)>,
    unreadable_run: bool,
    appended_at: Micros,
    /// A finding was recorded: the log should say soon how far `spend` was read, or a restart finds it again.
    beats_now: bool,
    heartbeat_of: Option<AccountRef>,
    allowance: balance::Allowance,
    alerts: deliveries::Alerts,
    /// Budgets whose limit changed, and when all accounts were looked at for alerts.
    alerts_due: BTreeSet<String>,
    alerts_looked_at: Option<Micros>,
}

/// True when the log has answered a question for a lease, or never will. What `spend` says of one may be read before that.
fn was_decided(fold: &Fold, lease: &LeaseId) -> bool {
    fold.is_used_up(lease) || fold.lease(lease).is_some() || fold.has_ended(&lease.holder)
}

/// True as long as what `spend` says of a lease may count for something.
fn is_of_use(fold: &Fold, lease: &LeaseId) -> bool {
    fold.lease(lease).is_some() || !was_decided(fold, lease)
}

impl Core {
    /// A ledger that has read nothing.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let lane = Lane::new(Topic::Spend, config.partition);
        let producers = Producers::new(lane, config.deployment_key);
        Self {
            now: Micros(0),
            spread: 0,
            standing: Standing::CatchingUp,
            listening_since: Micros(0),
            heard_at: Micros(0),
            patience: config.timing.takeover_after,
            lost: 0,
            fold: Fold::default(),
            policy: PolicyState::default(),
            policy_changed: false,
            plan: Plan::default(),
            logged: BTreeSet::new(),
            newest: BTreeMap::new(),
            members: BTreeMap::new(),
            producers,
            accounts: Accounts::default(),
            attempts: Attempts::default(),
            leases: Leases::default(),
            marks: Marks::default(),
            desk: Desk::default(),
            pending: BTreeSet::new(),
            pending_grants: BTreeMap::new(),
            pending_limits: BTreeMap::new(),
            read: 0,
            told: 0,
            findings: Vec::new(),
            unkept: None,
            unreadable_run: false,
            appended_at: Micros(0),
            beats_now: false,
            heartbeat_of: None,
            allowance: balance::Allowance::default(),
            alerts: deliveries::Alerts::default(),
            alerts_due: BTreeSet::new(),
            alerts_looked_at: None,
            config,
        }
    }

    /// Takes an input and appends what is to be done, in order.
    ///
    /// # Errors
    /// When the ledger must stop; it must not be used after that.
    pub fn apply(&mut self, input: Input<'_>, out: &mut Vec<Effect>) -> Result<(), Halt> {
        match input {
            Input::Limits { offset, fact } => self.follow(offset, fact, out)?,
            Input::Spend { offset, value } => self.spend(offset, value, out)?,
            Input::SpendLost { first, last } => {
                let detail = "not held any more: settled and reserved miss what these records said";
                self.find(out, FindingKind::Lost, last, None, (first, last), detail);
                self.marks.doubt_all();
                self.read = self.read.max(last.saturating_add(1));
            }
            Input::Policy(fact) => {
                if matches!(fact, Fact::PolicyPublished(_)) {
                    self.plan.remember(&self.policy, (self.config.partition, self.config.partitions));
                }
                self.policy.apply(fact);
                self.policy_changed = true;
            }
            Input::Told(told) => self.tell_of_delivery(told, out),
            Input::Ready => {
                let fold = &self.fold;
                self.leases.sweep(|lease| is_of_use(fold, lease));
                self.sweep_marks();
                self.claim(out);
            }
            Input::Pause { now } => {
                self.pass_to(now);
                self.act(false, out);
            }
            Input::Tick { now, spread } => {
                self.pass_to(now);
                self.spread = spread.min(1000);
                self.watch(out);
                self.act(true, out);
            }
        }
        Ok(())
    }

    /// Appends a marker that supersedes the latest epoch.
    fn claim(&mut self, out: &mut Vec<Effect>) {
        self.standing = Standing::Claiming { since: self.now };
        let instance = self.config.instance;
        let marker = EpochMarked { head: self.head(), instance, supersedes: self.fold.epoch() };
        out.push(Effect::Append(marker.into()));
    }

    /// Claims when nobody acts, or when the own marker got lost.
    fn watch(&mut self, out: &mut Vec<Effect>) {
        let since = match self.standing {
            Standing::Claiming { since } => since,
            Standing::Standby => self.heard_at,
            Standing::CatchingUp | Standing::Acting { .. } => return,
        };
        if self.now.0.saturating_sub(since.0) >= self.patience {
            self.claim(out);
        }
    }

    /// Another ledger acts: follows it, and forgets what it had decided itself.
    fn stand_by(&mut self, out: &mut Vec<Effect>) {
        self.standing = Standing::Standby;
        self.heard_at = self.now;
        self.lost = (self.lost + 1).min(8);
        let after = self.config.timing.takeover_after;
        let more = after.saturating_mul(self.lost).saturating_mul(i64::from(self.spread)) / 1000;
        self.patience = after.saturating_add(more);
        self.drop_pending();
        out.push(Effect::Superseded);
    }

    fn drop_pending(&mut self) {
        self.pending.clear();
        self.pending_limits.clear();
        for (accounts, _) in std::mem::take(&mut self.pending_grants).into_values() {
            for account in &accounts {
                self.accounts.slot_of(account).pending = Money::ZERO;
            }
        }
    }

    /// Decides everything that can be decided now.
    fn act(&mut self, ticked: bool, out: &mut Vec<Effect>) {
        if self.standing == Standing::CatchingUp {
            return;
        }
        if self.policy_changed || self.plan.has_expiry(self.now) {
            let partition = (self.config.partition, self.config.partitions);
            if self.policy_changed {
                self.plan.follow(&self.policy, &self.logged, partition, self.now);
            }
            self.plan.expire(&self.policy, self.now);
        }
        // So it is when the ledger begins to act: what a predecessor left out is told then.
        if self.policy_changed {
            self.alerts_looked_at = None;
        }
        if let Standing::Acting { epoch } = self.standing {
            self.set_limits(epoch, out);
            if ticked || self.policy_changed {
                self.move_windows(epoch, out);
                self.reclaim(epoch, out);
                self.end_retired();
            }
            self.open_members(epoch, out);
            self.answer_ends(epoch, out);
            self.answer_returns(epoch, out);
            self.recover(epoch, out);
            self.answer_requests(epoch, out);
            self.state_balances(epoch, out);
            self.look_for_alerts(epoch, out);
            self.beat(epoch, out);
        }
        self.accounts.fresh.clear();
        self.policy_changed = false;
    }

    fn head(&self) -> Head {
        Head::draft(self.now, self.policy.version, "")
    }

    fn append(&mut self, pending: Pending, fact: impl Into<Fact>, out: &mut Vec<Effect>) {
        self.pending.insert(pending);
        self.appended_at = self.now;
        out.push(Effect::Append(fact.into()));
    }

    /// Records a fault of `spend`, or keeps it while another ledger acts.
    fn find(
        &mut self,
        out: &mut Vec<Effect>,
        kind: FindingKind,
        offset: u64,
        subject: Option<ProducerId>,
        (first, last): (u64, u64),
        detail: &str,
    ) {
        if offset < self.told {
            return;
        }
        let finding = Finding {
            head: self.head(),
            kind,
            topic: Topic::Spend.name().to_owned(),
            partition: self.config.partition,
            offset,
            subject,
            first,
            last,
            detail: detail.to_owned(),
        };
        if matches!(self.standing, Standing::Acting { .. }) {
            self.beats_now = true;
            out.push(Effect::Find(finding));
        } else if self.findings.len() < FINDINGS {
            self.findings.push(finding);
        } else {
            let (first, _, count) = self.unkept.unwrap_or((offset, offset, 0));
            self.unkept = Some((first, offset, count + 1));
        }
    }

    /// What the ledger is at the moment.
    #[must_use]
    pub const fn standing(&self) -> Standing {
        self.standing
    }

    /// The fold of `limits` so far.
    #[must_use]
    pub const fn fold(&self) -> &Fold {
        &self.fold
    }

    /// One above the last offset of `spend` taken.
    #[must_use]
    pub const fn read(&self) -> u64 {
        self.read
    }

    /// How many decisions were appended and are not read back yet.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.pending.len().max(self.pending_grants.len()).max(self.pending_limits.len())
    }

    /// How many reservations are open, and how many requests for leases wait for an answer.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        (self.attempts.count(), self.desk.requests.len())
    }
}
