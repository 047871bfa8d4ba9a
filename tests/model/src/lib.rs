//! A small world of hard budgets, checked exhaustively: every order of events, without a bound on depth.
//!
//! Two ledgers take over from each other, crash, and leave records under way that arrive at any later time; two shims
//! ask, learn of grants late, spend, give back and crash; one of two days' windows closes, beside a long one
//! that holds both. What a record does is said by the production fold of `limits`; ledgers and shims are small
//! abstractions that follow the protocol.
//!
//! | Part | Is |
//! |---|---|
//! | [`state`] | what there is at a moment, and the part of it that tells moments apart |
//! | [`log`] | records of `limits`: how they are written, arrive, and come again |
//! | [`act`] | what may happen next, and what it does |
//!
//! What keeps it finite, none of it a bound on depth: [`Bounds`]; amounts of a few units; a record that does not count
//! leaves nothing behind; and a state's identity is what can matter from here on, not the offsets and numbers by which
//! it came about. Repetition needs no event of its own: whenever a record arrives, it and all that some ledger has yet
//! to read are applied again, and must change nothing.
#![allow(
    clippy::missing_panics_doc,
    clippy::indexing_slicing,
    reason = "a model of fixed, small sizes; a wrong index shows at once"
)]

pub mod act;
pub mod log;
pub mod state;

pub use act::Action;
pub use state::State;

use stateright::{Model, Property};

/// How much may happen.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Requests for leases.
    pub asks: usize,
    /// Epochs, with the first.
    pub epochs: usize,
    /// Crashes of ledgers.
    pub ledger_crashes: u8,
    /// Crashes of shims.
    pub shim_crashes: u8,
    /// Records that a ledger has written and not read back.
    pub pending: usize,
    /// Units of each day's limit.
    pub day: u8,
    /// Units of the long window's limit.
    pub long: u8,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { asks: 3, epochs: 3, ledger_crashes: 1, shim_crashes: 1, pending: 2, day: 2, long: 3 }
    }
}

/// A deliberate fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The fold takes records of any epoch.
    NoEpochCheck,
    /// A shim uses leases that were granted to its predecessor.
    SuccessorUsesGrant,
    /// A shim gives money back and goes on using it.
    ReturnNotSubtracted,
    /// A ledger decides without its own grants that it has not read back.
    DebitForgotten,
    /// A new ledger reads `spend` on from where its predecessor was, not from what is unanswered.
    ResumesAtOffset,
    /// A grant that is void is never decided again.
    VoidAnswers,
}

/// The model: a world, and a fault in it or none.
#[derive(Debug, Clone, Copy, Default)]
pub struct World {
    /// How much may happen.
    pub bounds: Bounds,
    /// What is wrong on purpose.
    pub fault: Option<Fault>,
}

impl World {
    /// True when that fault is in the world.
    #[must_use]
    pub fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }
}

/// No account is billed above its limit.
pub const BILLED: &str = "no account is billed above its limit";
/// What may yet be billed is committed.
pub const EXPOSED: &str = "what may yet be billed is committed";
/// What the acting ledger writes is never void.
pub const NEVER_VOID: &str = "what a ledger writes under the latest epoch is never void";
/// What comes again or does not count changes nothing.
pub const UNCHANGED: &str = "what comes again or is void changes nothing";
/// A ledger that acts and has read everything forgets no request.
pub const ANSWERED: &str = "no request is forgotten";
/// No request is granted or refused twice.
pub const ONCE: &str = "no request is answered twice";

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        state.actions(self, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        next.act(self, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(BILLED, |world: &Self, state: &State| {
                let bounds = &world.bounds;
                state.billed.iter().all(|day| *day <= bounds.day)
                    && state.billed.iter().sum::<u8>() <= bounds.long
            }),
            Property::always(EXPOSED, |_, state: &State| state.exposure_is_committed()),
            Property::always(NEVER_VOID, |_, state: &State| state.broken != Some(NEVER_VOID)),
            Property::always(UNCHANGED, |_, state: &State| state.broken != Some(UNCHANGED)),
            Property::always(ONCE, |_, state: &State| state.broken != Some(ONCE)),
            Property::always(ANSWERED, |_, state: &State| state.forgets_nothing()),
            Property::sometimes("every request is granted", |world: &Self, state: &State| {
                state.asks.len() == world.bounds.asks
                    && (0..world.bounds.asks).all(|ask| state.granted(ask).is_some())
            }),
            Property::sometimes("both days are billed", |_, state: &State| {
                state.billed.iter().all(|day| *day > 0)
            }),
            Property::sometimes("the long window is billed to its limit", |world: &Self, state: &State| {
                state.billed.iter().sum::<u8>() == world.bounds.long
            }),
            Property::sometimes("a crashed ledger's records are under way", |_, state: &State| {
                !state.zombies.is_empty()
            }),
            Property::sometimes("a grant counts for a shim that is gone", |_, state: &State| {
                state.asks.iter().enumerate().any(|(index, ask)| {
                    state.granted(index).is_some() && ask.incarnation < state.shims[ask.shim]
                })
            }),
        ]
    }
}
