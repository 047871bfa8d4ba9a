//! Identifiers as newtypes, so that one cannot be handed in for another.

use std::fmt;

use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// An identifier's text was not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to read {kind}: expected {expected} hexadecimal digits")]
pub struct IdError {
    kind: &'static str,
    expected: usize,
}

/// Writes bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Reads exactly `N` bytes from `2 * N` hexadecimal digits.
#[must_use]
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(bytes)
}

macro_rules! fixed_id {
    ($(#[$doc:meta])* $name:ident, $size:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $size]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                unhex(text).map(Self).ok_or(IdError { kind: $kind, expected: $size * 2 })
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&hex(&self.0))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

fixed_id!(
    /// One process incarnation: drawn at random at each start, never reused.
    ProducerId, 16, "a producer id"
);
fixed_id!(
    /// One request of a client; its first 48 bits are the opening time in milliseconds, as in UUID version 7.
    RequestId, 16, "a request id"
);
fixed_id!(
    /// A keyed pseudonym of an end user: the same person in one deployment has the same one.
    Pseudonym, 16, "a pseudonym"
);
fixed_id!(
    /// A SHA-256 value, or an Ed25519 public key.
    Digest, 32, "a digest"
);
fixed_id!(
    /// An Ed25519 signature.
    Signature, 64, "a signature"
);
fixed_id!(
    /// One life of a topic: Kafka's topic id, or the embedded journal's UUID for the topic.
    /// A topic that was deleted and made anew has another generation.
    Generation, 16, "a generation"
);

/// Makes pseudonyms of end users, with one deployment's key.
#[derive(Debug, Clone)]
pub struct Pseudonyms(Hmac<Sha256>);

impl Pseudonyms {
    /// With that key.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        // A shorter key is padded with zeros to the hash's block, by definition of HMAC.
        let mut block = [0; 64];
        block[..32].copy_from_slice(key);
        Self(Hmac::<Sha256>::new(&block.into()))
    }

    /// The pseudonym of an organisation's end user.
    #[must_use]
    pub fn of(&self, organisation: &str, user: &str) -> Pseudonym {
        let mac = self.0.clone().chain_update(organisation).chain_update([0]).chain_update(user);
        let whole: [u8; 32] = mac.finalize().into_bytes().into();
        let mut half = [0; 16];
        half.copy_from_slice(&whole[..16]);
        Pseudonym(half)
    }
}

impl RequestId {
    /// A time-ordered id from the opening time and 80 bits of randomness.
    #[must_use]
    pub fn new(opened_at_us: i64, random: [u8; 10]) -> Self {
        let milliseconds = u64::try_from(opened_at_us / 1000).unwrap_or(0).to_be_bytes();
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&milliseconds[2..]);
        bytes[6..].copy_from_slice(&random);
        // Version 7 and the RFC 9562 variant, so that any UUID reader understands the id.
        bytes[6] = (bytes[6] & 0x0f) | 0x70;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(bytes)
    }

    /// When the request was opened, in microseconds since 1970; the id says it to the millisecond.
    #[must_use]
    pub const fn opened_at(self) -> i64 {
        let [a, b, c, d, e, f, ..] = self.0;
        // 48 bits times a thousand stay below 58 bits.
        i64::from_be_bytes([0, 0, a, b, c, d, e, f]) * 1000
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_what_they_print() {
        let id = ProducerId(std::array::from_fn(|i| u8::try_from(i * 17).unwrap()));
        assert_eq!(id.to_string().parse::<ProducerId>().unwrap(), id);
        assert!("zz".parse::<ProducerId>().is_err());
        assert!("é".repeat(16).parse::<ProducerId>().is_err());
    }

    #[test]
    fn request_ids_sort_by_time() {
        let early = RequestId::new(1_700_000_000_000_000, [0xff; 10]);
        let late = RequestId::new(1_700_000_000_001_000, [0; 10]);
        assert!(early < late);
    }

    #[test]
    fn request_ids_say_when_they_were_opened() {
        for (opened_at_us, said) in [
            (0, 0),
            (1_700_000_000_123_456, 1_700_000_000_123_000),
            (((1 << 48) - 1) * 1000, ((1 << 48) - 1) * 1000),
        ] {
            for random in [[0; 10], [0xff; 10]] {
                assert_eq!(RequestId::new(opened_at_us, random).opened_at(), said);
            }
        }
        // The largest there is.
        assert_eq!(RequestId([0xff; 16]).opened_at(), 281_474_976_710_655_000);
    }
}
