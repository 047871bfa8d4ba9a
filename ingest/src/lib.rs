//! Events in and out: where facts are appended, read from, and sealed.
//!
//! | Module | Holds |
//! |---|---|
//! | [`embedded`] | the embedded journal: durable on one machine's disk, nothing else installed |
//! | [`kafka`] | the journal and outlet over Kafka, and the only place that knows its client |
//! | [`spool`] | a shim's checksummed local spool in front of another outlet |
//! | [`archive`] | the archiver: sealed segments and the Merkle log in object storage |

pub mod archive;
pub mod content;
pub mod embedded;
pub mod kafka;
pub mod spool;
