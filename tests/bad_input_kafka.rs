//! Bad input behind the doors, on Apache Kafka and an S3 server: forged records on every topic, topics and records
//! that were deleted, a foreign object in the chain's way. Each is on record or said plainly, and lends nobody money.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

#[path = "harness/forge.rs"]
mod forge;
mod harness;

use std::collections::BTreeMap;
use std::sync::Arc;

use bursar_ingest::archive::{Segments, find_head, open_store};
use bursar_ingest::kafka::KafkaSettings;
use bursar_schemas::archive::segment_key;
use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{
    AccountRef, Fact, Head, KeyIssued, LeaseGranted, LeaseId, LeaseRequested, QueryRan, Role,
};
use bursar_schemas::ids::{Digest, ProducerId};
use bursar_schemas::money::Money;
use bursar_schemas::position::{Lane, Topic};
use bursar_stand_in::provider::{RunningStandIn, StandIn, StandInConfig};
use forge::Forger;
use harness::cluster::Cluster;
use harness::{chat, component, get, post, wait_for};
use object_store::ObjectStoreExt as _;
use serde_json::Value;

const fn policy_of() -> &'static str {
    r#"
[[organisation]]
id = "acme"
[[team]]
id = "red"
organisation = "acme"
[[budget]]
id = "red-total"
scope = "team:red"
window = "total"
amount = "10.00"
[[provider]]
id = "openai"
base_url = "BASE"
[[model]]
id = "small"
targets = [{ provider = "openai", model = "gpt-4o-mini" }]
"#
}

/// A cluster that serves a key, somebody who can write to its topics, and the provider.
struct Scene {
    cluster: Arc<Cluster>,
    forger: Forger,
    key: String,
    _provider: RunningStandIn,
}

async fn scene(bootstrap: &str, roles: &'static [(&'static str, &'static str)]) -> Scene {
    let provider = StandIn::start(StandInConfig::default()).await.unwrap();
    let policy = policy_of().replace("BASE", &provider.base_url);
    let kafka = bootstrap.to_owned();
    let (cluster, key) = tokio::task::spawn_blocking(move || {
        let cluster = Cluster::start(&kafka, roles, &policy);
        let key = cluster.place.key("red");
        served(&cluster, &key);
        (Arc::new(cluster), key)
    })
    .await
    .unwrap();
    let forger = Forger::new(KafkaSettings::new(bootstrap, &cluster.prefix));
    Scene { cluster, forger, key, _provider: provider }
}

/// Runs a part of a test that blocks.
async fn blocking<T: Send + 'static>(
    scene: &Scene,
    run: impl FnOnce(&Cluster, &str) -> T + Send + 'static,
) -> T {
    let (cluster, key) = (Arc::clone(&scene.cluster), scene.key.clone());
    tokio::task::spawn_blocking(move || run(&cluster, &key)).await.unwrap()
}

/// A request is answered.
fn served(cluster: &Cluster, key: &str) {
    wait_for("a request to be served", || {
        let (status, answer) = post(cluster.place.shim, key, &chat("hello"));
        assert!(matches!(status, 200 | 401 | 503), "{answer}");
        (status == 200).then_some(())
    });
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

const ROLES: &[(&str, &str)] =
    &[("ledger", "ledger"), ("ingest", "ingest"), ("query", "query"), ("shim", "shim")];

/// A kind of fact that each topic carries.
const KINDS: [(Topic, u8); 5] = [
    (Topic::Requests, 10),
    (Topic::Routes, 21),
    (Topic::Spend, 31),
    (Topic::Limits, 43),
    (Topic::Policy, 50),
];

/// Framed as a kind that nobody knows.
fn unknown_kind() -> Vec<u8> {
    [&[0, 0, 0, 0x03, 0xe7][..], b"whatever"].concat()
}

fn head() -> Head {
    Head::draft(Micros(1_700_000_000_000_000), 1, "")
}

/// What a forger would like: money, a key, a place in the audit history.
fn wishes(holder: ProducerId) -> [(Topic, Fact); 4] {
    let accounts = vec![AccountRef { budget: "red-total".to_owned(), window: 0 }];
    let lease = LeaseId { holder, number: 1 };
    let amount = Money::from_pico(9_000_000_000_000);
    let asked =
        LeaseRequested { head: head(), lease, accounts: accounts.clone(), wanted: amount, minimum: amount };
    let granted = LeaseGranted { head: head(), epoch: 0, lease, accounts, amount, cause: 0, read: 0 };
    let key = KeyIssued {
        head: head(),
        key: "forged".to_owned(),
        secret_hash: Digest([9; 32]),
        organisation: "acme".to_owned(),
        team: Some("red".to_owned()),
        project: None,
        tags: BTreeMap::new(),
        models: Vec::new(),
        author: "nobody".to_owned(),
    };
    let ran = QueryRan {
        head: head(),
        by: "nobody".to_owned(),
        statement: "SELECT 1".to_owned(),
        outcome: "finished".to_owned(),
        rows: 1,
        duration_us: 1,
    };
    [
        (Topic::Spend, asked.into()),
        (Topic::Limits, granted.into()),
        (Topic::Policy, key.into()),
        (Topic::Requests, ran.into()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_records_are_on_record_and_lend_nothing() {
    let Some(bootstrap) = component("BURSAR_TEST_KAFKA") else { return };
    let scene = scene(&bootstrap, ROLES).await;
    for (topic, kind) in KINDS {
        let mut values = vec![b"not framed at all".to_vec(), [&[0, 0, 0, 0, kind][..], &[0xff; 9]].concat()];
        // On these two an unknown kind stops readers, which is for later.
        if !matches!(topic, Topic::Limits | Topic::Policy) {
            values.push(unknown_kind());
        }
        scene.forger.write(Lane::new(topic, 0), &values).await.unwrap();
    }
    let forger = ProducerId([Role::Shim as u8 + 1; 16]);
    for (topic, fact) in wishes(forger) {
        scene.forger.state(Lane::new(topic, 0), Role::Shim, vec![fact]).await.unwrap();
    }
    let name = forger.to_string();
    blocking(&scene, move |cluster, key| {
        let faults = wait_for("what cannot be read to be on record", || {
            let rows = cluster.place.sql(
                "SELECT topic, count(*) AS n FROM findings WHERE finding = 'unreadable' AND \"offset\" IS NOT NULL GROUP BY topic",
            );
            let found: BTreeMap<String, i64> =
                rows.iter().map(|row| (row["topic"].as_str().unwrap().to_owned(), number(&row["n"]))).collect();
            (found.len() == Topic::ALL.len() && found.values().all(|n| *n >= 2)).then_some(found)
        });
        println!("unreadable records, by topic: {faults:?}");
        wait_for("the ledger to record the stranger", || {
            let rows = cluster.place.sql(&format!(
                "SELECT detail FROM findings WHERE topic = 'spend' AND finding IN ('foreign', 'forged') AND producer = '{name}'"
            ));
            (!rows.is_empty()).then_some(())
        });
        let in_good_form =
            cluster.place.sql(&format!("SELECT kind FROM requests WHERE producer = '{name}' AND kind = 'QueryRan'"));
        assert_eq!(in_good_form.len(), 1, "a record in good form is not on record");
        served(cluster, key);
        let grants = cluster.place.sql(&format!(
            "SELECT count(*) AS n FROM limits WHERE kind = 'LeaseGranted' AND role = 'ledger' AND lease_holder = '{name}'"
        ));
        assert_eq!(number(&grants[0]["n"]), 0, "the ledger lent a stranger money");
        let books = cluster.place.budgets();
        assert!(books[0]["stranded"] == "0.00" || books[0]["stranded"].as_str().unwrap().trim_matches(['0', '.']).is_empty(),
            "the forged grant was taken for one: {books:?}");
        assert!(!cluster.place.run(&["keys", "list"]).contains("forged"), "a forged key was taken for one");
        cluster.roles().iter().for_each(harness::cluster::Role::must_run);
    })
    .await;

    // A record of an unknown kind on `limits` could bind anything: whoever folds it stops, and says why.
    scene.forger.write(Lane::new(Topic::Limits, 0), &[unknown_kind()]).await.unwrap();
    blocking(&scene, |cluster, key| {
        let log = cluster.role("ledger").ends_by_itself();
        let last = log.lines().last().unwrap();
        assert!(last.contains("of limits is of a kind that this version does not know"), "{last}");
        let shim = cluster.place.shim;
        let (status, answer) = wait_for("the shim to refuse", || {
            let answer = post(shim, key, &chat("hello"));
            (answer.0 != 200).then_some(answer)
        });
        assert!(status == 503 && answer.contains("ledger_unavailable"), "{status} {answer}");
        let (status, page) = get(shim, "/readyz");
        assert!(status == 200 && page.contains("cannot be read any further"), "{status} {page}");
        for role in ["shim", "ingest", "query"] {
            cluster.role(role).must_run();
            cluster.role(role).stop();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_topic_stops_the_ledger_and_is_not_made_anew() {
    let Some(bootstrap) = component("BURSAR_TEST_KAFKA") else { return };
    let scene = scene(&bootstrap, ROLES).await;
    let sealed = blocking(&scene, |cluster, _| {
        wait_for("limits to be sealed", || {
            let status = cluster.status("ingest");
            let lane = status["roles"]["ingest"]["limits/0"].as_str().unwrap_or_default().to_owned();
            lane.contains("sealed to offset").then_some(())
        });
        number(&cluster.place.sql("SELECT count(*) AS n FROM limits")[0]["n"])
    })
    .await;
    scene.forger.delete(Topic::Limits).await;
    blocking(&scene, move |cluster, key| {
        let log = cluster.role("ledger").ends_by_itself();
        let last = log.lines().last().unwrap();
        assert!(last.contains("limits"), "the last word does not name the topic: {last}");
        println!("the ledger's last word: {last}");
        let (shim, limits) = (cluster.place.shim, format!("{}.limits", cluster.prefix));
        wait_for("hard budgets to refuse", || {
            let (status, answer) = post(shim, key, &chat("hello"));
            (status == 503 && answer.contains("ledger_unavailable")).then_some(())
        });
        for role in ["ledger", "shim"] {
            if role == "shim" {
                cluster.role(role).kill();
            }
            let told = cluster.role(role).refuses_to_start();
            let line = told.lines().last().unwrap().to_owned();
            assert!(line.contains(&limits) && line.contains("was deleted"), "{role}: {told}");
        }
        // What was sealed is still there to be asked for.
        let kept = number(&cluster.place.sql("SELECT count(*) AS n FROM limits")[0]["n"]);
        assert!(kept >= sealed, "{kept} of {sealed} records of the deleted topic are left");
        for role in ["ingest", "query"] {
            cluster.role(role).must_run();
            cluster.role(role).stop();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_took_is_recorded_as_lost_and_a_foreign_segment_stops_its_lane_alone() {
    let Some(bootstrap) = component("BURSAR_TEST_KAFKA") else { return };
    // Two archivers on one archive: each record is sealed once all the same.
    let both: &[(&str, &str)] = &[
        ("ledger", "ledger"),
        ("ingest", "ingest"),
        ("rival", "ingest"),
        ("query", "query"),
        ("shim", "shim"),
    ];
    let scene = scene(&bootstrap, both).await;
    let routes = Lane::new(Topic::Routes, 0);
    blocking(&scene, |cluster, _| {
        wait_for("policy to be sealed", || {
            let status = cluster.status("ingest");
            let lane = status["roles"]["ingest"]["policy/0"].as_str().unwrap_or_default().to_owned();
            lane.contains("sealed to offset").then_some(())
        });
        cluster.role("ingest").stop();
        cluster.role("rival").stop();
    })
    .await;
    let before = scene.forger.end(routes).await;
    blocking(&scene, |cluster, key| (0..3).for_each(|_| served(cluster, key))).await;
    let end = loop {
        // The facts of the last request may still be in the spool.
        let end = scene.forger.end(routes).await;
        if end >= before + 6 {
            break end;
        }
        tokio::task::yield_now().await;
    };
    scene.forger.forget(routes, end).await;

    // An object that is no segment, where the next one of `policy` would go.
    let policy = Lane::new(Topic::Policy, 0);
    let generation = scene.forger.generation(Topic::Policy).await;
    let url = format!("{}/{}", component("BURSAR_TEST_S3").unwrap(), scene.cluster.prefix);
    let (store, prefix) = open_store(&url).unwrap();
    let segments = Segments::new(Arc::clone(&store), prefix.clone());
    let next = find_head(&segments, generation, policy, scene.forger.end(policy).await).await.unwrap().next;
    let foreign = format!("{prefix}/{}", segment_key(generation, policy, next));
    assert!(next > 0, "nothing of policy was sealed");
    store.put(&foreign.as_str().into(), b"no segment".to_vec().into()).await.unwrap();

    blocking(&scene, move |cluster, key| {
        // The query service is started anew, so that it has only what topics and archive hold.
        cluster.role("query").kill();
        cluster.role("query").start();
        cluster.role("ingest").start();
        cluster.place.key("red");
        served(cluster, key);
        let warnings = wait_for("the loss to be told", || {
            let status = cluster.status("query");
            let text = status["roles"]["query"]["warnings"].to_string();
            (text.contains("routes/0") && text.contains("lost before they could be sealed")).then_some(text)
        });
        println!("the query service warns: {warnings}");
        wait_for("the archiver to tell of the object in its way", || {
            let status = cluster.status("ingest");
            let lane = status["roles"]["ingest"]["policy/0"].as_str().unwrap_or_default().to_owned();
            lane.contains("fault").then(|| println!("policy/0: {lane}"))
        });
        let rows =
            cluster.place.sql("SELECT count(*) AS n, count(DISTINCT \"offset\") AS places FROM requests");
        assert_eq!(rows[0]["n"], rows[0]["places"], "a record was sealed twice");
        cluster.roles().iter().filter(|role| role.is_up()).for_each(harness::cluster::Role::must_run);
        cluster.stop();
    })
    .await;
}
