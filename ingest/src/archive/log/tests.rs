//! One log whoever writes it, whatever was done to it in between.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bursar_schemas::evidence::{
    BUNDLE, CHECKPOINT, Leaf, SignerKey, bundle_path, checkpoint_key, encode_bundle, leaf_key,
};
use bursar_schemas::ids::Digest;
use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload};

use super::*;
use crate::archive::tests::{check_log, objects};

const ORIGIN: &str = "log.example/test";

struct Place {
    store: Arc<dyn ObjectStore>,
    now: Arc<AtomicI64>,
}

impl Place {
    fn new() -> Self {
        Self { store: Arc::new(InMemory::new()), now: Arc::new(AtomicI64::new(1_800_000_000_000_000)) }
    }

    fn settings(&self, secret: u8) -> LogSettings {
        let now = Arc::clone(&self.now);
        LogSettings {
            signer: SignerKey::new(ORIGIN, &[secret; 32]).unwrap(),
            earlier: Vec::new(),
            deployment_key: Digest([5; 32]),
            heartbeat: None,
            copy: None,
            witnesses: Vec::new(),
            clock: Arc::new(move || now.load(Ordering::SeqCst)),
        }
    }

    fn segments(&self) -> Segments {
        Segments::new(Arc::clone(&self.store), Path::default())
    }

    fn writer(&self, secret: u8) -> LogWriter {
        LogWriter::new(self.segments(), self.settings(secret))
    }

    async fn beats(&self, writer: &mut LogWriter, count: u64) {
        for _ in 0..count {
            self.now.fetch_add(60_000_000, Ordering::SeqCst);
            writer.beat(Duration::from_secs(60)).await.unwrap();
        }
    }

    async fn check(&self, secrets: &[u8]) -> Vec<Leaf> {
        let keys: Vec<_> = secrets
            .iter()
            .map(|secret| SignerKey::new(ORIGIN, &[*secret; 32]).unwrap().verifier().clone())
            .collect();
        check_log::check(&objects(&self.store, &Path::default()).await, &keys)
    }
}

#[tokio::test]
async fn heartbeats_come_in_quiet_times_alone_and_fill_tiles() {
    let place = Place::new();
    let mut writer = place.writer(1);
    let wait = writer.beat(Duration::from_secs(60)).await.unwrap();
    assert_eq!((wait, writer.size()), (Duration::from_secs(60), 1), "the keys were just stated");
    place.now.fetch_add(59_000_000, Ordering::SeqCst);
    assert_eq!(writer.beat(Duration::from_secs(60)).await.unwrap(), Duration::from_secs(1));
    place.beats(&mut writer, 300).await;
    let leaves = place.check(&[1]).await;
    assert_eq!(leaves.len(), 301);
    assert!(matches!(leaves[0], Leaf::Keys(_)) && matches!(leaves[300], Leaf::Heartbeat { .. }));
    // Another writer goes on from bundles and leaves, whether or not the hint is there.
    place.beats(&mut place.writer(1), 1).await;
    place.store.delete(&Path::from(CHECKPOINT)).await.unwrap();
    place.beats(&mut place.writer(1), 230).await;
    assert_eq!(place.check(&[1]).await.len(), 532);
}

#[tokio::test]
async fn a_key_can_be_changed_and_both_are_on_record() {
    let place = Place::new();
    place.beats(&mut place.writer(1), 2).await;
    let mut settings = place.settings(2);
    settings.earlier = vec![place.settings(1).signer.verifier().clone()];
    let mut writer = LogWriter::new(place.segments(), settings);
    place.beats(&mut writer, 2).await;
    let leaves = place.check(&[1, 2]).await;
    let keys: Vec<_> = leaves
        .iter()
        .filter_map(|leaf| if let Leaf::Keys(keys) = leaf { Some(&keys.log_key) } else { None })
        .collect();
    assert_eq!(keys.len(), 2);
    assert_ne!(keys[0], keys[1]);
}

#[tokio::test]
async fn nothing_is_signed_on_top_of_a_changed_log() {
    let place = Place::new();
    place.beats(&mut place.writer(1), 3).await;
    let leaf = Leaf::Heartbeat { version: 1, at_us: 7 }.encode().unwrap();
    place.store.put(&Path::from(leaf_key(1)), PutPayload::from(leaf)).await.unwrap();
    let error = place.writer(1).beat(Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(error, LogError::Changed { size: 3 }), "{error}");
    // However often the same one tries.
    let mut writer = place.writer(1);
    for _ in 0..3 {
        let error = writer.beat(Duration::from_secs(1)).await.unwrap_err();
        assert!(matches!(error, LogError::Changed { size: 3 }), "{error}");
    }
    // A leaf that is none.
    place.store.put(&Path::from(leaf_key(1)), PutPayload::from_static(b"{}")).await.unwrap();
    let error = place.writer(1).beat(Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(error, LogError::State(_)), "{error}");
}

async fn size(place: &Place) -> u64 {
    u64::try_from(place.check(&[1]).await.len()).unwrap()
}

/// Puts a leaf in the log's next slot without its key; it must be neither signed nor touched, by no one.
async fn refused(place: &Place, entry: &[u8]) {
    let mut at_work = place.writer(1);
    at_work.open().await.unwrap();
    let before = objects(&place.store, &Path::default()).await;
    let key = leaf_key(at_work.size());
    place.store.put(&Path::from(key.as_str()), PutPayload::from(entry.to_vec())).await.unwrap();
    for _ in 0..2 {
        for writer in [&mut at_work, &mut place.writer(1)] {
            place.now.fetch_add(60_000_000, Ordering::SeqCst);
            let error = writer.beat(Duration::from_secs(1)).await.unwrap_err();
            assert!(matches!(&error, LogError::Unclaimed { key: named } if *named == key), "{error}");
        }
    }
    assert_eq!(place.segments().read(&key).await.unwrap().unwrap(), entry);
    // Moved away, the writer that met it goes on.
    place.store.delete(&Path::from(key.as_str())).await.unwrap();
    assert_eq!(objects(&place.store, &Path::default()).await, before);
    place.beats(&mut at_work, 1).await;
    place.check(&[1]).await;
}

#[tokio::test]
async fn what_somebody_without_the_key_puts_in_a_slot_is_not_signed() {
    let place = Place::new();
    place.beats(&mut place.writer(1), 5).await;
    let keys = Keys {
        version: LEAF_VERSION,
        at_us: 1_800_000_000_000_000,
        origin: ORIGIN.to_owned(),
        log_key: place.settings(1).signer.verifier().to_string(),
        deployment_key: Digest([66; 32]),
    };
    let removal = Removal {
        version: LEAF_VERSION,
        at_us: 1_800_000_000_000_000,
        leaf: 1,
        key: "segments/x".to_owned(),
        first: 0,
        last: 9,
        rows: 10,
        sha256: Digest([1; 32]),
        rows_root: Digest([2; 32]),
        footer: Digest([3; 32]),
        retention_days: 1,
        by: "nobody".to_owned(),
    };
    for leaf in [Leaf::Keys(keys), Leaf::Removal(removal)] {
        let statement = leaf.encode().unwrap();
        refused(&place, &statement).await;
        // With a claim by a key of his own, and for another slot by the log's key.
        let own = SignerKey::new(ORIGIN, &[7; 32]).unwrap();
        refused(&place, &claim_leaf(&statement, size(&place).await, &own)).await;
        refused(&place, &claim_leaf(&statement, 2, &place.settings(1).signer)).await;
    }
    // A leaf of the log itself, once more.
    let replayed = place.segments().read(&leaf_key(4)).await.unwrap().unwrap();
    refused(&place, &replayed).await;
    // With the hint made one of before, and gone.
    let old = place.segments().read(&checkpoint_key(3)).await.unwrap().unwrap();
    let key = leaf_key(size(&place).await);
    place.segments().put(&key, replayed).await.unwrap();
    place.segments().replace(CHECKPOINT, old).await.unwrap();
    for _ in 0..2 {
        let error = place.writer(1).open().await.unwrap_err();
        assert!(matches!(&error, LogError::Unclaimed { key: named } if *named == key), "{error}");
        place.store.delete(&Path::from(CHECKPOINT)).await.unwrap();
    }
}

#[tokio::test]
async fn a_bundle_that_somebody_else_put_is_not_signed() {
    let place = Place::new();
    let leaf = Leaf::Heartbeat { version: LEAF_VERSION, at_us: 7 }.encode().unwrap();
    let name = bundle_path(0, BUNDLE);
    let bundle = Bytes::from(encode_bundle(&vec![leaf; BUNDLE]));
    place.segments().put(&name, bundle).await.unwrap();
    let error = place.writer(1).open().await.unwrap_err();
    assert!(matches!(&error, LogError::Unclaimed { key } if *key == name), "{error}");
    assert_eq!(objects(&place.store, &Path::default()).await.len(), 1);
}

#[tokio::test]
async fn leaves_of_the_version_before_count_under_a_checkpoint_alone() {
    let place = Place::new();
    let mut state = LogState::default();
    for index in 0..3_u32 {
        let at_us = i64::from(index);
        let entry = Leaf::Heartbeat { version: LEAF_VERSION, at_us }.encode().unwrap();
        state.absorb(&entry, &mut Vec::new()).unwrap();
        place.segments().put(&leaf_key(u64::from(index)), Bytes::from(entry)).await.unwrap();
    }
    let error = place.writer(1).open().await.unwrap_err();
    assert!(matches!(&error, LogError::Unclaimed { key } if *key == leaf_key(0)), "{error}");
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: 3, root: state.root() };
    let note = Bytes::from(checkpoint.sign(&place.settings(1).signer));
    place.segments().replace(CHECKPOINT, note).await.unwrap();
    let mut writer = place.writer(1);
    writer.open().await.unwrap();
    assert_eq!((writer.size(), writer.published()), (4, 4), "it goes on and states its keys");
}

#[tokio::test]
async fn a_claim_by_an_earlier_key_counts_while_that_key_is_named() {
    let place = Place::new();
    place.beats(&mut place.writer(1), 2).await;
    place.store.delete(&Path::from(CHECKPOINT)).await.unwrap();
    let error = place.writer(2).open().await.unwrap_err();
    assert!(matches!(error, LogError::Unclaimed { .. }), "{error}");
    let earlier = vec![place.settings(1).signer.verifier().clone()];
    let settings = LogSettings { earlier, ..place.settings(2) };
    LogWriter::new(place.segments(), settings).open().await.unwrap();
    assert_eq!(place.check(&[1, 2]).await.len(), 3);
}

#[tokio::test]
async fn a_log_that_was_rolled_back_is_seen_from_the_copy() {
    let place = Place::new();
    let copy = Segments::new(Arc::new(InMemory::new()), Path::from("copy"));
    let with_copy = || {
        let settings = LogSettings { copy: Some(copy.clone()), ..place.settings(1) };
        LogWriter::new(place.segments(), settings)
    };
    place.beats(&mut with_copy(), 5).await;
    assert!(copy.read(&checkpoint_key(5)).await.unwrap().is_some());
    for index in 3..5 {
        place.store.delete(&Path::from(leaf_key(index))).await.unwrap();
    }
    let note = place.segments().read(&checkpoint_key(3)).await.unwrap().unwrap();
    place.store.put(&Path::from(CHECKPOINT), PutPayload::from(note)).await.unwrap();
    let error = with_copy().beat(Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(error, LogError::RolledBack { signed: 5, found: 3 }), "{error}");
    // Who overwrites the hint with nonsense gains nothing.
    place.store.put(&Path::from(CHECKPOINT), PutPayload::from_static(b"nonsense")).await.unwrap();
    assert!(with_copy().beat(Duration::from_secs(1)).await.is_err());
}

#[tokio::test]
async fn writers_in_turn_and_at_once_make_one_log() {
    let place = Place::new();
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let (mut writer, now) = (place.writer(1), Arc::clone(&place.now));
            tokio::spawn(async move {
                for _ in 0..50 {
                    now.fetch_add(60_000_000, Ordering::SeqCst);
                    writer.beat(Duration::from_micros(1)).await.unwrap();
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(place.check(&[1]).await.len() > 50);
    assert_eq!(place.segments().put(&leaf_key(0), Bytes::new()).await.unwrap(), Put::Taken);
}
