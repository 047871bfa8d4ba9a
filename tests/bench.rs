//! That the benchmarks work, in small: the do-nothing proxy passes requests on, the real binary serves under load,
//! and all facts of all requests are in the journal. No figure is judged here; `tests/bench/README.md` says how
//! figures are measured.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::path::Path;
use std::time::Duration;

use bursar_bench::facts::Told;
use bursar_bench::load::{Client, keep_busy, request};
use bursar_bench::product::{On, Product};
use bursar_bench::upstream::{BODY, Manner};
use bursar_bench::{proxy, upstream};

#[tokio::test(flavor = "multi_thread")]
async fn a_short_load_leaves_all_of_its_facts() {
    let upstream = upstream::start(Manner::document(Duration::ZERO)).unwrap();
    let proxy = proxy::start(upstream).await.unwrap();
    let through = tokio::task::spawn_blocking(move || {
        Client::connect(proxy).unwrap().call(&request("any", BODY)).unwrap();
    });
    through.await.unwrap();
    for durability in ["relaxed", "overlapped", "acked"] {
        let binary = Path::new(env!("CARGO_BIN_EXE_bursar"));
        let product = Product::start(binary, &On::Embedded, durability, upstream).unwrap();
        let load = request(&product.key, BODY);
        let served = keep_busy(product.address, &load, 8, Duration::from_millis(300)).await.unwrap();
        assert!(served.requests > 0, "nothing was served");
        let (journal, _folder) = product.stop().unwrap();
        // One request found out that the key is served.
        Told::read(journal.as_ref()).await.unwrap().must_be(served.requests + 1).unwrap();
    }
}
