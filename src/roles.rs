//! Wires the roles of one process: each gets the two ports and what it needs, and meets no other role directly.

mod admin;
pub(crate) mod archive;
pub(crate) mod content;
mod metrics;
mod shim;
pub(crate) mod witness;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use bursar_ingest::archive::{ArchiveConfig, Archiver, ArchiverHandle};
use bursar_ledger::runner::{Ledger, RunnerError, Settings, settle};
use bursar_query::{Limits, QueryConfig, QueryError, QueryService, Watch};
use bursar_schemas::facts::Role;
use bursar_schemas::ports::Journal;
use bursar_schemas::producer::Recorder;
use object_store::ObjectStore;
use object_store::prefix::PrefixStore;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::alerts::Messenger;
use crate::clock;
use crate::config::{Config, JournalKind};
use crate::exit::Outcome;
use crate::publisher::Publisher;
use crate::retention::records::Records;
use crate::retention::{Keeper, Parts};
use crate::secrets::{self, Secret};
use crate::shelf::FolderShelf;
use crate::wire::{self, Deployment, Ports};
use content::ContentRole;
use shim::ShimRole;

/// How often completeness is looked at for the metrics.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// A role that is asked by the admin port and taken out to be stopped.
pub(crate) type Shared<T> = Arc<Mutex<Option<T>>>;

fn shared<T>(role: T) -> Shared<T> {
    Arc::new(Mutex::new(Some(role)))
}

fn take<T>(role: &Shared<T>) -> Option<T> {
    role.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Which roles a process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Roles {
    pub(crate) shim: bool,
    pub(crate) ledger: bool,
    pub(crate) ingest: bool,
    pub(crate) query: bool,
    /// True when a command opened the folder for itself: any free admin port, a token of its own.
    pub(crate) own: bool,
}

impl Roles {
    const NONE: Self = Self { shim: false, ledger: false, ingest: false, query: false, own: false };
    pub(crate) const UP: Self = Self { shim: true, ledger: true, ingest: true, query: true, own: false };
    pub(crate) const SHIM: Self = Self { shim: true, ..Self::NONE };
    pub(crate) const LEDGER: Self = Self { ledger: true, ..Self::NONE };
    pub(crate) const INGEST: Self = Self { ingest: true, ..Self::NONE };
    pub(crate) const QUERY: Self = Self { query: true, ..Self::NONE };
    pub(crate) const FOLDER: Self = Self { ledger: true, query: true, own: true, ..Self::NONE };
}

/// A ledger at work; it ends when its sender says so.
type LedgerTask = JoinHandle<Result<(), RunnerError>>;

/// The roles of this process, running.
pub(crate) struct Running {
    admin: admin::AdminRole,
    token: Secret,
    shim: Option<ShimRole>,
    ledger: Option<(LedgerTask, watch::Sender<bool>)>,
    messenger: Option<Messenger>,
    archiver: Option<Shared<ArchiverHandle>>,
    /// Recorders whose last heads are written at the end.
    recorders: Vec<Arc<Recorder>>,
    publisher: Option<Arc<Publisher>>,
    ports: Ports,
    address_file: Option<PathBuf>,
    shim_grace: Duration,
}

impl Running {
    /// Starts the roles; returns when each can do its work.
    pub(crate) async fn start(config: &Config, roles: Roles) -> Outcome<Self> {
        std::fs::create_dir_all(&config.data)
            .with_context(|| format!("failed to make {}", config.data.display()))?;
        let clock = clock::system()?;
        let deployment = Deployment::open(config)?;
        let authorities = wire::authorities(config)?;
        let ports = Ports::open(config, roles == Roles::SHIM && ShimRole::has_run(config)).await?;
        for remark in &ports.remarks {
            tracing::warn!("{remark}");
        }
        let mut recorders = Vec::new();
        let (name, token) = credential(config, roles)?;
        let mut admin = admin::Parts::new(&name, &token);

        let mut publisher = None;
        let mut ledger = None;
        let mut messenger = None;
        if roles.ledger {
            let recorder = deployment.recorder(Role::Policy, &ports.outlet)?;
            recorders.push(Arc::clone(&recorder));
            let pseudonyms = deployment.pseudonyms();
            let history = Arc::clone(&ports.history);
            let found = Publisher::start(history, recorder, Arc::clone(&clock), pseudonyms).await?;
            let found = Arc::new(found);
            publisher = Some(Arc::clone(&found));
            let mut settings = Settings::new(deployment.public_key()?);
            settings.timing.takeover_after = takeover(config);
            let (stop, stopped) = watch::channel(false);
            let recorder = deployment.recorder(Role::Ledger, &ports.outlet)?;
            let started = Ledger::start(
                Arc::clone(&ports.history),
                recorder,
                Arc::clone(&clock),
                Arc::new(FolderShelf::open(&config.data)?),
                settings,
                stopped,
            )
            .await?;
            let handle = started.handle();
            admin.add_ledger(handle.clone(), publisher.as_ref());
            // Whoever opened the folder for one command does not stay to hear the answers.
            if !roles.own {
                let told = Messenger::start(
                    handle.clone(),
                    found,
                    Arc::clone(&clock),
                    config.data.clone(),
                    &authorities,
                )?;
                admin.add_messenger(&told, handle);
                messenger = Some(told);
            }
            ledger = Some((tokio::spawn(started.join()), stop));
        }
        let mut archiver = None;
        if roles.ledger {
            let (config, journal, clock) = (config.clone(), Arc::clone(&ports.journal), Arc::clone(&clock));
            // The ledger needs no archive unless it is asked.
            admin.add_records(Arc::new(move || records(&config, &journal, &clock)));
        }
        if roles.ingest || roles.query {
            let (store, prefix, place) = archive::open(config).context("failed to open the archive")?;
            let keeps = roles.ingest || roles.own;
            let log = keeps.then(|| archive::log_settings(config, &deployment, &clock, &authorities));
            let log = log.transpose()?;
            if roles.ingest {
                archive::refuse_careless(&store, &prefix).await.context("archive.url")?;
                let seal_bytes = u64::from(config.archive.seal_mebibytes) << 20;
                let usual = ArchiveConfig::default();
                let settings = ArchiveConfig {
                    prefix: prefix.clone(),
                    seal_bytes,
                    // One segment is built while the next is read.
                    memory_bytes: usual.memory_bytes.max(2 * seal_bytes),
                    seal_age: Duration::from_secs(config.archive.seal_seconds),
                    delta: config.archive.delta,
                    ..usual
                };
                let started = shared(Archiver::start(
                    Arc::clone(&ports.journal),
                    Arc::clone(&store),
                    settings,
                    log.clone(),
                ));
                admin.add_archiver(&started, place);
                archiver = Some(started);
            }
            let mut asked = None;
            if roles.query {
                let recorder = deployment.recorder(Role::Query, &ports.outlet)?;
                recorders.push(Arc::clone(&recorder));
                let inside = Arc::new(PrefixStore::new(Arc::clone(&store), prefix.clone()));
                let service = Arc::new(open_query(config, inside, &ports.journal, &recorder, &clock).await?);
                let hours = u64::from(config.query.gaps_hours);
                // Whoever opened the folder for one command has nobody to watch for.
                let watch = (hours > 0 && !roles.own)
                    .then(|| Watch::start(&service, Duration::from_secs(hours * 3600), LOOK_EVERY));
                asked = Some(Arc::clone(&service));
                admin.add_query(service, watch, &name, &token);
            }
            if let Some(log) = log {
                let recorder = deployment.recorder(Role::Archiver, &ports.outlet)?;
                recorders.push(Arc::clone(&recorder));
                admin.add_keeper(Keeper::new(Parts {
                    records: records(config, &ports.journal, &clock)?,
                    log,
                    delta: config.archive.delta,
                    history: Arc::clone(&ports.history),
                    recorder,
                    clock: Arc::clone(&clock),
                    asked,
                    vault: content::place(config)?,
                }));
            }
        }
        let mut shim = None;
        if roles.shim {
            let capture = if config.content.capture {
                let recorder = deployment.recorder(Role::Shim, &ports.outlet)?;
                recorders.push(Arc::clone(&recorder));
                Some(ContentRole::start(config, recorder, Arc::clone(&clock))?)
            } else {
                None
            };
            let started =
                ShimRole::start(config, &deployment, &ports, Arc::clone(&clock), capture, authorities)
                    .await?;
            admin.add_shim(&started);
            shim = Some(started);
        }
        admin.add_vault(content::place(config)?);
        let listen = if roles.own { SocketAddr::from(([127, 0, 0, 1], 0)) } else { config.admin.listen };
        let admin = admin.serve(listen).await?;
        let address_file = (!roles.own).then(|| config.data.join(crate::door::ADDRESS_FILE));
        if let Some(file) = &address_file {
            std::fs::write(file, format!("{}\n", admin.address))
                .with_context(|| format!("failed to write {}", file.display()))?;
        }
        let heads = recorders.clone();
        tokio::spawn(write_heads(heads, Arc::clone(&clock)));
        let shim_grace = Duration::from_secs(config.shim.shutdown_seconds);
        Ok(Self {
            admin,
            token,
            shim,
            ledger,
            messenger,
            archiver,
            recorders,
            publisher,
            ports,
            address_file,
            shim_grace,
        })
    }

    /// The token that the admin port takes.
    pub(crate) fn local_token(&self) -> Secret {
        self.token.clone()
    }

    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.admin.address
    }

    pub(crate) fn shim_address(&self) -> Option<SocketAddr> {
        self.shim.as_ref().map(ShimRole::address)
    }

    /// Waits until the shim, where there is one, serves.
    pub(crate) async fn serves(&self) {
        if let Some(shim) = &self.shim {
            shim.serves().await;
        }
    }

    pub(crate) fn publisher(&self) -> Option<&Arc<Publisher>> {
        self.publisher.as_ref()
    }

    /// Ends when a role can no longer do its work.
    pub(crate) async fn failed(&self) -> String {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            if self.ledger.as_ref().is_some_and(|(ledger, _)| ledger.is_finished()) {
                return "the ledger has stopped".to_owned();
            }
        }
    }

    /// Stops in the order in which facts flow: whoever writes first, stops first.
    pub(crate) async fn stop(self) -> Outcome {
        if let Some(file) = &self.address_file
            && let Err(error) = std::fs::remove_file(file)
        {
            tracing::warn!(%error, "the address file could not be removed");
        }
        if let Some(shim) = self.shim {
            shim.stop(self.shim_grace).await?;
        }
        if let Some(messenger) = self.messenger {
            messenger.stop().await;
        }
        let mut outcome = Ok(());
        if let Some((ledger, stop)) = self.ledger {
            stop.send_replace(true);
            outcome = match ledger.await {
                Ok(ended) => ended.context("the ledger failed"),
                Err(error) => Err(error.into()),
            };
        }
        self.admin.stop().await;
        let now = clock::system()?();
        for recorder in &self.recorders {
            let receipt = recorder.record_end(now)?;
            tokio::time::timeout(Duration::from_secs(5), receipt)
                .await
                .context("the last heads were not acknowledged")??;
        }
        if let Some(archiver) = self.archiver.as_ref().and_then(take) {
            // What is not sealed stays in the journal, so there is nothing to wait for.
            archiver.stop(false).await;
        }
        self.ports.close().await?;
        Ok(outcome?)
    }
}

/// With the embedded journal, which one process alone can open, no other ledger can be alive.
fn takeover(config: &Config) -> i64 {
    match config.journal.kind {
        JournalKind::Embedded => 0,
        JournalKind::Kafka => {
            i64::try_from(config.ledger.takeover_seconds.saturating_mul(1_000_000)).unwrap_or(i64::MAX)
        }
    }
}

/// Whose acts the admin port records, and the token that it takes.
fn credential(config: &Config, roles: Roles) -> anyhow::Result<(String, Secret)> {
    if roles.own {
        let user = std::env::var("USER")
            .or_else(|_| std::env::var("LOGNAME"))
            .unwrap_or_else(|_| "unknown".to_owned());
        let token = Secret::new(bursar_schemas::ids::hex(&secrets::random::<32>()?));
        return Ok((format!("local:{user}"), token));
    }
    let token = secrets::resolve_or_create(&config.deployment.admin_token, &config.data, "bat-")
        .context("failed to open the admin token")?;
    Ok((config.deployment.admin_name.clone(), token))
}

/// The archive and the journal, for asking what holds speak of.
fn records(config: &Config, journal: &Arc<dyn Journal>, clock: &clock::Clock) -> anyhow::Result<Records> {
    let (store, prefix, _) = archive::open(config).context("failed to open the archive")?;
    let (journal, clock) = (Arc::clone(journal), Arc::clone(clock));
    Ok(Records { store, prefix, journal, query: query_config(config), clock })
}

fn query_config(config: &Config) -> QueryConfig {
    QueryConfig {
        memory_bytes: usize::try_from(config.query.memory_mebibytes).unwrap_or(512) << 20,
        http: Limits { time: Duration::from_secs(config.query.time_seconds), rows: config.query.max_rows },
        ..QueryConfig::default()
    }
}

/// Opens the query service, once the journal can be reached: without it nobody knows what is not sealed yet.
async fn open_query(
    config: &Config,
    store: Arc<dyn ObjectStore>,
    journal: &Arc<dyn Journal>,
    recorder: &Arc<Recorder>,
    clock: &clock::Clock,
) -> Outcome<QueryService> {
    let open = || {
        let (store, journal) = (Arc::clone(&store), Some(Arc::clone(journal)));
        let (recorder, clock) = (Some(Arc::clone(recorder)), Arc::clone(clock));
        async {
            match QueryService::open(query_config(config), store, journal, recorder, clock).await {
                Err(QueryError::Journal(error)) => Err(error),
                opened => Ok(opened),
            }
        }
    };
    Ok(settle(open).await.map_err(QueryError::from)??)
}

/// A signed head each second, for as long as the process runs.
async fn write_heads(recorders: Vec<Arc<Recorder>>, clock: clock::Clock) {
    let mut ticker = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticker.tick().await;
        for recorder in &recorders {
            if let Err(error) = recorder.record_heads(clock()) {
                tracing::warn!(%error, "a head could not be written");
            }
        }
    }
}
