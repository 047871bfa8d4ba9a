//! The archive as other engines read it: delta-rs, DuckDB's own Delta reader, and DuckDB over the plain Parquet.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bursar_ingest::archive::ArchiveConfig;
use serde_json::Value;

use super::fixture::World;
use super::harness::component;

/// Holds the Delta tables of an archive to each other engine's sums; where those engines are there.
pub fn engines_agree(archive: &Path, least_topics: usize) {
    let Some(python) = component("BURSAR_TEST_PYTHON") else { return };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/delta.py");
    let mut command = Command::new(python);
    command.arg(script).arg(archive);
    if let (Some(cli), Some(extension)) =
        (component("BURSAR_TEST_DUCKDB"), component("BURSAR_TEST_DUCKDB_DELTA"))
    {
        command.arg(cli).arg(extension);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let topics = answer.as_object().unwrap();
    assert!(topics.len() >= least_topics, "{answer:#}");
    for (topic, found) in topics {
        assert_eq!(found["delta_rs"], found["parquet"], "{topic}: {answer:#}");
        assert!(found.get("delta_scan").is_none_or(|it| *it == found["parquet"]), "{topic}: {answer:#}");
        assert_eq!(found["columns"], true, "{topic}: {answer:#}");
    }
}

/// Engines begin at a checkpoint: the commits before it may be gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engines_read_checkpoints() {
    let world = World::new();
    for _ in 0..110 {
        world.request(&world.shim, 1);
        let config = ArchiveConfig { delta: true, ..ArchiveConfig::default() };
        world.seal_as(Arc::new(world.journal.clone()), config).await;
    }
    let copy = world.copy();
    let commits: Vec<String> =
        copy.segments("requests").into_iter().filter(|name| name.ends_with(".json")).collect();
    assert_eq!(commits.len(), 110);
    assert!(copy.segments("requests").iter().any(|name| name.ends_with("100.checkpoint.parquet")));
    for name in commits.iter().chain(&copy.segments("spend")).filter(|name| name.ends_with(".json")) {
        // The commit of the checkpoint itself stays, as it does where old commits are cleaned up.
        if name.rsplit('/').next().unwrap() < "00000000000000000100" {
            copy.delete(name);
        }
    }
    engines_agree(&copy.root, 3);
}
