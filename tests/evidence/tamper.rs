//! What can be done to the objects of an archive.

use bursar_ingest::archive::open_store;
use bursar_query::evidence::{Kind, VerifyOptions, verify};
use bursar_schemas::evidence::{CHECKPOINT, Leaf, SignerKey, checkpoint_key, leaf_key};

use super::fixture::{World, assert_named, key, signer};

#[tokio::test]
async fn an_honest_archive_holds_and_says_how_far() {
    let (world, _) = World::honest().await;
    let report = world.copy().verify().await;
    assert!(report.complete, "{}", report.to_text());
    assert_eq!(report.open_ends, []);
    let rows: u64 = ["requests", "routes", "spend", "limits"]
        .map(|topic| bursar_schemas::position::Topic::from_name(topic).unwrap())
        .iter()
        .map(|topic| world.end_of(bursar_schemas::position::Lane::new(*topic, 0)))
        .sum();
    assert_eq!((report.rows, report.proven_facts), (rows, rows));
    assert!(report.to_text().contains("Nothing after 2026-"), "{}", report.to_text());
    let note = world.copy().read(CHECKPOINT);
    let trusted = world.copy().verify_with(|options| options.trusted = Some(note)).await;
    assert!(trusted.complete && trusted.to_text().contains("is contained"));
    // Looking at a part never shows the whole.
    // With a witness's key a checkpoint must be the witness's too.
    let witness = SignerKey::new("witness.example", &[3; 32]).unwrap();
    let note = String::from_utf8(world.copy().read(CHECKPOINT)).unwrap();
    let text = note.split_once("\n\n").unwrap().0.to_owned() + "\n";
    let (witness, line) = witness.cosign(&text, 1_793_800_000).unwrap();
    let cosigned = |options: &mut VerifyOptions| {
        options.keys.push(witness.clone());
        options.trusted = Some((note.clone() + &line).into_bytes());
    };
    let report = world.copy().verify_with(cosigned).await;
    assert!(report.complete && report.notes.iter().any(|note| note.contains("cosigned by witness.example")));
    let (store, _) = open_store(world.archive().to_str().unwrap()).unwrap();
    let keys = vec![key(), witness.clone()];
    let trusted = Some(note.clone().into_bytes());
    let options = VerifyOptions { keys, trusted, ..VerifyOptions::default() };
    assert!(verify(store, &options).await.is_err(), "a checkpoint that no witness has seen was trusted");
    let sample = world.copy().verify_with(|options| options.sample = Some(3)).await;
    assert!(sample.holds() && !sample.complete && sample.segments_checked == 3, "{}", sample.to_text());
    assert!(!sample.to_text().contains("Everything"));
    let late = world.copy().verify_with(|options| options.since_us = Some(i64::MAX)).await;
    assert!(late.holds() && !late.complete && late.segments_checked == 0);
}

#[tokio::test]
async fn a_flipped_byte_of_any_object_is_named() {
    let (world, _) = World::honest().await;
    let copy = world.copy();
    let mut tried = 0;
    for name in copy.names().into_iter().filter(|name| !name.starts_with("probe/")) {
        let bytes = copy.read(&name);
        for at in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            copy.write(&name, &changed);
            let report = copy.verify().await;
            assert!(!report.holds(), "byte {at} of {name} can be flipped");
            assert!(report.findings.iter().any(|it| it.what.contains(&name)), "{name}: {}", report.to_text());
            tried += 1;
        }
        copy.write(&name, &bytes);
    }
    assert!(tried > 150, "only {tried} bytes were flipped");
    assert!(copy.verify().await.complete);
}

#[tokio::test]
async fn a_deleted_or_truncated_object_is_named() {
    let (world, _) = World::honest().await;
    let copy = world.copy();
    let last = checkpoint_key(u64::try_from(copy.entries().len()).unwrap());
    for name in copy.names().into_iter().filter(|name| !name.starts_with("probe/")) {
        let bytes = copy.read(&name);
        copy.write(&name, &bytes[..bytes.len() - 1]);
        let cut = copy.verify().await;
        assert!(cut.findings.iter().any(|it| it.what.contains(&name)), "cut: {name}: {}", cut.to_text());
        copy.delete(&name);
        let gone = copy.verify().await;
        // An older checkpoint that is gone takes nothing with it: a later one covers the same leaves.
        let older = name.starts_with("log/checkpoints/") && name != last;
        let named = gone.findings.iter().any(|it| it.kind == Kind::Missing && it.what.contains(&name));
        assert!(named || older, "deleted: {name}: {}", gone.to_text());
        copy.write(&name, &bytes);
    }
    assert!(copy.verify().await.complete);
}

#[tokio::test]
async fn swapped_doubled_and_foreign_objects_are_named() {
    let (world, _) = World::honest().await;
    let copy = world.copy();
    let spend = copy.segments("spend");
    let (one, two) = (copy.read(&spend[0]), copy.read(&spend[1]));
    copy.write(&spend[0], &two);
    copy.write(&spend[1], &one);
    let report = copy.verify().await;
    assert_named(&report, Kind::Reordered, &spend[0], &format!("holds the bytes of {}", spend[1]));
    assert_named(&report, Kind::Reordered, &spend[1], &format!("holds the bytes of {}", spend[0]));
    copy.write(&spend[0], &one);
    copy.write(&spend[1], &two);

    // Under the name that is next in its chain, and under others.
    let next = spend[0].rsplit_once('/').unwrap().0.to_owned()
        + &format!("/{:020}.parquet", world.end_of(super::fixture::SPEND));
    copy.write(&next, &two);
    assert_named(&copy.verify().await, Kind::Doubled, &next, &spend[1]);
    copy.delete(&next);
    for foreign in [
        "segments/readme.txt",
        "notes.txt",
        "log/leaf/99",
        "log/tile/0/000.p/200",
        "log/tile/0/001",
        "log/leaf/00000000000000000900",
    ] {
        copy.write(foreign, b"hello");
        let report = copy.verify().await;
        assert!(report.findings.iter().any(|it| it.what == foreign), "{foreign}: {}", report.to_text());
        copy.delete(foreign);
    }
    copy.write(&spend[0].replace("/spend/", "/routes/"), &one);
    assert!(!copy.verify().await.holds());
}

#[tokio::test]
async fn a_segment_that_was_never_logged_counts_for_nothing() {
    let (world, _) = World::honest().await;
    let before = world.copy();
    world.now.fetch_add(1_000_000, std::sync::atomic::Ordering::SeqCst);
    let shim = super::fixture::recorder(&world.journal, bursar_schemas::facts::Role::Shim, 9, &[40; 32]);
    world.request(&shim, 1);
    world.seal().await;
    let after = world.copy();
    let new: Vec<String> =
        after.segments("spend").into_iter().filter(|it| !before.names().contains(it)).collect();
    before.write(&new[0], &after.read(&new[0]));
    assert_named(&before.verify().await, Kind::Unlogged, &new[0], "no leaf vouches for it");
}

#[tokio::test]
async fn checkpoints_by_another_key_are_named_each() {
    let (world, _) = World::honest().await;
    let copy = world.copy();
    let entries = copy.entries();
    let sizes: Vec<usize> = (1..=entries.len()).collect();
    copy.rebuild_log(&entries, &signer(2), &sizes);
    let report = copy.verify().await;
    for size in (1..).take(entries.len()) {
        assert_named(&report, Kind::Forged, &checkpoint_key(size), "signed by none");
    }
    // With the right key the very same leaves hold.
    copy.rebuild_log(&entries, &signer(1), &sizes);
    assert!(copy.verify().await.complete);
}

#[tokio::test]
async fn whoever_holds_the_logs_key_cannot_rewrite_what_was_seen_outside() {
    let (world, _) = World::honest().await;
    let copy = world.copy();
    let entries = copy.entries();
    let outside = copy.read(&checkpoint_key(9));
    // A leaf backdated by a day, everything signed anew.
    let mut forked = entries.clone();
    let Leaf::Segment(mut manifest) = Leaf::parse(&entries[4]).unwrap() else {
        panic!("leaf 4 is a segment's")
    };
    manifest.at_us -= 86_400_000_000;
    forked[4] = Leaf::Segment(manifest).encode().unwrap();
    copy.rebuild_log(&forked, &signer(1), &[forked.len()]);
    let report = copy.verify_with(|options| options.trusted = Some(outside.clone())).await;
    assert_named(&report, Kind::Backdated, &leaf_key(4), "comes after");
    assert_named(&report, Kind::Forked, "log of 9 leaves", "another root");
    // The old checkpoint, where it was kept in the archive, tells too.
    copy.write(&checkpoint_key(9), &outside);
    assert_named(&copy.verify().await, Kind::Forked, &checkpoint_key(9), "another root");
}

#[tokio::test]
async fn an_archive_rolled_back_as_a_whole_needs_a_checkpoint_from_outside() {
    let mut world = World::new();
    world.round().await;
    let old = world.copy();
    world.round().await;
    let outside = world.copy().read(CHECKPOINT);
    let believed = old.verify().await;
    assert!(believed.complete && believed.to_text().contains("No trusted checkpoint was given"));
    let report = old.verify_with(|options| options.trusted = Some(outside)).await;
    assert_named(&report, Kind::RolledBack, "log", "leaves");
    assert!(report.to_text().contains("NOT contained"));
}

#[tokio::test]
async fn segments_dropped_with_their_leaves_leave_a_hole() {
    let (world, _) = World::honest().await;
    let copy = world.copy();
    let spend = copy.segments("spend");
    let entries: Vec<Vec<u8>> =
        copy.entries().into_iter().filter(|it| !String::from_utf8_lossy(it).contains(&spend[1])).collect();
    copy.delete(&spend[1]);
    copy.rebuild_log(&entries, &signer(1), &[entries.len()]);
    assert_named(&copy.verify().await, Kind::Missing, "spend/0", "no leaf before");
    // A leaf that comes twice.
    let mut twice = world.copy().entries();
    twice.push(twice[4].clone());
    let copy = world.copy();
    copy.rebuild_log(&twice, &signer(1), &[twice.len()]);
    assert_named(
        &copy.verify().await,
        Kind::Doubled,
        &leaf_key(u64::try_from(twice.len() - 1).unwrap()),
        "before",
    );
}
