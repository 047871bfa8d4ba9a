//! Deaths, lost responses, restarts and rivals.

use super::disturbed::Disturbed;
use super::faults::{Careless, Fault, Faulty};
use super::journal::{LANE, TestJournal};
use super::*;

#[tokio::test]
async fn a_death_or_lost_response_at_any_store_call_leaves_one_chain() {
    let mut deaths = 0;
    for fault in [Fault::ErrorBefore, Fault::ErrorAfter, Fault::DeathBefore, Fault::DeathAfter] {
        for at in 0.. {
            let journal = TestJournal::default();
            journal.fill(20);
            let store = memory();
            // Segments from before, so that finding the chain's end meets the fault too.
            archive(&journal, &store).await;
            journal.fill(20);
            let faulty = Disturbed::new(&store, Faulty::new(fault, at));
            let shared: Arc<dyn ObjectStore> = Arc::clone(&faulty) as Arc<dyn ObjectStore>;
            let handle = start(&journal, &shared);
            tokio::select! {
                done = handle.stop(true) => assert!(done),
                () = faulty.by.dead.notified() => deaths += 1,
            }
            journal.fill(3);
            archive(&journal, &store).await;
            let chain = check::chain(&store, &config().prefix, journal.life()).await;
            assert_eq!(chain.rows, journal.records(), "{fault:?} at call {at}");
            assert!(chain.lost().is_empty() && chain.skipped().is_empty());
            if !faulty.by.fired() {
                assert!(at > 10, "only {at} calls were made");
                break;
            }
        }
    }
    assert!(deaths > 20, "only {deaths} deaths");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rivals_on_one_archive_make_one_chain() {
    let journal = TestJournal::default();
    let store = memory();
    let rivals: Vec<ArchiverHandle> = [400, 1000, 1700]
        .map(|seal_bytes| {
            let config = ArchiveConfig { seal_bytes, ..config() };
            Archiver::start(Arc::new(journal.clone()), Arc::clone(&store), config, log())
        })
        .into();
    for rival in &rivals {
        until(rival, |status| status.generation.is_some()).await;
    }
    for _ in 0..60 {
        journal.fill(5);
        tokio::task::yield_now().await;
    }
    let counts: Vec<_> = futures::future::join_all(rivals.into_iter().map(|rival| async {
        let status = until(&rival, |status| status.sealed.is_some_and(|sealed| sealed >= 280)).await;
        assert!(rival.stop(true).await);
        status
    }))
    .await;
    let chain = check::chain(&store, &config().prefix, journal.life()).await;
    assert_eq!(chain.rows, journal.records());
    let adopted: u64 = counts.iter().map(|status| status.adopted).sum();
    assert!(adopted > 0, "the rivals never met");
}

/// Two archivers, each of which loses the answer to one call: what was done was done, and nobody was told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rivals_that_lose_responses_make_one_chain_and_one_log() {
    let mut lost = 0;
    for at in 0..80 {
        let journal = TestJournal::default();
        journal.fill(30);
        let store = memory();
        let rivals = [at, at * 7 % 80].map(|at| Disturbed::new(&store, Faulty::new(Fault::ErrorAfter, at)));
        let handles = rivals.clone().map(|rival| {
            let seen: Arc<dyn ObjectStore> = rival;
            start(&journal, &seen)
        });
        for handle in handles {
            assert!(handle.stop(true).await);
        }
        lost += rivals.iter().filter(|rival| rival.by.fired()).count();
        let chain = check::chain(&store, &config().prefix, journal.life()).await;
        assert_eq!(chain.rows, journal.records(), "lost at {at}");
    }
    assert!(lost > 80, "only {lost} responses were lost");
}

#[tokio::test]
async fn a_restart_goes_on_where_the_chain_ends() {
    let journal = TestJournal::default();
    let store = memory();
    for _ in 0..5 {
        journal.fill(11);
        let handle = start(&journal, &store);
        assert!(handle.stop(true).await);
    }
    let chain = check::chain(&store, &config().prefix, journal.life()).await;
    assert_eq!(chain.rows, journal.records());
    let handle = start(&journal, &store);
    let status = until(&handle, |status| status.generation.is_some()).await;
    assert_eq!((status.sealed, status.put), (Some(54), 0));
    assert_eq!(handle.sealed(LANE), Some(54));
    assert!(handle.stop(false).await);
}

#[tokio::test]
async fn stopping_without_flush_seals_nothing_more_and_loses_nothing() {
    let journal = TestJournal::default();
    journal.fill(2);
    let store = memory();
    let handle = start(&journal, &store);
    until(&handle, |status| status.buffered_records == 2).await;
    assert!(handle.stop(false).await);
    assert!(check::chain(&store, &config().prefix, journal.life()).await.rows.is_empty());
    archive(&journal, &store).await;
    assert_eq!(check::chain(&store, &config().prefix, journal.life()).await.rows, journal.records());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_in_good_order_leaves_no_segment_without_its_leaf() {
    for round in 0..40 {
        let journal = TestJournal::default();
        let store = memory();
        let handle = start(&journal, &store);
        until(&handle, |status| status.generation.is_some()).await;
        // Segments are being sealed when the end comes, after more of them in each round.
        journal.fill(200);
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        assert!(handle.stop(false).await);
        check::chain(&store, &config().prefix, journal.life()).await;
    }
}

#[tokio::test]
async fn a_store_that_overwrites_is_refused() {
    let journal = TestJournal::default();
    journal.fill(9);
    let store = memory();
    let careless: Arc<dyn ObjectStore> = Disturbed::new(&store, Careless);
    let handle = start(&journal, &careless);
    let status = until(&handle, |status| status.fault.is_some()).await;
    assert!(status.fault.unwrap().contains("conditional puts"));
    assert!(handle.stop(false).await);
    assert!(check::chain(&store, &config().prefix, journal.life()).await.footers.is_empty());
}

/// A store that falls silent at a segment's put: the lane takes in more meanwhile, but only what makes the next segment.
#[tokio::test]
async fn what_comes_while_a_segment_is_put_is_taken_in() {
    let idle = Disturbed::new(&memory(), Faulty::new(Fault::DeathBefore, usize::MAX));
    let seen: Arc<dyn ObjectStore> = Arc::clone(&idle) as Arc<dyn ObjectStore>;
    let handle = start(&TestJournal::default(), &seen);
    until(&handle, |status| status.generation.is_some()).await;
    // What comes next is the segment.
    let calls = idle.by.calls();
    drop(handle);

    let journal = TestJournal::default();
    let store = memory();
    let silent = Disturbed::new(&store, Faulty::new(Fault::DeathBefore, calls));
    let seen: Arc<dyn ObjectStore> = Arc::clone(&silent) as Arc<dyn ObjectStore>;
    let handle = start(&journal, &seen);
    until(&handle, |status| status.generation.is_some()).await;
    journal.fill(6);
    silent.by.dead.notified().await;
    let before = until(&handle, |status| status.buffered_records == 6).await;
    journal.fill(1000);
    let after = until(&handle, |status| status.buffered_bytes >= before.buffered_bytes + 1000).await;
    assert!(after.buffered_records < 1006, "it took in all there was: {after:?}");
    assert_eq!((after.sealed, after.put), (None, 0));
    drop(handle);
    archive(&journal, &store).await;
    let chain = check::chain(&store, &config().prefix, journal.life()).await;
    assert_eq!(chain.rows, journal.records());
}
