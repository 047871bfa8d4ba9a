//! Content is readable by whoever has the keys, and by nobody once its subject is erased; the queue never waits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{About, DropReason, Fact, Role};
use bursar_schemas::ids::{ProducerId, Pseudonym, RequestId};
use bursar_schemas::memory::MemoryJournal;
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::producer::{Identity, Recorder};
use bursar_schemas::{samples, wire};
use futures::TryStreamExt as _;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use object_store::{ObjectStore, ObjectStoreExt as _};
use sha2::{Digest as _, Sha256};

use super::*;

const CANARY: &str = "the-canary-sings-at-dawn";
const LANE: Lane = Lane::new(Topic::Requests, 0);

fn request(number: u8) -> RequestId {
    RequestId::new(1_700_000_000_000_000, [number; 10])
}

fn clear(text: &str) -> Clear {
    Clear {
        prompt: format!("ask {text}").into_bytes(),
        completion: format!("say {text}").into_bytes(),
        cut: false,
    }
}

fn item(number: u8, user: u8) -> Item {
    let about = About { request: request(number), end_user: Some(Pseudonym([user; 16])), ..samples::about() };
    Item { about: Arc::new(about), policy: 3, clear: clear(CANARY) }
}

fn vault(store: &Arc<dyn ObjectStore>, key: u8, earlier: &[u8]) -> Vault {
    let earlier = earlier.iter().map(|key| [*key; 32]);
    Vault::new(Arc::clone(store), Path::from("content"), Keyring::new([key; 32], earlier))
}

fn recorder(journal: &MemoryJournal) -> Arc<Recorder> {
    let identity = Identity::new(ProducerId([9; 16]), Role::Shim, [1; 32], &[2; 32]);
    Arc::new(Recorder::new(identity, Arc::new(journal.clone())))
}

fn facts(journal: &MemoryJournal) -> Vec<Fact> {
    let all = journal.records(LANE).into_iter().map(|record| wire::decode(&record.value).unwrap());
    all.filter(|fact| !matches!(fact, Fact::ProducerOpened(_))).collect()
}

async fn everything(store: &Arc<dyn ObjectStore>) -> Vec<u8> {
    let names = store.list(None).try_collect::<Vec<_>>().await.unwrap();
    let mut all = Vec::new();
    for meta in names {
        all.extend_from_slice(meta.location.as_ref().as_bytes());
        all.extend_from_slice(&store.get(&meta.location).await.unwrap().bytes().await.unwrap());
    }
    all
}

#[tokio::test]
async fn content_opens_with_the_key_alone_and_never_after_its_subject_is_erased() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let first = vault(&store, 1, &[]);
    let kept = first.keep("user-a", request(1), &clear(CANARY)).await.unwrap();
    first.keep("user-a", request(2), &clear("other")).await.unwrap();
    first.keep("user-b", request(3), &clear(CANARY)).await.unwrap();
    let object =
        store.get(&Path::from(format!("content/{}", kept.object))).await.unwrap().bytes().await.unwrap();
    assert_eq!(kept.sha256.0, <[u8; 32]>::from(Sha256::digest(&object)));
    assert_eq!(first.open_content(request(1)).await.unwrap(), ("user-a".to_owned(), clear(CANARY)));
    // A second put of the same request is the first one's.
    assert_eq!(first.keep("user-a", request(1), &clear("changed")).await.unwrap(), kept);
    // Another key opens nothing; one that was changed for it opens what came before.
    let stranger = vault(&store, 7, &[]);
    let error = stranger.open_content(request(1)).await.unwrap_err().to_string();
    assert!(error.contains("was not given") && !error.contains(CANARY), "{error}");
    let rotated = vault(&store, 7, &[1]);
    assert_eq!(rotated.open_content(request(1)).await.unwrap().1, clear(CANARY));
    // Under another name, for another subject, or changed by a bit, it is nothing.
    let other = Path::from(format!("content/contents/{}", request(4)));
    store.put(&other, object.clone().into()).await.unwrap();
    assert!(matches!(first.open_content(request(4)).await, Err(VaultError::Erased { .. })));
    let mut changed = object.to_vec();
    *changed.last_mut().unwrap() ^= 1;
    store.put(&Path::from(format!("content/{}", kept.object)), changed.into()).await.unwrap();
    assert!(first.open_content(request(1)).await.is_err());
    store.put(&Path::from(format!("content/{}", kept.object)), object.into()).await.unwrap();

    assert!(first.erase("user-a").await.unwrap() && !first.erase("user-a").await.unwrap());
    for number in [1, 2] {
        let error = first.open_content(request(number)).await.unwrap_err();
        assert!(matches!(error, VaultError::Erased { .. }), "{error}");
    }
    assert_eq!(first.open_content(request(3)).await.unwrap().1, clear(CANARY));
    // What is captured afterwards has a key of its own, which opens nothing from before.
    first.keep("user-a", request(5), &clear("later")).await.unwrap();
    assert_eq!(first.open_content(request(5)).await.unwrap().1, clear("later"));
    assert!(matches!(first.open_content(request(1)).await, Err(VaultError::Erased { .. })));
    let all = everything(&store).await;
    assert!(!all.windows(CANARY.len()).any(|it| it == CANARY.as_bytes()));
}

#[tokio::test]
async fn rivals_share_one_key_for_a_subject() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let (one, two) = (vault(&store, 1, &[]), vault(&store, 1, &[]));
    let (a, b) = (clear("a"), clear("b"));
    let kept = futures::future::join(one.keep("u", request(1), &a), two.keep("u", request(2), &b)).await;
    assert!(kept.0.is_ok() && kept.1.is_ok());
    assert_eq!(one.open_content(request(2)).await.unwrap().1, clear("b"));
    assert_eq!(two.open_content(request(1)).await.unwrap().1, clear("a"));
    for name in ["", "..", "a/b", "key:", "a b"] {
        assert!(matches!(one.erase(name).await, Err(VaultError::Subject)), "{name:?}");
    }
}

#[tokio::test]
async fn what_is_offered_is_kept_and_recorded_by_its_digest_alone() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let journal = MemoryJournal::new(1);
    let config = QueueConfig::default();
    let queue = Queue::start(vault(&store, 1, &[]), recorder(&journal), Arc::new(|| Micros(5)), config);
    let mut keyed = item(2, 0);
    Arc::make_mut(&mut keyed.about).end_user = None;
    queue.offer(item(1, 0xaa));
    queue.offer(keyed);
    assert!(queue.stop(Duration::from_secs(30)).await);
    let mut subjects: Vec<String> = Vec::new();
    for fact in facts(&journal) {
        let Fact::ContentKept(kept) = fact else { panic!("{fact:?}") };
        let path = Path::from(format!("content/{}", kept.object));
        let object = store.get(&path).await.unwrap().bytes().await.unwrap();
        assert_eq!(kept.object_sha256.0, <[u8; 32]>::from(Sha256::digest(&object)));
        subjects.push(kept.subject);
    }
    subjects.sort();
    assert_eq!(subjects, ["aa".repeat(16), "key:key-7".to_owned()]);
    let said: Vec<u8> = journal.records(LANE).iter().flat_map(|record| record.value.to_vec()).collect();
    assert!(!said.windows(CANARY.len()).any(|it| it == CANARY.as_bytes()));
    let reader = vault(&store, 1, &[]);
    assert_eq!(reader.open_content(request(1)).await.unwrap().1, clear(CANARY));
    assert_eq!(reader.requests().await.unwrap().len(), 2);
    reader.delete(request(1)).await.unwrap();
    assert!(matches!(reader.open_content(request(1)).await, Err(VaultError::None(_))));
    // After the end nothing is taken, and that is counted.
    queue.offer(item(3, 1));
    assert_eq!((queue.figures().kept, queue.figures().dropped, queue.figures().waiting_bytes), (2, 1, 0));
}

#[tokio::test]
async fn a_store_that_cannot_keep_up_costs_content_and_never_a_wait() {
    let slow = ThrottleConfig { wait_put_per_call: Duration::from_secs(3600), ..ThrottleConfig::default() };
    let store: Arc<dyn ObjectStore> = Arc::new(ThrottledStore::new(InMemory::new(), slow));
    let journal = MemoryJournal::new(1);
    let config = QueueConfig { most: 4, workers: 1, ..QueueConfig::default() };
    let queue = Queue::start(vault(&store, 1, &[]), recorder(&journal), Arc::new(|| Micros(5)), config);
    for number in 0..20 {
        queue.offer(item(number, 1));
    }
    assert_eq!(queue.figures().dropped, 16);
    assert!(!queue.stop(Duration::from_millis(20)).await);
    // Bytes bound it, too.
    let config = QueueConfig { most_bytes: 100, workers: 1, ..QueueConfig::default() };
    let queue = Queue::start(vault(&store, 1, &[]), recorder(&journal), Arc::new(|| Micros(5)), config);
    let size = clear(CANARY).prompt.len() + clear(CANARY).completion.len();
    for number in 0..20 {
        queue.offer(item(number, 1));
    }
    assert_eq!(queue.figures().dropped, 20 - u64::try_from(100 / size).unwrap());
}

#[tokio::test]
async fn a_store_that_fails_for_good_is_given_up_and_recorded() {
    // Whatever stands at the name of a key is no wrapped key.
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    store.put(&Path::from(format!("content/keys/{}", "01".repeat(16))), "x".into()).await.unwrap();
    let journal = MemoryJournal::new(1);
    let config = QueueConfig { retry_first: Duration::from_millis(1), ..QueueConfig::default() };
    let queue = Queue::start(vault(&store, 1, &[]), recorder(&journal), Arc::new(|| Micros(5)), config);
    queue.offer(item(1, 1));
    assert!(queue.stop(Duration::from_secs(600)).await);
    let [Fact::ContentDropped(dropped)] = &facts(&journal)[..] else { panic!("not recorded") };
    assert_eq!((dropped.about.request, dropped.drop_reason), (request(1), DropReason::StoreFailed));
    assert_eq!(queue.figures(), Figures { kept: 0, dropped: 1, waiting_bytes: 0 });
}
