//! The Merkle log of the archive: every format of it, and no IO.
//!
//! The log is a C2SP tlog-tiles log beneath the folder [`LOG`], so that tools that know nothing of this product can
//! check it. EVIDENCE.md writes the formats down for a stranger.
//!
//! | Module | Holds |
//! |---|---|
//! | `leaf` | what a leaf states: a segment, its removal, the keys in use, a heartbeat |
//! | `fingerprint` | fingerprints of the Avro schemas that a segment's records follow |
//! | `tiles` | names and bytes of tiles and entry bundles, grown leaf by leaf |
//! | `note` | signed notes, verifier keys, cosignatures |
//! | `checkpoint` | what a signed note of the log says: origin, size, root |
//! | `proof` | inclusion and consistency proofs, `.tlog-proof` files |
//! | `state` | what follows from the leaves read so far |
//!
//! Invariant: tiles, bundles and roots are pure functions of the leaves.

mod checkpoint;
mod fingerprint;
mod leaf;
mod note;
mod proof;
mod state;
mod tiles;

pub use self::checkpoint::Checkpoint;
pub use self::fingerprint::{contract_fingerprint, fingerprint};
pub use self::leaf::{Keys, LEAF_VERSION, LONGEST_LEAF, Leaf, LeafError, Manifest, Removal};
pub use self::note::{Kind, Note, NoteError, Signature, SignerKey, VerifierKey};
pub use self::proof::{
    Proof, ProofError, consistency_proof, inclusion_proof, root_of, verify_consistency, verify_inclusion,
};
pub use self::state::{LogState, StateError};
pub use self::tiles::{
    BUNDLE, TILE, Tile, TileTree, bundle_path, encode_bundle, parse_bundle, parse_bundle_path,
    parse_tile_path, tile_path,
};

/// Folder of the log under a store's root.
pub const LOG: &str = "log";

/// The newest checkpoint that some writer put: overwritten, so a hint and nothing more.
pub const CHECKPOINT: &str = "log/checkpoint";

/// Folder of the checkpoints kept for each size that was published.
pub const CHECKPOINTS: &str = "log/checkpoints";

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

/// Reads a leaf's or a checkpoint's number back from its name; none for a foreign object.
#[must_use]
pub fn parse_numbered(folder: &str, key: &str) -> Option<u64> {
    let digits = key.strip_prefix(folder)?.strip_prefix('/')?;
    let number = digits.parse().ok()?;
    (digits.len() == 20 && format!("{number:020}") == digits).then_some(number)
}

#[cfg(test)]
mod tests;
