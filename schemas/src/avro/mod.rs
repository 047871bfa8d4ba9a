//! Avro binary encoding of the contract's types, written out by hand.
//!
//! A shim writes half a dozen facts a request and a ledger reads a million a second, which a generic value
//! tree does not allow. The encoding is Avro's and nothing else: the tests read every fact with the
//! `apache-avro` crate against the checked-in `.avsc`, and compare bytes in both directions.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::ids::{Digest, Generation, ProducerId, Pseudonym, RequestId, Signature};
use crate::money::{LARGEST, Money};

/// Bytes were not the Avro encoding of the expected type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AvroError {
    /// The bytes end within a value.
    #[error("the bytes end within a {0}")]
    Short(&'static str),
    /// A number does not fit its type.
    #[error("a {0} is out of range")]
    Range(&'static str),
    /// A string is not UTF-8.
    #[error("a string is not UTF-8")]
    Utf8,
    /// An enum's or union's index names no branch.
    #[error("{0} has no branch {1}")]
    Branch(&'static str, i64),
    /// Bytes are left over after the last field.
    #[error("{0} bytes are left over")]
    Left(usize),
}

/// Names of record, enum and fixed types already written in full within one schema.
pub type Named = BTreeSet<&'static str>;

/// The namespace of every type of the contract's first version.
pub const NAMESPACE: &str = "bursar.v1";

/// A type of the contract: its Avro schema, and its encoding.
pub trait Avro: Sized {
    /// The schema; a named type is written in full only the first time.
    fn schema(named: &mut Named) -> Value;
    /// Appends the encoding.
    fn encode(&self, out: &mut Vec<u8>);
    /// Takes the value off the front of `input`.
    ///
    /// # Errors
    /// Whatever makes the bytes not an encoding of this type.
    fn decode(input: &mut &[u8]) -> Result<Self, AvroError>;
    /// Passes over the value at the front of `input`, making nothing of it; refuses what [`Avro::decode`] refuses.
    ///
    /// # Errors
    /// As [`Avro::decode`].
    fn skip(input: &mut &[u8]) -> Result<(), AvroError> {
        Self::decode(input).map(drop)
    }
}

/// Appends a zigzag variable-length integer.
#[inline]
pub fn put_long(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push(u8::try_from(rest & 0x7f).unwrap_or(0) | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).unwrap_or(0));
}

/// Takes a zigzag variable-length integer.
///
/// # Errors
/// When the bytes end early or the number needs more than 64 bits.
#[inline]
pub fn take_long(input: &mut &[u8]) -> Result<i64, AvroError> {
    // Lengths, branches and most counts take one byte.
    if let Some((byte, rest)) = input.split_first()
        && byte & 0x80 == 0
    {
        *input = rest;
        return Ok(i64::from(byte >> 1) ^ -i64::from(byte & 1));
    }
    take_longer(input)
}

fn take_longer(input: &mut &[u8]) -> Result<i64, AvroError> {
    let mut value: u64 = 0;
    for (index, byte) in input.iter().enumerate().take(10) {
        if index == 9 && *byte > 1 {
            return Err(AvroError::Range("long"));
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *input = &input[index + 1..];
            return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    Err(if input.len() < 10 { AvroError::Short("long") } else { AvroError::Range("long") })
}

#[inline]
fn take<'a>(input: &mut &'a [u8], count: usize, what: &'static str) -> Result<&'a [u8], AvroError> {
    let (taken, rest) = input.split_at_checked(count).ok_or(AvroError::Short(what))?;
    *input = rest;
    Ok(taken)
}

/// Takes a length-prefixed run of bytes without copying it.
///
/// # Errors
/// When the length is negative or beyond the input.
#[inline]
pub fn take_bytes<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], AvroError> {
    let length = usize::try_from(take_long(input)?).map_err(|_| AvroError::Range("length"))?;
    take(input, length, "run of bytes")
}

/// Appends a length-prefixed run of bytes.
#[inline]
pub fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_long(i64::try_from(bytes.len()).unwrap_or(i64::MAX), out);
    out.extend_from_slice(bytes);
}

impl Avro for bool {
    fn schema(_: &mut Named) -> Value {
        json!("boolean")
    }
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn decode(input: &mut &[u8]) -> Result<Self, AvroError> {
        match take(input, 1, "boolean")?[0] {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(AvroError::Range("boolean")),
        }
    }
}

impl Avro for i64 {
    fn schema(_: &mut Named) -> Value {
        json!("long")
    }
    fn encode(&self, out: &mut Vec<u8>) {
        put_long(*self, out);
    }
    fn decode(input: &mut &[u8]) -> Result<Self, AvroError> {
        take_long(input)
    }
}

macro_rules! unsigned {
    ($type:ty, $name:literal) => {
        impl Avro for $type {
            fn schema(_: &mut Named) -> Value {
                json!("long")
            }
            /// Counts beyond 2⁶³−1 are held at it: nothing that is counted reaches them.
            fn encode(&self, out: &mut Vec<u8>) {
                put_long(i64::try_from(*self).unwrap_or(i64::MAX), out);
            }
            #[inline]
            fn decode(input: &mut &[u8]) -> Result<Self, AvroError> {
                Self::try_from(take_long(input)?).map_err(|_| AvroError::Range($name))
            }
        }
    };
}
unsigned!(u64, "count");
unsigned!(u32, "number");

/// An instant as microseconds since 1970-01-01T00:00:00Z.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Micros(pub i64);

impl Avro for Micros {
    fn schema(_: &mut Named) -> Value {
        json!({"type": "long", "logicalType": "timestamp-micros"})
    }
    fn encode(&self, out: &mut Vec<u8>) {
        put_long(self.0, out);
    }
    fn decode(input: &mut &[u8]) -> Result<Self, AvroError> {
        take_long(input).map(Self)
    }
}

impl Avro for Money {
    fn schema(_: &mut Named) -> Value {
        json!({"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 12})
    }
    /// The fewest big-endian two's-complement bytes, so that one amount has one encoding.
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        let bytes = self.pico().to_be_bytes();
        let filler = if self.pico() < 0 { 0xff } else { 0 };
        let mut first = 0;
        while first < 15 && bytes[first] == filler && (bytes[first + 1] ^ filler) & 0x80 == 0 {
            first += 1;
        }
        put_bytes(&bytes[first..], out);
    }
    #[inline]
    fn decode(input: &mut &[u8]) -> Result<Self, AvroError> {
        let bytes = take_bytes(input)?;
        if bytes.is_empty() || bytes.len() > 16 {
            return Err(AvroError::Range("decimal"));
        }
        let filler = if bytes[0] & 0x80 == 0 { 0 } else { 0xff };
        let mut wide = [filler; 16];
        wide[16 - bytes.len()..].copy_from_slice(bytes);
        let pico = i128::from_be_bytes(wide);
        if !(-LARGEST..=LARGEST).contains(&pico) {
            return Err(AvroError::Range("decimal"));
        }
        Ok(Self::from_pico(pico))
    }
}

impl Avro for String {
    fn schema(_: &mut Named) -> Value {
        json!("string")
    }
    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(self.as_bytes(), out);
    }
    fn decode(input: &mut &[u8]) -> Result<Self, AvroError> {
        let text = std::str::from_utf8(take_bytes(input)?).map_err(|_| AvroError::Utf8)?;
        Ok(text.to_owned())
    }
    #[inline]
    fn skip(input: &mut &[u8]) -> Result<(), AvroError> {
        let bytes = take_bytes(input)?;
        // Most texts are short and plain, which is quicker to see.
        if bytes.is_ascii() || std::str::from_utf8(bytes).is_ok() { Ok(()) } else { Err(AvroError::Utf8) }
    }
}

macro_rules! fixed {
    ($type:ident, $size:literal) => {
        impl Avro for $type {
            fn schema(named: &mut Named) -> Value {
                if named.insert(stringify!($type)) {
                    json!({"type": "fixed", "name": stringify!($type), "namespace": NAMESPACE, "size": $size})
                } else {
                    json!(format!("{NAMESPACE}.{}", stringify!($type)))
                }
            }
            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.0);
            }
            #[inline]
            fn decode(input: &mut &[u8]) -> Result<Self, AvroError> {
                let mut bytes = [0; $size];
                bytes.copy_from_slice(take(input, $size, stringify!($type))?);
                Ok(Self(bytes))
            }
        }
    };
}
fixed!(ProducerId, 16);
fixed!(RequestId, 16);
fixed!(Pseudonym, 16);
fixed!(Generation, 16);
fixed!(Digest, 32);
fixed!(Signature, 64);

impl<T: Avro> Avro for Option<T> {
    fn schema(named: &mut Named) -> Value {
        json!(["null", T::schema(named)])
    }
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            None => put_long(0, out),
            Some(value) => {
                put_long(1, out);
                value.encode(out);
            }
        }
    }
    fn decode(input: &mut &[u8]) -> Result<Self, AvroError> {
        match take_long(input)? {
            0 => Ok(None),
            1 => T::decode(input).map(Some),
            branch => Err(AvroError::Branch("an optional field", branch)),
        }
    }
    fn skip(input: &mut &[u8]) -> Result<(), AvroError> {
        match take_long(input)? {
            0 => Ok(()),
            1 => T::skip(input),
            branch => Err(AvroError::Branch("an optional field", branch)),
        }
    }
}

/// Takes the head of the next block of an array or map: how many items it has, 0 at the end.
fn take_block(input: &mut &[u8]) -> Result<usize, AvroError> {
    let count = take_long(input)?;
    if count < 0 {
        // A negative count is followed by the block's size in bytes, which only skipping needs.
        take_long(input)?;
    }
    let count = usize::try_from(count.unsigned_abs()).map_err(|_| AvroError::Range("block"))?;
    // Each item takes at least a byte: a forged count must not make us allocate.
    if count > input.len() { Err(AvroError::Short("block")) } else { Ok(count) }
}

impl<T: Avro> Avro for Vec<T> {
    fn schema(named: &mut Named) -> Value {
        json!({"type": "array", "items": T::schema(named)})
    }
    fn encode(&self, out: &mut Vec<u8>) {
        if !self.is_empty() {
            put_long(i64::try_from(self.len()).unwrap_or(i64::MAX), out);
            self.iter().for_each(|item| item.encode(out));
        }
        put_long(0, out);
    }
    fn decode(input: &mut &[u8]) -> Result<Self, AvroError> {
        let mut items = Self::new();
        loop {
            let count = take_block(input)?;
            if count == 0 {
                return Ok(items);
            }
            items.reserve_exact(count.min(64));
            for _ in 0..count {
                items.push(T::decode(input)?);
            }
        }
    }
    fn skip(input: &mut &[u8]) -> Result<(), AvroError> {
        loop {
            let count = take_block(input)?;
            if count == 0 {
                return Ok(());
            }
            for _ in 0..count {
                T::skip(input)?;
            }
        }
    }
}

impl Avro for BTreeMap<String, String> {
    fn schema(_: &mut Named) -> Value {
        json!({"type": "map", "values": "string"})
    }
    fn encode(&self, out: &mut Vec<u8>) {
        if !self.is_empty() {
            put_long(i64::try_from(self.len()).unwrap_or(i64::MAX), out);
            for (key, value) in self {
                put_bytes(key.as_bytes(), out);
                put_bytes(value.as_bytes(), out);
            }
        }
        put_long(0, out);
    }
    fn decode(input: &mut &[u8]) -> Result<Self, AvroError> {
        let mut entries = Self::new();
        loop {
            let count = take_block(input)?;
            if count == 0 {
                return Ok(entries);
            }
            for _ in 0..count {
                entries.insert(String::decode(input)?, String::decode(input)?);
            }
        }
    }
    fn skip(input: &mut &[u8]) -> Result<(), AvroError> {
        loop {
            let count = take_block(input)?;
            if count == 0 {
                return Ok(());
            }
            for _ in 0..count {
                String::skip(input)?;
                String::skip(input)?;
            }
        }
    }
}

mod macros;

pub(crate) use macros::{avro_enum, avro_record};
