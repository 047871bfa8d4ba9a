//! What a writer knows of the log after reading its leaves: the tiles' right edge, and how far each lane is logged.

use std::collections::{BTreeMap, BTreeSet};

use super::leaf::{Keys, Leaf, LeafError};
use super::tiles::{Tile, TileTree};
use crate::ids::{Digest, Generation};
use crate::position::Lane;

/// A leaf that cannot come next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// It cannot be read.
    #[error("leaf {index}: {error}")]
    Leaf {
        /// Its number.
        index: u64,
        /// Why.
        error: LeafError,
    },
    /// Its segment does not begin where the lane's last one ended.
    #[error("leaf {index} logs {generation}/{lane} from offset {first}, where {expected} was due")]
    Chain {
        /// Its number.
        index: u64,
        /// The topic's life.
        generation: Generation,
        /// The lane.
        lane: Lane,
        /// Where its segment begins.
        first: u64,
        /// Where it should.
        expected: u64,
    },
}

/// The log as its leaves make it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogState {
    tree: TileTree,
    next: BTreeMap<(Generation, Lane), u64>,
    /// Leaves whose segments are removed.
    removed: BTreeSet<u64>,
    keys: Vec<Keys>,
    at_us: Option<i64>,
}

impl LogState {
    /// Takes the next leaf; full tiles that it completes are handed out.
    ///
    /// # Errors
    /// When it is no leaf, or its segment is not the next one of its lane; nothing changes then.
    pub fn absorb(&mut self, entry: &[u8], full: &mut Vec<Tile>) -> Result<(), StateError> {
        let index = self.tree.size();
        let leaf = Leaf::parse(entry).map_err(|error| StateError::Leaf { index, error })?;
        let at_us = leaf.at_us();
        match leaf {
            Leaf::Segment(manifest) => {
                let (generation, lane, first) = (manifest.generation, manifest.lane(), manifest.first);
                let next = self.next.entry((generation, lane)).or_insert(0);
                if *next != first {
                    return Err(StateError::Chain { index, generation, lane, first, expected: *next });
                }
                *next = manifest.last.saturating_add(1);
            }
            Leaf::Keys(keys) => self.keys.push(keys),
            Leaf::Removal(removal) => {
                self.removed.insert(removal.leaf);
            }
            Leaf::Heartbeat { .. } => {}
        }
        self.at_us = self.at_us.max(Some(at_us));
        self.tree.push(entry, full);
        Ok(())
    }

    /// Leaves so far.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.tree.size()
    }

    /// Root over them.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.tree.root()
    }

    /// The partial tiles and bundle of this size.
    #[must_use]
    pub fn partial(&self) -> Vec<Tile> {
        self.tree.partial()
    }

    /// First offset of a lane that is not logged.
    #[must_use]
    pub fn next(&self, generation: Generation, lane: Lane) -> u64 {
        self.next.get(&(generation, lane)).copied().unwrap_or(0)
    }

    /// True when the removal of the segment that a leaf logs stands in the log.
    #[must_use]
    pub fn is_removed(&self, leaf: u64) -> bool {
        self.removed.contains(&leaf)
    }

    /// The keys stated so far.
    #[must_use]
    pub fn keys(&self) -> &[Keys] {
        &self.keys
    }

    /// True when a leaf states both keys.
    #[must_use]
    pub fn has_stated(&self, log_key: &str, deployment_key: &Digest) -> bool {
        self.keys.iter().any(|keys| keys.log_key == log_key && keys.deployment_key == *deployment_key)
    }

    /// The latest time of a leaf, in microseconds since 1970.
    #[must_use]
    pub const fn at_us(&self) -> Option<i64> {
        self.at_us
    }
}
