//! The broker is away while load runs: it is stopped in its tracks (SIGSTOP) under two shims with a hard and a soft
//! budget. What leases hold is spent and no more, the rest is refused as `ledger_unavailable`, soft budgets go on, and
//! nothing is lost once the broker is back.
//!
//! `BURSAR_TEST_AWAY_SECONDS=600 cargo test --test away_kafka -- --nocapture` is the long run.
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
use std::time::{Duration, Instant};

use books::{PRICES, Providers, oracle};
use bursar_stand_in::provider::read_bill;
use bursar_stand_in::replay::Outcome;
use bursar_stand_in::trace;
use harness::clients::{Clients, Load};
use harness::cluster::{Broker, Cluster, Deployment};
use harness::{component, get, pico, setting, wait_for};
use serde_json::Value;

const SHIMS: [&str; 2] = ["shim-a", "shim-b"];

/// Every role by its name and command.
const ROLES: [(&str, &str); 5] =
    [("ledger", "ledger"), ("ingest", "ingest"), ("query", "query"), ("shim-a", "shim"), ("shim-b", "shim")];

/// A team with a hard budget and one with a soft one, both far from their limits.
fn policy(providers: &Providers) -> String {
    let (model, input, output) = PRICES[0];
    format!(
        r#"
[[organisation]]
id = "acme"
[[team]]
id = "hard"
organisation = "acme"
[[team]]
id = "soft"
organisation = "acme"
[[budget]]
id = "hard-total"
scope = "team:hard"
window = "total"
amount = "900000000.00"
[[budget]]
id = "soft-total"
scope = "team:soft"
window = "total"
amount = "900000000.00"
mode = "soft"
[[provider]]
id = "alpha"
base_url = "{base}"
[[model]]
id = "gold"
targets = [{{ provider = "alpha", model = "{model}" }}]
[[price]]
provider = "alpha"
model = "{model}"
max_output = 4096
meters = {{ input = "{input}", output = "{output}" }}
"#,
        base = providers.alpha.base_url,
    )
}

/// What was seen while the broker was away.
struct Seen {
    /// Before and after, as SQL takes them.
    from: String,
    to: String,
    ready: usize,
    degraded: BTreeSet<String>,
    spool_bytes: BTreeMap<&'static str, i64>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn leases_and_spools_carry_the_shims_through_an_outage() {
    if component("BURSAR_TEST_KAFKA").is_none() {
        return;
    }
    let seconds = setting("BURSAR_TEST_AWAY_SECONDS", 45);
    let providers = Arc::new(Providers::start_slow(0, Duration::from_millis(10)).await);
    let deployment = Deployment::start(&ROLES, policy(&providers)).await;
    let cluster = &deployment.cluster;
    // Each team has its own clients, so that those who wait for a lease hold nobody else up.
    let clients = [(0, "hard"), (1_000_000, "soft")].map(|(first, team)| {
        Clients::start(Load {
            shims: SHIMS.map(|name| cluster.role(name).listen).to_vec(),
            teams: vec![(team.to_owned(), cluster.place.key(team))],
            models: vec!["gold".to_owned()],
            rows: trace::builtin().unwrap(),
            seed: setting("BURSAR_TEST_SEED", 20_231_116),
            first,
            clients: 4,
            pause: 100,
        })
    });
    let own = Arc::clone(&deployment);
    let seen = tokio::task::spawn_blocking(move || outage(&own.cluster, &own.broker, seconds)).await.unwrap();
    let mut outcomes = Vec::new();
    for clients in clients {
        outcomes.extend(clients.end().await);
    }
    tokio::task::spawn_blocking(move || {
        let Deployment { cluster, broker, .. } = &*deployment;
        check(cluster, broker, &providers, &outcomes, &seen, seconds);
        cluster.stop();
    })
    .await
    .unwrap();
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}

fn outage(cluster: &Cluster, broker: &Broker, seconds: u64) -> Seen {
    wait_for("both shims to lease", || {
        let grants =
            cluster.place.sql("SELECT DISTINCT lease_holder FROM limits WHERE kind = 'LeaseGranted'");
        (grants.len() == SHIMS.len()).then_some(())
    });
    broker.freeze();
    // From here on nothing of the ledger can reach a shim.
    let (from, begun) = (now(), Instant::now());
    let mut seen =
        Seen { from, to: String::new(), ready: 0, degraded: BTreeSet::new(), spool_bytes: BTreeMap::new() };
    while begun.elapsed() < Duration::from_secs(seconds) {
        for shim in SHIMS.map(|name| cluster.role(name)) {
            let (status, body) = get(shim.listen, "/readyz");
            assert_eq!(status, 200, "{} is not ready while spool and leases last: {body}", shim.name);
            let page: Value = serde_json::from_str(&body).unwrap();
            seen.degraded.extend(page["degraded"].as_array().unwrap().iter().map(Value::to_string));
            seen.ready += 1;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    for name in SHIMS {
        let status = cluster.status(name);
        seen.spool_bytes.insert(name, status["roles"]["shim"]["spool_bytes"].as_i64().unwrap());
    }
    seen.to = now();
    broker.thaw();
    // The load goes on over the return.
    let answers = || {
        let rows = cluster.place.sql(&format!(
            "SELECT count(*) AS n FROM spend WHERE kind = 'Settled' AND lease_holder IS NOT NULL AND \"at\" > '{}'",
            seen.to
        ));
        (oracle::number(&rows[0]["n"]) > 20).then_some(())
    };
    wait_for("hard budgets to be served again", answers);
    seen
}

/// The sum that a statement gives, in pico-dollars.
fn sum(cluster: &Cluster, statement: &str) -> i128 {
    let rows = cluster.place.sql(statement);
    rows[0]["sum"].as_str().map_or(0, pico)
}

fn check(
    cluster: &Cluster,
    broker: &Broker,
    providers: &Providers,
    outcomes: &[Outcome],
    seen: &Seen,
    seconds: u64,
) {
    let billed: BTreeSet<String> = read_bill(&providers.bills[0])
        .unwrap()
        .into_iter()
        .map(|line| line.client_request.unwrap().replace('-', ""))
        .collect();
    wait_for("everything to be on record", || {
        let opened =
            cluster.place.sql("SELECT request FROM requests WHERE kind = 'RequestOpened' AND NOT duplicate");
        let opened: BTreeSet<&str> = opened.iter().map(|row| row["request"].as_str().unwrap()).collect();
        let open = cluster.place.sql(books::OPEN_REQUESTS);
        (open.is_empty() && billed.iter().all(|it| opened.contains(it.as_str()))).then_some(())
    });
    let book = wait_for("the ledger to have read everything", || {
        let book = oracle::fold(broker.bootstrap(), &cluster.prefix)?;
        oracle::agrees(&cluster.place, &book).then_some(book)
    });
    oracle::must_hold(&cluster.place, &book);

    let (from, to) = (&seen.from, &seen.to);
    let of = |what: &str, table: &str, kind: &str, more: &str| {
        sum(
            cluster,
            &format!(
                "SELECT CAST(sum({what}) AS VARCHAR) AS sum FROM {table} \
                 WHERE kind = '{kind}' AND NOT duplicate AND {more}"
            ),
        )
    };
    let before = format!("\"at\" < '{from}'");
    let away = format!("lease_holder IS NOT NULL AND \"at\" >= '{from}' AND \"at\" < '{to}'");
    let granted = of("amount", "limits", "LeaseGranted", &before);
    let credited = of("amount", "limits", "LeaseCredited", &before);
    let spent = of("amount", "spend", "Settled", &format!("lease_holder IS NOT NULL AND {before}"));
    let held = granted - credited - spent;
    let (admitted, settled) =
        (of("amount", "spend", "Reserved", &away), of("amount", "spend", "Settled", &away));
    let count = |statement: &str| oracle::number(&cluster.place.sql(statement)[0]["n"]);
    let during = format!("\"at\" >= '{from}' AND \"at\" < '{to}'");
    let served = |team: &str| {
        count(&format!(
            "SELECT count(*) AS n FROM requests WHERE kind = 'RequestOpened' AND NOT duplicate AND team = '{team}' AND {during}"
        ))
    };
    let refused = cluster.place.sql(&format!(
        "SELECT team, code, count(*) AS n FROM refusals WHERE {during} GROUP BY team, code ORDER BY team, code"
    ));
    let dollars = |amount: i128| amount / 1_000_000_000_000;
    println!(
        "the broker was away for {seconds} s; two shims; {} requests were sent in all\n",
        outcomes.len()
    );
    println!("| While the broker was away | hard budget | soft budget |\n|---|---:|---:|");
    println!("| leases held at its going, dollars | {} | – |", dollars(held));
    println!("| upper bounds admitted, one after the other, dollars | {} | – |", dollars(admitted));
    println!("| settled of it, dollars | {} | – |", dollars(settled));
    println!("| requests admitted | {} | {} |", served("hard"), served("soft"));
    for code in ["ledger_unavailable", "overloaded", "spool_full", "budget_exceeded"] {
        let of = |team: &str| {
            let row = refused.iter().find(|row| row["team"] == team && row["code"] == code);
            row.map_or(0, |row| oracle::number(&row["n"]))
        };
        println!("| refused as `{code}` | {} | {} |", of("hard"), of("soft"));
        assert_eq!(of("soft"), 0, "the soft budget's team was refused");
        if code != "ledger_unavailable" {
            assert_eq!(of("hard"), 0, "an outage was taken for something else");
        }
    }
    println!("| bytes in the spools at its return | {:?} | |", seen.spool_bytes);
    println!("\n`/readyz` was asked {} times; degraded: {:#?}", seen.ready, seen.degraded);
    assert!(settled <= held, "{settled} were settled under leases of {held}");
    assert!(served("hard") > 0, "the leases carried nothing");
    assert!(served("soft") > 0, "the soft budget's team was not served");
    assert!(!seen.degraded.is_empty(), "nobody said that the broker is away");
    let codes: Vec<_> = refused.iter().filter(|row| row["team"] == "hard").collect();
    assert!(!codes.is_empty(), "the leases outlived the outage: nothing was refused");
    let unfair = outcomes.iter().filter(|it| it.error_code.as_deref() == Some("budget_exceeded")).count();
    assert_eq!(unfair, 0, "somebody was told that a budget is exceeded");
}
