//! `bursar apply`.

use bursar_schemas::policy::Document;
use serde_json::Value;

use crate::admin::server::ApplyRequest;
use crate::cli::{Apply, Place};
use crate::door::Door;
use crate::exit::{Failure, Outcome};
use crate::print;

/// Checks the files here first, so that a typo is found without a server, then publishes them.
pub(crate) async fn apply(place: &Place, apply: Apply) -> Outcome {
    let mut files = Vec::new();
    for path in &apply.files {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::usage(anyhow::anyhow!("failed to read {}: {error}", path.display())))?;
        files.push((path.display().to_string(), text));
    }
    Document::from_toml(files.iter().map(|(name, text)| (name.as_str(), text.as_str())))
        .map_err(Failure::usage)?;
    let request = ApplyRequest { files, revision: apply.revision, check: apply.check };
    let door = Door::open(place).await?;
    let answer = door.client.post("/v1/policy", &request).await?;
    door.close().await?;
    let changes = answer["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
    for change in changes.iter().filter_map(Value::as_str) {
        print::out(&format!("{change}\n"))?;
    }
    let version = &answer["version"];
    print::out(&match (apply.check, changes.is_empty()) {
        (_, true) => format!("no change: policy version {version} is in force\n"),
        (true, false) => format!("not applied: policy version {version} stays in force\n"),
        (false, false) => format!("policy version {version} is in force\n"),
    })
}
