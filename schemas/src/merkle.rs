//! Merkle tree hashing of RFC 6962 (SHA-256), for the root over a segment's rows and for the log of segments.

use sha2::{Digest as _, Sha256};

use crate::ids::Digest;

/// Hash of one leaf: SHA-256 over 0x00 and its bytes.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Digest {
    Digest(Sha256::new().chain_update([0]).chain_update(entry).finalize().into())
}

/// Hash of an inner node: SHA-256 over 0x01 and both children.
#[must_use]
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    Digest(Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().into())
}

/// A root built leaf by leaf in memory that grows with the logarithm of the leaves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RootBuilder {
    /// Roots of complete subtrees, largest first, with the number of leaves beneath each.
    peaks: Vec<(u64, Digest)>,
}

impl RootBuilder {
    /// Adds the next leaf's entry.
    pub fn push(&mut self, entry: &[u8]) {
        self.push_hash(leaf_hash(entry));
    }

    /// Adds the next leaf by its hash.
    pub fn push_hash(&mut self, leaf: Digest) {
        let mut size = 1;
        let mut hash = leaf;
        while self.peaks.last().is_some_and(|(peak, _)| *peak == size) {
            if let Some((_, left)) = self.peaks.pop() {
                hash = node_hash(&left, &hash);
                size *= 2;
            }
        }
        self.peaks.push((size, hash));
    }

    /// Leaves so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.peaks.iter().map(|(size, _)| size).sum()
    }

    /// True before the first leaf.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.peaks.is_empty()
    }

    /// The root over all leaves so far; SHA-256 of nothing when there are none.
    #[must_use]
    pub fn root(&self) -> Digest {
        let mut peaks = self.peaks.iter().rev();
        let Some((_, last)) = peaks.next() else {
            return Digest(Sha256::digest([]).into());
        };
        peaks.fold(*last, |right, (_, left)| node_hash(left, &right))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of RFC 6962 §2.1, written down naively.
    fn by_definition(entries: &[Vec<u8>]) -> Digest {
        match entries.len() {
            0 => Digest(Sha256::digest([]).into()),
            1 => leaf_hash(&entries[0]),
            n => {
                let split = (1..n).rev().find(|k| k.is_power_of_two()).unwrap_or(1);
                node_hash(&by_definition(&entries[..split]), &by_definition(&entries[split..]))
            }
        }
    }

    #[test]
    fn the_builder_follows_the_definition() {
        let mut builder = RootBuilder::default();
        let mut entries = Vec::new();
        for n in 0..70_u8 {
            assert_eq!(builder.root(), by_definition(&entries), "{n} leaves");
            builder.push(&[n, 1]);
            entries.push(vec![n, 1]);
        }
    }
}
