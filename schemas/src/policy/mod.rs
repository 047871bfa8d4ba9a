//! Policy as reviewed files: the [`Document`], its checks, and the [`Directory`] that requests are resolved in.

mod budget;
mod check;
mod directory;
mod document;
mod draws;
mod holds;
mod owners;
mod retention;
mod state;
mod webhook;

pub use budget::{Budget, Each, MEMBERS, Scope, THRESHOLDS, UNNAMED};
pub use directory::{Directory, Principal, Route, RouteError, Target};
pub use document::{
    Document, Model, ModelTarget, Organisation, PolicyError, PriceOverride, Project, Provider, Team,
    UnknownPrice,
};
pub use draws::Draw;
pub use holds::{Hold, Holds};
pub use owners::Owners;
pub use retention::{CONTENT_DAYS, ContentPolicy, Retention};
pub use state::{Issued, PolicyState, PolicyVerdict, Raise};
pub use webhook::{Webhook, address_fault};

#[cfg(test)]
mod tests;
