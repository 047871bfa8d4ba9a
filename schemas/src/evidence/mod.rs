//! The Merkle log of the archive: every format of it, and no IO.
//!
//! The log is a C2SP tlog-tiles log beneath the folder [`LOG`], so that tools that know nothing of this product can
//! check it. EVIDENCE.md writes the formats down for a stranger.
//!
//! | Module | Holds |
//! |---|---|
//! | `leaf` | what a leaf states: a segment, its removal, the keys in use, a heartbeat |
//! | `claim` | who claimed a leaf's slot |
//! | `fingerprint` | fingerprints of the Avro schemas that a segment's records follow |
//! | `tiles` | names and bytes of tiles and entry bundles, grown leaf by leaf |
//! | `note` | signed notes, verifier keys, cosignatures |
//! | `checkpoint` | what a signed note of the log says: origin, size, root |
//! | `subtrees` | consistency proofs from tiles alone |
//! | `proof` | inclusion and consistency proofs, `.tlog-proof` files |
//! | `state` | what follows from the leaves read so far |
//!
//! Invariant: tiles, bundles and roots are pure functions of the leaves.

mod checkpoint;
mod claim;
mod fingerprint;
mod leaf;
mod note;
mod proof;
mod state;
mod subtrees;
mod tiles;

pub use self::checkpoint::Checkpoint;
pub use self::claim::{claim_leaf, is_claimed};
pub use self::fingerprint::{contract_fingerprint, fingerprint};
pub use self::leaf::{Keys, LEAF_VERSION, LONGEST_LEAF, Leaf, LeafError, Manifest, Removal};
pub use self::note::{Kind, MOST_SIGNATURES, Note, NoteError, Signature, SignerKey, VerifierKey};
pub use self::proof::{
    Proof, ProofError, consistency_proof, inclusion_proof, root_of, verify_consistency, verify_inclusion,
};
pub use self::state::{LogState, StateError};
pub use self::subtrees::{Subtree, TilePlace, consistency_proof_from, consistency_subtrees};
pub use self::tiles::{
    BUNDLE, TILE, Tile, TileTree, bundle_path, encode_bundle, parse_bundle, parse_bundle_path,
    parse_tile_path, tile_path,
};
use crate::ids::hex;

/// Folder of the log under a store's root.
pub const LOG: &str = "log";

/// The newest checkpoint that some writer put: overwritten, so a hint and nothing more.
pub const CHECKPOINT: &str = "log/checkpoint";

/// Folder of the checkpoints kept for each size that was published.
pub const CHECKPOINTS: &str = "log/checkpoints";

/// Folder of the checkpoints that witnesses cosigned, each with one witness's line.
pub const COSIGNED: &str = "log/cosigned";

/// Folder of the leaves: the slots that writers claim.
pub const LEAVES: &str = "log/leaf";

/// Name of a leaf's slot.
#[must_use]
pub fn leaf_key(index: u64) -> String {
    format!("{LEAVES}/{index:020}")
}

/// Name of the checkpoint of a size.
#[must_use]
pub fn checkpoint_key(size: u64) -> String {
    format!("{CHECKPOINTS}/{size:020}")
}

/// Name of the checkpoint of a size with the line of the witness whose key has that id.
#[must_use]
pub fn cosigned_key(size: u64, key_id: [u8; 4]) -> String {
    format!("{COSIGNED}/{size:020}/{}", hex(&key_id))
}

/// Reads a cosigned checkpoint's size and key id back from its name; none for a foreign object.
#[must_use]
pub fn parse_cosigned(key: &str) -> Option<(u64, [u8; 4])> {
    let (numbered, id) = key.rsplit_once('/')?;
    let size = parse_numbered(COSIGNED, numbered)?;
    let id = u32::from_str_radix(id, 16).ok()?.to_be_bytes();
    (cosigned_key(size, id) == key).then_some((size, id))
}

/// Reads a leaf's or a checkpoint's number back from its name; none for a foreign object.
#[must_use]
pub fn parse_numbered(folder: &str, key: &str) -> Option<u64> {
    let digits = key.strip_prefix(folder)?.strip_prefix('/')?;
    let number = digits.parse().ok()?;
    (digits.len() == 20 && format!("{number:020}") == digits).then_some(number)
}

#[cfg(test)]
mod tests;
