//! The same road on Apache Kafka, with the roles as separate processes, and object storage on a real S3 server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod books;
mod harness;

use std::net::SocketAddr;
use std::path::Path;

use books::{Books, Providers, policy};
use bursar_stand_in::trace;
use harness::{Place, Process, component, free_address, settings, wait_for};

const RED_LIMIT: &str = "9000000.00";

/// Rows of the trace: the whole of it runs on the embedded journal.
const ROWS: usize = 6000;

/// One role as a process, with a configuration of its own beside the shared data folder.
fn role(place: &Place, name: &str, common: &str, admin: SocketAddr, environment: &[(&str, &str)]) -> Process {
    let file = place.write(&format!("{name}.toml"), &format!("{common}[admin]\nlisten = \"{admin}\"\n"));
    let ready = format!("admin listens on http://{admin}");
    Process::start(place.data(), &[name, "--config", file.to_str().unwrap()], environment, &ready)
}

#[tokio::test(flavor = "multi_thread")]
async fn three_books_agree_with_separate_roles_on_kafka_and_s3() {
    let Some(bootstrap) = component("BURSAR_TEST_KAFKA") else { return };
    let Some(s3) = component("BURSAR_TEST_S3_ENV").map(|path| settings(&path)) else { return };
    let mut place = Place::new("");
    let query = free_address();
    place.query = Some(query);
    // Topics and bucket outlive the test, so both get a place of their own.
    let own = place.data().file_name().unwrap().to_str().unwrap().replace('.', "");
    let common = format!(
        "[journal]\nkind = \"kafka\"\n[kafka]\nbrokers = \"{bootstrap}\"\nprefix = \"road-{own}\"\nreplication = 1\n\
         min_insync_replicas = 1\ndev = true\n[ledger]\ntakeover_seconds = 3\n\
         [archive]\nurl = \"s3://{bucket}/{own}\"\nseal_seconds = 2\n[shim]\nlisten = \"{shim}\"\n",
        bucket = s3["BUCKET"],
        shim = place.shim,
    );
    let environment = [
        ("AWS_ENDPOINT_URL", s3["ENDPOINT"].as_str()),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_REGION", s3["REGION"].as_str()),
        ("AWS_ACCESS_KEY_ID", s3["ACCESS_KEY"].as_str()),
        ("AWS_SECRET_ACCESS_KEY", s3["SECRET_KEY"].as_str()),
    ];
    let ledger = role(&place, "ledger", &common, place.admin, &environment);
    let ingest = role(&place, "ingest", &common, free_address(), &environment);
    let queries = role(&place, "query", &common, query, &environment);
    let shim = role(&place, "shim", &common, free_address(), &environment);

    let providers = Providers::start(50).await;
    let file = place.write("policy.toml", &policy(&providers, RED_LIMIT));
    let printed = place.run(&["apply", file.to_str().unwrap()]);
    assert!(printed.contains("policy version 1 is in force"), "{printed}");
    let teams = ["red", "blue"].map(|team| (team, place.key(team)));
    // The shim serves a key once it has read of it.
    wait_for("the shim to know the policy", || ready(place.shim, &teams[1].1).then_some(()));
    let rows: Vec<_> = trace::builtin().unwrap().into_iter().take(ROWS).collect();
    let outcomes = books::replay_all(place.shim, &teams, &rows, 7).await;
    let books = Books::gather(&place, &providers, &outcomes);
    books.must_agree(RED_LIMIT);
    books.print();
    let sealed = place.run(&["status", "--format", "json"]);
    assert!(sealed.contains("acting"), "{sealed}");
    for process in [shim, queries, ingest, ledger] {
        process.stop();
    }
    assert!(!Path::new(&place.data().join("journal")).exists(), "the embedded journal was used");
}

/// True when the shim lists models for a key.
fn ready(shim: SocketAddr, key: &str) -> bool {
    use std::io::{Read as _, Write as _};
    let Ok(mut stream) = std::net::TcpStream::connect(shim) else { return false };
    let request = format!(
        "GET /v1/models HTTP/1.1\r\nHost: {shim}\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n"
    );
    let mut answer = String::new();
    stream.write_all(request.as_bytes()).is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.starts_with("HTTP/1.1 200")
}
