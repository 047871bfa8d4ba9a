//! Listening, sending each request to its place, and the tasks beside it.

mod pages;
mod policy;
mod turns;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use bursar_schemas::facts::{Endpoint, Fact, Head, ShimEnded};
use bursar_schemas::ports::{Journal, JournalError};
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::price::PriceTable;
use bursar_schemas::producer::{Draft, Recorder};
use bursar_schemas::snapshot::Shelf;

use crate::answer::Outgoing;
use crate::config::{Clock, Random, Secrets, ShimConfig};
use crate::gate;
use crate::limits::follow;
use crate::refusal::error;
use crate::tls::TlsError;
use crate::upstream::{self, Keys};
use crate::world::World;

pub use pages::Readiness;
pub use policy::POLICY_SNAPSHOT;

/// How long a client may take to send a request's head, and a kept connection may be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);

/// What the binary passes in.
#[derive(Clone)]
pub struct Handles {
    /// Where `policy` and `limits` are read.
    pub journal: Arc<dyn Journal>,
    /// Where facts are written.
    pub recorder: Arc<Recorder>,
    /// Resolves references of secrets.
    pub secrets: Secrets,
    /// Tells the time.
    pub clock: Clock,
    /// Fills a buffer with random bytes.
    pub random: Random,
    /// The price table, below the overrides of policy.
    pub prices: PriceTable,
    /// Keeps what was read, for a faster start and for one without the journal.
    pub shelf: Arc<dyn Shelf>,
}

/// Why a shim did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("failed to listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// The journal could not be asked.
    #[error("failed to ask the journal: {0}")]
    Journal(JournalError),
    /// The journal has another number of partitions than configured: budgets would be looked for elsewhere.
    #[error("failed to start: limits has {found} partitions, not the {configured} that are configured")]
    Partitions {
        /// What the journal has.
        found: u32,
        /// What is configured.
        configured: u32,
    },
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

// The text has the other's, so that is no source: a chain of causes would say it twice.
impl From<JournalError> for StartError {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

/// A gateway shim.
#[derive(Debug)]
pub struct Shim;

/// A shim that runs.
pub struct RunningShim {
    local_addr: SocketAddr,
    world: Arc<World>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    beside: JoinSet<()>,
}

impl Shim {
    /// Listens at once; requests are served once policy and limits have been read to their current end, and
    /// refused with 503 before.
    ///
    /// # Errors
    /// When it cannot listen, or the journal does not fit.
    pub async fn start(config: ShimConfig, handles: Handles) -> Result<RunningShim, StartError> {
        // A journal that is away may have any number; one that answers must have the right one.
        match handles.journal.partitions(Topic::Limits).await {
            Ok(found) if found != config.partitions => {
                return Err(StartError::Partitions { found, configured: config.partitions });
            }
            Ok(_) => {}
            Err(JournalError::Unavailable(reason)) => {
                tracing::warn!(reason, "the journal is away; starting without it");
            }
            Err(other) => return Err(other.into()),
        }
        let address = config.listen;
        let listening = |error| StartError::Listen { address, error };
        let listener = TcpListener::bind(address).await.map_err(listening)?;
        let local_addr = listener.local_addr().map_err(listening)?;
        let client = upstream::client(config.connect_timeout, &config.authorities)?;
        let Handles { journal, recorder, secrets, clock, random, prices, shelf } = handles;
        let world =
            Arc::new(World::new(config, recorder, (Keys::new(secrets), clock, random, shelf), client));
        let mut beside = JoinSet::new();
        beside.spawn(policy::follow(Arc::clone(&world), Arc::clone(&journal), prices));
        for limits in &world.limits {
            beside.spawn(follow(Arc::clone(&world), Arc::clone(limits), Arc::clone(&journal)));
        }
        beside.spawn(turns::run(Arc::clone(&world)));
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(accept(Arc::clone(&world), listener, stopped));
        Ok(RunningShim { local_addr, world, stop, serving, beside })
    }
}

impl RunningShim {
    /// Where it listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What it counts, as Prometheus text.
    #[must_use]
    pub fn metrics(&self) -> String {
        pages::metrics(&self.world)
    }

    /// A function that renders the metrics, for another port.
    #[must_use]
    pub fn metrics_source(&self) -> Arc<dyn Fn() -> String + Send + Sync> {
        let world = Arc::clone(&self.world);
        Arc::new(move || pages::metrics(&world))
    }

    /// Whether it serves, and what is not as it should be.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        pages::readiness(&self.world)
    }

    /// Stops taking requests, waits up to `grace` for open ones, gives leases back and states the end of the
    /// incarnation. Requests still open then are settled and closed as abandoned.
    ///
    /// True when the last facts were acknowledged.
    pub async fn shutdown(mut self, grace: Duration) -> bool {
        let begun = Instant::now();
        self.world.closing.store(true, Ordering::Release);
        // The receiver is gone only when serving has ended already.
        self.stop.send_replace(true);
        if tokio::time::timeout(grace, &mut self.serving).await.is_err() {
            self.serving.abort();
            if let Err(error) = (&mut self.serving).await
                && !error.is_cancelled()
            {
                tracing::error!(%error, "serving ended badly");
            }
        }
        self.world.end_reading(grace.saturating_sub(begun.elapsed())).await;
        self.beside.shutdown().await;
        self.end().await
    }

    async fn end(&self) -> bool {
        let world = &self.world;
        let version = world.policy().directory.version;
        for limits in &world.limits {
            world.give_back(limits, limits.give_back_all());
            let head = Head::draft(world.now(), version, "");
            let fact = Fact::from(ShimEnded { head, incarnation: world.recorder.producer() });
            world.note(vec![Draft { lane: Lane::new(Topic::Spend, limits.partition), fact }]);
        }
        let last = match world.recorder.record_end(world.now()) {
            Ok(receipt) => tokio::time::timeout(world.config.ack_timeout, receipt).await,
            Err(error) => Ok(Err(error)),
        };
        match last {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::error!(%error, "the last facts were not taken");
                false
            }
            Err(_) => {
                tracing::error!("the last facts were not acknowledged in time");
                false
            }
        }
    }
}

impl std::fmt::Debug for RunningShim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunningShim").field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}

async fn accept(world: Arc<World>, listener: TcpListener, mut stopped: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(world.config.max_connections));
    let mut connections = JoinSet::new();
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = asked_to_stop(&mut stopped) => break,
        };
        let Ok(place) = place else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = asked_to_stop(&mut stopped) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let (world, stopped) = (Arc::clone(&world), stopped.clone());
                connections.spawn(async move {
                    world.metrics.connections.fetch_add(1, Ordering::Relaxed);
                    connection(&world, stream, stopped).await;
                    world.metrics.connections.fetch_sub(1, Ordering::Relaxed);
                    drop(place);
                });
            }
            Err(error) => {
                // Out of file handles, mostly: others must close first.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Resolves once the shim is to stop, or nobody is left to ask.
async fn asked_to_stop(stopped: &mut watch::Receiver<bool>) {
    if stopped.wait_for(|stop| *stop).await.is_err() {
        tracing::debug!("the shim's handle is gone");
    }
}

async fn connection(world: &Arc<World>, stream: TcpStream, mut stopped: watch::Receiver<bool>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection without TCP_NODELAY");
    }
    let service = service_fn(|request| {
        let world = Arc::clone(world);
        // On the heap, so that its memory is gone once the head is sent: a stream may last for minutes.
        Box::pin(async move { Ok::<_, std::convert::Infallible>(serve(&world, request).await) })
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = asked_to_stop(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn serve(world: &Arc<World>, request: Request<Incoming>) -> Response<Outgoing> {
    let path = request.uri().path();
    match (request.method(), path) {
        (&Method::POST, "/v1/chat/completions") => {
            gate::serve(world, Endpoint::ChatCompletions, request).await
        }
        (&Method::POST, "/v1/embeddings") => gate::serve(world, Endpoint::Embeddings, request).await,
        (&Method::GET, "/v1/models") => pages::models(world, request.headers()),
        (&Method::GET, "/v1/budgets") => pages::budgets(world, request.headers()),
        (&Method::GET | &Method::HEAD, "/healthz") => pages::text(StatusCode::OK, "ok\n"),
        (&Method::GET | &Method::HEAD, "/readyz") => pages::ready(world),
        (&Method::GET, "/metrics") => pages::text(StatusCode::OK, &pages::metrics(world)),
        _ => {
            let known =
                ["/v1/chat/completions", "/v1/embeddings", "/v1/models", "/v1/budgets"].contains(&path);
            let (status, code) = if known {
                (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed")
            } else {
                (StatusCode::NOT_FOUND, "unknown_url")
            };
            let id = world.request_id(world.now());
            error(status, "invalid_request_error", code, "There is no such endpoint.", None, id)
        }
    }
}
