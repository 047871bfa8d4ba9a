//! Real traffic, three books: a production trace is replayed through the real binary, and Bursar's chargeback,
//! the stand-in's own bill and a sum by an independent engine must agree to the pico-dollar.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod books;
mod harness;

use books::{Books, Providers, policy};
use bursar_stand_in::trace;
use harness::Place;

/// Crossed on the way: what team red asks for is several times this.
const RED_LIMIT: &str = "30000000.00";

#[tokio::test(flavor = "multi_thread")]
async fn three_books_agree_on_the_embedded_journal() {
    let providers = Providers::start(50).await;
    let policy = policy(&providers, RED_LIMIT);
    let place = tokio::task::spawn_blocking(move || {
        let place = Place::new("[archive]\nseal_seconds = 5\n");
        place.write("policy.toml", &policy);
        place
    })
    .await
    .unwrap();
    let up = place.up();
    let teams = ["red", "blue"].map(|team| (team, place.key(team)));
    let rows = trace::builtin().unwrap();
    let outcomes = books::replay_all(place.shim, &teams, &rows, 7).await;
    let books = Books::gather(&place, &providers, &outcomes);
    books.must_agree(RED_LIMIT);
    books.print();
    let path = place.data().join("policy.toml");
    assert!(path.exists());
    // The same after a restart: from the journal and the archive alone.
    let before = books.ours.clone();
    tokio::task::spawn_blocking(move || {
        up.stop();
        let up = place.up();
        assert_eq!(books::ours(&place), before, "a restart changed the chargeback");
        up.stop();
        assert_eq!(books::ours(&place), before, "the folder alone says something else");
    })
    .await
    .unwrap();
}
