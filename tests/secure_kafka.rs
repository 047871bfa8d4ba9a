//! The whole product over SASL and TLS, each role as its own user under the rights of `deploy/acls.sh`: it serves,
//! nobody can write what is another's, bad bodies are refused clearly, and no prompt, answer, key or password is found
//! in any topic, object, file, log or metric. And a disk that is full under the spool.
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

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bursar_ingest::archive::open_store;
use bursar_ingest::kafka::{KafkaSettings, Security, TopicPlan, ensure_topics};
use bursar_schemas::ports::OutletError;
use bursar_schemas::position::{Lane, Topic};
use bursar_stand_in::provider::{StandIn, StandInConfig};
use forge::Forger;
use futures::TryStreamExt as _;
use harness::canary::{KEY, PROMPT, policy};
use harness::cluster::{Cluster, quoted};
use harness::{chat, component, contains, get, holding, post, wait_for};
use object_store::ObjectStoreExt as _;
use serde_json::Value;

const FORGED: &str = "forged-by-another-user-04c7";
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A role's name, its subcommand and its user.
const ROLES: [(&str, &str, &str); 4] = [
    ("ledger", "ledger", "ledger"),
    ("ingest", "ingest", "archiver"),
    ("query", "query", "query"),
    ("shim", "shim", "shim"),
];

/// The broker that `tests/run` started, by its encrypted door.
#[derive(Clone)]
struct Door {
    bootstrap: String,
    ca: PathBuf,
    secrets: PathBuf,
}

impl Door {
    fn find() -> Option<Self> {
        let password = PathBuf::from(component("BURSAR_TEST_KAFKA_PASSWORD_FILE")?);
        Some(Self {
            bootstrap: component("BURSAR_TEST_KAFKA_SASL")?,
            ca: PathBuf::from(component("BURSAR_TEST_KAFKA_CA")?),
            secrets: password.parent().unwrap().to_path_buf(),
        })
    }

    fn password_file(&self, user: &str) -> PathBuf {
        self.secrets.join(format!("{user}.password"))
    }

    fn password(&self, user: &str) -> String {
        std::fs::read_to_string(self.password_file(user)).unwrap()
    }

    /// A client of that user.
    fn user(&self, user: &str, prefix: &str) -> KafkaSettings {
        let mut settings = KafkaSettings::new(&self.bootstrap, prefix);
        settings.security = Security::SaslTls {
            ca_file: Some(self.ca.clone()),
            mechanism: "SCRAM-SHA-256".to_owned(),
            username: user.to_owned(),
            password: self.password(user),
        };
        settings
    }

    /// Runs `deploy/acls.sh` as an administrator would.
    fn set_rights(&self, prefix: &str) {
        let broker = self.secrets.parent().unwrap();
        let acls = format!("bash {ROOT}/tests/components/kafka acls {}", broker.display());
        let run = Command::new("bash")
            .arg(format!("{ROOT}/deploy/acls.sh"))
            .arg(prefix)
            .env("KAFKA_ACLS", acls)
            .output()
            .unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    }
}

/// The roles, each as its user.
fn start(mut cluster: Cluster, door: &Door) -> Cluster {
    door.set_rights(&cluster.prefix);
    for (name, value) in [
        ("kafka.brokers", door.bootstrap.clone()),
        ("kafka.security", "sasl_ssl".to_owned()),
        ("kafka.sasl_mechanism", "SCRAM-SHA-256".to_owned()),
        ("kafka.ca_file", door.ca.display().to_string()),
    ] {
        cluster.set(name, &quoted(&value));
    }
    cluster.set("shim.max_body_mebibytes", "1");
    // What is captured lies encrypted in the bucket that is searched.
    let archive = component("BURSAR_TEST_S3").unwrap();
    cluster.set("content.capture", "true");
    cluster.set("content.url", &quoted(&format!("{archive}/{}/content", cluster.prefix)));
    cluster.environment("CANARY_KEY", KEY);
    for (name, command, user) in ROLES {
        cluster.set("kafka.username", &quoted(user));
        cluster.set("kafka.password", &quoted(&format!("file:{}", door.password_file(user).display())));
        cluster.add(name, command);
    }
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn the_product_runs_over_tls_with_one_user_for_each_role_and_leaks_nothing() {
    let (Some(door), Some(plain)) = (Door::find(), component("BURSAR_TEST_KAFKA")) else { return };
    let config = StandInConfig { api_key: Some(KEY.to_owned()), ..StandInConfig::default() };
    let provider = StandIn::start(config).await.unwrap();
    let text = policy(&provider.base_url) + "[content]\ncapture_teams = [\"red\"]\n";
    let cluster = Cluster::new(&plain);
    // An administrator makes the topics; no role may.
    let open = KafkaSettings::new(&plain, &cluster.prefix);
    let plan = TopicPlan { replication: 1, min_insync: 1, ..TopicPlan::new(1) };
    ensure_topics(&open, &plan).await.unwrap();
    let own = door.clone();
    let (cluster, key, answer) = tokio::task::spawn_blocking(move || {
        let cluster = start(cluster, &own);
        let file = cluster.place.write("policy.toml", &text);
        cluster.place.run(&["apply", file.to_str().unwrap()]);
        let key = cluster.place.key("red");
        let answer = serve(&cluster, &key);
        refuse(&cluster, &key);
        erase(&cluster);
        (Arc::new(cluster), key, answer)
    })
    .await
    .unwrap();

    for (user, topics) in [
        ("shim", &[Topic::Limits, Topic::Policy][..]),
        ("query", &[Topic::Spend, Topic::Limits, Topic::Policy, Topic::Routes]),
        ("archiver", &[Topic::Spend, Topic::Limits, Topic::Policy, Topic::Routes]),
        ("ledger", &[Topic::Spend, Topic::Routes]),
    ] {
        let forger = Forger::new(door.user(user, &cluster.prefix));
        for topic in topics {
            let told = forger.write(Lane::new(*topic, 0), &[FORGED.as_bytes().to_vec()]).await;
            assert!(matches!(told, Err(OutletError::Failed(_))), "{user} on {topic}: {told:?}");
        }
    }

    // What was refused must not be there either.
    let mut canaries = vec![PROMPT.to_owned(), KEY.to_owned(), FORGED.to_owned(), key, answer];
    canaries.extend(ROLES.map(|(_, _, user)| door.password(user)));
    let reader = Forger::new(open);
    search_topics_and_bucket(&reader, &cluster.prefix, &canaries).await;
    tokio::task::spawn_blocking(move || search_files(&cluster, &canaries)).await.unwrap();
}

/// A request is answered and comes out in every place where it should; the answer's text.
fn serve(cluster: &Cluster, key: &str) -> String {
    let (_, body) = wait_for("a request to be served", || {
        let prompt = format!("stand-in prompt_tokens=9 completion_tokens=19 {PROMPT} say hello");
        let answer = post(cluster.place.shim, key, &chat(&prompt));
        assert!(matches!(answer.0, 200 | 401 | 503), "{answer:?}");
        (answer.0 == 200).then_some(answer)
    });
    let body: Value = serde_json::from_str(&body).unwrap();
    let text = body["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    assert!(text.len() >= 16, "an answer too short to be told from chance: {text:?}");
    wait_for("the request's settlement", || {
        let rows = cluster.place.sql("SELECT amount FROM settlements WHERE team = 'red'");
        (!rows.is_empty()).then_some(())
    });
    wait_for("the ledger's book of it", || {
        let books = cluster.place.budgets();
        books.iter().any(|row| harness::pico(row["settled"].as_str().unwrap()) > 0).then_some(())
    });
    assert!(cluster.place.run(&["chargeback", "--month", &harness::Place::month()]).contains("red"));
    text
}

/// Bad bodies at the shim's door.
fn refuse(cluster: &Cluster, key: &str) {
    let shim = cluster.place.shim;
    let cases: [(&str, Vec<u8>, u16); 4] = [
        ("truncated JSON", chat(PROMPT)[..40].to_vec(), 400),
        (
            "invalid UTF-8",
            [&b"{\"model\": \"small\", \"messages\": \""[..], &[0xff, 0xfe], b"\"}"].concat(),
            400,
        ),
        ("an unknown model", br#"{"model":"nope","messages":[]}"#.to_vec(), 404),
        ("50 MB", vec![b'x'; 50_000_000], 413),
    ];
    for (what, body, wanted) in &cases {
        let (status, answer) = post(shim, key, body);
        assert_eq!(status, *wanted, "{what}: {answer}");
        assert!(!answer.contains(PROMPT), "{what}: the answer repeats the prompt");
    }
    wait_for("every refusal to be on record", || {
        let rows = cluster.place.sql("SELECT code, count(*) AS n FROM refusals GROUP BY code ORDER BY code");
        let count = |code: &str| rows.iter().find(|row| row["code"] == code).map(|row| row["n"].to_string());
        // Others may be there: until the ledger acts, whoever asks early is refused as well.
        let found = ["invalid_request", "model_not_found", "request_too_large"].map(count);
        (found.map(|it| it.unwrap_or_default().replace('"', "")) == ["2", "1", "1"]).then_some(())
    });
}

/// The ledger's process records an erasure, and asks the archive and the journal whether a hold speaks against it.
fn erase(cluster: &Cluster) {
    let place = &cluster.place;
    let subject = wait_for("captured content", || {
        let rows = place.sql("SELECT subject FROM requests WHERE kind = 'ContentKept'");
        rows.first().and_then(|row| row["subject"].as_str()).map(str::to_owned)
    });
    let forget = || place.try_run(&["erase", "--subject", &subject, "--reason", "asked to be forgotten"]);
    for (id, condition) in [("case-1", "team = 'blue'"), ("case-2", "team = 'red'")] {
        place.run(&["holds", "place", "--where", condition, "--reason", "a case", "--id", id]);
    }
    let (ok, _, error) = forget();
    assert!(
        !ok && error.contains("case-2: a case, 1 of its requests") && !error.contains("case-1"),
        "{error}"
    );
    place.run(&["holds", "release", "case-2", "--reason", "closed"]);
    let (ok, out, error) = forget();
    assert!(ok && out.contains("its data key is destroyed"), "{out}{error}");
}

async fn search_topics_and_bucket(reader: &Forger, prefix: &str, canaries: &[String]) {
    let mut searched = 0;
    for topic in Topic::ALL {
        for value in reader.values(Lane::new(topic, 0)).await {
            searched += 1;
            for canary in canaries {
                assert!(!contains(&value, canary), "{topic} holds {canary}");
            }
        }
    }
    assert!(searched > 20, "only {searched} records were searched");
    let url = format!("{}/{prefix}", component("BURSAR_TEST_S3").unwrap());
    let (store, below) = open_store(&url).unwrap();
    let objects: Vec<_> = store.list(Some(&below)).try_collect().await.unwrap();
    assert!(objects.iter().any(|it| it.location.as_ref().ends_with(".parquet")), "no segment to search");
    for object in objects {
        let bytes = store.get(&object.location).await.unwrap().bytes().await.unwrap();
        for canary in canaries {
            assert!(!contains(&bytes, canary), "{} holds {canary}", object.location);
        }
    }
}

fn search_files(cluster: &Cluster, canaries: &[String]) {
    let mut pages = String::new();
    for role in cluster.roles() {
        pages.push_str(&get(role.admin, "/metrics").1);
    }
    pages.push_str(&get(cluster.place.shim, "/metrics").1);
    assert!(pages.contains("bursar_"), "no metric to search");
    cluster.stop();
    for canary in canaries {
        assert!(!pages.contains(canary), "a metric holds {canary}");
        let mut found = Vec::new();
        holding(cluster.place.data(), canary, &mut found);
        found.retain(|path| !path.ends_with(".secret"));
        assert!(found.is_empty(), "{canary} is in {found:?}");
    }
}

/// A small file system of its own, unmounted when it is dropped.
struct Disk(PathBuf);

impl Disk {
    /// None where nobody may mount.
    fn mount(at: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at);
        command.output().is_ok_and(|run| run.status.success()).then(|| Self(at.to_path_buf()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a file may still be open.
        Command::new("umount").arg("-l").arg(&self.0).output().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_the_spool_refuses_clearly_and_heals() {
    let Some(plain) = component("BURSAR_TEST_KAFKA") else { return };
    let provider = StandIn::start(StandInConfig::default()).await.unwrap();
    let text = policy(&provider.base_url).replace("api_key = \"env:CANARY_KEY\"\n", "");
    tokio::task::spawn_blocking(move || {
        let mut cluster = Cluster::new(&plain);
        let spool = cluster.place.data().join("shim/spool");
        let Some(disk) = Disk::mount(&spool, "2m") else {
            eprintln!("left out: a file system of its own cannot be mounted here");
            return;
        };
        for (name, command) in [("ledger", "ledger"), ("query", "query"), ("shim", "shim")] {
            cluster.add(name, command);
        }
        let file = cluster.place.write("policy.toml", &text);
        cluster.place.run(&["apply", file.to_str().unwrap()]);
        let key = cluster.place.key("red");
        let shim = cluster.place.shim;
        let serve = |what: &str| {
            wait_for(what, || (post(shim, &key, &chat("hello")).0 == 200).then_some(()));
        };
        serve("a request to be served");

        let ballast = disk.0.join("ballast");
        let mut filling = std::fs::File::create(&ballast).unwrap();
        while filling.write_all(&[0; 512]).is_ok() {}
        let (status, answer) = wait_for("the spool to be full", || {
            let answer = post(shim, &key, &chat("hello"));
            (answer.0 != 200).then_some(answer)
        });
        assert!(status == 503 && answer.contains("spool_full"), "{status} {answer}");
        assert!(answer.contains("No facts can be written"), "{answer}");
        // A refusal's own fact is smaller and may still fit; after some it does not, and is counted instead.
        wait_for("what cannot be recorded to be counted", || {
            post(shim, &key, &chat("hello"));
            let page = get(shim, "/metrics").1;
            let line = page.lines().find(|line| line.starts_with("bursar_unrecorded_refusals_total"))?;
            (!line.ends_with(" 0")).then_some(())
        });
        assert_eq!(get(shim, "/readyz").0, 200);

        drop(filling);
        std::fs::remove_file(&ballast).unwrap();
        serve("a request to be served once there is room");
        // Many times what the disk holds goes through: a spool that is drained gives its room back.
        for _ in 0..1000 {
            post(shim, &key, &chat("hello"));
        }
        serve("a request to be served after many");
        wait_for("what was served to be on record", || {
            let rows = cluster.place.sql("SELECT count(*) AS n FROM settlements");
            (rows[0]["n"].to_string().trim_matches('"').parse::<u64>().unwrap() > 500).then_some(())
        });
        // What could not be written used up no numbers: nothing is missing, and nobody became a stranger.
        let findings = cluster.place.sql("SELECT finding, detail FROM findings WHERE finding <> 'duplicate'");
        assert!(findings.is_empty(), "{findings:?}");
        cluster.roles().iter().for_each(harness::cluster::Role::must_run);
        cluster.stop();
    })
    .await
    .unwrap();
}
