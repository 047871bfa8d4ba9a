//! The one place where concrete journals and stores meet the ports.

use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use bursar_gateway_shim::Authorities;
use bursar_ingest::archive::{ArchivedJournal, OpenSegments, Segments};
use bursar_ingest::embedded::EmbeddedJournal;
use bursar_ingest::kafka;
use bursar_schemas::facts::Role;
use bursar_schemas::ids::{Digest, ProducerId, Pseudonyms};
use bursar_schemas::ports::{Journal, Outlet};
use bursar_schemas::producer::{Identity, Recorder};

use crate::config::{Config, JournalKind};
use crate::exit::{Failure, Outcome};
use crate::roles::archive;
use crate::secrets;

/// The two ports, and what must be closed at the end.
pub(crate) struct Ports {
    pub(crate) journal: Arc<dyn Journal>,
    /// The same, reaching back into the archive where topics no longer hold their start: state is rebuilt from it.
    pub(crate) history: Arc<dyn Journal>,
    pub(crate) outlet: Arc<dyn Outlet>,
    /// What operators should know of how the topics were found.
    pub(crate) remarks: Vec<String>,
    embedded: Option<Arc<EmbeddedJournal>>,
    kafka: Option<Arc<kafka::KafkaOutlet>>,
}

impl Ports {
    /// Opens them. With `without_broker`, Kafka may be away: what the topics are like is looked at next time.
    pub(crate) async fn open(config: &Config, without_broker: bool) -> anyhow::Result<Self> {
        match config.journal.kind {
            JournalKind::Embedded => {
                let folder = config.data.join("journal");
                let partitions = config.journal.partitions;
                let journal =
                    tokio::task::spawn_blocking(move || EmbeddedJournal::open(folder, partitions)).await??;
                let journal = Arc::new(journal);
                Ok(Self {
                    journal: journal.clone(),
                    // It keeps everything itself.
                    history: journal.clone(),
                    outlet: journal.clone(),
                    remarks: Vec::new(),
                    embedded: Some(journal),
                    kafka: None,
                })
            }
            JournalKind::Kafka => kafka_ports(config, without_broker).await,
        }
    }

    /// Flushes and closes; nothing may be appended after it.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        if let Some(journal) = self.embedded {
            tokio::task::spawn_blocking(move || journal.close()).await??;
        }
        if let Some(outlet) = self.kafka {
            tokio::task::spawn_blocking(move || outlet.close(std::time::Duration::from_secs(10))).await??;
        }
        Ok(())
    }
}

async fn kafka_ports(config: &Config, without_broker: bool) -> anyhow::Result<Ports> {
    let settings = kafka_settings(config)?;
    let mut plan = kafka::TopicPlan::new(config.journal.partitions);
    plan.replication = config.kafka.replication;
    plan.min_insync = config.kafka.min_insync_replicas;
    let (report, away) = loop {
        match kafka::ensure_topics(&settings, &plan).await {
            Err(kafka::KafkaSetupError::Unavailable(reason)) if without_broker => {
                let remark = format!("Kafka is away: {reason}; serving by what the last run knew");
                break (kafka::TopicReport::default(), Some(remark));
            }
            // A role may be started before its broker, or while that is away.
            Err(kafka::KafkaSetupError::Unavailable(reason)) => {
                tracing::warn!(reason, "Kafka cannot be reached yet; trying again");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
            report => break (report?, None),
        }
    };
    let mut remarks: Vec<String> = (report.differences.iter())
        .map(|it| format!("topic {}: {} is {}, expected {}", it.topic, it.setting, it.found, it.wanted))
        .chain(away)
        .collect();
    if !report.unfit_for_hard_budgets.is_empty() {
        let why = report.unfit_for_hard_budgets.join("; ");
        anyhow::ensure!(
            config.kafka.dev,
            "the topics cannot carry hard budgets: {why} (kafka.dev = true goes on all the same)"
        );
        remarks.push(format!("hard budgets are not safe against the loss of a broker: {why}"));
    }
    let journal = Arc::new(kafka::KafkaJournal::new(&settings)?);
    let outlet = Arc::new(kafka::KafkaOutlet::new(&settings)?);
    let history = Arc::new(ArchivedJournal::new(journal.clone(), archive_opener(config)));
    Ok(Ports { journal, history, outlet: outlet.clone(), remarks, embedded: None, kafka: Some(outlet) })
}

/// Opens the archive the first time that somebody needs it: most roles never do.
fn archive_opener(config: &Config) -> OpenSegments {
    let config = config.clone();
    let opened = OnceLock::new();
    Arc::new(move || {
        if let Some(segments) = opened.get() {
            return Ok(Segments::clone(segments));
        }
        let (store, prefix, _) = archive::open(&config)?;
        Ok(opened.get_or_init(|| Segments::new(store, prefix)).clone())
    })
}

fn kafka_settings(config: &Config) -> anyhow::Result<kafka::KafkaSettings> {
    let own = &config.kafka;
    let mut settings = kafka::KafkaSettings::new(&own.brokers, &own.prefix);
    let ca_file = Some(&own.ca_file).filter(|file| !file.is_empty()).map(|file| config.path(file));
    settings.security = match own.security.as_str() {
        "plaintext" => kafka::Security::Plaintext,
        "ssl" => kafka::Security::Tls { ca_file },
        "sasl_ssl" => kafka::Security::SaslTls {
            ca_file,
            mechanism: own.sasl_mechanism.clone(),
            username: own.username.clone(),
            password: secrets::resolve(&own.password, &config.data)
                .context("kafka.password")?
                .expose()
                .to_owned(),
        },
        other => anyhow::bail!("kafka.security is {other:?}: expected plaintext, ssl or sasl_ssl"),
    };
    Ok(settings)
}

/// Whom calls to providers and webhooks trust.
pub(crate) fn authorities(config: &Config) -> Outcome<Authorities> {
    let web = Authorities::default();
    if config.tls.ca_file.is_empty() {
        return Ok(web);
    }
    let path = config.path(&config.tls.ca_file);
    let pem = std::fs::read(&path).with_context(|| format!("tls.ca_file: failed to read {}", path.display()));
    let all = pem.and_then(|pem| web.and(&pem).with_context(|| format!("tls.ca_file: {}", path.display())));
    all.map_err(Failure::usage)
}

/// Purpose of the key of end users' pseudonyms: shims and the administration must make the same ones.
pub(crate) const END_USERS: &str = "end-user pseudonyms";

/// Who this deployment is: its key, and the purposes derived from it.
pub(crate) struct Deployment {
    key: [u8; 32],
}

impl Deployment {
    pub(crate) fn open(config: &Config) -> anyhow::Result<Self> {
        let secret = secrets::resolve_or_create(&config.deployment.key, &config.data, "")
            .context("failed to open the deployment's key")?;
        Ok(Self { key: secrets::key_bytes(&secret, "the deployment's key")? })
    }

    /// A fresh incarnation in a role.
    pub(crate) fn identity(&self, role: Role) -> anyhow::Result<Identity> {
        Ok(Identity::new(ProducerId(secrets::random()?), role, secrets::random()?, &self.key))
    }

    /// A recorder of a fresh incarnation.
    pub(crate) fn recorder(&self, role: Role, outlet: &Arc<dyn Outlet>) -> anyhow::Result<Arc<Recorder>> {
        Ok(Arc::new(Recorder::new(self.identity(role)?, Arc::clone(outlet))))
    }

    /// The public key that certifies incarnations.
    pub(crate) fn public_key(&self) -> anyhow::Result<Digest> {
        Ok(self.identity(Role::Policy)?.deployment_key)
    }

    /// End users' pseudonyms, as the shims of this deployment make them.
    pub(crate) fn pseudonyms(&self) -> Pseudonyms {
        Pseudonyms::new(&self.derive(END_USERS))
    }

    /// A key for one purpose.
    pub(crate) fn derive(&self, purpose: &str) -> [u8; 32] {
        secrets::derive(&self.key, purpose)
    }
}
