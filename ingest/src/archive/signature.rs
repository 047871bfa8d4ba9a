//! Who built a segment: a signature by the log's key over the whole object, in its metadata.
//!
//! A segment that stands in a lane's slot and in no leaf yet was put by a rival, by an archiver that died, or by anyone
//! else who may write to the store. Only what a holder of the log's key built may be given a leaf.
//!
//! The signature is over all bytes, not the footer's statement alone: that says nothing of the columns. The object is
//! hashed with zeros in the signature's place, which it then takes.

use bursar_schemas::archive::SIGNATURE_KEY;
use bursar_schemas::evidence::{SignerKey, VerifierKey};
use bursar_schemas::ids::{Digest, hex, unhex};
use bytes::Bytes;
use parquet::file::metadata::ParquetMetaDataReader;
use sha2::{Digest as _, Sha256};

use super::parquet::entry_of;

/// Hexadecimal digits of a signature.
const DIGITS: usize = 128;

/// What stands in a signature's place until it is made.
pub(super) fn unsigned() -> String {
    "0".repeat(DIGITS)
}

/// What is signed: no other text that the log's key signs begins so.
fn message(origin: &str, unsigned: [u8; 32]) -> Vec<u8> {
    let mut message = format!("bursar/segment/v1\n{origin}\n").into_bytes();
    message.extend_from_slice(&unsigned);
    message
}

/// Where digits stand in an object: the metadata is at its end.
fn place_of(bytes: &[u8], digits: &[u8]) -> Option<usize> {
    bytes.windows(DIGITS).rposition(|window| window == digits)
}

/// The hash of what comes before a signature's place, and what comes after it.
fn around(bytes: &[u8], place: usize) -> Option<(Sha256, &[u8])> {
    let (before, rest) = bytes.split_at_checked(place)?;
    Some((Sha256::new().chain_update(before), rest.get(DIGITS..)?))
}

/// Signs an object that was built with [`unsigned`] as its last entry; gives back its SHA-256, none where there is no
/// place for a signature.
pub(super) fn sign(bytes: &mut [u8], key: &SignerKey) -> Option<Digest> {
    let zeros = unsigned();
    let place = place_of(bytes, zeros.as_bytes())?;
    let (before, after) = around(bytes, place)?;
    let hash = before.clone().chain_update(&zeros).chain_update(after).finalize();
    let digits = hex(&key.sign_bytes(&message(key.verifier().name(), hash.into())));
    let sha256 = before.chain_update(&digits).chain_update(after).finalize();
    bytes.get_mut(place..)?.get_mut(..DIGITS)?.copy_from_slice(digits.as_bytes());
    Some(Digest(sha256.into()))
}

/// True when a holder of one of the keys built the object.
pub(super) fn is_signed(bytes: &Bytes, keys: &[VerifierKey]) -> bool {
    let holds = || {
        let metadata = ParquetMetaDataReader::new().parse_and_finish(bytes).ok()?;
        let digits = entry_of(&metadata, SIGNATURE_KEY).filter(|digits| digits.len() == DIGITS)?;
        let (before, after) = around(bytes, place_of(bytes, digits.as_bytes())?)?;
        let hash = before.chain_update(unsigned()).chain_update(after).finalize();
        let (hash, signature) = (hash.into(), unhex::<64>(digits)?);
        Some(keys.iter().any(|key| key.verifies(&message(key.name(), hash), &signature)))
    };
    holds().unwrap_or(false)
}
