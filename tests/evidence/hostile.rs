//! What whoever holds a key, or only the folder, can do to make the check pass, hang or break off.

use bursar_ingest::archive::open_store;
use bursar_query::evidence::{Kind, VerifyOptions, prove, verify_bundle};
use bursar_schemas::evidence::{CHECKPOINT, Checkpoint, Leaf, checkpoint_key, cosigned_key, leaf_key};
use bursar_schemas::facts::{CreditReason, Fact, Head, LeaseCredited, LeaseReturned, Role};
use bursar_schemas::ids::{Digest, ProducerId};
use bursar_schemas::money::Money;
use bursar_schemas::ports::{Entry, Outlet as _};
use bursar_schemas::position::Lane;
use bursar_schemas::producer::Draft;
use bursar_schemas::wire;

use super::fixture::{
    Copy, LIMITS, REQUESTS, SPEND, World, account, assert_named, dollars, recorder, signer,
};

fn append(world: &World, lane: Lane, value: Vec<u8>) {
    drop(world.journal.append(vec![Entry { lane, value: value.into(), at: world.at() }]).unwrap());
}

fn in_the_name_of(world: &World, producer: u8, number: u64) -> Vec<u8> {
    let mut fact = world.fact("RequestOpened", bursar_schemas::samples::REQUEST);
    let head = fact.head_mut();
    (head.producer, head.role, head.number) = (ProducerId([producer; 16]), Role::Shim, number);
    wire::encode(&fact)
}

#[tokio::test]
async fn a_certificate_that_is_cut_off_certifies_nobody() {
    let mut world = World::new();
    world.round().await;
    // The opening record of another producer, cut off behind its head.
    let stranger = recorder(&world.journal, Role::Shim, 66, &[40; 32]);
    let aside = World::new();
    let beside = recorder(&aside.journal, Role::Shim, 66, &[40; 32]);
    aside.request(&beside, 1);
    drop(stranger);
    let of_it = aside.journal.records(REQUESTS).into_iter().find(|record| {
        let fact = wire::decode(&record.value).unwrap();
        fact.kind() == "ProducerOpened" && fact.head().producer == ProducerId([66; 16])
    });
    let opened = of_it.unwrap().value;
    append(&world, REQUESTS, opened[..opened.len() - 40].to_vec());
    append(&world, REQUESTS, in_the_name_of(&world, 66, 1));
    world.round().await;
    assert_named(&world.copy().verify().await, Kind::Forged, "requests/0", "cannot be read");
}

#[tokio::test]
async fn numbers_that_were_taken_before_their_producer_wrote_are_named() {
    let mut world = World::new();
    world.round().await;
    let next = world.end_of(REQUESTS);
    for number in next..next + 40 {
        append(&world, REQUESTS, in_the_name_of(&world, 7, number));
    }
    // All that the shim itself writes now, its head too, comes under numbers that are taken.
    world.heads();
    world.round().await;
    assert_named(&world.copy().verify().await, Kind::Forged, "requests/0", "");
    // Without a word of its own: its facts alone.
    let mut world = World::new();
    world.round().await;
    let next = world.end_of(REQUESTS);
    append(&world, REQUESTS, in_the_name_of(&world, 7, next));
    world.request(&world.shim, 9);
    world.seal().await;
    assert_named(&world.copy().verify().await, Kind::Forged, "requests/0", "came before with other bytes");
}

fn credit(world: &World, number: u64, amount: Money, cause: Option<u64>) {
    let lease = bursar_schemas::facts::LeaseId { holder: ProducerId([7; 16]), number: 1 };
    let (head, read) = (Head::draft(world.at(), 1, ""), world.end_of(SPEND));
    let (accounts, reason) = (account(), CreditReason::Returned);
    let credited = LeaseCredited { head, epoch: 1, lease, number, amount, accounts, reason, cause, read };
    drop(world.ledger.record([Draft { lane: LIMITS, fact: Fact::from(credited) }]).unwrap());
}

#[tokio::test]
async fn credits_and_grants_that_nothing_asks_for_are_named_each() {
    let mut world = World::new();
    world.round().await;
    let lease = bursar_schemas::facts::LeaseId { holder: ProducerId([7; 16]), number: 1 };
    for number in [1, 2] {
        let head = Head::draft(world.at(), 1, "");
        let returned = LeaseReturned { head, lease, number, amount: dollars(1), last: false };
        drop(world.shim.record([Draft { lane: SPEND, fact: returned.into() }]).unwrap());
    }
    let cause = world.end_of(SPEND) - 2;
    let first = world.end_of(LIMITS);
    credit(&world, 1, dollars(1), Some(cause));
    credit(&world, 2, dollars(2), Some(cause + 1));
    credit(&world, 3, dollars(1), None);
    let of = |number| bursar_schemas::facts::LeaseId { holder: ProducerId([7; 16]), number };
    // At an offset that is never written: nothing can be said as long as `spend` may have come so far.
    world.grant(of(80), 1 << 50, dollars(1));
    world.heads();
    world.seal().await;
    let report = world.copy().verify().await;
    let place = |n: u64| format!("limits/0 offset {}", first + n);
    assert_named(&report, Kind::Unacceptable, &place(1), "or for less");
    assert_named(&report, Kind::Unacceptable, &place(2), "names no return");
    assert_eq!(report.findings.len(), 2, "{}", report.to_text());
    world.now.fetch_add(11 * 60 * 1_000_000, std::sync::atomic::Ordering::SeqCst);
    world.round().await;
    let report = world.copy().verify().await;
    assert_named(&report, Kind::Unacceptable, &place(3), "asks for nothing");
    assert_eq!(report.findings.len(), 3, "{}", report.to_text());
}

#[tokio::test]
async fn a_row_under_two_offsets_is_one_fact() {
    let (world, request) = World::honest().await;
    let options = VerifyOptions { keys: vec![super::fixture::key()], ..VerifyOptions::default() };
    let (store, _) = open_store(world.archive().to_str().unwrap()).unwrap();
    let mut bundle = prove(store, &options, request).await.unwrap();
    // A second entry for the same segment, so that its facts seem to stand elsewhere.
    bundle.segments.push(bundle.segments[0].clone());
    let mut again = bundle.facts[0].clone();
    again.segment = bundle.segments.len() - 1;
    bundle.facts.push(again);
    let report = verify_bundle(&serde_json::to_vec(&bundle).unwrap(), &[super::fixture::key()]).unwrap();
    assert!(!report.holds && report.facts.len() == 4, "{}", report.to_text());
}

/// Changes the leaves and signs the log over them again, as whoever holds its key could.
fn relog(copy: &Copy, change: impl FnOnce(&mut Vec<Leaf>)) {
    let mut leaves: Vec<Leaf> = copy.entries().iter().map(|it| Leaf::parse(it).unwrap()).collect();
    change(&mut leaves);
    let entries: Vec<Vec<u8>> = leaves.iter().map(|it| it.encode().unwrap()).collect();
    copy.rebuild_log(&entries, &signer(1), &[entries.len()]);
}

#[tokio::test]
async fn leaves_that_contradict_the_keys_or_their_segments_are_named() {
    let (world, _) = World::honest().await;
    let copy = world.copy();
    relog(&copy, |leaves| {
        let Leaf::Keys(keys) = &mut leaves[0] else { panic!("leaf 0 states keys") };
        keys.origin = "other.example".to_owned();
    });
    assert_named(&copy.verify().await, Kind::Forged, &leaf_key(0), "keys of another log");
    let copy = world.copy();
    relog(&copy, |leaves| {
        let Leaf::Keys(keys) = &mut leaves[0] else { panic!("leaf 0 states keys") };
        keys.log_key = signer(2).verifier().to_string();
    });
    assert_named(&copy.verify().await, Kind::Forged, &leaf_key(0), "was not given");
    let copy = world.copy();
    relog(&copy, |leaves| drop(leaves.remove(0)));
    assert_named(&copy.verify().await, Kind::Forged, &leaf_key(0), "does not state");
    let copy = world.copy();
    let name = copy.segments("spend")[0].clone();
    relog(&copy, |leaves| {
        for leaf in leaves {
            match leaf {
                Leaf::Segment(it) if it.key == name => it.bytes += 1,
                _ => {}
            }
        }
    });
    assert_named(&copy.verify().await, Kind::Altered, &name, "its leaf says");
    // Schemas of nobody's turn the columns' check off, and so it is not complete.
    let copy = world.copy();
    relog(&copy, |leaves| {
        for leaf in leaves {
            match leaf {
                Leaf::Segment(it) if it.key == name => it.schemas = Digest([0; 32]),
                _ => {}
            }
        }
    });
    let report = copy.verify_with(|options| options.columns = true).await;
    assert!(report.holds() && !report.complete, "{}", report.to_text());
}

#[tokio::test]
async fn what_no_checkpoint_covers_is_told_and_not_applied() {
    let mut world = World::new();
    world.round().await;
    // Certified by a deployment whose key only a leaf states that nobody signed.
    let other = recorder(&world.journal, Role::Shim, 67, &[41; 32]);
    world.request(&other, 1);
    world.seal().await;
    let copy = world.copy();
    let mut entries = copy.entries();
    let Leaf::Keys(mut keys) = Leaf::parse(&entries[0]).unwrap() else { panic!("leaf 0 states keys") };
    keys.deployment_key = Digest(*super::fixture::VerifierKeyOf::deployment(&[41; 32]).public_key());
    keys.at_us = Leaf::parse(entries.last().unwrap()).unwrap().at_us();
    let signed = entries.len();
    entries.push(Leaf::Keys(keys).encode().unwrap());
    copy.rebuild_log(&entries, &signer(1), &[signed]);
    let report = copy.verify().await;
    assert_named(&report, Kind::Unsigned, &leaf_key(u64::try_from(signed).unwrap()), "no checkpoint");
    assert_named(&report, Kind::Forged, "requests/0", "which the log does not name");
}

#[tokio::test]
async fn a_trusted_checkpoint_of_no_leaves_has_the_root_of_none() {
    let (world, _) = World::honest().await;
    let empty = |root| {
        let origin = super::fixture::ORIGIN.to_owned();
        Checkpoint { origin, size: 0, root }.sign(&signer(1)).into_bytes()
    };
    let report = world.copy().verify_with(|options| options.trusted = Some(empty(Digest([1; 32])))).await;
    assert_named(&report, Kind::Forked, "log", "no leaves");
    let root = bursar_schemas::evidence::TileTree::default().root();
    let report = world.copy().verify_with(|options| options.trusted = Some(empty(root))).await;
    assert!(report.complete && report.to_text().contains("is contained"), "{}", report.to_text());
}

#[tokio::test]
async fn what_is_no_file_or_too_large_is_named_and_not_read() {
    let (world, _) = World::honest().await;
    let copy = world.copy();
    let spend = copy.segments("spend")[0].clone();
    for name in [CHECKPOINT, &leaf_key(2), &spend, "pipe"] {
        let copy = world.copy();
        let path = copy.root.join(name);
        drop(std::fs::remove_file(&path));
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let report = tokio::time::timeout(std::time::Duration::from_secs(60), copy.verify()).await.unwrap();
        assert!(report.findings.iter().any(|it| it.what.contains(name)), "{name}: {}", report.to_text());
    }
    let large =
        [(leaf_key(2), 70_000), (checkpoint_key(2), 300_000), ("log/tile/0/000.p/2".to_owned(), 9_000)];
    for (name, size) in large {
        let copy = world.copy();
        copy.write(&name, &vec![0; size]);
        assert_named(&copy.verify().await, Kind::Altered, &name, &format!("it has {size} bytes"));
    }
    // A footer that would be parsed into gigabytes.
    let next =
        spend.rsplit_once('/').unwrap().0.to_owned() + &format!("/{:020}.parquet", world.end_of(SPEND));
    let mut bomb = vec![0; 32 << 20];
    bomb.extend_from_slice(&(32_u32 << 20).to_le_bytes());
    bomb.extend_from_slice(b"PAR1");
    copy.write(&next, &bomb);
    assert_named(&copy.verify().await, Kind::Foreign, &next, "metadata has");
    copy.delete(&next);
    // A name, put by anybody, that would end the line and clear the screen.
    let entries = copy.entries();
    let removal = Leaf::Removal(bursar_schemas::evidence::Removal {
        version: 1,
        at_us: Leaf::parse(entries.last().unwrap()).unwrap().at_us(),
        leaf: 3,
        key: "a\n\u{1b}[2Jb".to_owned(),
        first: 0,
        last: 0,
        rows: 0,
        sha256: Digest([0; 32]),
        rows_root: Digest([0; 32]),
        footer: Digest([0; 32]),
        retention_days: 1,
        by: "x".to_owned(),
    });
    copy.write(&leaf_key(u64::try_from(entries.len()).unwrap()), &removal.encode().unwrap());
    let text = copy.verify().await.to_text();
    assert!(!text.contains('\u{1b}') && text.contains("it removes a\\n\\u{1b}[2Jb"), "{text}");
}

#[tokio::test]
async fn lines_of_strangers_do_not_crowd_a_bundle() {
    let (world, request) = World::honest().await;
    let copy = world.copy();
    let size = *super::witness::sizes(&copy).last().unwrap();
    let (witness, _) = super::witness::cosign(&copy, size);
    let note = String::from_utf8(copy.read(&checkpoint_key(size))).unwrap();
    let text = note.split_once("\n\n").unwrap().0.to_owned() + "\n";
    for secret in 100..170 {
        let name = format!("evil{secret}.example");
        let stranger = bursar_schemas::evidence::SignerKey::new(&name, &[secret; 32]).unwrap();
        let (key, line) = stranger.cosign(&text, 1).unwrap();
        copy.write(&cosigned_key(size, key.id()), (note.clone() + &line).as_bytes());
    }
    let report = copy.verify().await;
    assert!(report.notes.iter().any(|note| note.contains("71 checkpoints carry")), "{}", report.to_text());
    let keys = vec![super::fixture::key(), witness];
    let options = VerifyOptions { keys: keys.clone(), ..VerifyOptions::default() };
    let (store, _) = open_store(copy.root.to_str().unwrap()).unwrap();
    let bundle = prove(store, &options, request).await.unwrap();
    let report = verify_bundle(&serde_json::to_vec(&bundle).unwrap(), &keys).unwrap();
    assert!(report.holds, "{}", report.to_text());
}
