//! The shim with its spool: takes over what dead incarnations left, then serves.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use bursar_gateway_shim::{
    Authorities, Handles, OnSpoolFull, POLICY_SNAPSHOT, RunningShim, Secret, SecretError, Shim, ShimConfig,
};
use bursar_ingest::spool::{Recovered, Spool, SpoolConfig, closing_facts, damage_facts};
use bursar_schemas::facts::Role;
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::price::PriceTable;
use bursar_schemas::producer::Recorder;
use bursar_schemas::snapshot::Shelf as _;

use super::content::ContentRole;
use super::{Shared, shared, take};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::secrets;
use crate::shelf::FolderShelf;
use crate::wire::{Deployment, END_USERS, Ports};

/// A running shim and its spool.
pub(crate) struct ShimRole {
    shim: Shared<RunningShim>,
    spool: Arc<Spool>,
    address: SocketAddr,
    content: Option<ContentRole>,
}

impl ShimRole {
    pub(crate) async fn start(
        config: &Config,
        deployment: &Deployment,
        ports: &Ports,
        clock: Clock,
        content: Option<ContentRole>,
        authorities: Authorities,
    ) -> anyhow::Result<Self> {
        let mut identity = deployment.identity(Role::Shim)?;
        let folder = config.data.join("spool");
        let settings =
            SpoolConfig { max_bytes: u64::from(config.shim.spool_mebibytes) << 20, ..SpoolConfig::default() };
        let (producer, inner) = (identity.producer, Arc::clone(&ports.outlet));
        let opened =
            tokio::task::spawn_blocking(move || Spool::open(folder, settings, producer, inner)).await?;
        let (spool, recovered) = opened.context("failed to open the spool")?;
        let spool = Arc::new(spool);
        identity.predecessor = recovered.predecessors.last().map(|it| it.producer);
        let recorder = Arc::new(Recorder::new(identity, spool.clone()));
        close_orphans(&recovered, &recorder, &spool, &clock)?;
        let secrets_base = config.data.clone();
        let secrets = Arc::new(move |reference: &str| {
            let secret = secrets::resolve(reference, &secrets_base).map_err(|error| SecretError {
                reference: reference.to_owned(),
                reason: format!("{error:#}"),
            })?;
            Ok(Secret::new(secret.expose().to_owned()))
        });
        let random = Arc::new(secrets::stock());
        let handles = Handles {
            journal: Arc::clone(&ports.history),
            recorder,
            secrets,
            clock,
            random,
            prices: PriceTable::builtin()?,
            shelf: Arc::new(FolderShelf::open(&config.data)?),
        };
        let mut settings = shim_config(config, deployment);
        settings.authorities = authorities;
        settings.capture = content.as_ref().map(ContentRole::capturing);
        let shim = Shim::start(settings, handles).await?;
        Ok(Self { address: shim.local_addr(), shim: shared(shim), spool, content })
    }

    /// True when an earlier run left the policy that it served by.
    pub(crate) fn has_run(config: &Config) -> bool {
        FolderShelf::open(&config.data).is_ok_and(|shelf| shelf.take(POLICY_SNAPSHOT).is_some())
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) const fn shim(&self) -> &Shared<RunningShim> {
        &self.shim
    }

    /// Waits until policy and limits are read, which on the embedded journal takes a moment; gives up after half a minute, as
    /// requests then say why.
    pub(crate) async fn serves(&self) {
        let is_ready = || {
            let shim = self.shim.lock().unwrap_or_else(PoisonError::into_inner);
            shim.as_ref().is_none_or(|shim| shim.readiness().ready)
        };
        for _ in 0..3000 {
            if is_ready() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tracing::warn!("the shim is not ready yet");
    }

    /// The metrics as Prometheus text, while the shim runs.
    pub(crate) fn metrics_source(&self) -> Option<Arc<dyn Fn() -> String + Send + Sync>> {
        self.shim.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(RunningShim::metrics_source)
    }

    pub(crate) const fn content(&self) -> Option<&ContentRole> {
        self.content.as_ref()
    }

    pub(crate) fn spool(&self) -> &Arc<Spool> {
        &self.spool
    }

    /// Lets requests in flight end, then leaves nothing in the spool that the journal takes.
    pub(crate) async fn stop(self, grace: Duration) -> anyhow::Result<()> {
        if let Some(shim) = take(&self.shim)
            && !shim.shutdown(grace).await
        {
            tracing::warn!("the last facts were not acknowledged; the spool keeps them");
        }
        if let Some(content) = self.content {
            content.stop().await;
        }
        let spool = Arc::clone(&self.spool);
        let left = tokio::task::spawn_blocking(move || spool.close(Duration::from_secs(10))).await??;
        if !left.removed {
            tracing::warn!(
                unacknowledged = left.unacknowledged,
                open_requests = left.open_requests,
                "the spool keeps facts for the next start"
            );
        }
        Ok(())
    }
}

fn shim_config(config: &Config, deployment: &Deployment) -> ShimConfig {
    let own = &config.shim;
    let mut settings = ShimConfig::new(
        own.listen,
        config.journal.partitions,
        deployment.derive(END_USERS),
        deployment.derive("body digests"),
    );
    settings.durability = own.durability;
    settings.max_body_bytes = usize::try_from(own.max_body_mebibytes).unwrap_or(32) << 20;
    settings.max_open_requests = own.max_open_requests;
    settings.lease_wait = Duration::from_millis(own.lease_wait_milliseconds);
    settings.leases.outage_reserve = Duration::from_secs(own.outage_reserve_seconds);
    settings.ack_timeout = Duration::from_millis(own.acknowledge_milliseconds);
    settings.end_user_header = own.end_user_header.to_ascii_lowercase();
    settings.on_spool_full = match own.on_spool_full {
        config::OnSpoolFull::Refuse => OnSpoolFull::Refuse,
        config::OnSpoolFull::Pass => OnSpoolFull::Pass,
    };
    settings
}

/// Closes what dead incarnations left open, under the successor's name, and reports damage.
fn close_orphans(
    recovered: &Recovered,
    recorder: &Arc<Recorder>,
    spool: &Arc<Spool>,
    clock: &Clock,
) -> anyhow::Result<()> {
    if !recovered.damages.is_empty() {
        let lane = Lane::new(Topic::Requests, 0);
        let facts = damage_facts(&recovered.damages, lane, clock());
        tracing::warn!(
            damages = recovered.damages.len(),
            "a predecessor's spool was damaged; the findings are recorded"
        );
        // Later receipts cover earlier facts of a lane, so this one need not be waited for.
        drop(recorder.record(facts)?);
    }
    for predecessor in &recovered.predecessors {
        tracing::info!(
            producer = %predecessor.producer,
            orphans = predecessor.orphans.len(),
            resent = predecessor.unacknowledged,
            "taking over the spool of an incarnation that died"
        );
        let receipt = recorder.record(closing_facts(predecessor, clock()))?;
        let (spool, producer) = (Arc::clone(spool), predecessor.producer);
        tokio::spawn(async move {
            let finished = match receipt.await {
                Ok(()) => tokio::task::spawn_blocking(move || spool.finish(producer)).await,
                Err(error) => {
                    tracing::error!(%error, %producer, "closing facts were not acknowledged; the next start repeats them");
                    return;
                }
            };
            if !matches!(finished, Ok(Ok(()))) {
                tracing::error!(%producer, "the predecessor's spool could not be removed");
            }
        });
    }
    Ok(())
}
