//! Who claimed a leaf's slot: a signature by the log's key, at the end of the entry.
//!
//! Slots lie in a store that others may write to. A claim shows that a leaf was put there by a holder of the log's key,
//! and for that slot, so that nobody signs a checkpoint over what somebody else put.
//!
//! Leaves of earlier versions carry none; a checkpoint over them says as much.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::note::{SignerKey, VerifierKey};

/// What comes before a claim's digits; in a string of JSON its quotes would be escaped.
const BEFORE: &[u8] = b",\"claim\":\"";

/// What comes after them.
const AFTER: &[u8] = b"\"}";

/// What is signed: no other text that the log's key signs begins so.
fn message(origin: &str, index: u64, statement: &[u8]) -> Vec<u8> {
    let mut message = format!("bursar/leaf/v1\n{origin}\n{index}\n").into_bytes();
    message.extend_from_slice(statement);
    message
}

/// The entry that claims a slot for what a leaf states ([`super::Leaf::encode`]).
#[must_use]
pub fn claim_leaf(statement: &[u8], index: u64, key: &SignerKey) -> Vec<u8> {
    let signature = key.sign_bytes(&message(key.verifier().name(), index, statement));
    let open = statement.strip_suffix(b"}").unwrap_or(statement);
    [open, BEFORE, STANDARD.encode(signature).as_bytes(), AFTER].concat()
}

/// Takes an entry apart: what the leaf states, and the claim; none where the entry carries none.
pub(super) fn take_apart(entry: &[u8]) -> (Cow<'_, [u8]>, Option<[u8; 64]>) {
    let parts = || {
        let rest = entry.strip_suffix(AFTER)?;
        let (open, digits) = rest.split_at_checked(rest.len().checked_sub(88)?)?;
        let signature = <[u8; 64]>::try_from(STANDARD.decode(digits).ok()?).ok()?;
        Some(([open.strip_suffix(BEFORE)?, b"}"].concat(), signature))
    };
    match parts() {
        Some((statement, signature)) => (Cow::Owned(statement), Some(signature)),
        None => (Cow::Borrowed(entry), None),
    }
}

/// True when a holder of one of the keys claimed that slot for the entry.
#[must_use]
pub fn is_claimed(entry: &[u8], index: u64, keys: &[VerifierKey]) -> bool {
    let (statement, Some(signature)) = take_apart(entry) else { return false };
    keys.iter().any(|key| key.verifies(&message(key.name(), index, &statement), &signature))
}
