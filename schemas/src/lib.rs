//! The ground floor of Bursar: what every other crate means by a fact, an amount of money, a
//! price, a position, a limit, and the two ports through which facts are read and written.
//!
//! | Module | Holds |
//! |---|---|
//! | [`avro`] | the Avro binary encoding of the contract's types, and their schemas |
//! | [`facts`] | the closed list of facts, one Avro schema each |
//! | [`wire`] | framing of a fact as record bytes, and what cannot be read |
//! | [`producer`] | numbering, running hash and signed heads of one process incarnation |
//! | [`ids`], [`money`], [`meters`], [`price`] | names, integer money, usage and dated prices |
//! | [`window`] | calendar windows in an IANA time zone |
//! | [`policy`] | the reviewed document of organisations, keys, budgets, routes and prices |
//! | [`fold`] | the one pure function over `limits` that makes a hard budget hold |
//! | [`position`], [`ports`] | topics, lanes, offsets; the journal and the outlet |
//! | [`snapshot`] | state kept aside for a faster start |
//! | [`causes`] | what an error says together with its causes |
//! | `columns` (feature `columns`) | Arrow columns of the archive tables |
//! | `samples` (feature `samples`) | one filled-in fact of each kind, for tests |
//! | [`archive`], [`merkle`] | names and footers of sealed segments; RFC 6962 hashing |
//! | [`evidence`] | the Merkle log of segments: leaves, tiles, checkpoints, signed notes, proofs |
//!
//! Invariant: nothing here performs IO, reads a clock, draws randomness or needs an async runtime.
//! Invariant: no prompt, completion or provider key has a place in any type of this crate.

pub mod archive;
pub mod avro;
pub mod causes;
#[cfg(feature = "columns")]
pub mod columns;
pub mod evidence;
pub mod facts;
pub mod fold;
pub mod ids;
pub mod memory;
pub mod merkle;
pub mod meters;
pub mod money;
pub mod policy;
pub mod ports;
pub mod position;
pub mod price;
pub mod producer;
#[cfg(any(test, feature = "samples"))]
pub mod samples;
pub mod snapshot;
pub mod window;
pub mod wire;
