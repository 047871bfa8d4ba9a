//! Captured content: the shim hands it over, the archive's side encrypts and stores it, and neither knows the other.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bursar_gateway_shim::{Capturing, Content, ContentSink};
use bursar_ingest::content::{Clear, Item, Keyring, Queue, QueueConfig, Vault};
use bursar_schemas::producer::Recorder;

use super::archive::open_place;
use crate::clock::Clock;
use crate::config::Config;
use crate::prometheus;
use crate::secrets;

/// How long a stop waits for contents that are still to be stored.
const PATIENCE: Duration = Duration::from_secs(20);

/// The vault that the configuration names; `making` makes the key's file when it is missing.
pub(crate) fn vault(config: &Config, making: bool) -> anyhow::Result<Vault> {
    let own = &config.content;
    let resolve = |reference: &str, what: &str| {
        let secret = if making {
            secrets::resolve_or_create(reference, &config.data, "")
        } else {
            secrets::resolve(reference, &config.data)
        };
        secrets::key_bytes(&secret.with_context(|| format!("failed to open {what}"))?, what)
    };
    let current = resolve(&own.key, "content.key")?;
    let earlier = own.earlier_keys.iter().map(|key| resolve(key, "a key of content.earlier_keys"));
    let keyring = Keyring::new(current, earlier.collect::<anyhow::Result<Vec<_>>>()?);
    let (store, prefix, _) = open_place(config, &own.url).context("failed to open content.url")?;
    Ok(Vault::new(store, prefix, keyring))
}

/// The vault without the keys to read it, for deleting and erasing; none where nothing was ever captured.
pub(crate) fn place(config: &Config) -> anyhow::Result<Option<Vault>> {
    let url = &config.content.url;
    let folder = url.strip_prefix("file:").map(|path| config.path(path));
    if !config.content.capture && folder.is_some_and(|folder| !folder.exists()) {
        return Ok(None);
    }
    let (store, prefix, _) = open_place(config, url).context("failed to open content.url")?;
    Ok(Some(Vault::new(store, prefix, Keyring::none())))
}

/// The shim's content on its way to the vault.
pub(crate) struct ContentRole {
    queue: Arc<Queue>,
    most_bytes: usize,
}

struct Sink(Arc<Queue>);

impl ContentSink for Sink {
    fn offer(&self, content: Content) {
        let Content { about, policy, prompt, completion, cut } = content;
        self.0.offer(Item { about, policy, clear: Clear { prompt, completion, cut } });
    }
}

impl ContentRole {
    /// Starts where the configuration captures at all.
    pub(crate) fn start(config: &Config, recorder: Arc<Recorder>, clock: Clock) -> anyhow::Result<Self> {
        let mebibytes = usize::try_from(config.content.queue_mebibytes).unwrap_or(64);
        let settings = QueueConfig {
            most_bytes: mebibytes << 20,
            partitions: config.journal.partitions,
            ..QueueConfig::default()
        };
        let queue = Queue::start(vault(config, true)?, recorder, clock, settings);
        let most_bytes = usize::try_from(config.content.max_kibibytes).unwrap_or(1024) << 10;
        Ok(Self { queue: Arc::new(queue), most_bytes })
    }

    pub(crate) fn capturing(&self) -> Capturing {
        Capturing { sink: Arc::new(Sink(Arc::clone(&self.queue))), most_bytes: self.most_bytes }
    }

    /// Prometheus text.
    pub(crate) fn metrics(&self) -> Arc<dyn Fn() -> String + Send + Sync> {
        let queue = Arc::clone(&self.queue);
        Arc::new(move || {
            let figures = queue.figures();
            let mut text = String::new();
            for (name, help, kind, value) in [
                ("bursar_content_kept_total", "Captured contents stored.", "counter", figures.kept),
                ("bursar_content_dropped_total", "Captured contents dropped.", "counter", figures.dropped),
                (
                    "bursar_content_waiting_bytes",
                    "Captured content not stored yet.",
                    "gauge",
                    figures.waiting_bytes,
                ),
            ] {
                prometheus::single(&mut text, name, help, kind, value);
            }
            text
        })
    }

    /// Stores what waits; to be called when the shim has handed over its last.
    pub(crate) async fn stop(self) {
        if !self.queue.stop(PATIENCE).await {
            tracing::warn!("captured content that was not stored in time was given up");
        }
    }
}
