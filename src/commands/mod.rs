//! One file per group of commands; each asks a [`crate::door::Door`] and prints.

pub(crate) mod alerts;
pub(crate) mod archive;
pub(crate) mod budgets;
pub(crate) mod content;
pub(crate) mod gaps;
pub(crate) mod keys;
pub(crate) mod policy;
pub(crate) mod prove;
pub(crate) mod retention;
pub(crate) mod serve;
pub(crate) mod shims;
pub(crate) mod sql;
pub(crate) mod stand_in;
pub(crate) mod status;
pub(crate) mod verify;
