//! Removing a segment: the log says so first, whatever dies in between, and chains go on across it.

use bursar_schemas::evidence::Leaf;
use bursar_schemas::ports::Journal as _;

use super::journal::{LANE, TestJournal};
use super::*;

fn remover(store: &Arc<dyn ObjectStore>) -> Remover {
    Remover::new(Segments::new(Arc::clone(store), config().prefix), log().unwrap())
}

async fn removals(store: &Arc<dyn ObjectStore>) -> usize {
    let objects = objects(store, &config().prefix).await;
    let leaves = (0..).map_while(|n| objects.get(&bursar_schemas::evidence::leaf_key(n)));
    leaves.filter(|entry| matches!(Leaf::parse(entry).unwrap(), Leaf::Removal(_))).count()
}

#[tokio::test]
async fn a_removal_is_stated_once_and_finished_by_whoever_comes_next() {
    let (journal, store) = (TestJournal::default(), memory());
    journal.fill(40);
    archive(&journal, &store).await;
    let before = objects(&store, &config().prefix).await;
    let mut first = remover(&store);
    let logged = first.logged().await.unwrap();
    assert!(logged.len() > 4 && logged.iter().all(|it| it.removal.is_none()));
    let target = &logged[2];
    let leaf = first.announce(target, 30, "ops").await.unwrap();
    // It dies here: the records are still there, and the log says that they are not to be.
    let mut second = remover(&store);
    let again = second.logged().await.unwrap();
    let (stated, removal) = again[2].removal.clone().unwrap();
    assert_eq!((stated, removal.by.as_str(), removal.retention_days), (leaf, "ops", 30));
    assert!(removal.is_of(target.leaf, &target.manifest));
    assert!(
        second.is_unfinished(&again[2]).await.unwrap() && !second.is_unfinished(&again[3]).await.unwrap()
    );
    // Two at once, the first of which does not know of the second.
    assert_eq!(second.announce(&again[2], 31, "another").await.unwrap(), leaf);
    second.finish(&again[2], leaf).await.unwrap();
    assert!(!second.is_unfinished(&again[2]).await.unwrap());
    assert!(first.finish(target, leaf).await.is_err(), "a tombstone was taken for the segment");
    assert_eq!(removals(&store).await, 1);
    let after = objects(&store, &config().prefix).await;
    let changed: Vec<&String> = before.keys().filter(|key| before.get(*key) != after.get(*key)).collect();
    assert_eq!(changed, [&"log/checkpoint".to_owned(), &target.manifest.key], "nothing else is overwritten");
}

#[tokio::test]
async fn what_was_altered_is_left_alone() {
    let (journal, store) = (TestJournal::default(), memory());
    journal.fill(10);
    archive(&journal, &store).await;
    let mut remover = remover(&store);
    let logged = remover.logged().await.unwrap();
    let key = logged[0].manifest.key.clone();
    let segments = Segments::new(Arc::clone(&store), config().prefix);
    segments.replace(&key, bytes::Bytes::from_static(b"other")).await.unwrap();
    let error = remover.announce(&logged[0], 30, "ops").await.unwrap_err();
    assert!(matches!(error, RemovalError::Altered(_)), "{error}");
    assert_eq!(removals(&store).await, 0);
}

#[tokio::test]
async fn archivers_and_readers_go_on_across_what_was_removed() {
    let (journal, store) = (TestJournal::default(), memory());
    journal.fill(40);
    archive(&journal, &store).await;
    let mut remover = remover(&store);
    for it in remover.logged().await.unwrap() {
        let leaf = remover.announce(&it, 30, "ops").await.unwrap();
        remover.finish(&it, leaf).await.unwrap();
    }
    let segments = Segments::new(Arc::clone(&store), config().prefix);
    let head = follow(&segments, journal.life(), LANE, Head::default()).await.unwrap();
    assert_eq!(head.next, 40);
    assert_eq!(find_head(&segments, journal.life(), LANE, 40).await.unwrap(), head);
    journal.fill(10);
    archive(&journal, &store).await;
    let head = find_head(&segments, journal.life(), LANE, 50).await.unwrap();
    assert_eq!(head.next, 50);
    // State cannot be rebuilt from what is gone: the cut shows.
    journal.expire(45);
    let archived = ArchivedJournal::new(Arc::new(journal.clone()), Arc::new(move || Ok(segments.clone())));
    assert_eq!(archived.bounds(LANE).await.unwrap().start, 45);
}
