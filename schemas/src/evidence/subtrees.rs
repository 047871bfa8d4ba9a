//! Consistency proofs from the hashes that tiles hold: a few complete subtrees, and no leaf.

use std::ops::Range;

use super::tiles::{TILE, perfect};
use crate::ids::Digest;
use crate::merkle::node_hash;

/// A complete subtree: 2^`height` leaves, with `index` subtrees of that height to its left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subtree {
    /// Levels of nodes above its leaves.
    pub height: u32,
    /// Its number among those of its height.
    pub index: u64,
}

/// Where a subtree's hash follows from: some hashes that stand together in one tile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TilePlace {
    /// The tile's level.
    pub level: usize,
    /// The tile's number.
    pub index: u64,
    /// Hashes in the tile, of a log of the size that was asked about.
    pub width: usize,
    /// Which of them lie beneath the subtree.
    hashes: Range<usize>,
}

impl Subtree {
    /// The tile that it is in, of a log of so many leaves; none when the log does not hold it.
    #[must_use]
    pub fn place(self, size: u64) -> Option<TilePlace> {
        let (level, low) = (self.height / 8, self.height % 8);
        let tile = u64::try_from(TILE).ok()?;
        let count = 1_u64 << low;
        let first = self.index.checked_mul(count)?;
        let held = size.checked_shr(8 * level)?;
        if first.checked_add(count)? > held {
            return None;
        }
        let (index, offset) = (first / tile, usize::try_from(first % tile).ok()?);
        let width = usize::try_from(tile.min(held - index * tile)).ok()?;
        let hashes = offset..offset + usize::try_from(count).ok()?;
        Some(TilePlace { level: usize::try_from(level).ok()?, index, width, hashes })
    }
}

impl TilePlace {
    /// The subtree's hash from the tile's bytes; none when they are too few.
    #[must_use]
    pub fn hash(&self, tile: &[u8]) -> Option<Digest> {
        let bytes = tile.get(32 * self.hashes.start..32 * self.hashes.end)?;
        let (hashes, _) = bytes.as_chunks::<32>();
        Some(perfect(&hashes.iter().copied().map(Digest).collect::<Vec<_>>()))
    }
}

/// The complete subtrees over some leaves, from left to right and so from large to small. The leaves must be those of
/// a node of the tree: then each subtree stands where one of its height can.
fn cover(leaves: Range<u64>) -> Vec<Subtree> {
    let (mut at, mut parts) = (leaves.start, Vec::new());
    while at < leaves.end {
        let height = (leaves.end - at).ilog2();
        parts.push(Subtree { height, index: at >> height });
        at += 1 << height;
    }
    parts
}

/// The leaves beneath each hash of a consistency proof.
fn nodes(first: u64, size: u64) -> Vec<Range<u64>> {
    let (mut leaves, mut whole, mut nodes) = (0..size, true, Vec::new());
    // From the root down to where the first tree ends; the proof is read from there up.
    while first != leaves.end {
        let at = leaves.start + (leaves.end - leaves.start).next_power_of_two() / 2;
        if first <= at {
            nodes.push(at..leaves.end);
            leaves.end = at;
        } else {
            nodes.push(leaves.start..at);
            leaves.start = at;
            whole = false;
        }
    }
    if !whole {
        nodes.push(leaves);
    }
    nodes.reverse();
    nodes
}

/// The complete subtrees that each hash of the consistency proof between two sizes follows from: some two for each level
/// of the tree. Nothing when the first tree is empty or not the smaller one.
#[must_use]
pub fn consistency_subtrees(first: u64, size: u64) -> Vec<Vec<Subtree>> {
    if first == 0 || first >= size {
        return Vec::new();
    }
    nodes(first, size).into_iter().map(cover).collect()
}

/// The consistency proof between two sizes from the hashes of [`consistency_subtrees`]; none when one is not to be had.
#[must_use]
pub fn consistency_proof_from(
    first: u64,
    size: u64,
    hash: impl Fn(Subtree) -> Option<Digest>,
) -> Option<Vec<Digest>> {
    let node = |parts: Vec<Subtree>| {
        let mut rest = parts.into_iter().rev();
        let last = hash(rest.next()?)?;
        rest.try_fold(last, |right, part| Some(node_hash(&hash(part)?, &right)))
    };
    consistency_subtrees(first, size).into_iter().map(node).collect()
}
