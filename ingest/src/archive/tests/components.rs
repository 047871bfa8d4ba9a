//! Real stores: a local folder always, an S3 server when one is there.

use bytes::Bytes;
use futures::TryStreamExt as _;

use super::disturbed::Disturbed;
use super::faults::Careless;
use super::journal::TestJournal;
use super::*;

async fn archives_in(store: Arc<dyn ObjectStore>, prefix: Path) {
    let journal = TestJournal::default();
    journal.fill(40);
    let config = ArchiveConfig { prefix: prefix.clone(), ..config() };
    let run = || Archiver::start(Arc::new(journal.clone()), Arc::clone(&store), config.clone(), log());
    // Two at the same time, then a third that finds what they left.
    let (one, two) = (run(), run());
    let (one, two) = futures::future::join(one.stop(true), two.stop(true)).await;
    assert!(one && two);
    journal.fill(9);
    assert!(run().stop(true).await);
    let chain = check::chain(&store, &prefix, journal.life()).await;
    assert_eq!(chain.rows, journal.records());
    assert!(chain.footers.len() > 5);
    let segments = Segments::new(store, prefix);
    let head = find_head(&segments, journal.life(), journal::LANE, 49).await.unwrap();
    assert_eq!(head.next, 49);
    assert_eq!(segments.put(PROBE, Bytes::from_static(b"other")).await.unwrap(), Put::Taken);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_holds_an_archive() {
    let folder = tempfile::tempdir().unwrap();
    let url = folder.path().join("deep/archive");
    let (store, prefix) = open_store(url.to_str().unwrap()).unwrap();
    archives_in(Arc::clone(&store), prefix).await;
    let names: Vec<_> = store.list(None).try_collect::<Vec<_>>().await.unwrap();
    let staged =
        std::process::Command::new("find").arg(folder.path()).args(["-name", "*#*"]).output().unwrap();
    assert!(names.len() > 5);
    assert_eq!(String::from_utf8_lossy(&staged.stdout), "", "staged files are left");
    let again = open_store(&format!("file://{}", url.display())).unwrap().0;
    assert_eq!(again.list(None).try_collect::<Vec<_>>().await.unwrap().len(), names.len());
}

/// `BURSAR_TEST_S3` is the archive's address, such as `s3://bursar`; the rest comes from `AWS_*` variables.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_s3_server_holds_an_archive() {
    let Some(url) = component("BURSAR_TEST_S3") else { return };
    let (store, prefix) = open_store(&format!("{url}/archiver-{}", unique())).unwrap();
    archives_in(store, prefix).await;
}

/// `BURSAR_TEST_AZURE` is the archive's address, such as `az://archive`; the rest comes from `AZURE_*` variables.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_azure_server_holds_an_archive() {
    let Some(url) = component("BURSAR_TEST_AZURE") else { return };
    let (store, prefix) = open_store(&format!("{url}/archiver-{}", unique())).unwrap();
    archives_in(store, prefix).await;
}

/// `BURSAR_TEST_GCS` is the archive's address, such as `gs://bursar`; the rest comes from `GOOGLE_*` variables.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gcs_server_holds_an_archive() {
    let Some(url) = component("BURSAR_TEST_GCS") else { return };
    let (store, prefix) = open_store(&format!("{url}/archiver-{}", unique())).unwrap();
    archives_in(store, prefix).await;
}

/// A server that does not know the condition answers as if there were none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ignores_the_condition_gets_nothing() {
    let Some(url) = component("BURSAR_TEST_GCS_IGNORING") else { return };
    let (store, prefix) = open_store(&format!("{url}/archiver-{}", unique())).unwrap();
    refuses(store, prefix).await;
}

/// Neither segment nor leaf is put where a second put would overwrite the first.
async fn refuses(store: Arc<dyn ObjectStore>, prefix: Path) {
    let journal = TestJournal::default();
    journal.fill(40);
    let stop_timeout = Duration::from_millis(100);
    let config = ArchiveConfig { prefix: prefix.clone(), stop_timeout, ..config() };
    let log = log().map(|log| LogSettings { heartbeat: Some(Duration::from_millis(1)), ..log });
    let archiver = Archiver::start(Arc::new(journal), Arc::clone(&store), config, log);
    let refused = |fault: &Option<String>| fault.as_ref().is_some_and(|it| it.contains("conditional puts"));
    until(&archiver, |status| refused(&status.fault)).await;
    while !archiver.log_status().is_some_and(|log| refused(&log.fault)) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(!archiver.stop(true).await, "it says that everything is sealed");
    let names: Vec<_> = objects(&store, &prefix).await.into_keys().collect();
    assert_eq!(names, [PROBE]);
}

#[tokio::test]
async fn a_store_that_ignores_the_condition_gets_nothing() {
    refuses(Disturbed::new(&memory(), Careless), Path::from("archive")).await;
}

/// On a bucket with a default retention every object is put with a checksum, and is there to stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_with_object_lock_keeps_every_object() {
    let Some(url) = component("BURSAR_TEST_S3_LOCKED") else { return };
    let Some(python) = component("BURSAR_TEST_PYTHON") else { return };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/components/object_lock.py");
    let endpoint = std::env::var("AWS_ENDPOINT_URL").unwrap();
    let ask = |action: &str, value: &str| {
        let bucket = url.strip_prefix("s3://").unwrap();
        let run =
            std::process::Command::new(&python).args([script, &endpoint, bucket, action, value]).output();
        let run = run.unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        serde_json::from_slice::<serde_json::Value>(&run.stdout).unwrap()
    };
    assert_eq!(ask("default", "1")["status"], 200);
    let name = format!("archiver-{}", unique());
    let (store, prefix) = open_store(&format!("{url}/{name}")).unwrap();
    archives_in(Arc::clone(&store), prefix.clone()).await;
    let before = objects(&store, &prefix).await;
    let tried = ask("destroy", &format!("{name}/"));
    assert!(tried["refused"].as_u64().unwrap() > 20, "{tried}");
    assert_eq!(tried["deleted"], serde_json::json!([]), "{tried}");
    assert_eq!(objects(&store, &prefix).await, before);
}

fn unique() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos()
}

/// What `tests/run` started; none where the test may be skipped since nothing was required.
fn component(variable: &str) -> Option<String> {
    let value = std::env::var(variable).ok();
    let required = std::env::var("BURSAR_TEST_COMPONENTS").is_ok_and(|word| word == "required");
    assert!(value.is_some() || !required, "{variable} is not set, but components are required");
    if value.is_none() {
        eprintln!("skipped: {variable} is not set");
    }
    value
}

#[test]
fn unknown_addresses_are_refused() {
    assert!(open_store("ftp://host/path").is_err());
    assert!(open_store("s3://").is_err());
}
