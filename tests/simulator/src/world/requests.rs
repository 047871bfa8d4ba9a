//! Requests: from arrival over waiting and attempts to their end, each decision the production core's.

use bursar_gateway_shim::leases::GiveBack;
use bursar_gateway_shim::limits::{Denied, Drawn, LimitsCore, Patience, Step, request_facts, return_facts};
use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{Fact, LeaseId, Recovery, Reserved};
use bursar_schemas::ids::RequestId;
use bursar_schemas::money::Money;
use bursar_schemas::policy::Draw;
use jiff::tz::TimeZone;

use super::{Broken, Event, World};
use crate::marks::Mark;
use crate::plan::Try;
use crate::random::mix;
use crate::settings::{BUDGETS, PATHS};
use crate::truth::Given;

/// An attempt in flight.
#[derive(Debug, Clone)]
pub(super) struct Flight {
    pub lease: Option<LeaseId>,
    pub bound: i128,
    pub reserved: Reserved,
}

impl Flight {
    /// The accounts that a lease covers.
    pub(super) fn leased(&self) -> &[bursar_schemas::facts::AccountRef] {
        if self.lease.is_some() { &self.reserved.accounts } else { &[] }
    }
}

/// Where a request is.
#[derive(Debug, Clone)]
pub(super) enum State {
    /// It waits for a window of a blocking budget.
    Drawing,
    /// It waits for a lease.
    Waiting(Patience),
    /// An attempt is under way.
    InFlight(Box<Flight>),
    /// It is over.
    Over,
}

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub slot: usize,
    pub life: u32,
    pub id: RequestId,
    pub budgets: Vec<usize>,
    pub tries: Vec<Try>,
    pub attempt: usize,
    /// Accounting time, by the shim's clock.
    pub at: i64,
    /// When it began to wait, by the true clock.
    pub since: i64,
    deadline: i64,
    /// When it last left the queue without a lease.
    pub refused_at: i64,
    pub drawn: Option<Drawn>,
    pub state: State,
    looks: bool,
    waited: bool,
}

impl Request {
    pub(super) fn now(&self) -> &Try {
        &self.tries[self.attempt]
    }

    /// True when what the attempt reserves is an upper bound, and not only an estimate.
    pub(super) fn is_bound(&self) -> bool {
        self.drawn.as_ref().is_none_or(|drawn| drawn.hard)
    }

    /// What the provider charges for the attempt.
    pub(super) fn bill(&self) -> i128 {
        let permille = if self.is_bound() { self.now().permille } else { self.now().estimated };
        self.now().bound * i128::from(permille) / 1000
    }
}

impl World {
    /// A request arrives at a shim.
    pub(super) fn request(&mut self, slot: usize, path: usize, tries: Vec<Try>) -> Result<bool, Broken> {
        if !self.is_ready(slot) || self.shims[slot].draining {
            return Ok(false);
        }
        let index = self.requests.len();
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(index as u64).to_be_bytes());
        let (life, at) = (self.shims[slot].life, self.now + self.shims[slot].skew);
        let request = Request {
            slot,
            life,
            id: RequestId(id),
            budgets: PATHS[path].to_vec(),
            tries,
            attempt: 0,
            at,
            since: self.now,
            deadline: 0,
            refused_at: 0,
            drawn: None,
            state: State::Drawing,
            looks: false,
            waited: false,
        };
        if Self::accounts_at(&request.budgets, at) != Self::accounts_at(&request.budgets, self.now) {
            self.hit(Mark::Skewed);
        }
        self.requests.push(request);
        self.begin_wait(index, State::Drawing);
        self.look(index)
    }

    pub(super) fn begin_wait(&mut self, index: usize, state: State) {
        let wait = i64::try_from(self.settings.waits.lease.as_micros()).unwrap_or(i64::MAX);
        let request = &mut self.requests[index];
        (request.state, request.since, request.deadline) = (state, self.now, self.now + wait);
        request.waited = false;
        let (slot, at, attempt) = (request.slot, request.deadline, request.attempt as u32);
        if let Some(node) = &mut self.shims[slot].node {
            node.waiting.insert(index);
        }
        self.at(at, Event::Expire(index, attempt));
    }

    /// Something changed at a shim: its waiting requests look again, in any order.
    pub(super) fn notify(&mut self, slot: usize) {
        let Some(node) = &self.shims[slot].node else { return };
        for index in node.waiting.clone() {
            if !std::mem::replace(&mut self.requests[index].looks, true) {
                let after =
                    i64::try_from(self.chance(60, mix(index as u64, self.now as u64)) % 60).unwrap_or(0);
                self.at(self.now + after, Event::Look(index));
            }
        }
    }

    /// True when a request's shim runs; a paused one comes to it later.
    pub(super) fn shim_runs(&mut self, index: usize, event: Event) -> bool {
        let request = &self.requests[index];
        let place = &self.shims[request.slot];
        if place.life != request.life || place.node.is_none() {
            return false;
        }
        if place.paused_until > self.now {
            let until = place.paused_until;
            self.at(until, event);
            return false;
        }
        true
    }

    /// A request looks at the book.
    pub(super) fn look(&mut self, index: usize) -> Result<bool, Broken> {
        if !self.shim_runs(index, Event::Look(index)) {
            return Ok(false);
        }
        self.requests[index].looks = false;
        let request = &self.requests[index];
        let (slot, at, budgets) = (request.slot, request.at, request.budgets.clone());
        if matches!(request.state, State::Drawing) {
            let drawn = self.draw(slot, &budgets, at);
            if drawn.missing.is_some() {
                return Ok(true);
            }
            let blocks = drawn.blocks;
            self.check_path(slot, &budgets, at, &drawn)?;
            self.requests[index].drawn = Some(drawn);
            if !blocks {
                self.admit(index, None)?;
                return Ok(true);
            }
            self.begin_wait(index, State::Waiting(Patience::default()));
        }
        let request = &self.requests[index];
        let (State::Waiting(mut patience), Some(drawn)) = (request.state.clone(), request.drawn.clone())
        else {
            return Ok(false);
        };
        let (amount, now) = (Money::from_pico(request.now().bound), Micros(self.now + self.shims[slot].skew));
        let Some(node) = &mut self.shims[slot].node else { return Ok(false) };
        let step = node.core.look(&drawn.path, amount, now, &mut patience);
        let raises = node.core.take_raises();
        self.requests[index].state = State::Waiting(patience);
        self.raise_marks(slot, raises);
        match step {
            Step::Got(lease, ahead) => {
                if let Some(ask) = ahead {
                    self.hit(Mark::AskedAhead);
                    self.check_question(slot, &ask)?;
                    let head = self.shim_head(slot);
                    if !self.write(slot, request_facts(&head, &ask)) {
                        self.shim_core(slot, |core| core.unask(&ask));
                    }
                }
                self.admit(index, Some(lease))?;
            }
            Step::Deny(denied) => self.denied(index, &denied)?,
            Step::Wait(given, ask) => self.wait(index, slot, given, ask)?,
        }
        self.sync(slot)?;
        Ok(true)
    }

    fn draw(&mut self, slot: usize, budgets: &[usize], at: i64) -> Drawn {
        let newest = self.newest_version();
        if self.shims[slot].node.as_ref().is_some_and(|node| node.policy.version < newest) {
            self.hit(Mark::LaggingPolicy);
        }
        let Some(node) = &mut self.shims[slot].node else {
            let (path, missing) = (Vec::new().into(), Some(String::new()));
            return Drawn { path, blocks: true, hard: true, lower_cap: false, missing };
        };
        let of = |account: &str| node.budgets.iter().find(|it| account.split('/').next() == Some(&it.id));
        let utc = TimeZone::UTC;
        let draw = |number: &usize| {
            let account = BUDGETS[*number];
            let budget = of(account)?;
            Some(match account.split_once('/') {
                None => Draw::whole(budget),
                Some((_, member)) => Draw::member(budget, member, &utc),
            })
        };
        let draws: Vec<_> = budgets.iter().filter_map(draw).collect();
        if let Some(member) = draws.iter().find(|draw| draw.budget.each.is_some()) {
            node.member_recovers = member.budget.recovery == Recovery::Journal;
        }
        node.core.drawn(&draws, Micros(at))
    }

    fn wait(
        &mut self,
        index: usize,
        slot: usize,
        given: Vec<GiveBack>,
        ask: Option<bursar_gateway_shim::leases::Ask>,
    ) -> Result<(), Broken> {
        self.hit(Mark::Waited);
        self.requests[index].waited = true;
        self.note_returns(slot, &given);
        if !given.is_empty() {
            self.hit(Mark::Regrouped);
        }
        let Some(ask) = ask else {
            self.write_returns(slot, given);
            return Ok(());
        };
        self.hit(Mark::Asked);
        self.check_question(slot, &ask)?;
        let head = self.shim_head(slot);
        let mut facts: Vec<Fact> = given.iter().flat_map(|given| return_facts(&head, given)).collect();
        facts.extend(request_facts(&head, &ask));
        if !self.write(slot, facts) {
            self.shim_core(slot, |core: &mut LimitsCore| {
                core.unsent(given);
                core.unask(&ask);
            });
            self.denied(index, &Denied::Spool)?;
        }
        Ok(())
    }

    /// Returns that the production book made: the truth remembers what really went back.
    pub(super) fn note_returns(&mut self, slot: usize, given: &[GiveBack]) {
        for it in given {
            self.note(|| {
                format!("shim {slot} returns {} of {} no {}", it.amount, it.lease.number, it.number)
            });
            if it.mark.is_some() {
                self.hit(Mark::ReturnMarked);
            }
            let (number, amount) = (it.number, it.amount.pico());
            self.truth.change(it.lease, self.now, |lease| {
                if !lease.has_returned(number, amount) {
                    lease.returns.push(Given { number, amount, used: lease.used() });
                }
            });
        }
    }

    pub(super) fn leave_queue(&mut self, index: usize) {
        let slot = self.requests[index].slot;
        if let Some(node) = &mut self.shims[slot].node {
            node.waiting.remove(&index);
        }
    }

    fn denied(&mut self, index: usize, denied: &Denied) -> Result<(), Broken> {
        self.leave_queue(index);
        self.requests[index].state = State::Over;
        self.requests[index].refused_at = self.now;
        let mark = match denied {
            Denied::Budget(denial) if denial.in_flight => Mark::DeniedInFlight,
            Denied::Budget(_) => Mark::DeniedSpent,
            Denied::Unavailable("the ledger is silent") => Mark::DeniedSilent,
            Denied::Unavailable("no lease came in time") => Mark::DeniedTimeout,
            Denied::Unavailable(_) => Mark::DeniedWindow,
            Denied::Crowded | Denied::Spool => return Ok(()),
        };
        self.hit(mark);
        self.note(|| format!("request {index} is refused: {denied:?}"));
        let request = &self.requests[index];
        let (budgets, at, since, bound) =
            (request.budgets.clone(), request.at, request.since, request.now().bound);
        let rivals = self.rivals(index);
        self.judge_refusal(&budgets, at, since, bound + rivals, denied)
    }

    /// A request's patience is at its end.
    pub(super) fn expire(&mut self, index: usize, attempt: u32) -> Result<bool, Broken> {
        if self.requests[index].attempt as u32 != attempt || self.requests[index].deadline > self.now {
            return Ok(false);
        }
        if !self.shim_runs(index, Event::Expire(index, attempt)) {
            return Ok(false);
        }
        let request = &self.requests[index];
        let denied = match (&request.state, &request.drawn) {
            (State::Waiting(_), Some(drawn)) => {
                let (path, amount) = (drawn.path.clone(), Money::from_pico(request.now().bound));
                let now = Micros(self.now + self.shims[request.slot].skew);
                let Some(node) = &self.shims[request.slot].node else { return Ok(false) };
                node.core.late(&path, amount, now)
            }
            (State::Drawing | State::Waiting(_), _) => Denied::Unavailable("a window is not open"),
            (State::InFlight(_) | State::Over, _) => return Ok(false),
        };
        self.denied(index, &denied)?;
        Ok(true)
    }
}
