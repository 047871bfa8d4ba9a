//! The archive as other engines read it: delta-rs, DuckDB's own Delta reader, and DuckDB over the plain Parquet.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

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
