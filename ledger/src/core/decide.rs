//! Answers: grants and refusals, credits and closes, ends of incarnations.

use bursar_schemas::facts::{
    AccountRef, CreditReason, IncarnationEnded, LeaseClosed, LeaseCredited, LeaseGranted, LeaseId,
    LeaseRefusal, LeaseRefused, Mode, Phase,
};
use bursar_schemas::fold::Void;
use bursar_schemas::money::Money;

use super::desk::{Pending, Request, Return};
use super::recall::Claims;
use super::{Core, Effect, was_decided};

/// A request that does not fit waits this part of the time for recalled money before it is refused: what holders have
/// done is known here a moment later, and not in their order.
const LAG: i64 = 5;

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// The amount is granted.
    Grant(Money),
    /// It is refused, on behalf of an account where one is to blame.
    Refuse(LeaseRefusal, Option<AccountRef>),
    /// What it needs is under way in the log already.
    Later,
    /// It would fit if these leases were recalled, or those that already were come back.
    Recall(Vec<LeaseId>, AccountRef),
    /// It does not fit into what this ledger knows of, which lags behind what holders have done.
    InFlight(AccountRef),
}

impl Core {
    /// Answers the requests for leases in their order in `spend`. What one of them waits for is not granted to a later
    /// one.
    pub(super) fn answer_requests(&mut self, epoch: u64, out: &mut Vec<Effect>) {
        let requests = std::mem::take(&mut self.desk.requests);
        let (mut kept, mut claims) = (requests, Claims::default());
        for (cause, request) in &mut kept {
            if self.pending.contains(&Pending::Answer(request.lease)) {
                continue;
            }
            self.open_accounts_of(epoch, &request.accounts, out);
            match self.decide(request, &claims) {
                Decision::Grant(amount) => self.grant(epoch, *cause, request, amount, out),
                Decision::Refuse(reason, account) => {
                    self.refuse(epoch, *cause, request, reason, account, out);
                }
                Decision::Later => {}
                Decision::Recall(leases, account) => {
                    let wait = self.config.timing.recall_wait;
                    if self.has_waited(request, wait) {
                        self.refuse(epoch, *cause, request, LeaseRefusal::InFlight, Some(account), out);
                    } else {
                        leases.into_iter().for_each(|lease| self.revoke(epoch, lease, out));
                        claims.add(&request.accounts, request.minimum);
                    }
                }
                Decision::InFlight(account) => {
                    let wait = self.config.timing.recall_wait / LAG;
                    if self.has_waited(request, wait) {
                        self.refuse(epoch, *cause, request, LeaseRefusal::InFlight, Some(account), out);
                    }
                }
            }
        }
        self.desk.requests = kept;
    }

    /// True when a request has waited that long since it first had to.
    fn has_waited(&self, request: &mut Request, wait: i64) -> bool {
        let since = *request.waits_since.get_or_insert(self.now);
        self.now.0.saturating_sub(since.0) >= wait
    }

    fn decide(&self, request: &Request, claims: &Claims) -> Decision {
        if let Some(decision) = self.unfit(request) {
            return decision;
        }
        let blocking = |account: &&AccountRef| self.blocks(&account.budget);
        let free = |account: &AccountRef| self.available(account).minus(claims.on(account));
        let Some(free) = request.accounts.iter().filter(blocking).map(free).min() else {
            return Decision::Grant(request.wanted);
        };
        if free < request.minimum {
            let blocking: Vec<&AccountRef> = request.accounts.iter().filter(blocking).collect();
            return self.short(request, &blocking, claims);
        }
        let since = bursar_schemas::avro::Micros(self.now.0.saturating_sub(self.config.timing.active_for));
        let active = i128::try_from(self.producers.active_since(since)).unwrap_or(1).max(1);
        let share = Money::from_pico(free.pico() / (2 * active));
        Decision::Grant(request.wanted.min(share.max(request.minimum)))
    }

    /// What is wrong with a request whatever money there is.
    fn unfit(&self, request: &Request) -> Option<Decision> {
        if self.pending.contains(&Pending::End(request.lease.holder)) {
            // Once that is read back nobody waits for an answer.
            return Some(Decision::Later);
        }
        match self.fold.check_grant(&request.lease, &request.accounts, request.minimum) {
            Err(Void::HolderEnded) => {
                return Some(Decision::Refuse(LeaseRefusal::HolderEnded, None));
            }
            Err(Void::NoAmount | Void::Path | Void::AnsweredBefore) => {
                return Some(Decision::Refuse(LeaseRefusal::Malformed, None));
            }
            // Every window is open and limited, unless one is about to move.
            Ok(()) if !self.moves_windows() => return None,
            // Windows and limits are looked at below, with what is pending.
            _ => {}
        }
        for account in &request.accounts {
            let moving = |phase| self.pending.contains(&Pending::Window(account.clone(), phase));
            let opening = moving(Phase::Open);
            let setting = self.is_setting(&account.budget);
            let (limited, open) = (
                self.fold.budget(&account.budget).is_some(),
                // Its own move is ahead of the grant in the log: the grant would be void.
                self.fold.account(account).is_some_and(|state| state.phase == Phase::Open)
                    && !moving(Phase::Draining)
                    && !moving(Phase::Closed),
            );
            if (!limited && setting) || (!open && opening) {
                return Some(Decision::Later);
            }
            let reason = match (limited, open) {
                (true, true) => continue,
                (false, _) => LeaseRefusal::UnknownBudget,
                (true, false) => LeaseRefusal::WindowNotOpen,
            };
            return Some(Decision::Refuse(reason, Some(account.clone())));
        }
        None
    }

    /// True when a window's move is appended and not read back.
    fn moves_windows(&self) -> bool {
        let first = AccountRef { budget: String::new(), window: i64::MIN };
        let from = Pending::Window(first, Phase::ALL[0]);
        self.pending.range(from..).next().is_some_and(|pending| matches!(pending, Pending::Window(..)))
    }

    /// The limit to decide by: a lower one that is under way binds already, a higher one not yet.
    pub(super) fn limit(&self, account: &AccountRef) -> Money {
        let limit = self.fold.limit(account);
        self.pending_limits.get(&account.budget).map_or(limit, |(pending, _)| limit.min(*pending))
    }

    /// True when a budget must not be overspent; a mode that says so and is under way binds already.
    fn blocks(&self, budget: &str) -> bool {
        let blocks = |mode: Mode| matches!(mode, Mode::Hard | Mode::Bounded);
        blocks(self.fold.mode(budget))
            || self.pending_limits.get(budget).is_some_and(|(_, mode)| blocks(*mode))
    }

    /// True when a window is closed, or its closing is under way.
    pub(super) fn is_closing(&self, account: &AccountRef) -> bool {
        self.fold.account(account).is_none_or(|state| state.phase == Phase::Closed)
            || self.pending.contains(&Pending::Window(account.clone(), Phase::Closed))
    }

    /// True while a limit of a budget on the path is under way: what credits its mode allows is known once that is read back.
    pub(super) fn is_changing(&self, path: &[AccountRef]) -> bool {
        path.iter().any(|account| self.is_setting(&account.budget))
    }

    /// True while a limit of the budget is under way.
    pub(super) fn is_setting(&self, budget: &str) -> bool {
        self.pending.contains(&Pending::Limit(budget.to_owned()))
    }

    /// What may still be granted over an account.
    pub(super) fn available(&self, account: &AccountRef) -> Money {
        let committed = self.fold.committed(account);
        let slot = self.accounts.find(account);
        let (pending, beside) = slot.map_or((Money::ZERO, Money::ZERO), |slot| (slot.pending, slot.beside()));
        self.limit(account).minus(committed).minus(pending).minus(beside.max(Money::ZERO))
    }

    fn grant(&mut self, epoch: u64, cause: u64, request: &Request, amount: Money, out: &mut Vec<Effect>) {
        for account in &request.accounts {
            let slot = self.accounts.slot_of(account);
            slot.pending = slot.pending.plus(amount);
        }
        self.pending_grants.insert(request.lease, (request.accounts.clone(), amount));
        let grant = LeaseGranted {
            head: self.head(),
            epoch,
            lease: request.lease,
            accounts: request.accounts.clone(),
            amount,
            cause,
            read: self.read,
        };
        self.append(Pending::Answer(request.lease), grant, out);
    }

    fn refuse(
        &mut self,
        epoch: u64,
        cause: u64,
        request: &Request,
        reason: LeaseRefusal,
        account: Option<AccountRef>,
        out: &mut Vec<Effect>,
    ) {
        let (head, lease, read) = (self.head(), request.lease, self.read);
        let refused = LeaseRefused { head, epoch, lease, reason, account, cause, read };
        self.append(Pending::Answer(lease), refused, out);
    }

    /// Credits what holders returned, to each account that may take it, and closes what is over.
    pub(super) fn answer_returns(&mut self, epoch: u64, out: &mut Vec<Effect>) {
        let returns: Vec<((LeaseId, u64), Return)> =
            self.desk.returns.iter().map(|(key, entry)| (*key, *entry)).collect();
        for ((lease, number), entry) in returns {
            let closes = self.pending.contains(&Pending::Close(lease));
            if closes || self.is_being_reclaimed(lease) || self.fills_up(lease) {
                // How much fits beside it is known once that is read back.
                continue;
            }
            let Some(state) = self.fold.lease(&lease) else {
                // Its grant, by whichever ledger, is not read yet, when `limits` lags behind `spend`; or it is over, and there is
                // nothing to credit.
                if was_decided(&self.fold, &lease) {
                    self.desk.returns.remove(&(lease, number));
                }
                continue;
            };
            if state.accounts.iter().all(|account| self.is_closing(account)) {
                self.desk.returns.remove(&(lease, number));
                continue;
            }
            // What a time-out has credited already does not come back twice: an account that got it gets no more than what is
            // not used, whatever its budget promises by now.
            let fits = |account: &AccountRef| {
                let before = state.credited.get(account).copied().unwrap_or(Money::ZERO);
                let reclaimed = self.desk.was_reclaimed(&lease, account);
                let used = if reclaimed { self.leases.used(&lease).all() } else { Money::ZERO };
                before.plus(entry.amount).plus(used) <= state.amount
            };
            let may_credit = |account: &&AccountRef| {
                self.fold.may_credit(account, CreditReason::Returned)
                    && !self.is_closing(account)
                    && fits(account)
            };
            let accounts: Vec<AccountRef> = state.accounts.iter().filter(may_credit).cloned().collect();
            let due = entry.amount.is_positive() && !accounts.is_empty();
            let pending = Pending::Credit(lease, number);
            if due && !self.desk.is_resolved(lease, number) && !self.pending.contains(&pending) {
                let credit = LeaseCredited {
                    head: self.head(),
                    epoch,
                    lease,
                    number,
                    amount: entry.amount,
                    accounts,
                    reason: CreditReason::Returned,
                    cause: Some(entry.offset),
                    read: self.read,
                };
                self.append(pending, credit, out);
            }
            if entry.last {
                let closed = LeaseClosed { head: self.head(), epoch, lease };
                self.append(Pending::Close(lease), closed, out);
            } else if !due {
                self.desk.returns.remove(&(lease, number));
            }
        }
    }

    /// Ends incarnations that are said to have ended.
    pub(super) fn answer_ends(&mut self, epoch: u64, out: &mut Vec<Effect>) {
        let ends: Vec<_> = self.desk.ends.iter().map(|(incarnation, cause)| (*incarnation, *cause)).collect();
        for (incarnation, cause) in ends {
            let pending = Pending::End(incarnation);
            if !self.pending.contains(&pending) {
                let (head, read) = (self.head(), self.read);
                let ended = IncarnationEnded { head, epoch, incarnation, cause, read };
                self.append(pending, ended, out);
            }
        }
    }
}
