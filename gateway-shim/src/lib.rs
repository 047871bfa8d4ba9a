//! The gateway shim: a thin proxy that admits, forwards and records.
//!
//! | Module | Does | Decides without IO |
//! |---|---|---|
//! | [`inspect`], [`splice`] | reads a body once, rewrites it by spans | yes |
//! | [`bound`] | the upper bound of an attempt's cost | yes |
//! | [`leases`] | what this incarnation may spend without asking | yes |
//! | [`owed`] | what an attempt is charged for | yes |
//! | [`scan`], [`usage`] | reads an answer while it passes | yes |
//! | [`limits`] | follows `limits`, admits under leases | its core |
//! | `gate`, `proxy`, `open`, `answer` | a request's way: whose key, which target, attempts, the one closing fact | |
//! | `server` | listens, follows `policy`, shuts down | |
//!
//! Invariant: before a provider is called its reservation is on the record, and under a hard budget covered by
//! a lease. Every request that was opened is closed exactly once, also when the client leaves.
//! Invariant: no prompt, answer or provider key enters a fact, a log line, a metric or an error.

mod answer;
pub mod bound;
mod config;
mod content;
mod gate;
pub mod inspect;
pub mod leases;
pub mod limits;
mod open;
pub mod owed;
mod proxy;
mod refusal;
pub mod scan;
mod server;
pub mod splice;
mod telemetry;
mod tls;
mod upstream;
pub mod usage;
mod world;

pub use config::{Clock, LeaseSizing, OnSpoolFull, Random, Secret, SecretError, Secrets, ShimConfig};
pub use content::{Capturing, Content, ContentSink};
pub use server::{Handles, POLICY_SNAPSHOT, Readiness, RunningShim, Shim, StartError};
pub use tls::{Authorities, TlsError};
