//! Records that were removed under retention: said so by the log, told by the check, and nothing can pass for it.

use bursar_ingest::archive::{Logged, Remover, Segments, open_store};
use bursar_query::evidence::{Kind, VerifyOptions, prove};
use bursar_schemas::evidence::{Leaf, leaf_key};
use bursar_schemas::position::Topic;

use super::fixture::{Copy, REQUESTS, World, assert_named, key, signer};
use super::forge::dropping;
use super::product::{ask_others, write_key};

fn remover(world: &World) -> Remover {
    let (store, prefix) = open_store(world.archive().to_str().unwrap()).unwrap();
    Remover::new(Segments::new(store, prefix), world.log_settings())
}

/// Removes the first segment of a topic.
async fn remove(world: &World, topic: &str) -> Logged {
    let mut remover = remover(world);
    let logged = remover.logged().await.unwrap();
    let target = logged.iter().find(|it| it.manifest.topic.name() == topic).unwrap().clone();
    let leaf = remover.announce(&target, 400, "grace").await.unwrap();
    remover.finish(&target, leaf).await.unwrap();
    target
}

#[tokio::test]
async fn what_was_removed_is_told_and_the_rest_still_holds() {
    let (world, _) = World::honest().await;
    let before = world.copy().verify().await;
    let mut removed = 0;
    for topic in ["requests", "spend", "limits"] {
        removed += remove(&world, topic).await.manifest.rows;
        let report = world.copy().verify().await;
        assert!(report.complete, "{topic}: {}", report.to_text());
        assert_eq!(report.rows, before.rows - removed);
        let told = report.removed.iter().find(|it| it.lane == format!("{topic}/0")).unwrap();
        assert_eq!((told.segments, told.retention_days, told.by.as_str()), (1, 400, "grace"));
        assert!(report.to_text().contains("were removed under retention"), "{}", report.to_text());
        assert_eq!(report.open_ends, [], "who ended well is not open-ended for want of its beginning");
    }
    write_key(&world);
    let report = world.copy().verify().await;
    let (archive, key) = (world.archive(), world.folder.path().join("log.pub"));
    let (leaves, rows, proven) = (report.leaves, report.rows, report.proven_facts);
    tokio::task::spawn_blocking(move || ask_others(&archive, &key, leaves, rows, proven)).await.unwrap();
}

#[tokio::test]
async fn evidence_of_a_request_says_what_could_not_be_searched() {
    let (world, request) = World::honest().await;
    remove(&world, "requests").await;
    let options = VerifyOptions { keys: vec![key()], ..VerifyOptions::default() };
    let (store, _) = open_store(world.archive().to_str().unwrap()).unwrap();
    let bundle = prove(store, &options, request).await.unwrap();
    assert_eq!((bundle.facts.len(), bundle.scanned.removed), (4, 1), "{:?}", bundle.scanned);
    let text = serde_json::to_vec(&bundle).unwrap();
    let report = bursar_query::evidence::verify_bundle(&text, &[key()]).unwrap();
    assert!(
        report.holds && report.to_text().contains("1 were removed under retention"),
        "{}",
        report.to_text()
    );
}

/// The last leaf, changed, with the log's own key, as its holder could.
fn rewrite_last(copy: &Copy, change: impl Fn(&mut bursar_schemas::evidence::Removal)) {
    let mut entries = copy.entries();
    let Leaf::Removal(mut removal) = Leaf::parse(entries.last().unwrap()).unwrap() else {
        panic!("no removal")
    };
    change(&mut removal);
    *entries.last_mut().unwrap() = Leaf::Removal(removal).encode().unwrap();
    copy.rebuild_log(&entries, &signer(1), &[entries.len()]);
}

#[tokio::test]
async fn nothing_else_passes_for_a_removal() {
    let (world, _) = World::honest().await;
    let removed = remove(&world, "requests").await;
    let name = &removed.manifest.key;
    let copy = world.copy();
    let tombstone = copy.read(name);
    copy.delete(name);
    assert_named(&copy.verify().await, Kind::Missing, name, "logs it");
    // The tombstone of another segment, or any other object, in its place.
    let other = copy.segments("requests").remove(1);
    for bytes in [copy.read(&other), b"nothing".to_vec(), tombstone[..tombstone.len() - 1].to_vec()] {
        copy.write(name, &bytes);
        assert_named(&copy.verify().await, Kind::Altered, name, "in its place stands");
    }
    copy.write(name, &tombstone);
    // A tombstone where no removal is stated.
    let sealed = copy.read(&other);
    copy.write(&other, &tombstone);
    assert_named(&copy.verify().await, Kind::Altered, &other, "");
    copy.write(&other, &sealed);
    assert!(copy.verify().await.complete);
    // A removal of what was never there, or was otherwise.
    let last = leaf_key(u64::try_from(copy.entries().len()).unwrap() - 1);
    rewrite_last(&copy, |removal| removal.rows += 1);
    assert_named(&copy.verify().await, Kind::Forged, &last, "no leaf before it logs so");
    let copy = world.copy();
    rewrite_last(&copy, |removal| removal.footer = removal.sha256);
    assert_named(&copy.verify().await, Kind::Altered, name, "another footer");
}

#[tokio::test]
async fn numbers_that_are_missing_after_a_removed_part_are_still_a_gap() {
    let mut world = World::new();
    world.round().await;
    assert_eq!(world.end_of(REQUESTS), 12);
    remove(&world, "requests").await;
    // Its producers opened in what was removed: the footer that is left says which number was due.
    world.request(&world.shim, 1);
    world.heads();
    let dropped = dropping(&world, |record, topic| topic != Topic::Requests || record.offset != 12);
    world.seal_journal(dropped).await;
    let report = world.copy().verify().await;
    assert_named(&report, Kind::Gap, "requests/0 offset 13", "numbers 12 to 12 of producer 0707");
    assert_eq!(report.findings.len(), 1, "{}", report.to_text());
}
