//! Tools of the demo and the tests, never part of a deployment: a stand-in for a model provider that keeps
//! its own bill, a real trace of requests, and a client that replays it.
//!
//! The crate depends on no other crate of the workspace, so its bill is an independent oracle: whatever the
//! ledger says was spent can be compared with what the "provider" charged.

pub mod provider;
pub mod replay;
mod seed;
pub mod trace;
