//! What a stranger finds in the log, by definitions of its own: names, JSON, SHA-256 and a signature.

use std::collections::{BTreeMap, BTreeSet};

use bursar_schemas::evidence::{
    Checkpoint, Leaf, VerifierKey, bundle_path, checkpoint_key, is_claimed, leaf_key, tile_path,
};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::check::root;

type Objects = BTreeMap<String, Bytes>;

fn leaf_hash(entry: &[u8]) -> Vec<u8> {
    Sha256::new().chain_update([0]).chain_update(entry).finalize().to_vec()
}

/// What the log's tiles and bundles of one size must be.
fn tiles(entries: &[Bytes]) -> Objects {
    let mut tiles = Objects::new();
    for (index, chunk) in (0..).zip(entries.chunks(256)) {
        let mut bytes = Vec::new();
        for entry in chunk {
            bytes.extend_from_slice(&u16::try_from(entry.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(entry);
        }
        tiles.insert(bundle_path(index, chunk.len()), bytes.into());
        let hashes: Vec<u8> = chunk.iter().flat_map(|entry| leaf_hash(entry)).collect();
        tiles.insert(tile_path(0, index, chunk.len()), hashes.into());
    }
    tiles
}

/// Holds the whole log to its leaves, and the leaves to the segments; returns the leaves.
pub(in crate::archive) fn check(objects: &Objects, keys: &[VerifierKey]) -> Vec<Leaf> {
    let entries: Vec<Bytes> = (0..).map_while(|index| objects.get(&leaf_key(index)).cloned()).collect();
    let leaves: Vec<Leaf> = entries.iter().map(|entry| Leaf::parse(entry).unwrap()).collect();
    for (index, entry) in (0..).zip(&entries) {
        assert!(is_claimed(entry, index, keys), "nobody claimed leaf {index}");
    }
    let mut expected: BTreeSet<String> = (0..).take(entries.len()).map(leaf_key).collect();
    let mut newest = 0;
    for (key, note) in objects
        .range("log/checkpoints/".to_owned()..)
        .take_while(|(key, _)| key.starts_with("log/checkpoints/"))
    {
        let (checkpoint, _) = Checkpoint::open(note, keys).unwrap();
        assert_eq!(*key, checkpoint_key(checkpoint.size));
        let size = usize::try_from(checkpoint.size).unwrap();
        let values: Vec<&[u8]> = entries[..size].iter().map(AsRef::as_ref).collect();
        assert_eq!(checkpoint.root.0, root(&values), "the checkpoint of size {size}");
        let tiles = tiles(&entries[..size]);
        for (name, bytes) in &tiles {
            // Once a tile is full, its partial forms may go.
            let full = name.split_once(".p/").is_some_and(|(full, _)| objects.contains_key(full));
            let found = objects.get(name);
            assert!(found == Some(bytes) || (full && found.is_none()), "{name} of size {size}");
        }
        expected.extend(tiles.into_keys());
        expected.insert(key.clone());
        newest = newest.max(size);
    }
    assert_eq!(newest, entries.len(), "leaves without a checkpoint");
    expected.insert("log/checkpoint".to_owned());
    for key in objects.keys().filter(|key| key.starts_with("log/")) {
        // Tiles of sizes that were never published, as their writer died, are no harm.
        let partial = key.contains(".p/");
        assert!(expected.contains(key) || partial, "{key} belongs to no size");
    }
    let mut logged = BTreeSet::new();
    for leaf in &leaves {
        let Leaf::Segment(manifest) = leaf else { continue };
        let object = &objects[&manifest.key];
        assert_eq!(manifest.sha256.0, <[u8; 32]>::from(Sha256::digest(object)), "{}", manifest.key);
        assert_eq!(manifest.bytes, u64::try_from(object.len()).unwrap());
        assert!(logged.insert(manifest.key.clone()), "{} is logged twice", manifest.key);
    }
    let sealed: BTreeSet<String> = objects.keys().filter(|key| key.ends_with(".parquet")).cloned().collect();
    assert_eq!(logged, sealed, "segments and leaves differ");
    leaves
}
