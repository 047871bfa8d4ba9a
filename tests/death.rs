//! Death: the process is killed (SIGKILL) at random moments of a replay and started again. After it all, every
//! request that a provider billed is on the record once, balances follow from the facts, and no budget is exceeded.
//!
//! `BURSAR_TEST_KILLS` sets how many kills; `BURSAR_TEST_KILLS=1000 cargo test --test death` is the long run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod books;
mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use books::{Providers, policy};
use bursar_stand_in::provider::read_bill;
use bursar_stand_in::trace::{self, Row};
use harness::{Place, Seeded, pico, setting, wait_for};
use serde_json::Value;

/// Small enough to be crossed in the course of the run.
const RED_LIMIT: &str = "400000.00";

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_billed_is_lost_whenever_the_process_dies() {
    let kills = usize::try_from(setting("BURSAR_TEST_KILLS", 34)).unwrap();
    let seed = setting("BURSAR_TEST_SEED", 20_231_116);
    println!("seed {seed}: {kills} kills in each mode\n");
    println!("mode        kills  requests  billed  on record  recovered  red's limit    red billed");
    for (mode, durability) in ["acked", "overlapped", "relaxed"].into_iter().enumerate() {
        let seed = seed + u64::try_from(mode).unwrap();
        let line = die_often(durability, kills, seed).await;
        println!("{line}");
    }
}

async fn die_often(durability: &str, kills: usize, seed: u64) -> String {
    let providers = Providers::start(50).await;
    let place = Place::new(&format!("durability = \"{durability}\"\n[archive]\nseal_seconds = 1\n"));
    place.write("policy.toml", &policy(&providers, RED_LIMIT));
    let mut up = place.up();
    let teams = ["red", "blue"].map(|team| (team, place.key(team)));
    let mut random = Seeded::new(seed);
    let rows: Vec<Row> = trace::builtin().unwrap().into_iter().cycle().take(kills * 60).collect();
    let mut sent = 0;
    for (round, chunk) in rows.chunks(60).enumerate() {
        let shim = place.shim;
        let (teams, chunk) = (teams.clone(), chunk.to_vec());
        let first = u64::try_from(round * 60).unwrap();
        let replaying =
            tokio::spawn(async move { books::replay_from(shim, &teams, &chunk, seed, first).await });
        tokio::time::sleep(Duration::from_millis(5 + random.below(150))).await;
        up.kill();
        sent += replaying.await.unwrap().len();
        up = place.up();
    }
    let place = std::sync::Arc::new(place);
    let checked = std::sync::Arc::clone(&place);
    let line = tokio::task::spawn_blocking(move || check(&checked, &providers)).await.unwrap();
    up.stop();
    format!("{durability:<11} {kills:>5} {sent:>9} {line}")
}

fn check(place: &Place, providers: &Providers) -> String {
    // Successors close what the dead left open; that is done when no request is open any more.
    wait_for("every orphan to be closed", || place.sql(books::OPEN_REQUESTS).is_empty().then_some(()));

    let opened: Vec<Value> = place.sql("SELECT request, count(*) AS n FROM requests WHERE kind = 'RequestOpened' AND NOT duplicate GROUP BY request");
    let on_record: BTreeSet<String> =
        opened.iter().map(|row| row["request"].as_str().unwrap().to_owned()).collect();
    assert!(opened.iter().all(|row| number(&row["n"]) == 1), "a request was opened twice");
    let settlements = place.sql("SELECT request, team, count(*) AS n, CAST(sum(amount) AS VARCHAR) AS amount FROM settlements GROUP BY request, team");
    let settled: BTreeMap<&str, i128> = settlements
        .iter()
        .map(|row| (row["request"].as_str().unwrap(), pico(row["amount"].as_str().unwrap())))
        .collect();

    let mut billed: BTreeMap<String, i128> = BTreeMap::new();
    for bill in &providers.bills {
        for line in read_bill(bill).unwrap() {
            let request =
                line.client_request.expect("the shim names its request to the provider").replace('-', "");
            *billed.entry(request).or_default() += line.amount_pico;
        }
    }
    for (request, amount) in &billed {
        assert!(on_record.contains(request), "request {request} was billed and is not on record");
        let settled = settled.get(request.as_str()).copied().unwrap_or(0);
        assert!(settled >= *amount, "request {request} was billed {amount} and settled {settled}");
    }
    let team_of: BTreeMap<&str, &str> = settlements
        .iter()
        .map(|row| (row["request"].as_str().unwrap(), row["team"].as_str().unwrap()))
        .collect();
    let red: i128 = billed
        .iter()
        .filter(|(request, _)| team_of.get(request.as_str()) == Some(&"red"))
        .map(|(_, amount)| amount)
        .sum();
    assert!(red <= pico(RED_LIMIT), "red was billed {red} above its limit");

    // Balances equal a sum over the facts, by another engine's arithmetic than the ledger's.
    let total: i128 = settled.values().sum();
    let books = place.budgets();
    let account = books.iter().find(|row| row["budget"] == "acme-total").unwrap();
    assert_eq!(
        pico(account["settled"].as_str().unwrap()),
        total,
        "the ledger's balance differs from the facts"
    );
    for row in &books {
        let amount = |name: &str| pico(row[name].as_str().unwrap());
        let parts = ["settled", "reserved", "leased_idle", "stranded", "available"];
        assert_eq!(amount("limit"), parts.map(amount).iter().sum::<i128>(), "the books do not add up: {row}");
    }
    let recovered = place.sql("SELECT count(DISTINCT request) AS n FROM requests WHERE kind = 'RequestClosed' AND ending = 'recovered'");
    format!(
        "{:>7} {:>10} {:>10}  {RED_LIMIT:>11} {:>13}",
        billed.len(),
        on_record.len(),
        number(&recovered[0]["n"]),
        red / 1_000_000_000_000
    )
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}
