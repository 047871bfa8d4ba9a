//! What every part of the shim shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hmac::{Hmac, Mac as _};
use parking_lot::{Mutex, RwLock};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::Head;
use bursar_schemas::ids::{Digest, Pseudonym, Pseudonyms, RequestId};
use bursar_schemas::ports::{OutletError, Receipt};
use bursar_schemas::position::{Lane, Topic, partition_of};
use bursar_schemas::producer::{Draft, Recorder};
use bursar_schemas::snapshot::{NotASnapshot, Shelf};

use crate::config::{Clock, Random, ShimConfig};
use crate::leases::{Ask, GiveBack, Raise};
use crate::limits::{Limits, Waits, mark_fact, request_facts, return_facts};
use crate::telemetry::Metrics;
use crate::upstream::{Keys, Policy, UpstreamClient};

/// Facts about unknown keys a second, at most: anybody can send those.
const STRANGERS_A_SECOND: u32 = 10;

/// The shared state of a shim.
pub(crate) struct World {
    pub(crate) config: ShimConfig,
    pub(crate) recorder: Arc<Recorder>,
    clock: Clock,
    random: Random,
    /// Where snapshots are kept.
    pub(crate) shelf: Arc<dyn Shelf>,
    pub(crate) policy: RwLock<Arc<Policy>>,
    pub(crate) policy_read: AtomicBool,
    pub(crate) policy_stopped: Mutex<Option<String>>,
    pub(crate) limits: Vec<Arc<Limits>>,
    pub(crate) client: UpstreamClient,
    pub(crate) keys: Keys,
    pub(crate) metrics: Metrics,
    ready: AtomicBool,
    pub(crate) closing: AtomicBool,
    pub(crate) buffered: AtomicUsize,
    pseudonyms: Pseudonyms,
    digests: Hmac<Sha256>,
    strangers: Mutex<(Instant, u32)>,
    /// Answers that are read on without their client; ended before the incarnation is.
    reading_on: Mutex<JoinSet<()>>,
}

fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    // A shorter key is padded with zeros to the hash's block, by definition of HMAC.
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    Hmac::<Sha256>::new(&block.into())
}

impl World {
    pub(crate) fn new(
        config: ShimConfig,
        recorder: Arc<Recorder>,
        (keys, clock, random, shelf): (Keys, Clock, Random, Arc<dyn Shelf>),
        client: UpstreamClient,
    ) -> Self {
        let holder = recorder.producer();
        let waits = Waits { lease: config.lease_wait, silence: config.ledger_silence };
        let limits = (0..config.partitions)
            .map(|partition| Arc::new(Limits::new(partition, holder, config.leases, waits)));
        Self {
            limits: limits.collect(),
            pseudonyms: Pseudonyms::new(&config.pseudonym_key),
            digests: keyed(&config.digest_key),
            config,
            recorder,
            clock,
            random,
            shelf,
            policy: RwLock::default(),
            policy_read: AtomicBool::new(false),
            policy_stopped: Mutex::default(),
            client,
            keys,
            metrics: Metrics::new(),
            ready: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            buffered: AtomicUsize::new(0),
            strangers: Mutex::new((Instant::now(), 0)),
            reading_on: Mutex::default(),
        }
    }

    pub(crate) fn now(&self) -> Micros {
        (self.clock)()
    }

    pub(crate) fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read())
    }

    pub(crate) fn request_id(&self, at: Micros) -> RequestId {
        let mut bytes = [0; 10];
        (self.random)(&mut bytes);
        RequestId::new(at.0, bytes)
    }

    pub(crate) fn body_digest(&self, body: &Bytes) -> Digest {
        Digest(self.digests.clone().chain_update(body).finalize().into_bytes().into())
    }

    pub(crate) fn pseudonym(&self, organisation: &str, user: &str) -> Pseudonym {
        self.pseudonyms.of(organisation, user)
    }

    pub(crate) fn key_hash(secret: &[u8]) -> Digest {
        Digest(Sha256::digest(secret).into())
    }

    pub(crate) fn partition(&self, organisation: &str) -> u32 {
        partition_of(organisation, self.config.partitions)
    }

    pub(crate) fn limits(&self, partition: u32) -> Option<&Arc<Limits>> {
        self.limits.get(usize::try_from(partition).unwrap_or(usize::MAX))
    }

    /// Writes facts, in order.
    pub(crate) fn record(&self, drafts: Vec<Draft>) -> Result<Receipt, OutletError> {
        let count = u64::try_from(drafts.len()).unwrap_or(0);
        self.counted(count, self.recorder.record(drafts))
    }

    fn counted(&self, count: u64, taken: Result<Receipt, OutletError>) -> Result<Receipt, OutletError> {
        let counter = if taken.is_ok() { &self.metrics.facts } else { &self.metrics.facts_lost };
        counter.fetch_add(count, Ordering::Relaxed);
        taken
    }

    /// Writes facts that nobody waits for. A spool that takes no more is counted and logged: the gap in the
    /// producer's numbers shows it to every reader.
    pub(crate) fn note(&self, drafts: Vec<Draft>) -> bool {
        match self.record(drafts) {
            Ok(_) => true,
            Err(error) => {
                tracing::error!(%error, "facts were not taken");
                false
            }
        }
    }

    fn head(&self) -> Head {
        Head::draft(self.now(), self.policy.read().directory.version, "")
    }

    /// Writes returns and then a question for a lease; false when they were not taken: the returns are then kept
    /// for the next turn.
    pub(crate) fn ask(&self, limits: &Limits, given: Vec<GiveBack>, ask: &Ask) -> bool {
        let lane = Lane::new(Topic::Spend, limits.partition);
        let mut drafts = self.returns(lane, &given);
        drafts.extend(request_facts(&self.head(), ask).into_iter().map(|fact| Draft { lane, fact }));
        let taken = self.note(drafts);
        if !taken {
            limits.unsent(given);
        }
        taken
    }

    /// Writes returns. What is not taken is kept for the next turn.
    pub(crate) fn give_back(&self, limits: &Limits, given: Vec<GiveBack>) {
        let drafts = self.returns(Lane::new(Topic::Spend, limits.partition), &given);
        if !drafts.is_empty() && !self.note(drafts) {
            limits.unsent(given);
        }
    }

    fn returns(&self, lane: Lane, given: &[GiveBack]) -> Vec<Draft> {
        let facts = given.iter().flat_map(|given| return_facts(&self.head(), given));
        facts.map(|fact| Draft { lane, fact }).collect()
    }

    /// Writes marks. What they are above may be used once the journal has them; nothing local stands in for it, since
    /// a mark must outlive this machine.
    pub(crate) fn raise(&self, limits: &Limits, raises: Vec<Raise>) {
        let lane = Lane::new(Topic::Spend, limits.partition);
        for raise in raises {
            let draft = Draft { lane, fact: mark_fact(self.head(), &raise) };
            let receipt = self.counted(1, self.recorder.record_through([draft]));
            match (receipt, self.limits(limits.partition)) {
                (Ok(receipt), Some(limits)) => {
                    let limits = Arc::clone(limits);
                    // At most one for each lease.
                    tokio::spawn(async move { limits.raised(raise, receipt.await.is_ok()) });
                }
                (Err(error), _) => {
                    tracing::error!(%error, "a mark was not taken");
                    limits.raised(raise, false);
                }
                (Ok(_), None) => {}
            }
        }
    }

    /// True when one more fact about an unknown key may be written this second.
    pub(crate) fn may_note_stranger(&self) -> bool {
        let mut strangers = self.strangers.lock();
        if strangers.0.elapsed().as_secs() >= 1 {
            *strangers = (Instant::now(), 0);
        }
        strangers.1 += 1;
        strangers.1 <= STRANGERS_A_SECOND
    }

    /// Runs the rest of an answer whose client has left. Beyond the bound of open requests the rest is dropped at
    /// once, which closes its request.
    pub(crate) fn read_on(&self, runtime: &Handle, rest: impl Future<Output = ()> + Send + 'static) {
        let mut reading = self.reading_on.lock();
        while reading.try_join_next().is_some() {}
        if reading.len() < self.config.max_open_requests {
            reading.spawn_on(rest, runtime);
        } else {
            drop(reading);
            drop(rest);
        }
    }

    /// Keeps a snapshot aside; what fails is told, and costs the next start time.
    pub(crate) async fn keep(&self, name: String, snapshot: Result<Vec<u8>, NotASnapshot>) {
        let shelf = Arc::clone(&self.shelf);
        let kept = match snapshot {
            Ok(bytes) => tokio::task::spawn_blocking(move || shelf.keep(&name, &bytes))
                .await
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = kept {
            tracing::warn!(error, "a snapshot was not kept");
        }
    }

    /// Waits until no answer is read on any more, at most so long; what is left is dropped, which closes it.
    pub(crate) async fn end_reading(&self, within: Duration) {
        let mut reading = std::mem::take(&mut *self.reading_on.lock());
        let all = async { while reading.join_next().await.is_some() {} };
        if tokio::time::timeout(within, all).await.is_err() {
            reading.shutdown().await;
        }
    }

    /// True once policy and limits have been read to where they stood at the start.
    pub(crate) fn is_ready(&self) -> bool {
        if self.ready.load(Ordering::Acquire) {
            return true;
        }
        let now = self.now();
        let is_read = |limits: &Arc<Limits>| {
            let standing = limits.standing(now);
            standing.caught_up || standing.from_snapshot || standing.stopped.is_some()
        };
        let ready = self.policy_read.load(Ordering::Acquire) && self.limits.iter().all(is_read);
        self.ready.fetch_or(ready, Ordering::AcqRel);
        ready
    }
}
