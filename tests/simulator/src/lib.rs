//! A seeded, deterministic simulator of hard budgets: the production state machines on a virtual clock.
//!
//! | Part | Is |
//! |---|---|
//! | [`plan`] | what comes from outside: requests, faults, changes of policy, all fixed before the world begins |
//! | [`world`] | the clock, the queue and the processes; one event is one step |
//! | [`broker`] | a model broker: delays and repeats, never reorders within one writer's lane |
//! | [`rules`], [`naive`] | the rules of `limits` and the books of `spend` a second time, sharing no code |
//! | [`truth`] | what providers really charged, and what each lease may still cost |
//! | [`marks`] | how often each fault and branch really happened |
//! | [`mutants`] | deliberate faults of production code, each to be caught |
//! | [`campaign`], [`shrink`] | many worlds; a failing one made short |
//!
//! What runs is production code: `bursar_schemas::fold`, `bursar_ledger::core` with its reading order, the shim's
//! `limits::LimitsCore` with its lease book, and the rule of what an attempt is charged. What is simulated is what
//! they are fed by: clocks, processes, disks, the broker and providers.
//!
//! A seed decides everything. Delays follow from names and not from a stream, so that leaving an event out of a plan
//! leaves the rest of the world much as it was; that is how a failing plan is shortened.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    missing_debug_implementations,
    reason = "a test tool: its own counts are small, and a wrong one shows as a violation"
)]

pub mod broker;
pub mod calendar;
pub mod campaign;
pub mod marks;
pub mod mutants;
pub mod naive;
pub mod plan;
pub mod random;
pub mod rules;
pub mod settings;
pub mod shrink;
pub mod truth;
pub mod world;
