//! Policy as reviewed files: the [`Document`], its checks, and the [`Directory`] that requests are resolved in.

mod check;
mod directory;
mod document;
mod state;

pub use directory::{Directory, Principal, Route, RouteError, Target};
pub use document::{
    Budget, Document, Model, ModelTarget, Organisation, PolicyError, PriceOverride, Project, Provider, Scope,
    Team, UnknownPrice,
};
pub use state::{Issued, PolicyState, PolicyVerdict, Raise};
