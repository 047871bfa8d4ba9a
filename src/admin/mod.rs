//! The admin port: who did it comes from the credential, never from an argument.

pub(crate) mod client;
pub(crate) mod retention;
pub(crate) mod server;
