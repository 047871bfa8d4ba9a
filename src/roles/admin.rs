//! The admin port of one process: gathers what each role can be asked, then serves it.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};

use anyhow::Context as _;
use axum::Router;
use bursar_gateway_shim::RunningShim;
use bursar_ingest::archive::ArchiverHandle;
use bursar_ingest::content::Vault;
use bursar_ledger::runner::LedgerHandle;
use bursar_query::{QueryService, Token, Watch};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::content::ContentRole;
use super::{Shared, ShimRole};
use crate::admin::server::{Control, Credential, Probe, alert_row, router, time};
use crate::alerts::Messenger;
use crate::publisher::Publisher;
use crate::retention::Keeper;
use crate::retention::records::OpenRecords;
use crate::secrets::Secret;

/// A running admin port.
pub(crate) struct AdminRole {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl AdminRole {
    pub(crate) async fn stop(self) {
        // An error means that the port has stopped by itself already.
        self.stop.send(()).ok();
        if tokio::time::timeout(std::time::Duration::from_secs(5), self.task).await.is_err() {
            tracing::warn!("the admin port did not stop in time");
        }
    }
}

/// What the roles of this process offer to be asked.
pub(crate) struct Parts {
    control: Control,
    query: Option<Router>,
}

impl Parts {
    pub(crate) fn new(name: &str, token: &Secret) -> Self {
        let credentials = Arc::new(vec![Credential::new(name, token.expose())]);
        Self { control: Control { credentials, ..Control::default() }, query: None }
    }

    pub(crate) fn add_ledger(&mut self, handle: LedgerHandle, publisher: Option<&Arc<Publisher>>) {
        self.control.publisher = publisher.cloned();
        self.control.ledger = Some(handle.clone());
        let books = handle.clone();
        self.control.budgets = Some(probe(move || {
            let books = books.clone();
            async move {
                match books.books().await {
                    Ok(books) => books.iter().map(budget_row).collect(),
                    Err(error) => json!({"error": error.to_string()}),
                }
            }
        }));
        let alerts = handle.clone();
        self.control.alerts = Some(probe(move || {
            let alerts = alerts.clone();
            async move {
                match alerts.alerts().await {
                    Ok(alerts) => alerts.iter().map(alert_row).collect(),
                    Err(error) => json!({"error": error.to_string()}),
                }
            }
        }));
        let status = probe(move || {
            let handle = handle.clone();
            async move {
                let mut state = serde_json::Map::new();
                for partition in handle.status() {
                    let index = partition.partition;
                    state.insert(format!("partition_{index}"), json!(partition.standing.words()));
                    state.insert(format!("partition_{index}_epoch"), json!(partition.epoch));
                    state.insert(
                        format!("partition_{index}_open_reservations"),
                        json!(partition.open_reservations),
                    );
                    state.insert(format!("partition_{index}_trouble"), json!(partition.trouble));
                }
                state.insert("lag_records".to_owned(), json!(handle.lag().await.ok()));
                Value::Object(state)
            }
        });
        self.control.status.push(("ledger", status));
    }

    pub(crate) fn add_messenger(&mut self, messenger: &Messenger, ledger: LedgerHandle) {
        self.control.metrics.push(messenger.metrics(ledger));
        let state = messenger.state();
        self.control.status.push((
            "webhooks",
            probe(move || {
                let state = state();
                async move { state }
            }),
        ));
    }

    pub(crate) fn add_archiver(&mut self, archiver: &Shared<ArchiverHandle>, place: String) {
        let figures = Arc::clone(archiver);
        self.control.metrics.push(Arc::new(move || {
            let archiver = figures.lock().unwrap_or_else(PoisonError::into_inner);
            archiver.as_ref().map(super::metrics::of_archiver).unwrap_or_default()
        }));
        let archiver = Arc::clone(archiver);
        let status = probe(move || {
            let archiver = archiver.lock().unwrap_or_else(PoisonError::into_inner);
            let lanes = archiver.as_ref().map(ArchiverHandle::status);
            let mut state = serde_json::Map::from_iter([("archive".to_owned(), json!(place))]);
            if let Some(log) = archiver.as_ref().and_then(ArchiverHandle::log_status) {
                let fault = log.fault.map(|fault| format!("; fault: {fault}")).unwrap_or_default();
                state.insert(
                    "log".to_owned(),
                    json!(format!("{} leaves, {} signed{fault}", log.size, log.published)),
                );
            }
            for witness in archiver.as_ref().map(ArchiverHandle::witnesses).unwrap_or_default() {
                let fault = witness.fault.map(|fault| format!("; fault: {fault}")).unwrap_or_default();
                let cosigned =
                    witness.cosigned.map_or_else(|| "nothing".to_owned(), |size| format!("{size} leaves"));
                state.insert(
                    format!("witness {}", witness.name),
                    json!(format!("cosigned {cosigned}{fault}")),
                );
            }
            for (lane, status) in lanes.unwrap_or_default() {
                let sealed =
                    status.sealed.map_or_else(|| "nothing".to_owned(), |offset| format!("offset {offset}"));
                let fault = status.fault.map(|fault| format!("; fault: {fault}")).unwrap_or_default();
                let buffered = status.buffered_records;
                state.insert(
                    lane.to_string(),
                    json!(format!("sealed to {sealed}, {buffered} records to come{fault}")),
                );
            }
            async move { Value::Object(state) }
        });
        self.control.status.push(("ingest", status));
    }

    pub(crate) fn add_vault(&mut self, vault: Option<Vault>) {
        self.control.vault = vault.map(Arc::new);
    }

    pub(crate) fn add_records(&mut self, records: OpenRecords) {
        self.control.records = Some(records);
    }

    pub(crate) fn add_keeper(&mut self, keeper: Keeper) {
        self.control.keeper = Some(Arc::new(keeper));
    }

    pub(crate) fn add_query(
        &mut self,
        service: Arc<QueryService>,
        watch: Option<Watch>,
        name: &str,
        token: &Secret,
    ) {
        if let Some(watch) = watch {
            self.control.metrics.push(Arc::new(move || watch.metrics()));
        }
        let credential = Credential::new(name, token.expose());
        let token = Token { name: credential.name, sha256: credential.token_hash };
        self.query = Some(bursar_query::router(Arc::clone(&service), vec![token]));
        let status = probe(move || {
            let service = Arc::clone(&service);
            async move {
                match service.status().await {
                    Ok(status) => json!({"current": status.is_current(), "warnings": status.warnings()}),
                    Err(error) => json!({"error": error.to_string()}),
                }
            }
        });
        self.control.status.push(("query", status));
    }

    pub(crate) fn add_shim(&mut self, role: &ShimRole) {
        let (address, spool, shim) = (role.address(), Arc::clone(role.spool()), Arc::clone(role.shim()));
        self.control.metrics.extend(role.metrics_source());
        self.control.metrics.extend(role.content().map(ContentRole::metrics));
        let status = probe(move || {
            let figures = spool.figures();
            let readiness =
                shim.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(RunningShim::readiness);
            async move {
                json!({
                    "listens": format!("http://{address}"),
                    "ready": readiness.as_ref().is_some_and(|it| it.ready),
                    "degraded": readiness.map(|it| it.degraded).unwrap_or_default(),
                    "spool_bytes": figures.bytes,
                    "unacknowledged_facts": figures.unacknowledged,
                    "open_requests": figures.open_requests,
                })
            }
        });
        self.control.status.push(("shim", status));
    }

    /// Binds the port and serves until stopped.
    pub(crate) async fn serve(self, listen: SocketAddr) -> anyhow::Result<AdminRole> {
        let listener = tokio::net::TcpListener::bind(listen)
            .await
            .with_context(|| format!("failed to listen on {listen} for administration"))?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let app = router(self.control, self.query);
        let task = tokio::spawn(async move {
            let shutdown = async {
                // A dropped sender means the process is ending, too.
                stopped.await.ok();
            };
            if let Err(error) = axum::serve(listener, app).with_graceful_shutdown(shutdown).await {
                tracing::error!(%error, "the admin port failed");
            }
        });
        Ok(AdminRole { address, stop, task })
    }
}

fn probe<F, A>(ask: F) -> Probe
where
    F: Fn() -> A + Send + Sync + 'static,
    A: Future<Output = Value> + Send + 'static,
{
    Arc::new(move || Box::pin(ask()))
}

fn budget_row(books: &bursar_ledger::books::AccountBooks) -> Value {
    json!({
        "budget": books.budget,
        "scope": books.scope,
        "mode": books.mode,
        "window": time(books.starts_at.0),
        "phase": if books.draining { "draining" } else { "open" },
        "limit": books.limit,
        "settled": books.settled,
        "reserved": books.reserved,
        "leased_idle": books.leased_idle,
        "stranded": books.stranded,
        "available": books.available,
        "overrun": books.overrun,
        "unpriced": books.unpriced,
        "resets_at": books.ends_at.map(|at| time(at.0)),
    })
}
