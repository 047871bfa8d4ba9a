//! Server configuration: `bursar.toml` over the embedded defaults, checked once. Unknown keys are errors.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;

use crate::exit::{Failure, Outcome};

/// Every key with its default and what it means.
pub(crate) const DEFAULT: &str = include_str!("default.toml");

/// Which journal carries the facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum JournalKind {
    Embedded,
    Kafka,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JournalSettings {
    pub(crate) kind: JournalKind,
    pub(crate) partitions: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KafkaSettings {
    pub(crate) brokers: String,
    pub(crate) prefix: String,
    pub(crate) security: String,
    pub(crate) sasl_mechanism: String,
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) ca_file: String,
    pub(crate) replication: u16,
    pub(crate) min_insync_replicas: u16,
    pub(crate) dev: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShimSettings {
    pub(crate) listen: SocketAddr,
    pub(crate) durability: bursar_schemas::facts::Durability,
    pub(crate) max_body_mebibytes: u32,
    pub(crate) lease_wait_milliseconds: u64,
    pub(crate) outage_reserve_seconds: u64,
    pub(crate) acknowledge_milliseconds: u64,
    pub(crate) max_open_requests: usize,
    pub(crate) end_user_header: String,
    pub(crate) spool_mebibytes: u32,
    pub(crate) on_spool_full: OnSpoolFull,
    pub(crate) shutdown_seconds: u64,
}

/// What a full spool does to requests that draw on no hard budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnSpoolFull {
    Refuse,
    Pass,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LedgerSettings {
    pub(crate) takeover_seconds: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ArchiveSettings {
    pub(crate) url: String,
    pub(crate) seal_mebibytes: u32,
    pub(crate) seal_seconds: u64,
    pub(crate) log_origin: String,
    pub(crate) log_key: String,
    pub(crate) earlier_log_keys: Vec<String>,
    pub(crate) heartbeat_seconds: u64,
    pub(crate) checkpoint_copy: String,
    pub(crate) witnesses: Vec<WitnessSettings>,
    pub(crate) delta: bool,
}

/// Who is asked to cosign checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WitnessSettings {
    pub(crate) url: String,
    pub(crate) key: String,
    #[serde(default)]
    pub(crate) allow_http: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ContentSettings {
    pub(crate) capture: bool,
    pub(crate) url: String,
    pub(crate) key: String,
    pub(crate) earlier_keys: Vec<String>,
    pub(crate) max_kibibytes: u32,
    pub(crate) queue_mebibytes: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsSettings {
    pub(crate) ca_file: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QuerySettings {
    pub(crate) memory_mebibytes: u32,
    pub(crate) time_seconds: u64,
    pub(crate) max_rows: u64,
    pub(crate) gaps_hours: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdminSettings {
    pub(crate) listen: SocketAddr,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeploymentSettings {
    pub(crate) key: String,
    pub(crate) admin_token: String,
    pub(crate) admin_name: String,
}

/// The checked configuration and the folder that relative paths start from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    #[serde(skip)]
    pub(crate) data: PathBuf,
    pub(crate) journal: JournalSettings,
    pub(crate) kafka: KafkaSettings,
    pub(crate) shim: ShimSettings,
    pub(crate) ledger: LedgerSettings,
    pub(crate) archive: ArchiveSettings,
    pub(crate) content: ContentSettings,
    pub(crate) query: QuerySettings,
    pub(crate) admin: AdminSettings,
    pub(crate) deployment: DeploymentSettings,
    pub(crate) tls: TlsSettings,
}

impl Config {
    /// The data folder's `bursar.toml` (or the file given) over the defaults.
    pub(crate) fn load(data: &Path, file: Option<&Path>) -> Outcome<Self> {
        let own = data.join("bursar.toml");
        let path = file.unwrap_or(&own);
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && file.is_none() => String::new(),
            Err(error) => {
                return Err(Failure::usage(
                    anyhow::Error::new(error).context(format!("failed to read {}", path.display())),
                ));
            }
        };
        Self::parse(&text, data)
            .with_context(|| format!("failed to read {}", path.display()))
            .map_err(Failure::usage)
    }

    /// Reads a file's text over the defaults.
    pub(crate) fn parse(text: &str, data: &Path) -> anyhow::Result<Self> {
        let mut whole: toml::Table = toml::from_str(DEFAULT)?;
        // Parsed on its own first, so that a typo is reported with its line in the user's file.
        let over: toml::Table = toml::from_str(text)?;
        for (section, values) in over {
            let known = whole.get_mut(&section).and_then(toml::Value::as_table_mut);
            let known = known.with_context(|| format!("there is no section [{section}]"))?;
            let toml::Value::Table(values) = values else { anyhow::bail!("[{section}] is not a section") };
            for (key, value) in values {
                anyhow::ensure!(known.contains_key(&key), "there is no setting {key:?} in [{section}]");
                known.insert(key, value);
            }
        }
        let mut config: Self = whole.try_into()?;
        config.data = data.to_path_buf();
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!((1..=256).contains(&self.journal.partitions), "journal.partitions must be 1 to 256");
        anyhow::ensure!(self.shim.max_body_mebibytes <= 1024, "shim.max_body_mebibytes must be at most 1024");
        anyhow::ensure!(self.archive.seal_mebibytes <= 48, "archive.seal_mebibytes must be at most 48");
        anyhow::ensure!(self.archive.seal_seconds >= 1, "archive.seal_seconds must be at least 1");
        let copy = self.archive.checkpoint_copy.to_ascii_lowercase();
        anyhow::ensure!(
            !copy.starts_with("http://") && !copy.starts_with("https://"),
            "archive.checkpoint_copy is a folder or bucket, as plain HTTP has no put that refuses to overwrite; the way over \
             HTTP is a witness: archive.witnesses"
        );
        crate::roles::witness::check(&self.archive.witnesses)?;
        anyhow::ensure!(self.shim.spool_mebibytes >= 16, "shim.spool_mebibytes must be at least 16");
        anyhow::ensure!(
            self.content.url != self.archive.url,
            "content.url must be another place than archive.url"
        );
        anyhow::ensure!(self.content.queue_mebibytes <= 1024, "content.queue_mebibytes must be at most 1024");
        for (name, reference) in [
            ("kafka.password", &self.kafka.password),
            ("deployment.key", &self.deployment.key),
            ("archive.log_key", &self.archive.log_key),
            ("content.key", &self.content.key),
        ] {
            let by_reference =
                reference.is_empty() || reference.starts_with("env:") || reference.starts_with("file:");
            anyhow::ensure!(by_reference, "{name} is not a reference: write env:NAME or file:PATH");
        }
        Ok(())
    }

    /// A path of the configuration, below the data folder when relative.
    pub(crate) fn path(&self, text: &str) -> PathBuf {
        self.data.join(text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_defaults_are_a_configuration_and_typos_are_named() {
        let config = Config::parse("", Path::new("d")).unwrap();
        assert!(config.shim.listen.ip().is_loopback() && config.admin.listen.ip().is_loopback());
        let message = |text: &str| format!("{:#}", Config::parse(text, Path::new("d")).unwrap_err());
        assert!(message("[shim]\nlissten = \"x\"").contains("lissten"));
        assert!(message("[shimm]\n").contains("shimm"));
        assert!(message("[shim]\ndurability = \"fast\"").contains("fast"));
        assert!(message("[kafka]\npassword = \"hunter2\"").contains("kafka.password"));
        assert!(!message("[kafka]\npassword = \"hunter2\"").contains("hunter2"), "a secret was repeated");
        for scheme in ["http", "https"] {
            let text = format!("[archive]\ncheckpoint_copy = \"{scheme}://copy.example/log\"");
            assert!(message(&text).contains("archive.witnesses"), "{}", message(&text));
        }
        let witness =
            |more: &str| message(&format!("[archive]\nwitnesses = [{{ url = \"https://w\", {more} }}]"));
        assert!(witness("").contains("key"), "{}", witness(""));
        assert!(witness("key = \"w+1\"").contains("expected NAME+ID+KEY"));
        assert!(witness("key = \"w+1\", name = \"w\"").contains("name"));
    }
}
