//! Tiles and entry bundles (C2SP tlog-tiles): 256 hashes, or 256 leaves, an object.

use sha2::{Digest as _, Sha256};

use super::LOG;
use crate::ids::Digest;
use crate::merkle::{RootBuilder, leaf_hash, node_hash};

/// Hashes of a full tile.
pub const TILE: usize = 256;

/// Leaves of a full entry bundle.
pub const BUNDLE: usize = 256;

/// An object of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// Its name under the store's root.
    pub key: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A tile's or bundle's number in groups of three digits, all but the last with an x before them.
fn index_path(index: u64, width: usize) -> String {
    let mut path = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    if width < TILE { format!("{path}.p/{width}") } else { path }
}

fn parse_index_path(path: &str) -> Option<(u64, usize)> {
    let (path, width) = match path.split_once(".p/") {
        Some((path, width)) => (path, width.parse().ok().filter(|width| (1..TILE).contains(width))?),
        None => (path, TILE),
    };
    let mut index: u64 = 0;
    for group in path.split('/') {
        let digits: u64 = group.strip_prefix('x').unwrap_or(group).parse().ok()?;
        index = index.checked_mul(1000)?.checked_add(digits)?;
    }
    Some((index, width))
}

/// Name of a tile of so many hashes.
#[must_use]
pub fn tile_path(level: usize, index: u64, width: usize) -> String {
    format!("{LOG}/tile/{level}/{}", index_path(index, width))
}

/// Name of a bundle of so many leaves.
#[must_use]
pub fn bundle_path(index: u64, width: usize) -> String {
    format!("{LOG}/tile/entries/{}", index_path(index, width))
}

/// Reads a tile's name back as level, number and width; none for a foreign object.
#[must_use]
pub fn parse_tile_path(key: &str) -> Option<(usize, u64, usize)> {
    let (level, path) = key.strip_prefix(LOG)?.strip_prefix("/tile/")?.split_once('/')?;
    let level = level.parse().ok().filter(|level| *level < 8)?;
    let (index, width) = parse_index_path(path)?;
    (tile_path(level, index, width) == key).then_some((level, index, width))
}

/// Reads a bundle's name back as number and width; none for a foreign object.
#[must_use]
pub fn parse_bundle_path(key: &str) -> Option<(u64, usize)> {
    let path = key.strip_prefix(LOG)?.strip_prefix("/tile/entries/")?;
    let (index, width) = parse_index_path(path)?;
    (bundle_path(index, width) == key).then_some((index, width))
}

/// A bundle's bytes: each leaf after its length as two big-endian bytes. A longer leaf cannot be in a bundle.
#[must_use]
pub fn encode_bundle(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        let length = u16::try_from(entry.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(entry.get(..usize::from(length)).unwrap_or_default());
    }
    bytes
}

/// The leaves of a bundle; none when its bytes are not one.
#[must_use]
pub fn parse_bundle(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut entries = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let (entry, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        entries.push(entry);
        bytes = rest;
    }
    (bytes.is_empty() && entries.len() <= BUNDLE).then_some(entries)
}

/// Hash of a complete subtree over a power of two of hashes.
pub(super) fn perfect(hashes: &[Digest]) -> Digest {
    let mut level = hashes.to_vec();
    while level.len() > 1 {
        level = level.chunks(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
    }
    level.first().copied().unwrap_or_else(|| Digest(Sha256::digest([]).into()))
}

fn tile_bytes(hashes: &[Digest]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// The right edge of the log: what is needed to grow its tiles leaf by leaf.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TileTree {
    root: RootBuilder,
    size: u64,
    /// Hashes of the incomplete tile of each level.
    levels: Vec<Vec<Digest>>,
    /// Leaves of the incomplete bundle.
    entries: Vec<Vec<u8>>,
}

impl TileTree {
    /// Leaves so far.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Root over them.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.root.root()
    }

    /// Adds a leaf; full tiles and bundles that it completes are handed out, to be kept for ever.
    pub fn push(&mut self, entry: &[u8], full: &mut Vec<Tile>) {
        let mut hash = leaf_hash(entry);
        self.root.push_hash(hash);
        self.entries.push(entry.to_vec());
        let number = self.size >> 8;
        self.size += 1;
        if self.entries.len() == BUNDLE {
            full.push(Tile { key: bundle_path(number, BUNDLE), bytes: encode_bundle(&self.entries) });
            self.entries.clear();
        }
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::with_capacity(TILE));
            }
            let Some(hashes) = self.levels.get_mut(level) else { return };
            hashes.push(hash);
            if hashes.len() < TILE {
                return;
            }
            let index = (self.size - 1) >> (8 * (level + 1)).min(63);
            full.push(Tile { key: tile_path(level, index, TILE), bytes: tile_bytes(hashes) });
            hash = perfect(hashes);
            hashes.clear();
        }
    }

    /// The partial tiles and the partial bundle of this size.
    #[must_use]
    pub fn partial(&self) -> Vec<Tile> {
        let mut tiles = Vec::new();
        if !self.entries.is_empty() {
            let key = bundle_path(self.size >> 8, self.entries.len());
            tiles.push(Tile { key, bytes: encode_bundle(&self.entries) });
        }
        for (level, hashes) in self.levels.iter().enumerate().filter(|(_, hashes)| !hashes.is_empty()) {
            let index = self.size >> (8 * (level + 1)).min(63);
            tiles.push(Tile { key: tile_path(level, index, hashes.len()), bytes: tile_bytes(hashes) });
        }
        tiles
    }
}
