//! Three shims, two ledgers, Apache Kafka, and three hundred clients that hammer one hard budget of ten dollars until
//! all have been refused for ten seconds: once in peace, once while shims and ledgers are killed and frozen and the
//! broker stands still. The stand-in provider's own bill never exceeds the limit, and comes close to what was left of
//! it; in peace nobody is refused while there is money. Each alert reaches its webhook, under one id however often.
//!
//! `BURSAR_TEST_SEED` sets the order of the faults, `BURSAR_TEST_FAULTS` how many there are.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bursar_stand_in::provider::{ModelPrices, RunningStandIn, StandIn, StandInConfig, read_bill};
use bursar_stand_in::replay::{Outcome, ReplayConfig, TeamKey, replay};
use bursar_stand_in::trace::{self, Row};
use harness::cluster::{Broker, Cluster, Deployment};
use harness::webhook::{self, Receiver};
use harness::{Seeded, component, exchange, pico, setting, wait_for};
use serde_json::Value;
use tokio::task::JoinSet;

const SHIMS: [&str; 3] = ["shim-a", "shim-b", "shim-c"];
const LEDGERS: [&str; 2] = ["ledger-a", "ledger-b"];
/// Every role by its name and command.
const ROLES: [(&str, &str); 7] = [
    ("ledger-a", "ledger"),
    ("ledger-b", "ledger"),
    ("ingest", "ingest"),
    ("query", "query"),
    ("shim-a", "shim"),
    ("shim-b", "shim"),
    ("shim-c", "shim"),
];
const CLIENTS: usize = 300;
const LIMIT: &str = "10.00";
/// Dollars for a million tokens. The trace's answers have 211 tokens on average, a seventh of the cap.
const PRICE: [&str; 2] = ["0.01", "8.00"];
const CAP: u64 = 1500;
/// Nobody has been served for so long.
const QUIET: Duration = Duration::from_secs(10);
/// More than any request of the trace is reserved with: the cap at its price, and its text.
const BOUND: i128 = 12_100_000_000;

/// One request of a client.
struct Try {
    sent: Instant,
    answered: Instant,
    outcome: Outcome,
}

/// What came of a phase.
struct Phase {
    team: &'static str,
    tries: Vec<Try>,
}

/// What every budget alerts at; both are reached whatever the faults strand.
const ALERTS: [u64; 2] = [25, 50];

fn policy(provider: &RunningStandIn, hook: &Receiver, secret: &Path) -> String {
    let teams = ["peace", "storm"].map(|team| {
        format!(
            "[[team]]\nid = \"{team}\"\norganisation = \"acme\"\n\
             [[budget]]\nid = \"{team}\"\nscope = \"team:{team}\"\nwindow = \"total\"\namount = \"{LIMIT}\"\n\
             alerts = {ALERTS:?}\n\
             [[model]]\nid = \"{team}\"\ntargets = [{{ provider = \"main\", model = \"{team}\" }}]\n\
             [[price]]\nprovider = \"main\"\nmodel = \"{team}\"\nmax_output = 4096\n\
             meters = {{ input = \"{}\", output = \"{}\" }}\n",
            PRICE[0], PRICE[1]
        )
    });
    format!(
        "[[organisation]]\nid = \"acme\"\n[[provider]]\nid = \"main\"\nbase_url = \"{}\"\n\
         [[webhook]]\nid = \"on-call\"\nurl = \"http://{}/hook\"\nsecret = \"file:{}\"\n{}",
        provider.base_url,
        hook.address,
        secret.display(),
        teams.concat()
    )
}

async fn provider(bill: &Path) -> RunningStandIn {
    let price = || ModelPrices::new(pico(PRICE[0]), pico(PRICE[1]));
    StandIn::start(StandInConfig {
        bill: Some(bill.to_path_buf()),
        first_byte_delay: Duration::from_millis(50),
        seed: 5,
        prices: ["peace", "storm"].map(|team| (team.to_owned(), price())).into(),
        ..StandInConfig::default()
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_hundred_clients_cannot_overspend_ten_dollars() {
    if component("BURSAR_TEST_KAFKA").is_none() {
        return;
    }
    let seed = setting("BURSAR_TEST_SEED", 20_231_116);
    let faults = setting("BURSAR_TEST_FAULTS", 12);
    println!("seed {seed}, {faults} faults");
    let folder = tempfile::tempdir().unwrap();
    let bill = folder.path().join("bill.jsonl");
    let provider = provider(&bill).await;
    let (hook, secret) = (Arc::new(Receiver::start()), folder.path().join("hook.secret"));
    std::fs::write(&secret, webhook::secret()).unwrap();
    let deployment = Deployment::start(&ROLES, policy(&provider, &hook, &secret)).await;
    let cluster = &deployment.cluster;

    let peace = hammer(cluster, "peace", 0, None).await;
    // Before the storm: a shim that dies in it strands what it still holds for the first team.
    let (own, book, heard) = (Arc::clone(&deployment), bill.clone(), Arc::clone(&hook));
    tokio::task::spawn_blocking(move || {
        println!(
            "phase   tries  served  billed of 10.00  refused          forfeited  abandoned  wrongly refused"
        );
        check(&own.cluster, &book, &peace);
        check_alerts(&own.cluster, &heard, "peace");
    })
    .await
    .unwrap();
    let storm = {
        let own = Arc::clone(&deployment);
        let faults = tokio::task::spawn_blocking(move || disturb(&own.cluster, &own.broker, faults, seed));
        hammer(cluster, "storm", 1_000_000, Some(faults)).await
    };
    tokio::task::spawn_blocking(move || {
        check(&deployment.cluster, &bill, &storm);
        check_alerts(&deployment.cluster, &hook, "storm");
        deployment.cluster.stop();
    })
    .await
    .unwrap();
}

fn serves(shim: SocketAddr, key: &str) -> bool {
    let head = format!(
        "GET /v1/models HTTP/1.1\r\nHost: shim\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n"
    );
    exchange(shim, &head, b"").0 == 200
}

/// Keeps all clients at it until the faults are over and nobody has been served for a while.
async fn hammer(
    cluster: &Cluster,
    team: &'static str,
    first: u64,
    faults: Option<tokio::task::JoinHandle<()>>,
) -> Phase {
    let place = &cluster.place;
    let key = tokio::task::block_in_place(|| place.key(team));
    let rows: Arc<[Row]> = trace::builtin().unwrap().into();
    let shims = SHIMS.map(|name| cluster.role(name).listen);
    // One that is still starting, or has not read of the key yet, refuses with reason.
    tokio::task::block_in_place(|| {
        for shim in shims {
            wait_for("a shim to serve the key", || serves(shim, &key).then_some(()));
        }
    });
    let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(first)));
    let begun = Instant::now();
    // Milliseconds from the beginning to when somebody was served last.
    let served = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (stop, next, served) = (Arc::clone(&stop), Arc::clone(&next), Arc::clone(&served));
        let (rows, key) = (Arc::clone(&rows), key.clone());
        clients.spawn(async move {
            let (mut tries, mut shim) = (Vec::new(), client);
            while !stop.load(Ordering::Relaxed) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let row = rows[usize::try_from(number).unwrap() % rows.len()];
                let config = ReplayConfig {
                    base_url: format!("http://{}/v1", shims[shim % shims.len()]),
                    teams: vec![TeamKey { team: team.to_owned(), key: key.clone() }],
                    models: vec![team.to_owned()],
                    concurrency: 1,
                    leave_per_mille: 0,
                    max_tokens: Some(CAP),
                    bytes_per_token: 1,
                    timeout: Duration::from_secs(15),
                    first_number: number,
                    ..ReplayConfig::default()
                };
                let sent = Instant::now();
                let outcomes = replay(&config, &[row], |_, _| ControlFlow::Continue(())).await.unwrap();
                let outcome = outcomes.into_iter().next().expect("one request has one outcome");
                let answered = Instant::now();
                if outcome.served {
                    let at = u64::try_from(begun.elapsed().as_millis()).unwrap();
                    served.fetch_max(at, Ordering::Relaxed);
                } else {
                    // Nobody answers, or not with money: another shim, after a while.
                    shim += 1;
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                tries.push(Try { sent, answered, outcome });
            }
            tries
        });
    }
    if let Some(faults) = faults {
        faults.await.unwrap();
        served.fetch_max(u64::try_from(begun.elapsed().as_millis()).unwrap(), Ordering::Relaxed);
    }
    loop {
        let last = Duration::from_millis(served.load(Ordering::Relaxed));
        if begun.elapsed() > last + QUIET {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(300), "clients of {team} are still served");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stop.store(true, Ordering::Relaxed);
    Phase { team, tries: clients.join_all().await.into_iter().flatten().collect() }
}

/// Kills and freezes, one after the other, each healed before or beside the next.
fn disturb(cluster: &Cluster, broker: &Broker, faults: u64, seed: u64) {
    let mut random = Seeded::new(seed);
    for fault in 0..faults {
        std::thread::sleep(Duration::from_millis(200 + random.below(800)));
        let shim = cluster.role(SHIMS[usize::try_from(random.below(3)).unwrap()]);
        let ledger = cluster.role(LEDGERS[usize::try_from(random.below(2)).unwrap()]);
        let nap = Duration::from_millis(500 + random.below(2500));
        // Each kind in turn, so that a short run has all of them.
        match fault % 5 {
            0 | 3 => {
                shim.kill();
                std::thread::sleep(nap / 4);
                shim.start();
            }
            1 => {
                // Longer than the other ledger waits: it wakes up as one that was superseded.
                ledger.freeze();
                std::thread::sleep(nap + Duration::from_secs(2));
                ledger.thaw();
            }
            2 => {
                ledger.kill();
                std::thread::sleep(nap);
                ledger.start();
            }
            _ => {
                shim.freeze();
                broker.freeze();
                std::thread::sleep(nap);
                broker.thaw();
                std::thread::sleep(nap / 2);
                shim.thaw();
            }
        }
    }
    for role in cluster.roles() {
        role.must_run();
    }
}

/// Pico-dollars by request, by the provider's own bill.
fn billed(bill: &Path, team: &str) -> BTreeMap<String, i128> {
    let mut amounts: BTreeMap<String, i128> = BTreeMap::new();
    for line in read_bill(bill).unwrap().into_iter().filter(|line| line.model == team) {
        *amounts.entry(line.id).or_default() += line.amount_pico;
    }
    amounts
}

fn check(cluster: &Cluster, bill: &Path, phase: &Phase) {
    let team = phase.team;
    // Successors close what their predecessors left.
    let book = wait_for(&format!("nothing of {team} to be reserved"), || {
        let book = cluster.place.budgets().into_iter().find(|row| row["budget"] == team)?;
        (pico(book["reserved"].as_str().unwrap()) == 0).then_some(book)
    });
    let amount = |name: &str| pico(book[name].as_str().unwrap());
    let amounts = billed(bill, team);
    let total: i128 = amounts.values().sum();
    let limit = pico(LIMIT);
    let (stranded, abandoned) = (amount("stranded"), amount("settled") - total);
    let mut refusals: BTreeMap<String, usize> = BTreeMap::new();
    for it in phase.tries.iter().filter(|it| !it.outcome.served) {
        let why = it.outcome.error_code.clone().unwrap_or_else(|| format!("{:?}", it.outcome.ending));
        *refusals.entry(why).or_default() += 1;
    }
    let served = phase.tries.iter().filter(|it| it.outcome.served).count();
    let wrong = wrongly_refused(phase, &amounts, limit - stranded - abandoned);
    let cents = |pico: i128| pico / 10_000_000_000;
    println!(
        "{team:<7} {:>5}  {served:>6}  {:>15}  {refusals:?}  {:>9}  {:>9}  {wrong:>15}  (cents)",
        phase.tries.len(),
        cents(total),
        cents(stranded),
        cents(abandoned),
    );
    println!("        {book}");
    assert!(served > 1000, "the budget was hardly touched");
    assert!(total <= limit, "{team}: {total} was billed above {limit}");
    assert!(abandoned >= 0, "{team}: less was settled than billed");
    let parts = ["settled", "reserved", "leased_idle", "stranded", "available"];
    assert_eq!(amount("limit"), parts.map(amount).iter().sum::<i128>(), "the books do not add up: {book}");
    let usable = limit - stranded - abandoned - BOUND;
    assert!(total * 100 >= usable * 95, "{team}: only {total} of {usable} could be spent");
    if team == "peace" {
        assert_eq!((stranded, abandoned), (0, 0), "without faults nothing strands");
        assert_eq!(wrong, 0, "refused while there was money");
    }
}

/// Each alert of a team was posted, signed and under one id however often, and is on record as delivered.
fn check_alerts(cluster: &Cluster, hook: &Receiver, team: &str) {
    let alert = |percent: u64| {
        let rows: Vec<Value> =
            serde_json::from_str(&cluster.place.run(&["alerts", "--format", "json"])).unwrap();
        let told = |row: &Value| row["webhooks"].as_str().unwrap().starts_with("on-call: delivered");
        rows.into_iter().find(|row| row["budget"] == team && row["percent"] == percent && told(row))
    };
    for percent in ALERTS {
        let row = wait_for("an alert to be delivered", || alert(percent));
        let posted: Vec<_> = (hook.received().into_iter())
            .filter(|(_, body)| {
                let message: Value = serde_json::from_slice(body).unwrap();
                message["data"]["budget"] == team && message["data"]["percent"] == percent
            })
            .collect();
        posted.iter().for_each(webhook::check_signature);
        let ids: BTreeSet<&str> = posted.iter().map(|(headers, _)| headers["webhook-id"].as_str()).collect();
        println!("        alert at {percent} %: posted {} times as {ids:?}", posted.len());
        assert_eq!(ids, BTreeSet::from([row["id"].as_str().unwrap()]));
    }
}

/// Refusals during which, at every moment, at least one more request would have fitted: even if each request that was
/// served meanwhile had reserved its whole bound for all of the time, and all before had been billed at once. What was
/// forfeited counts as gone from the beginning.
fn wrongly_refused(phase: &Phase, amounts: &BTreeMap<String, i128>, limit: i128) -> usize {
    let served: Vec<(&Try, i128)> = (phase.tries.iter())
        .filter(|it| it.outcome.served)
        .map(|it| (it, amounts.get(&it.outcome.id).copied().unwrap_or(0)))
        .collect();
    // Billed, but its client saw no answer: gone from the beginning as well.
    let unseen = amounts.values().sum::<i128>() - served.iter().map(|(_, amount)| amount).sum::<i128>();
    let is_refusal = |it: &&Try| !it.outcome.served && it.outcome.status.is_some();
    let wrong = |it: &&Try| {
        let taken: i128 = (served.iter())
            .filter(|(other, _)| other.sent < it.answered)
            .map(|(other, amount)| if other.answered < it.sent { *amount } else { BOUND })
            .sum();
        limit - unseen - taken >= BOUND
    };
    phase.tries.iter().filter(is_refusal).filter(wrong).count()
}
