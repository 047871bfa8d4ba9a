//! An archive on the servers of other clouds, opened as the product opens them: sealed, checked and asked there, and
//! none begun where the server would overwrite it.

use std::sync::Arc;

use bursar_ingest::archive::{ArchiveConfig, Archiver, open_store};
use bursar_query::{Format, Limits, QueryConfig, QueryService};
use bursar_schemas::avro::Micros;
use bursar_schemas::ports::Journal as _;
use bursar_schemas::position::Lane;
use object_store::prefix::PrefixStore;
use serde_json::Value;

use super::fixture::{LIMITS, REQUESTS, SPEND, World};
use super::harness::{BURSAR, Place, component};
use super::product::write_key;

fn unique() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos()
}

async fn count(service: &QueryService, lane: Lane) -> String {
    let sql = format!("SELECT count(*) FROM {}", lane.topic);
    let mut csv = Vec::new();
    let answer = service.sql("test", &sql, Limits::default()).await.unwrap();
    answer.write(Format::Csv, &mut csv).await.unwrap();
    String::from_utf8(csv).unwrap().lines().nth(1).unwrap().to_owned()
}

async fn holds(bucket: &str) {
    let url = format!("{bucket}/product-{}", unique());
    let (world, _) = World::honest().await;
    let (store, prefix) = open_store(&url).unwrap();
    let config = ArchiveConfig { prefix: prefix.clone(), delta: true, ..ArchiveConfig::default() };
    let journal = Arc::new(world.journal.clone());
    let archiver = Archiver::start(journal, Arc::clone(&store), config, Some(world.log_settings()));
    assert!(archiver.stop(true).await);

    let key = write_key(&world);
    let verified = tokio::task::spawn_blocking(move || {
        let place = Place::new("");
        place.run(&["verify", &url, "--key", key.to_str().unwrap(), "--json"])
    });
    let report: Value = serde_json::from_str(&verified.await.unwrap()).unwrap();
    let rows = world.copy().verify().await.rows;
    assert!(rows > 20);
    assert_eq!(
        (report["complete"].as_bool(), report["rows"].as_u64()),
        (Some(true), Some(rows)),
        "{report:#}"
    );

    let below = Arc::new(PrefixStore::new(store, prefix));
    let clock = Arc::new(|| Micros(1_793_800_000_000_000));
    let service = QueryService::open(QueryConfig::default(), below, None, None, clock).await.unwrap();
    for lane in [REQUESTS, SPEND, LIMITS] {
        let end = world.journal.bounds(lane).await.unwrap().end;
        assert!(end > 0);
        assert_eq!(count(&service, lane).await, end.to_string(), "{lane}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_on_azure_is_sealed_checked_and_asked() {
    let Some(bucket) = component("BURSAR_TEST_AZURE") else { return };
    holds(&bucket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_on_gcs_is_sealed_checked_and_asked() {
    let Some(bucket) = component("BURSAR_TEST_GCS") else { return };
    holds(&bucket).await;
}

#[test]
fn nothing_starts_on_a_store_that_overwrites() {
    let Some(bucket) = component("BURSAR_TEST_GCS_IGNORING") else { return };
    let place = Place::new(&format!("[archive]\nurl = \"{bucket}/product-{}\"\n", unique()));
    place.write("policy.toml", include_str!("../../src/starter_policy.toml"));
    // A start that is not refused does not end by itself: that is 124.
    let up = std::process::Command::new("timeout")
        .args(["60", BURSAR, "up"])
        .env("BURSAR_DATA", place.data())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&up.stderr);
    assert!(!matches!(up.status.code(), Some(0 | 124) | None), "{:?}: {error}", up.status);
    assert!(error.contains("does not support conditional puts"), "{error}");
}
