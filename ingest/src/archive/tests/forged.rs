//! Someone who may write to the store and holds no key: nothing of his gets a leaf or a signature.

use std::collections::BTreeMap;

use bursar_schemas::archive::segment_key;
use bursar_schemas::avro::Micros;
use bursar_schemas::evidence::{Keys, LEAF_VERSION, Leaf, leaf_key};
use bursar_schemas::ports::{Batch, Record};
use bytes::Bytes;
use object_store::{ObjectStoreExt as _, PutPayload};
use tokio::time::Instant;

use super::journal::{LANE, TestJournal, fact};
use super::*;
use crate::archive::buffer::Buffer;
use crate::archive::workshop::Scribe;

/// A segment of five records from an offset on, after that chain's end, by whoever holds a key or by nobody.
fn segment(head: Head, journal: &TestJournal, key: Option<&SignerKey>) -> Bytes {
    let start = head.next;
    let mut buffer = Buffer::new(journal.life(), LANE, head);
    let record = |offset| Record { offset, at: Micros(0), value: fact(3, offset) };
    let records = (start..start + 5).map(record).collect();
    buffer.push(Batch { records, next: start + 5 }, Instant::now());
    buffer.draft().build(&Scribe::start().unwrap(), key).unwrap().bytes
}

fn signer(secret: u8) -> SignerKey {
    SignerKey::new("log.example/test", &[secret; 32]).unwrap()
}

fn path(key: &str) -> Path {
    Path::from(format!("{}/{key}", config().prefix))
}

/// All that was signed or is to be.
async fn log_of(store: &Arc<dyn ObjectStore>) -> BTreeMap<String, Bytes> {
    let mut objects = objects(store, &config().prefix).await;
    objects.retain(|key, _| key.starts_with("log/"));
    objects
}

#[tokio::test]
async fn a_segment_that_somebody_else_put_gets_no_leaf_and_stops_its_lane_alone() {
    let (journal, store) = (TestJournal::default(), memory());
    journal.fill(20);
    archive(&journal, &store).await;
    let segments = Segments::new(Arc::clone(&store), config().prefix);
    let head = find_head(&segments, journal.life(), LANE, 20).await.unwrap();
    let key = segment_key(journal.life(), LANE, head.next);
    let signed = segment(head.clone(), &journal, Some(&signer(1)));
    let mut altered = signed.to_vec();
    // A column, while the footer still says the truth about the records.
    altered[8] ^= 1;
    let without = segment(head.clone(), &journal, None);
    let anothers = segment(head, &journal, Some(&signer(2)));
    for forged in [without, anothers, Bytes::from(altered)] {
        let before = log_of(&store).await;
        store.put(&path(&key), PutPayload::from(forged.clone())).await.unwrap();
        let handle = start(&journal, &store);
        let fault = until(&handle, |status| status.fault.is_some()).await.fault.unwrap();
        assert!(fault.contains(&key), "{fault}");
        assert_eq!(log_of(&store).await, before, "something was signed");
        assert_eq!(store.get(&path(&key)).await.unwrap().bytes().await.unwrap(), forged, "it is left alone");
        // Moved away, it is no matter any more.
        store.delete(&path(&key)).await.unwrap();
        until(&handle, |status| status.generation.is_some() && status.fault.is_none()).await;
        drop(handle);
    }
    journal.fill(5);
    archive(&journal, &store).await;
    assert_eq!(check::chain(&store, &config().prefix, journal.life()).await.rows, journal.records());
}

#[tokio::test]
async fn a_lane_at_work_does_not_go_on_over_what_somebody_else_put() {
    let (journal, store) = (TestJournal::default(), memory());
    let handle = start(&journal, &store);
    until(&handle, |status| status.generation.is_some()).await;
    let key = segment_key(journal.life(), LANE, 0);
    let forged = segment(Head::default(), &journal, Some(&signer(2)));
    store.put(&path(&key), PutPayload::from(forged)).await.unwrap();
    journal.fill(20);
    let status = until(&handle, |status| status.fault.is_some()).await;
    assert!(status.fault.unwrap().contains(&key));
    assert_eq!((status.sealed, status.adopted), (None, 0));
    store.delete(&path(&key)).await.unwrap();
    assert!(handle.stop(true).await);
    assert_eq!(check::chain(&store, &config().prefix, journal.life()).await.rows, journal.records());
}

#[tokio::test]
async fn what_a_holder_of_the_key_put_is_gone_on_from_and_without_a_log_whatever_is_there() {
    for (key, settings) in [(Some(signer(1)), log()), (None, None)] {
        let (journal, store) = (TestJournal::default(), memory());
        journal.fill(20);
        let name = segment_key(journal.life(), LANE, 0);
        let there = segment(Head::default(), &journal, key.as_ref());
        store.put(&path(&name), PutPayload::from(there)).await.unwrap();
        let handle = Archiver::start(Arc::new(journal.clone()), Arc::clone(&store), config(), settings);
        until(&handle, |status| status.sealed.is_some_and(|sealed| sealed >= 4)).await;
        assert!(handle.stop(true).await);
    }
}

#[tokio::test]
async fn a_leaf_that_somebody_else_put_is_told_and_not_signed() {
    let (journal, store) = (TestJournal::default(), memory());
    journal.fill(8);
    archive(&journal, &store).await;
    let before = log_of(&store).await;
    let index = (0..).find(|index| !before.contains_key(&leaf_key(*index))).unwrap();
    let keys = Keys {
        version: LEAF_VERSION,
        at_us: 1_800_000_000_000_000,
        origin: "log.example/test".to_owned(),
        log_key: signer(1).verifier().to_string(),
        deployment_key: Digest([66; 32]),
    };
    let forged = Bytes::from(Leaf::Keys(keys).encode().unwrap());
    store.put(&path(&leaf_key(index)), PutPayload::from(forged.clone())).await.unwrap();
    let handle = start(&journal, &store);
    journal.fill(8);
    let fault = until(&handle, |status| status.fault.is_some()).await.fault.unwrap();
    assert!(fault.contains(&leaf_key(index)), "{fault}");
    let fault = handle.log_status().unwrap().fault.unwrap();
    assert!(fault.contains(&leaf_key(index)), "{fault}");
    let mut found = log_of(&store).await;
    assert!(found.remove(&leaf_key(index)).is_some_and(|held| held == forged), "it is left alone");
    assert_eq!(found, before, "something was signed");
    store.delete(&path(&leaf_key(index))).await.unwrap();
    assert!(handle.stop(true).await);
    assert_eq!(check::chain(&store, &config().prefix, journal.life()).await.rows, journal.records());
}
