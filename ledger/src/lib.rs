//! The ledger: derives how every budget stands from `spend`, and says on `limits` who may spend how much.
//!
//! | Module | Holds |
//! |---|---|
//! | [`core`] | the state machine of one partition: inputs in, effects out |
//! | [`runner`] | a small asynchronous runner around it, over the two ports alone |
//! | [`books`], [`holders`], [`alerts`] | how accounts and shims stand and which alerts were raised, for people |
//! | [`reading`] | from where and in which order the three lanes are read |
//! | [`invariants`] | what holds at every moment, L1 to L5 |
//! | [`decode`] | a borrowed reading of the facts that make up nearly all of `spend` |
//!
//! A budget is kept hard by the fold of `limits` ([`bursar_schemas::fold`]), not by the ledger's good behaviour:
//! a confused ledger can refuse too much, it cannot grant too much; `PROOF.md` says why, step by step. One budget
//! tree, the organisation, lives in one partition of `spend` and `limits`. Any number of instances may run; each
//! keeps every partition, one acts in each, and which one is settled by epochs in the log.
//!
//! Invariant: in [`core`] nothing waits, and nothing reads a clock, draws randomness, performs IO or logs.
//! Invariant: the ledger keeps no state of its own; every start reads the log, and finds the same.

pub mod alerts;
pub mod books;
pub mod core;
pub mod decode;
pub mod holders;
pub mod invariants;
pub mod reading;
pub mod runner;
