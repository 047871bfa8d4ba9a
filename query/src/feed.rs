//! Keeps the lanes moving: looks for new segments, and reads each live lane's journal into its tail.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bursar_schemas::ports::{Journal, JournalError};
use bursar_schemas::position::{Lane, Topic};
use futures::future;
use object_store::ObjectStore;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::catalog::{self, LaneKey};
use crate::config::QueryConfig;
use crate::error::QueryError;
use crate::lanes::Lanes;

/// Between two tries at a journal that cannot be reached.
const RETRY: Duration = Duration::from_millis(250);

/// The sources of rows.
pub(crate) struct Feed {
    store: Arc<dyn ObjectStore>,
    journal: Option<Arc<dyn Journal>>,
    pub(crate) lanes: Arc<Lanes>,
    listing: Duration,
    /// When the archive was last listed; held over a refresh, so that two never run at once.
    listed: tokio::sync::Mutex<Option<Instant>>,
    live: Mutex<Vec<LaneKey>>,
    readers: Mutex<JoinSet<()>>,
}

impl Feed {
    pub(crate) fn new(
        config: &QueryConfig,
        store: Arc<dyn ObjectStore>,
        journal: Option<Arc<dyn Journal>>,
    ) -> Self {
        Self {
            store,
            journal,
            lanes: Arc::new(Lanes::new(config)),
            listing: config.listing,
            listed: tokio::sync::Mutex::new(None),
            live: Mutex::default(),
            readers: Mutex::new(JoinSet::new()),
        }
    }

    pub(crate) const fn has_journal(&self) -> bool {
        self.journal.is_some()
    }

    /// Looks for new segments and new lanes.
    pub(crate) async fn refresh(&self) -> Result<(), QueryError> {
        let done = self.refresh_archive().await;
        self.lanes.set_problem(done.as_ref().err().map(ToString::to_string));
        done?;
        self.refresh_live().await
    }

    /// The next refresh lists the whole archive.
    pub(crate) async fn look_again(&self) {
        *self.listed.lock().await = None;
    }

    async fn refresh_archive(&self) -> Result<(), QueryError> {
        let mut listed = self.listed.lock().await;
        let chains = self.lanes.chains();
        if listed.is_none_or(|at| at.elapsed() >= self.listing) {
            let (chains, foreign) = catalog::list(&self.store, chains).await?;
            self.lanes.apply(chains, Some(foreign))?;
            *listed = Some(Instant::now());
        } else {
            self.lanes.apply(catalog::probe(&self.store, chains).await?, None)?;
        }
        Ok(())
    }

    /// Begins a tail for each lane that the journal has now.
    async fn refresh_live(&self) -> Result<(), QueryError> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let mut live = Vec::new();
        for topic in Topic::ALL {
            let generation = match journal.generation(topic).await {
                Ok(generation) => generation,
                Err(JournalError::NoLane(_)) => continue,
                Err(error) => return Err(error.into()),
            };
            for partition in 0..journal.partitions(topic).await? {
                live.push(LaneKey { lane: Lane::new(topic, partition), generation });
            }
        }
        for key in &live {
            if self.lanes.begin_tail(*key)? {
                let reader = read_lane(Arc::clone(&self.lanes), Arc::clone(journal), *key);
                self.readers.lock().spawn(reader);
            }
        }
        *self.live.lock() = live;
        Ok(())
    }

    /// Where each live lane's journal ends now.
    pub(crate) async fn journal_ends(&self) -> Result<BTreeMap<LaneKey, u64>, QueryError> {
        let Some(journal) = &self.journal else { return Ok(BTreeMap::new()) };
        let live = self.live.lock().clone();
        let ends: Vec<_> = live.into_iter().map(|key| end_of(Arc::clone(journal), key)).collect();
        Ok(future::try_join_all(ends).await?.into_iter().collect())
    }
}

async fn end_of(journal: Arc<dyn Journal>, key: LaneKey) -> Result<(LaneKey, u64), JournalError> {
    journal.bounds(key.lane).await.map(|bounds| (key, bounds.end))
}

/// Refreshes until the service is gone.
pub(crate) async fn keep_fresh(feed: std::sync::Weak<Feed>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(feed) = feed.upgrade() else { return };
        if let Err(error) = feed.refresh().await {
            tracing::warn!(%error, "the archive or journal could not be looked at; trying again");
        }
    }
}

/// Reads one lane into its tail for as long as there is one.
async fn read_lane(lanes: Arc<Lanes>, journal: Arc<dyn Journal>, key: LaneKey) {
    while let Some(from) = lanes.wait_for_room(key).await {
        match journal.generation(key.lane.topic).await {
            Ok(generation) if generation == key.generation => {}
            // The topic was made anew: its records belong to another lane, which has its own reader.
            Ok(_) | Err(JournalError::NoLane(_)) => {
                return lanes.stall(key, "the topic was made anew".to_owned());
            }
            Err(error) => {
                lanes.stall(key, error.to_string());
                tokio::time::sleep(RETRY).await;
                continue;
            }
        }
        match read_from(&lanes, journal.as_ref(), key, from).await {
            Ok(()) => {}
            Err(QueryError::Journal(JournalError::OutOfRange { start, wanted, .. })) if wanted < start => {
                lanes.skip_lost(key, start);
            }
            Err(error) => {
                tracing::warn!(lane = %key.lane, %error, "the tail does not move; trying again");
                lanes.stall(key, error.to_string());
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn read_from(lanes: &Lanes, journal: &dyn Journal, key: LaneKey, from: u64) -> Result<(), QueryError> {
    let mut cursor = journal.read(key.lane, from).await?;
    let mut expected = from;
    loop {
        let batch = cursor.next().await?;
        expected = expected.max(batch.next);
        lanes.extend(key, batch)?;
        match lanes.wait_for_room(key).await {
            // Sealed past the cursor while the tail was full: a new cursor skips what is sealed.
            Some(position) if position > expected => return Ok(()),
            Some(_) => {}
            None => return Ok(()),
        }
    }
}
