//! A stand-in that is killed with SIGKILL has billed every answer of which a byte was read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::process::{Command, Stdio};

use bursar_stand_in::provider::{StandIn, StandInConfig, read_bill};
use bursar_stand_in::replay::{ReplayConfig, TeamKey, replay};
use bursar_stand_in::trace;

const BILL: &str = "STAND_IN_TEST_BILL";

/// Not a test of its own: the process that the other test kills.
#[tokio::test]
async fn child_process() {
    let Some(bill) = std::env::var_os(BILL) else { return };
    let config = StandInConfig { bill: Some(bill.into()), ..StandInConfig::default() };
    let provider = StandIn::start(config).await.unwrap();
    eprintln!("listening on {}", provider.base_url);
    std::future::pending().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_stand_in_has_billed_all_that_it_served() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bill");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_process", "--nocapture"])
        .env(BILL, &path)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stderr.take().unwrap()).lines();
    let base_url = said
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("listening on ").map(str::to_owned))
        .expect("the child listens");
    let config = ReplayConfig {
        base_url,
        teams: vec![TeamKey { team: "search".to_owned(), key: "key".to_owned() }],
        models: vec!["gpt-4o-mini".to_owned()],
        concurrency: 32,
        ..ReplayConfig::default()
    };
    let rows = &trace::builtin().unwrap()[..2_000];
    let outcomes = replay(&config, rows, |progress, _| {
        if progress.done == 500 {
            child.kill().unwrap();
        }
        ControlFlow::Continue(())
    })
    .await
    .unwrap();
    child.wait().unwrap();

    let served: BTreeSet<_> =
        outcomes.iter().filter(|outcome| outcome.served).map(|outcome| outcome.id.clone()).collect();
    assert!((500..2_000).contains(&served.len()), "killed in the middle: {}", served.len());
    let billed: BTreeSet<_> = read_bill(&path).unwrap().into_iter().map(|line| line.id).collect();
    let unbilled: Vec<_> = served.difference(&billed).collect();
    assert!(unbilled.is_empty(), "served but not billed: {unbilled:?}");
    assert!(billed.len() - served.len() <= 32, "more than was in flight is billed without being served");
}
