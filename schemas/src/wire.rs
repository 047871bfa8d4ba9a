//! Framing of a fact as record bytes, in the schema registries' usual form: a zero byte, the schema id as four
//! big-endian bytes, then the Avro datum. These bytes are the canonical form that hashes are over.

use crate::avro::{Avro as _, AvroError, Micros};
use crate::facts::{Fact, Role};
use crate::ids::ProducerId;

/// Bytes before the Avro datum.
pub const FRAME: usize = 5;

/// The longest record that is written or read, in bytes; Kafka's usual bound.
pub const LONGEST: usize = 1_000_000;

/// Why a record is not a fact of the contract. Such a record is kept, with this reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Too short for a frame, or its first byte is not zero.
    #[error("not framed: expected a zero byte and a schema id")]
    Frame,
    /// A schema id outside the contract.
    #[error("unknown schema id {0}")]
    Schema(u32),
    /// The datum does not follow its schema.
    #[error("not a {0}: {1}")]
    Datum(&'static str, AvroError),
    /// Longer than [`LONGEST`].
    #[error("longer than {LONGEST} bytes")]
    Long,
}

/// The record bytes of a fact.
#[must_use]
pub fn encode(fact: &Fact) -> Vec<u8> {
    let mut out = Vec::with_capacity(320);
    out.push(0);
    out.extend_from_slice(&fact.schema_id().to_be_bytes());
    fact.encode(&mut out);
    out
}

/// The schema id of framed bytes.
///
/// # Errors
/// When the bytes are not framed.
pub fn schema_id(value: &[u8]) -> Result<u32, Unreadable> {
    match value {
        [0, a, b, c, d, ..] => Ok(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => Err(Unreadable::Frame),
    }
}

/// Reads record bytes.
///
/// # Errors
/// Why they are not a fact.
pub fn decode(value: &[u8]) -> Result<Fact, Unreadable> {
    let (id, mut datum) = unframe(value)?;
    let kind = Fact::KINDS.iter().find(|(_, kind, _)| *kind == id).map_or("fact", |(name, ..)| *name);
    let fact = Fact::decode(id, &mut datum)
        .ok_or(Unreadable::Schema(id))?
        .map_err(|error| Unreadable::Datum(kind, error))?;
    if datum.is_empty() { Ok(fact) } else { Err(Unreadable::Datum(kind, AvroError::Left(datum.len()))) }
}

/// What places a fact: its kind, and the front of its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Front {
    /// The kind's schema id.
    pub schema_id: u32,
    /// The kind's name.
    pub kind: &'static str,
    /// The process incarnation that wrote it.
    pub producer: ProducerId,
    /// Its number within the producer's lane.
    pub number: u64,
    /// Event time.
    pub at: Micros,
}

impl Front {
    /// The front of a fact that is at hand.
    #[must_use]
    pub const fn of(fact: &Fact) -> Self {
        let head = fact.head();
        let (producer, number, at) = (head.producer, head.number, head.at);
        Self { schema_id: fact.schema_id(), kind: fact.kind(), producer, number, at }
    }
}

/// Checks that record bytes are a fact, in all that [`decode`] checks, and reads its front alone: nothing is allocated.
///
/// # Errors
/// As [`decode`].
pub fn glance(value: &[u8]) -> Result<Front, Unreadable> {
    let (schema_id, mut datum) = unframe(value)?;
    let mut head = datum;
    let (kind, checked) = Fact::skip(schema_id, &mut datum).ok_or(Unreadable::Schema(schema_id))?;
    let unreadable = |error| Unreadable::Datum(kind, error);
    checked.map_err(unreadable)?;
    if !datum.is_empty() {
        return Err(unreadable(AvroError::Left(datum.len())));
    }
    // Every fact begins with a head, and a head with these.
    let producer = ProducerId::decode(&mut head).map_err(unreadable)?;
    Role::skip(&mut head).map_err(unreadable)?;
    let number = u64::decode(&mut head).map_err(unreadable)?;
    let at = Micros::decode(&mut head).map_err(unreadable)?;
    Ok(Front { schema_id, kind, producer, number, at })
}

fn unframe(value: &[u8]) -> Result<(u32, &[u8]), Unreadable> {
    if value.len() > LONGEST {
        return Err(Unreadable::Long);
    }
    Ok((schema_id(value)?, value.get(FRAME..).unwrap_or_default()))
}
