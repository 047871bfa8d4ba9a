//! Death of single roles and of the broker, on Apache Kafka and an S3 server: clients replay a trace without a pause
//! while shims, ledger, archiver, query service and broker are killed (SIGKILL) at random moments and started again.
//! After it all every request that a provider billed is on the record once, balances follow from the facts, and no
//! hard budget is exceeded.
//!
//! `BURSAR_TEST_KILLS` sets how many kills there are in each durability mode, `BURSAR_TEST_SEED` their order.
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
use std::sync::Arc;
use std::time::Duration;

use books::oracle::{self, Settled};
use books::{Providers, policy};
use bursar_stand_in::provider::read_bill;
use bursar_stand_in::replay::Outcome;
use bursar_stand_in::trace;
use harness::clients::{Clients, Load};
use harness::cluster::{Broker, Cluster, Deployment};
use harness::{Seeded, component, pico, setting, wait_for};

/// Small enough to be crossed in the course of the run.
const RED_LIMIT: &str = "2000000.00";

const MODES: [&str; 3] = ["acked", "overlapped", "relaxed"];

/// Every role by its name and command.
const ROLES: [(&str, &str); 5] =
    [("ledger", "ledger"), ("ingest", "ingest"), ("query", "query"), ("shim-a", "shim"), ("shim-b", "shim")];

/// What is killed how often, in sixteen kills.
const DECK: [(&str, usize); 6] =
    [("shim-a", 4), ("shim-b", 4), ("ledger", 4), ("ingest", 2), ("query", 1), ("broker", 1)];

/// Requests of one mode have numbers of their own.
const NUMBERS: u64 = 1_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_that_was_billed_is_lost_whichever_role_dies() {
    if component("BURSAR_TEST_KAFKA").is_none() {
        return;
    }
    let kills = usize::try_from(setting("BURSAR_TEST_KILLS", 16)).unwrap();
    let seed = setting("BURSAR_TEST_SEED", 20_231_116);
    println!("seed {seed}: {kills} kills of single roles and of the broker in each mode\n");
    let providers = Arc::new(Providers::start_slow(50, Duration::from_millis(60)).await);
    let deployment = Deployment::start(&ROLES, policy(&providers, RED_LIMIT)).await;
    let cluster = &deployment.cluster;
    let teams = ["red", "blue"].map(|team| (team.to_owned(), cluster.place.key(team)));

    let mut sent: BTreeMap<&str, Vec<Outcome>> = BTreeMap::new();
    let mut random = Seeded::new(seed);
    for (index, mode) in MODES.into_iter().enumerate() {
        let load = Load {
            shims: ["shim-a", "shim-b"].map(|name| cluster.role(name).listen).to_vec(),
            teams: teams.to_vec(),
            models: ["gold", "small", "steady"].map(str::to_owned).to_vec(),
            rows: trace::builtin().unwrap(),
            seed,
            first: u64::try_from(index).unwrap() * NUMBERS,
            clients: 12,
            pause: 5,
        };
        let own = Arc::clone(&deployment);
        tokio::task::spawn_blocking(move || {
            for shim in ["shim-a", "shim-b"].map(|name| own.cluster.role(name)) {
                shim.stop();
                shim.set("shim.durability", &format!("\"{mode}\""));
                shim.start();
            }
        })
        .await
        .unwrap();
        let clients = Clients::start(load);
        let own = Arc::clone(&deployment);
        let deck = shuffled(kills, &mut random);
        let pauses = Seeded::new(seed.wrapping_add(u64::try_from(index).unwrap()));
        tokio::task::spawn_blocking(move || storm(&own.cluster, &own.broker, &deck, pauses)).await.unwrap();
        sent.insert(mode, clients.end().await);
    }
    tokio::task::spawn_blocking(move || {
        let Deployment { cluster, broker, .. } = &*deployment;
        check(cluster, broker, &providers, &sent, kills);
        cluster.stop();
    })
    .await
    .unwrap();
}

/// Whom to kill, in which order: decks of sixteen, each shuffled.
fn shuffled(kills: usize, random: &mut Seeded) -> Vec<&'static str> {
    let mut order = Vec::with_capacity(kills + 16);
    while order.len() < kills {
        let mut deck: Vec<&str> = DECK.iter().flat_map(|(name, count)| vec![*name; *count]).collect();
        for last in (1..deck.len()).rev() {
            deck.swap(last, usize::try_from(random.below(u64::try_from(last + 1).unwrap())).unwrap());
        }
        order.extend(deck);
    }
    order.truncate(kills);
    order
}

/// Kills, one after the other; what was killed is started again beside the next kills.
fn storm(cluster: &Cluster, broker: &Broker, deck: &[&str], mut random: Seeded) {
    std::thread::scope(|scope| {
        let mut again: BTreeMap<&str, std::thread::ScopedJoinHandle<'_, ()>> = BTreeMap::new();
        for victim in deck {
            std::thread::sleep(Duration::from_millis(100 + random.below(900)));
            // One that is still on its way up is waited for.
            if let Some(starting) = again.remove(victim) {
                starting.join().unwrap();
            }
            let dead = Duration::from_millis(random.below(1500));
            if *victim == "broker" {
                broker.kill();
            } else {
                cluster.role(victim).kill();
            }
            let start = move || {
                std::thread::sleep(dead);
                if *victim == "broker" { broker.again() } else { cluster.role(victim).start() }
            };
            again.insert(victim, scope.spawn(start));
        }
        for (_, starting) in again {
            starting.join().unwrap();
        }
    });
    for role in cluster.roles() {
        role.must_run();
    }
}

/// What is on record of one request.
#[derive(Default)]
struct Recorded {
    opened: i64,
    closed: i64,
    recovered: bool,
    mode: String,
    settled: Vec<Settled>,
    billed: i128,
}

fn recorded(cluster: &Cluster, providers: &Providers) -> BTreeMap<String, Recorded> {
    let mut all: BTreeMap<String, Recorded> = BTreeMap::new();
    let text = |row: &serde_json::Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    for row in cluster.place.sql(
        "SELECT request, durability, count(*) AS n FROM requests \
         WHERE kind = 'RequestOpened' AND NOT duplicate GROUP BY request, durability",
    ) {
        let entry = all.entry(text(&row, "request")).or_default();
        (entry.opened, entry.mode) = (entry.opened + oracle::number(&row["n"]), text(&row, "durability"));
    }
    for row in cluster.place.sql(
        "SELECT request, count(*) AS n, count(opened_by) AS recovered FROM requests \
         WHERE kind = 'RequestClosed' AND NOT duplicate GROUP BY request",
    ) {
        let entry = all.entry(text(&row, "request")).or_default();
        entry.closed = oracle::number(&row["n"]);
        entry.recovered = oracle::number(&row["recovered"]) > 0;
    }
    for settled in oracle::settled(&cluster.place) {
        all.entry(settled.request.clone()).or_default().settled.push(settled);
    }
    for line in providers.bills.iter().flat_map(|bill| read_bill(bill).unwrap()) {
        let request =
            line.client_request.expect("the shim names its request to the provider").replace('-', "");
        all.entry(request).or_default().billed += line.amount_pico;
    }
    all
}

fn check(
    cluster: &Cluster,
    broker: &Broker,
    providers: &Providers,
    sent: &BTreeMap<&str, Vec<Outcome>>,
    kills: usize,
) {
    // Spools drain, orphans are closed, and the query service reads up to the end.
    let all = wait_for("every billed request to be on record and closed", || {
        let all = recorded(cluster, providers);
        all.values().all(|it| it.opened > 0 && it.closed > 0).then_some(all)
    });
    let mut red = 0;
    for (request, found) in &all {
        assert_eq!(found.opened, 1, "request {request} was opened {} times", found.opened);
        assert_eq!(found.closed, 1, "request {request} was closed {} times", found.closed);
        let settled: i128 = found.settled.iter().map(|it| it.amount).sum();
        assert!(settled >= found.billed, "request {request}: billed {}, settled {settled}", found.billed);
        if found.settled.iter().all(|it| it.confidence == "reported") {
            assert_eq!(settled, found.billed, "request {request} was reported otherwise than billed");
        }
        if found.settled.first().is_some_and(|it| it.team == "red") {
            red += found.billed;
        }
    }
    assert!(red <= pico(RED_LIMIT), "red was billed {red} above its limit");
    let served: BTreeSet<&str> =
        sent.values().flatten().filter(|it| it.served).map(|it| it.id.as_str()).collect();
    let lines: Vec<_> = providers.bills.iter().flat_map(|bill| read_bill(bill).unwrap()).collect();
    let billed: BTreeSet<&str> = lines.iter().map(|line| line.id.as_str()).collect();
    assert!(served.is_subset(&billed), "an answer came from nowhere");

    let book = wait_for("the ledger to have read everything", || {
        let book = oracle::fold(broker.bootstrap(), &cluster.prefix)?;
        oracle::agrees(&cluster.place, &book).then_some(book)
    });
    oracle::must_hold(&cluster.place, &book);
    let faults = cluster.place.sql("SELECT finding, count(*) AS n FROM findings GROUP BY finding");
    print_table(&all, sent, kills);
    for (mode, tries) in sent {
        let mut why: BTreeMap<String, usize> = BTreeMap::new();
        for it in tries.iter().filter(|it| !it.served) {
            *why.entry(it.error_code.clone().unwrap_or_else(|| format!("{:?}", it.ending))).or_default() += 1;
        }
        println!("{mode}: not served: {why:?}");
    }
    println!("red was billed {} of {RED_LIMIT}", red / 1_000_000_000_000);
    println!("leases and void records of the ledger: {}; findings: {faults:?}", book["leases"]);
    for found in &faults {
        assert_eq!(found["finding"], "duplicate", "beside what came twice nothing may be found: {faults:?}");
    }
}

fn print_table(all: &BTreeMap<String, Recorded>, sent: &BTreeMap<&str, Vec<Outcome>>, kills: usize) {
    println!(
        "mode        kills   tries  served  on record  billed  billed and  on record,   recovered  settled as  dollars settled\n\
         {:53}not on record  not served  by successor  estimate  beyond the bill",
        ""
    );
    for mode in MODES {
        let own: Vec<&Recorded> = all.values().filter(|it| it.mode == mode).collect();
        let tries = &sent[mode];
        let served = tries.iter().filter(|it| it.served).count();
        let count = |test: fn(&Recorded) -> bool| own.iter().filter(|it| test(it)).count();
        let estimated = |it: &Recorded| it.settled.iter().any(|settled| settled.confidence != "reported");
        let beyond: i128 =
            own.iter().map(|it| it.settled.iter().map(|one| one.amount).sum::<i128>() - it.billed).sum();
        println!(
            "{mode:<11} {kills:>5} {:>7} {served:>7} {:>10} {:>7} {:>14} {:>11} {:>13} {:>9} {:>16}",
            tries.len(),
            own.len(),
            count(|it| it.billed > 0),
            count(|it| it.billed > 0 && it.opened == 0),
            own.len().saturating_sub(served),
            count(|it| it.recovered),
            count(estimated),
            beyond / 1_000_000_000_000,
        );
    }
}
