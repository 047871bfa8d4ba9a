//! Inclusion and consistency proofs of RFC 9162, and the `.tlog-proof` file of C2SP.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::checkpoint::Checkpoint;
use super::note::{NoteError, VerifierKey};
use crate::ids::Digest;
use crate::merkle::{leaf_hash, node_hash};

/// First line of a `.tlog-proof` file.
const FORM: &str = "c2sp.org/tlog-proof@v1";

/// The longest path that a tree of 2⁶⁴ leaves can need.
const LONGEST_PATH: usize = 63;

/// Why a proof does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Not a proof's form.
    #[error("failed to read a proof: {0}")]
    Form(&'static str),
    /// It leads to another root.
    #[error("the proof leads to another root")]
    Root,
    /// Its checkpoint cannot be read or is not signed by a known key.
    #[error("the proof's checkpoint: {0}")]
    Checkpoint(NoteError),
}

// The text has the other's, so that is no source: a chain of causes would say it twice.
impl From<NoteError> for ProofError {
    fn from(error: NoteError) -> Self {
        Self::Checkpoint(error)
    }
}

/// The largest power of two below a number of leaves (at least two).
const fn split(leaves: usize) -> usize {
    leaves.next_power_of_two() / 2
}

/// Root over leaves' hashes.
#[must_use]
pub fn root_of(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => Digest(Sha256::digest([]).into()),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node_hash(&root_of(left), &root_of(right))
        }
    }
}

/// The path from a leaf to the root over all: hashes of siblings, the leaf's own first. Empty for an index beyond.
#[must_use]
pub fn inclusion_proof(leaves: &[Digest], index: usize) -> Vec<Digest> {
    if index >= leaves.len() || leaves.len() == 1 {
        return Vec::new();
    }
    let at = split(leaves.len());
    let (left, right) = leaves.split_at(at);
    let (mut path, sibling) = if index < at {
        (inclusion_proof(left, index), root_of(right))
    } else {
        (inclusion_proof(right, index - at), root_of(left))
    };
    path.push(sibling);
    path
}

/// What shows that the tree over the first leaves is a part of the tree over all.
#[must_use]
pub fn consistency_proof(leaves: &[Digest], first: usize) -> Vec<Digest> {
    fn part(leaves: &[Digest], first: usize, whole: bool) -> Vec<Digest> {
        if first == leaves.len() {
            return if whole { Vec::new() } else { vec![root_of(leaves)] };
        }
        let at = split(leaves.len());
        let (left, right) = leaves.split_at(at);
        let (mut path, other) = if first <= at {
            (part(left, first, whole), root_of(right))
        } else {
            (part(right, first - at, false), root_of(left))
        };
        path.push(other);
        path
    }
    if first == 0 || first > leaves.len() { Vec::new() } else { part(leaves, first, true) }
}

/// Holds a leaf's hash to a root.
///
/// # Errors
/// When the path does not lead there.
pub fn verify_inclusion(
    leaf: Digest,
    index: u64,
    size: u64,
    path: &[Digest],
    root: &Digest,
) -> Result<(), ProofError> {
    if index >= size || path.len() > LONGEST_PATH {
        return Err(ProofError::Form("the leaf lies outside the tree"));
    }
    let (mut node, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in path {
        if last == 0 {
            return Err(ProofError::Form("the path is too long"));
        }
        if node % 2 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node % 2 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(ProofError::Form("the path is too short"));
    }
    if hash == *root { Ok(()) } else { Err(ProofError::Root) }
}

/// Holds the tree of a first size to be the beginning of the tree of a second.
///
/// # Errors
/// When the proof does not show it.
pub fn verify_consistency(
    first: (u64, &Digest),
    second: (u64, &Digest),
    path: &[Digest],
) -> Result<(), ProofError> {
    let ((first, old), (second, new)) = (first, second);
    if first > second || first == 0 || path.len() > 2 * LONGEST_PATH {
        return Err(ProofError::Form("its sizes cannot be"));
    }
    if first == second {
        return if path.is_empty() && old == new { Ok(()) } else { Err(ProofError::Root) };
    }
    let (mut node, mut last) = (first - 1, second - 1);
    while node % 2 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let mut rest = path.iter();
    let start = if node == 0 { *old } else { *rest.next().ok_or(ProofError::Form("the path is empty"))? };
    let (mut to_old, mut to_new) = (start, start);
    for hash in rest {
        if last == 0 {
            return Err(ProofError::Form("the path is too long"));
        }
        if node % 2 == 1 || node == last {
            to_old = node_hash(hash, &to_old);
            to_new = node_hash(hash, &to_new);
            while node % 2 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            to_new = node_hash(&to_new, hash);
        }
        node >>= 1;
        last >>= 1;
    }
    if last == 0 && to_old == *old && to_new == *new { Ok(()) } else { Err(ProofError::Root) }
}

/// That an entry stands in a log, for a reader with nothing but the log's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The entry's number.
    pub index: u64,
    /// Siblings up to the root.
    pub path: Vec<Digest>,
    /// The signed checkpoint, word for word.
    pub checkpoint: String,
}

impl Proof {
    /// As a `.tlog-proof` file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let path: String = self.path.iter().map(|hash| STANDARD.encode(hash.0) + "\n").collect();
        format!("{FORM}\nindex {}\n{path}\n{}", self.index, self.checkpoint)
    }

    /// Reads a `.tlog-proof` file.
    ///
    /// # Errors
    /// When it is not one.
    pub fn parse(text: &str) -> Result<Self, ProofError> {
        let (head, checkpoint) = text.split_once("\n\n").ok_or(ProofError::Form("it has no checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(FORM) {
            return Err(ProofError::Form("its first line is another"));
        }
        lines.next_if(|line| line.starts_with("extra "));
        let index = lines.next().and_then(|line| line.strip_prefix("index "));
        let index = index.and_then(|digits| digits.parse().ok());
        let index = index.ok_or(ProofError::Form("it has no index"))?;
        let hash = |line: &str| STANDARD.decode(line).ok().and_then(|hash| hash.try_into().ok()).map(Digest);
        let path: Option<Vec<Digest>> = lines.map(hash).collect();
        let path = path.ok_or(ProofError::Form("a line of its path is not a hash"))?;
        Ok(Self { index, path, checkpoint: checkpoint.to_owned() })
    }

    /// Holds an entry to the log whose keys are given; the checkpoint that it stands under.
    ///
    /// # Errors
    /// When the checkpoint is not signed by one of them, or the path does not lead to its root.
    pub fn verify(&self, entry: &[u8], keys: &[VerifierKey]) -> Result<Checkpoint, ProofError> {
        let (checkpoint, _) = Checkpoint::open(self.checkpoint.as_bytes(), keys)?;
        verify_inclusion(leaf_hash(entry), self.index, checkpoint.size, &self.path, &checkpoint.root)?;
        Ok(checkpoint)
    }
}
