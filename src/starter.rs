//! The first start of `up`: a commented configuration, a demo policy, keys in a private file.

use std::path::Path;

use anyhow::Context as _;
use bursar_schemas::policy::Document;

use crate::config;
use crate::exit::{Failure, Outcome};
use crate::publisher::{KeyRequest, Publisher};
use crate::secrets;

/// The policy that a first start publishes when the folder holds none.
pub(crate) const POLICY: &str = include_str!("starter_policy.toml");

/// Who is on record for what a first start publishes.
const AUTHOR: &str = "first start";

/// The policy file of a data folder.
pub(crate) const POLICY_FILE: &str = "policy.toml";

/// The file that receives the first keys.
pub(crate) const KEYS_FILE: &str = "keys.env";

/// Writes `bursar.toml` and `policy.toml` where they are missing.
pub(crate) fn write_files(data: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(data).with_context(|| format!("failed to make {}", data.display()))?;
    let commented: String = config::DEFAULT
        .lines()
        .map(|line| if is_setting(line) { format!("# {line}\n") } else { format!("{line}\n") })
        .collect();
    write_if_missing(&data.join("bursar.toml"), &commented)?;
    write_if_missing(&data.join(POLICY_FILE), POLICY)
}

fn is_setting(line: &str) -> bool {
    !line.is_empty() && !line.starts_with('#') && !line.starts_with('[')
}

fn write_if_missing(path: &Path, content: &str) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    std::fs::write(path, content).with_context(|| format!("failed to write {}", path.display()))
}

/// Publishes the folder's policy when none is in force yet, and makes a key for each team that has none.
/// Returns whether this was the first time.
pub(crate) async fn publish_first(publisher: &Publisher, data: &Path) -> Outcome<bool> {
    if publisher.state().version > 0 {
        return Ok(false);
    }
    let path = data.join(POLICY_FILE);
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
    let document = Document::from_toml([(path.display().to_string().as_str(), text.as_str())])
        .map_err(Failure::usage)?;
    publisher.apply(&document, AUTHOR, None).await?;
    let mut lines = String::from("# Virtual keys of the first start. Each draws on its team's budgets.\n");
    let owners: Vec<(String, KeyRequest)> = if document.teams.is_empty() {
        let request = |id: &str| KeyRequest { organisation: Some(id.to_owned()), ..KeyRequest::default() };
        document.organisations.iter().map(|it| (it.id.clone(), request(&it.id))).collect()
    } else {
        let request = |id: &str| KeyRequest { team: Some(id.to_owned()), ..KeyRequest::default() };
        document.teams.iter().map(|it| (it.id.clone(), request(&it.id))).collect()
    };
    for (owner, mut request) in owners {
        request.id = Some(format!("{}-first", owner.replace(|c: char| !c.is_ascii_alphanumeric(), "-")));
        let (_, secret) = publisher.create_key(request, AUTHOR).await?;
        let name = owner.to_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        lines.push_str(&format!("BURSAR_KEY_{name}={}\n", secret.expose()));
    }
    let keys = data.join(KEYS_FILE);
    secrets::write_private(&keys, &lines).with_context(|| format!("failed to write {}", keys.display()))?;
    Ok(true)
}
