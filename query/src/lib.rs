//! SQL and chargeback over the archive and its unsealed tail.
//!
//! | Module | Holds |
//! |---|---|
//! | [`service`] | [`QueryService`]: one statement in, one answer out |
//! | `catalog`, `footer` | which sealed segments there are, chain by chain |
//! | `tail`, `lanes`, `feed` | the unsealed rows, joined to the sealed ones exactly once |
//! | `table`, `session`, `functions` | what the engine sees, and all that it may reach |
//! | [`statement`] | which statements may be run |
//! | [`views`] | views, and the documentation of every column |
//! | [`chargeback`] | statements of account, with what their totals do not hold |
//! | `holds` | whether a legal hold speaks of a range of records |
//! | [`gaps`] | completeness as a report and as metrics |
//! | [`evidence`] | checking an archive, and proving what it says of a request |
//! | [`render`], [`http`] | answers as text, CSV, JSON and Arrow, and over HTTP |
//!
//! Invariant: no type of the query engine leaves this crate.
//! Invariant: nothing here writes to the archive; the only fact it records is that a query ran.

pub mod answer;
mod catalog;
pub mod chargeback;
pub mod config;
pub mod error;
pub mod evidence;
mod feed;
mod footer;
mod functions;
pub mod gaps;
mod holds;
pub mod http;
mod lanes;
mod record;
pub mod render;
pub mod service;
mod session;
pub mod statement;
pub mod status;
mod table;
mod tail;
pub mod views;

pub use answer::{Answer, ColumnInfo};
pub use chargeback::{ChargebackRequest, Dimension, NotInTotal, Statement, StatementRow};
pub use config::{Limits, QueryConfig};
pub use error::QueryError;
pub use gaps::{GapsRequest, Watch};
pub use holds::Range;
pub use http::{Token, router};
pub use render::Format;
pub use service::{Clock, QueryService};
pub use status::{LaneStatus, Status};
pub use views::{TableDoc, reference, tables};
