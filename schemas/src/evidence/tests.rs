//! Held to the formats' own examples, to naive definitions and to implementations by other hands.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ct_merkle::{ConsistencyProof, InclusionProof};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::archive::Footer;
use crate::facts::Fact;
use crate::ids::{Digest, Generation};
use crate::merkle::{RootBuilder, leaf_hash};
use crate::position::Topic;

fn entries(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|n| format!("entry {n}").into_bytes()).collect()
}

fn joined(path: &[Digest]) -> Vec<u8> {
    path.iter().flat_map(|hash| hash.0).collect()
}

#[test]
fn roots_and_proofs_agree_with_ct_merkle() {
    let mut theirs = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    let (mut ours, mut builder) = (Vec::new(), RootBuilder::default());
    for (n, entry) in entries(70).into_iter().enumerate() {
        theirs.push(entry.clone());
        builder.push(&entry);
        ours.push(leaf_hash(&entry));
        let size = n + 1;
        assert_eq!(theirs.root().as_bytes().as_slice(), root_of(&ours).0, "{size} leaves");
        assert_eq!(builder.root(), root_of(&ours));
        for index in 0..size {
            let path = inclusion_proof(&ours, index);
            assert_eq!(theirs.prove_inclusion(index).as_bytes(), joined(&path), "{index} of {size}");
            let theirs_reads = InclusionProof::<Sha256>::from_bytes(joined(&path));
            let entry = &entries(70)[index];
            theirs.root().verify_inclusion(entry, index as u64, &theirs_reads).unwrap();
            let (index, size, root) = (index as u64, size as u64, root_of(&ours));
            verify_inclusion(leaf_hash(entry), index, size, &path, &root).unwrap();
            assert!(verify_inclusion(leaf_hash(b"x"), index, size, &path, &root).is_err());
            assert!(
                verify_inclusion(leaf_hash(entry), (index + 1) % size, size, &path, &root).is_err()
                    || size == 1
            );
            assert!(verify_inclusion(leaf_hash(entry), index, size + 64, &path, &root).is_err());
        }
        for first in 1..=size {
            let path = consistency_proof(&ours, first);
            assert_eq!(theirs.prove_consistency(size - first).as_bytes(), joined(&path), "{first} to {size}");
            ConsistencyProof::<Sha256>::try_from_bytes(joined(&path)).unwrap();
            let (old, new) = (root_of(&ours[..first]), root_of(&ours));
            let (first, size) = (first as u64, size as u64);
            verify_consistency((first, &old), (size, &new), &path).unwrap();
            assert!(verify_consistency((first, &new), (size, &old), &path).is_err() || first == size);
            let wrong = leaf_hash(b"x");
            assert!(verify_consistency((first, &wrong), (size, &new), &path).is_err());
            assert!(verify_consistency((first, &old), (size, &wrong), &path).is_err());
        }
    }
}

/// The tiles of a log whose leaves have those hashes, by name.
fn tiles_of(leaves: &[Digest]) -> BTreeMap<String, Vec<u8>> {
    let (mut tiles, mut hashes, mut level) = (BTreeMap::new(), leaves.to_vec(), 0);
    while !hashes.is_empty() {
        for (index, chunk) in hashes.chunks(256).enumerate() {
            tiles.insert(tile_path(level, index as u64, chunk.len()), joined(chunk));
        }
        hashes = hashes.chunks_exact(256).map(root_of).collect();
        level += 1;
    }
    tiles
}

/// A consistency proof from tiles alone, and how many of them it takes.
fn proof_from(tiles: &BTreeMap<String, Vec<u8>>, first: usize, size: usize) -> (Vec<Digest>, usize) {
    let (first, size) = (first as u64, size as u64);
    let read = std::cell::RefCell::new(std::collections::BTreeSet::new());
    let hash = |subtree: Subtree| {
        let place = subtree.place(size).unwrap();
        let name = tile_path(place.level, place.index, place.width);
        read.borrow_mut().insert(name.clone());
        place.hash(&tiles[&name])
    };
    let proof = consistency_proof_from(first, size, hash).unwrap();
    (proof, read.into_inner().len())
}

#[test]
fn consistency_follows_from_tiles_alone() {
    let mut theirs = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    let mut ours = Vec::new();
    for (n, entry) in entries(300).into_iter().enumerate() {
        ours.push(leaf_hash(&entry));
        theirs.push(entry);
        let (size, tiles) = (n + 1, tiles_of(&ours));
        for first in 1..size {
            let (proof, _) = proof_from(&tiles, first, size);
            assert_eq!(
                theirs.prove_consistency(size - first).as_bytes(),
                joined(&proof),
                "{first} to {size}"
            );
        }
        for first in [0, size, size + 1] {
            assert!(consistency_subtrees(first as u64, size as u64).is_empty(), "{first} to {size}");
        }
    }
    // Sizes drawn once: of three levels, and around the edges of tiles.
    let all: Vec<Digest> = entries(70_000).iter().map(|entry| leaf_hash(entry)).collect();
    for (first, size) in [
        (1, 65_536),
        (65_535, 65_536),
        (65_536, 65_537),
        (255, 65_793),
        (256, 66_049),
        (257, 69_999),
        (12_345, 54_321),
        (40_961, 70_000),
        (65_537, 65_538),
    ] {
        let leaves = &all[..size];
        let (proof, tiles) = proof_from(&tiles_of(leaves), first, size);
        assert_eq!(proof, consistency_proof(leaves, first), "{first} to {size}");
        let (old, new) = (root_of(&leaves[..first]), root_of(leaves));
        verify_consistency((first as u64, &old), (size as u64, &new), &proof).unwrap();
        assert!(tiles <= 6, "{first} to {size} takes {tiles} tiles");
    }
    assert_eq!(Subtree { height: 3, index: 1 }.place(15), None, "it has a leaf more than the log");
    let tile = Subtree { height: 0, index: 9 }.place(10).unwrap();
    assert_eq!((tile.level, tile.index, tile.width), (0, 0, 10));
    assert_eq!(tile.hash(&[0; 319]), None, "a tile that is cut off");
}

/// By the definition: a tile's hashes are roots over 256^level leaves each.
fn tiles_by_definition(leaves: &[Vec<u8>]) -> BTreeMap<String, Vec<u8>> {
    let hashes: Vec<Digest> = leaves.iter().map(|entry| leaf_hash(entry)).collect();
    let mut tiles = tiles_of(&hashes);
    for (index, chunk) in leaves.chunks(256).enumerate() {
        tiles.insert(bundle_path(index as u64, chunk.len()), encode_bundle(chunk));
    }
    tiles
}

#[test]
fn tiles_grown_leaf_by_leaf_follow_the_definition() {
    let all = entries(66_000);
    let mut tree = TileTree::default();
    let mut full = Vec::new();
    for (n, entry) in all.iter().enumerate() {
        tree.push(entry, &mut full);
        if [1, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 66_000].contains(&(n + 1)) {
            let mut found: BTreeMap<_, _> =
                full.iter().map(|tile| (tile.key.clone(), tile.bytes.clone())).collect();
            found.extend(tree.partial().into_iter().map(|tile| (tile.key, tile.bytes)));
            assert_eq!(found, tiles_by_definition(&all[..=n]), "{} leaves", n + 1);
        }
    }
    for tile in full.iter().chain(&tree.partial()) {
        let names = (parse_tile_path(&tile.key).is_some(), parse_bundle_path(&tile.key).is_some());
        assert!(names.0 != names.1, "{}", tile.key);
    }
}

#[test]
fn names_are_those_of_the_specification() {
    assert_eq!(tile_path(0, 1_234_067, 256), "log/tile/0/x001/x234/067");
    assert_eq!(bundle_path(67, 9), "log/tile/entries/067.p/9");
    assert_eq!(parse_tile_path("log/tile/0/x001/x234/067"), Some((0, 1_234_067, 256)));
    for foreign in [
        "log/tile/0/x001/234/067",
        "log/tile/0/67",
        "log/tile/0/067.p/256",
        "log/tile/x/067",
        "log/tile/0/067.p/0",
    ] {
        assert_eq!(parse_tile_path(foreign), None, "{foreign}");
    }
    assert_eq!(parse_bundle(&encode_bundle(&entries(3))).unwrap().len(), 3);
    assert!(parse_bundle(&encode_bundle(&entries(3))[..10]).is_none());
    assert_eq!(parse_numbered(LEAVES, &leaf_key(41)), Some(41));
    assert_eq!(parse_numbered(LEAVES, "log/leaf/41"), None);
    let cosigned = cosigned_key(41, [0, 0xab, 1, 2]);
    assert_eq!(cosigned, "log/cosigned/00000000000000000041/00ab0102");
    assert_eq!(parse_cosigned(&cosigned), Some((41, [0, 0xab, 1, 2])));
    for foreign in
        ["log/cosigned/41/00ab0102", "log/cosigned/00000000000000000041/00AB0102", "log/cosigned/ab"]
    {
        assert_eq!(parse_cosigned(foreign), None, "{foreign}");
    }
}

#[test]
fn keys_and_notes_read_as_the_specification_shows() {
    // A key and a note by another implementation, published as an example.
    let text = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    let key: VerifierKey = text.parse().unwrap();
    assert_eq!(key.to_string(), text);
    assert!(text.replace("530d903a", "530d903b").parse::<VerifierKey>().is_err(), "an id that is another's");
    let example = "This is an example message.\n\n\u{2014} example.com/foo \
        Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
    let note = Note::parse(example.as_bytes()).unwrap();
    assert_eq!(note.verify(std::slice::from_ref(&key)).unwrap()[0].0, &key);
    let changed = Note::parse(example.replace("example message", "exemple message").as_bytes()).unwrap();
    assert!(changed.verify(&[key]).is_err());
    let signer = SignerKey::new("example.com/log", &[9; 32]).unwrap();
    let checkpoint = Checkpoint { origin: "example.com/log".to_owned(), size: 5, root: leaf_hash(b"x") };
    let note = checkpoint.sign(&signer);
    let keys = [signer.verifier().clone()];
    assert_eq!(Checkpoint::open(note.as_bytes(), &keys).unwrap().0, checkpoint);
    let other = SignerKey::new("example.com/log", &[8; 32]).unwrap();
    assert_eq!(Checkpoint::open(note.as_bytes(), &[other.verifier().clone()]), Err(NoteError::NotSigned));
    let changed = note.replace("\n5\n", "\n6\n");
    assert!(matches!(Checkpoint::open(changed.as_bytes(), &keys), Err(NoteError::Signature { .. })));
    // A key that signs, but not as this log.
    let stranger = SignerKey::new("example.com/other", &[9; 32]).unwrap();
    let foreign = checkpoint.sign(&stranger);
    assert!(Checkpoint::open(foreign.as_bytes(), &[stranger.verifier().clone()]).is_err());
    for broken in ["", "a\n", "a\n\n", "a\n\nx\n", "a\n\n\u{2014} b\n", &note[..note.len() - 1]] {
        assert!(Note::parse(broken.as_bytes()).is_err(), "{broken:?}");
    }
}

#[test]
fn a_witness_signs_a_time_and_the_text() {
    let log = SignerKey::new("example.com/log", &[9; 32]).unwrap();
    let witness = SignerKey::new("witness.example", &[3; 32]).unwrap();
    let checkpoint = Checkpoint { origin: "example.com/log".to_owned(), size: 5, root: leaf_hash(b"x") };
    let (key, line) = witness.cosign(&checkpoint.text(), 1_800_000_000).unwrap();
    let note = checkpoint.sign(&log) + &line;
    let keys = [log.verifier().clone(), key.clone()];
    let written = note;
    let (_, note) = Checkpoint::open(written.as_bytes(), &keys).unwrap();
    assert_eq!(note.to_text(), written);
    let signed = note.verify(&keys).unwrap();
    assert_eq!(signed[1].0, &key);
    assert_eq!(signed[1].1.cosigned_at(), Some(1_800_000_000));
    let mut late = note.clone();
    late.signatures[1].bytes[7] ^= 1;
    assert!(late.verify(&keys).is_err(), "a witness's time can be altered");
}

#[test]
fn fingerprints_are_those_of_avro() {
    for (kind, id, _) in Fact::KINDS {
        let schema = Fact::schema(*id).unwrap();
        let theirs = apache_avro::Schema::parse(&schema).unwrap().canonical_form();
        // The specification writes a primitive by its name alone; that crate leaves logical types in full.
        let theirs = ["long", "bytes", "string"]
            .iter() // And a decimal's attributes, which the form leaves out.
            .fold(theirs.replace(",\"precision\":38,\"scale\":12", ""), |form, name| {
                form.replace(&format!("{{\"type\":\"{name}\"}}"), &format!("\"{name}\""))
            });
        assert_eq!(super::fingerprint::canonical_form(&schema), theirs, "{kind}");
        assert_eq!(fingerprint(&schema).0, <[u8; 32]>::from(Sha256::digest(theirs.as_bytes())));
    }
    assert_ne!(contract_fingerprint(Topic::Limits), contract_fingerprint(Topic::Policy));
}

fn manifest(start: u64, end: u64) -> Manifest {
    let footer = Footer {
        version: 1,
        generation: Generation([4; 16]),
        topic: Topic::Spend,
        partition: 3,
        start,
        end,
        rows: end - start + 1,
        skipped: Vec::new(),
        lost: Vec::new(),
        rows_root: leaf_hash(b"rows"),
        producers: BTreeMap::new(),
        times_us: Some((1, 2)),
    };
    Manifest::new(&footer, 77, leaf_hash(b"object"), 1_700_000_000_000_000)
}

#[test]
fn a_leaf_has_one_form_and_contradicts_itself_nowhere() {
    let leaf = Leaf::Segment(manifest(5, 9));
    let entry = leaf.encode().unwrap();
    assert!(entry.len() < 1024, "{} bytes", entry.len());
    assert_eq!(Leaf::parse(&entry).unwrap(), leaf);
    let text = String::from_utf8(entry).unwrap();
    assert!(text.starts_with("{\"kind\":\"segment\",\"version\":1,\"at_us\":"), "{text}");
    for (from, to) in [
        ("\"version\":1", "\"version\":2"),
        ("\"version\":1", "\"version\": 1"),
        ("\"first\":5", "\"first\":6"),
        ("\"last\":9", "\"last\":4"),
        ("\"rows\":5", "\"rows\":6"),
        ("\"rows\":5", "\"rows\":5,\"more\":1"),
        ("segment", "segments"),
    ] {
        assert!(Leaf::parse(text.replacen(from, to, 1).as_bytes()).is_err(), "{from} as {to}");
    }
}

#[test]
fn a_claim_is_of_one_leaf_in_one_slot_by_one_key() {
    let signer = SignerKey::new("example.com/log", &[9; 32]).unwrap();
    let other = SignerKey::new("example.com/log", &[8; 32]).unwrap();
    let namesake = SignerKey::new("example.com/other", &[9; 32]).unwrap();
    let keys = [other.verifier().clone(), signer.verifier().clone()];
    let leaf = Leaf::Segment(manifest(5, 9));
    let statement = leaf.encode().unwrap();
    let entry = claim_leaf(&statement, 7, &signer);
    assert_eq!(Leaf::parse(&entry).unwrap(), leaf);
    assert_eq!(entry.len(), statement.len() + 99);
    assert!(is_claimed(&entry, 7, &keys) && is_claimed(&claim_leaf(&statement, 7, &other), 7, &keys));
    assert!(!is_claimed(&statement, 7, &keys) && !is_claimed(&entry, 8, &keys));
    assert!(!is_claimed(&entry, 7, &keys[..1]) && !is_claimed(&entry, 7, &[namesake.verifier().clone()]));
    let text = String::from_utf8(entry).unwrap();
    let changed = text.replacen("\"bytes\":77", "\"bytes\":78", 1);
    assert!(Leaf::parse(changed.as_bytes()).is_ok() && !is_claimed(changed.as_bytes(), 7, &keys));
    for broken in [text.replace("=\"}", "\"}"), text.replace("claim", "claims")] {
        assert!(Leaf::parse(broken.as_bytes()).is_err(), "{broken}");
    }
    // Twice is not its form.
    let twice = claim_leaf(text.as_bytes(), 7, &signer);
    assert!(Leaf::parse(&twice).is_err());
}

#[test]
fn a_log_takes_only_the_next_segment_of_a_lane() {
    let mut state = LogState::default();
    let mut full = Vec::new();
    let mut take = |leaf: Leaf| state.absorb(&leaf.encode().unwrap(), &mut full);
    take(Leaf::Segment(manifest(0, 4))).unwrap();
    assert!(take(Leaf::Segment(manifest(0, 4))).is_err(), "a segment is logged twice");
    assert!(take(Leaf::Segment(manifest(6, 9))).is_err(), "a hole");
    take(Leaf::Heartbeat { version: 1, at_us: 7 }).unwrap();
    take(Leaf::Segment(manifest(5, 9))).unwrap();
    let sealed = manifest(5, 9);
    let removal = Removal {
        version: 1,
        at_us: 8,
        leaf: 2,
        key: sealed.key.clone(),
        first: 5,
        last: 9,
        rows: sealed.rows,
        sha256: sealed.sha256,
        rows_root: sealed.rows_root,
        footer: leaf_hash(b"footer"),
        retention_days: 400,
        by: "grace".to_owned(),
    };
    assert!(removal.is_of(2, &sealed) && !removal.is_of(1, &sealed) && !removal.is_of(2, &manifest(0, 4)));
    let leaf = Leaf::Removal(removal);
    assert_eq!(Leaf::parse(&leaf.encode().unwrap()).unwrap(), leaf);
    take(leaf).unwrap();
    assert!(state.is_removed(2) && !state.is_removed(0));
    assert_eq!(state.size(), 4);
    assert_eq!(state.next(Generation([4; 16]), crate::position::Lane::new(Topic::Spend, 3)), 10);
    assert_eq!(state.at_us(), Some(1_700_000_000_000_000));
}

#[test]
fn a_proof_file_reads_back_and_holds_only_its_entry() {
    let all = entries(11);
    let hashes: Vec<Digest> = all.iter().map(|entry| leaf_hash(entry)).collect();
    let signer = SignerKey::new("example.com/log", &[9; 32]).unwrap();
    let checkpoint = Checkpoint { origin: "example.com/log".to_owned(), size: 11, root: root_of(&hashes) };
    let proof = Proof { index: 4, path: inclusion_proof(&hashes, 4), checkpoint: checkpoint.sign(&signer) };
    let read = Proof::parse(&proof.to_text()).unwrap();
    assert_eq!(read, proof);
    let keys = [signer.verifier().clone()];
    assert_eq!(read.verify(&all[4], &keys).unwrap(), checkpoint);
    assert!(read.verify(&all[5], &keys).is_err());
    let other = SignerKey::new("example.com/log", &[8; 32]).unwrap();
    assert!(read.verify(&all[4], &[other.verifier().clone()]).is_err());
}
