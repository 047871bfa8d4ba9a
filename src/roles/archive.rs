//! Where the archive lies, and who writes its log.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bursar_gateway_shim::Authorities;
use bursar_ingest::archive::{LogSettings, Segments, StoreError, open_store};
use bursar_schemas::evidence::{SignerKey, VerifierKey};
use bursar_schemas::ids::Digest;
use object_store::ObjectStore;
use object_store::path::Path as StorePath;

use crate::clock::Clock;
use crate::config::Config;
use crate::secrets;
use crate::wire::Deployment;

/// File with the log's public key.
const PUBLIC_KEY_FILE: &str = "log.pub";

/// How long a start waits to see how the store puts.
const PROBE_PATIENCE: Duration = Duration::from_secs(5);

/// Opens the archive: its store, the prefix within it, and its address.
pub(crate) fn open(config: &Config) -> Result<Place, StoreError> {
    open_place(config, &config.archive.url)
}

/// A store, the prefix within it, and its address for people.
type Place = (Arc<dyn ObjectStore>, StorePath, String);

pub(super) fn open_place(config: &Config, place: &str) -> Result<Place, StoreError> {
    let url = address(config, place);
    let (store, prefix) = open_store(&url)?;
    Ok((store, prefix, url))
}

/// The address of a store; folders may be named beside the configuration.
pub(crate) fn address(config: &Config, place: &str) -> String {
    match place.strip_prefix("file:") {
        Some(path) if !path.starts_with("//") => {
            let path = config.path(path);
            let folder = std::path::absolute(&path).unwrap_or(path);
            format!("file://{}", folder.display())
        }
        _ => place.to_owned(),
    }
}

/// Refuses a store that overwrites what is to be put only if absent, where that can be seen now; whoever cannot be
/// reached is tried again by the archiver, which asks the same before it puts anything.
pub(super) async fn refuse_careless(store: &Arc<dyn ObjectStore>, prefix: &StorePath) -> anyhow::Result<()> {
    let segments = Segments::new(Arc::clone(store), prefix.clone());
    match tokio::time::timeout(PROBE_PATIENCE, segments.probe()).await {
        Ok(Err(error @ StoreError::Unconditional)) => Err(error.into()),
        Ok(Ok(()) | Err(_)) | Err(_) => Ok(()),
    }
}

/// The log's name: the one configured, or one that follows from the deployment's key.
fn origin(config: &Config, deployment_key: &Digest) -> String {
    if config.archive.log_origin.is_empty() {
        let name = deployment_key.to_string();
        return format!("bursar.invalid/{}", name.get(..32).unwrap_or(&name));
    }
    config.archive.log_origin.clone()
}

/// Beside the key's file, or in the data folder when the key comes from elsewhere.
pub(crate) fn public_key_file(config: &Config) -> PathBuf {
    let beside = config.archive.log_key.strip_prefix("file:").map(|key| config.path(key));
    let folder = beside.as_deref().and_then(Path::parent).unwrap_or(&config.data);
    folder.join(PUBLIC_KEY_FILE)
}

/// Who writes the log; its key is made at the first start, and its public half written down for whoever verifies.
pub(crate) fn log_settings(
    config: &Config,
    deployment: &Deployment,
    clock: &Clock,
    authorities: &Authorities,
) -> anyhow::Result<LogSettings> {
    let secret = secrets::resolve_or_create(&config.archive.log_key, &config.data, "")
        .context("failed to open the log's key")?;
    let deployment_key = deployment.public_key()?;
    let signer =
        SignerKey::new(&origin(config, &deployment_key), &secrets::key_bytes(&secret, "the log's key")?)
            .context("archive.log_origin")?;
    let earlier: Vec<VerifierKey> = (config.archive.earlier_log_keys.iter())
        .map(|key| key.parse().with_context(|| format!("archive.earlier_log_keys: {key:?}")))
        .collect::<anyhow::Result<_>>()?;
    let mut lines = format!("{}\n", signer.verifier());
    for key in &earlier {
        lines.push_str(&format!("{key}\n"));
    }
    let file = public_key_file(config);
    if std::fs::read_to_string(&file).ok().as_deref() != Some(lines.as_str()) {
        std::fs::write(&file, &lines).with_context(|| format!("failed to write {}", file.display()))?;
    }
    let copy = match config.archive.checkpoint_copy.as_str() {
        "" => None,
        place => {
            let opened = open_place(config, place).context("failed to open archive.checkpoint_copy")?;
            Some(Segments::new(opened.0, opened.1))
        }
    };
    let heartbeat = config.archive.heartbeat_seconds;
    let clock = Arc::clone(clock);
    Ok(LogSettings {
        signer,
        earlier,
        deployment_key,
        heartbeat: (heartbeat > 0).then_some(Duration::from_secs(heartbeat)),
        copy,
        witnesses: super::witness::witnesses(&config.archive.witnesses, authorities)?,
        clock: Arc::new(move || clock().0),
    })
}
