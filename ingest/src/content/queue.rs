//! From a request's end to the vault: bounded, and never waited for. What does not fit is dropped, counted and recorded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bursar_schemas::facts::{About, ContentDropped, ContentKept, DropReason, Head};
use bursar_schemas::position::{Lane, Topic, partition_of};
use bursar_schemas::producer::{Draft, Recorder};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use super::vault::{Clear, Vault};

/// Tells the time.
type Clock = Arc<dyn Fn() -> bursar_schemas::avro::Micros + Send + Sync>;

/// How much may wait, and how hard it is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueConfig {
    /// Contents waiting at once.
    pub most: usize,
    /// Bytes of contents waiting at once.
    pub most_bytes: usize,
    /// Contents stored at the same time.
    pub workers: usize,
    /// Tries at the store for one content.
    pub tries: u32,
    /// Wait before the second try; it doubles with each further one.
    pub retry_first: Duration,
    /// Partitions of topic `requests`.
    pub partitions: u32,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            most: 1024,
            most_bytes: 64 << 20,
            workers: 4,
            tries: 6,
            retry_first: Duration::from_millis(200),
            partitions: 1,
        }
    }
}

/// A request's content at its end.
#[derive(Debug, Clone)]
pub struct Item {
    /// The request's attributes.
    pub about: Arc<About>,
    /// The policy version in force.
    pub policy: u64,
    /// What was said.
    pub clear: Clear,
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Contents stored.
    pub kept: u64,
    /// Contents dropped.
    pub dropped: u64,
    /// Bytes waiting.
    pub waiting_bytes: u64,
}

struct Shared {
    vault: Vault,
    recorder: Arc<Recorder>,
    clock: Clock,
    config: QueueConfig,
    kept: AtomicU64,
    dropped: AtomicU64,
}

/// What is to be stored, or was dropped and is to be recorded.
enum Work {
    Keep(Item, OwnedSemaphorePermit),
    Record(Arc<About>, u64, DropReason),
}

/// The queue. Dropping it gives up what waits.
pub struct Queue {
    shared: Arc<Shared>,
    sender: parking_lot::Mutex<Option<mpsc::Sender<Work>>>,
    room: Arc<Semaphore>,
    workers: Mutex<JoinSet<()>>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("figures", &self.figures()).finish_non_exhaustive()
    }
}

/// The subject that a content is encrypted for: the end user where one is named, else the key.
pub(super) fn subject(about: &About) -> String {
    about.end_user.map_or_else(|| format!("key:{}", about.key), |user| user.to_string())
}

impl Queue {
    /// Starts the workers; must be called within a Tokio runtime.
    #[must_use]
    pub fn start(vault: Vault, recorder: Arc<Recorder>, clock: Clock, config: QueueConfig) -> Self {
        // Twice as many places as contents, so that what was dropped can still be said.
        let (sender, receiver) = mpsc::channel(config.most.max(1) * 2);
        let receiver = Arc::new(Mutex::new(receiver));
        let (kept, dropped) = (AtomicU64::new(0), AtomicU64::new(0));
        let shared = Arc::new(Shared { vault, recorder, clock, config, kept, dropped });
        let mut workers = JoinSet::new();
        for _ in 0..config.workers.max(1) {
            workers.spawn(work(Arc::clone(&shared), Arc::clone(&receiver)));
        }
        let room = Arc::new(Semaphore::new(config.most_bytes.min(Semaphore::MAX_PERMITS)));
        Self { shared, sender: parking_lot::Mutex::new(Some(sender)), room, workers: Mutex::new(workers) }
    }

    /// Takes a content, or drops it where there is no room. Never waits.
    pub fn offer(&self, item: Item) {
        let (about, policy) = (Arc::clone(&item.about), item.policy);
        let sender = self.sender.lock();
        let Some(sender) = &*sender else {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let bytes = item.clear.prompt.len().saturating_add(item.clear.completion.len()).max(1);
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let waiting = sender.max_capacity().saturating_sub(sender.capacity());
        let permit = Arc::clone(&self.room).try_acquire_many_owned(permits).ok();
        let taken = permit.filter(|_| waiting < self.shared.config.most);
        let refused = match taken {
            Some(permit) => sender.try_send(Work::Keep(item, permit)).is_err(),
            None => true,
        };
        if refused {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            if sender.try_send(Work::Record(about, policy, DropReason::QueueFull)).is_err() {
                tracing::warn!("captured content was dropped, and the queue is too full to record it");
            }
        }
    }

    /// Counts since the start.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let waiting = self.shared.config.most_bytes.saturating_sub(self.room.available_permits());
        Figures {
            kept: self.shared.kept.load(Ordering::Relaxed),
            dropped: self.shared.dropped.load(Ordering::Relaxed),
            waiting_bytes: u64::try_from(waiting).unwrap_or(u64::MAX),
        }
    }

    /// Takes nothing more and stores what waits, within a time; false when something was given up.
    pub async fn stop(&self, within: Duration) -> bool {
        self.sender.lock().take();
        let mut workers = std::mem::take(&mut *self.workers.lock().await);
        let all = async { while workers.join_next().await.is_some() {} };
        let done = tokio::time::timeout(within, all).await.is_ok();
        if !done {
            workers.shutdown().await;
        }
        done
    }
}

async fn work(shared: Arc<Shared>, receiver: Arc<Mutex<mpsc::Receiver<Work>>>) {
    loop {
        let next = receiver.lock().await.recv().await;
        match next {
            None => return,
            Some(Work::Record(about, policy, reason)) => shared.record_drop(&about, policy, reason),
            Some(Work::Keep(item, permit)) => {
                shared.keep(item).await;
                drop(permit);
            }
        }
    }
}

impl Shared {
    fn lane(&self, about: &About) -> Lane {
        Lane::new(Topic::Requests, partition_of(&about.organisation, self.config.partitions))
    }

    fn record(&self, about: &About, fact: bursar_schemas::facts::Fact) {
        // The next head covers it; whoever waits for content is nobody.
        if let Err(error) = self.recorder.record([Draft { lane: self.lane(about), fact }]) {
            tracing::error!(%error, request = %about.request, "what became of a captured content could not be recorded");
        }
    }

    fn record_drop(&self, about: &Arc<About>, policy: u64, reason: DropReason) {
        let head = Head::draft((self.clock)(), policy, "");
        let fact = ContentDropped { head, about: About::clone(about), drop_reason: reason };
        self.record(about, fact.into());
    }

    /// Stores one content; what the store does not take after all tries is dropped.
    async fn keep(&self, item: Item) {
        let Item { about, policy, clear } = item;
        let subject = subject(&about);
        let mut wait = self.config.retry_first;
        for attempt in 1..=self.config.tries.max(1) {
            match self.vault.keep(&subject, about.request, &clear).await {
                Ok(kept) => {
                    self.kept.fetch_add(1, Ordering::Relaxed);
                    let fact = ContentKept {
                        head: Head::draft((self.clock)(), policy, ""),
                        about: About::clone(&about),
                        subject,
                        object: kept.object,
                        object_sha256: kept.sha256,
                        object_bytes: kept.bytes,
                        cut: clear.cut,
                    };
                    self.record(&about, fact.into());
                    return;
                }
                Err(error) => {
                    // An error of the vault names objects and subjects, never content.
                    tracing::warn!(%error, attempt, request = %about.request, "captured content was not stored");
                    if attempt < self.config.tries {
                        tokio::time::sleep(wait).await;
                        wait = wait.saturating_mul(2);
                    }
                }
            }
        }
        self.dropped.fetch_add(1, Ordering::Relaxed);
        self.record_drop(&about, policy, DropReason::StoreFailed);
    }
}
