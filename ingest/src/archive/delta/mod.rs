//! A Delta table over each topic's segments, for everyone else's engines: the same Parquet files, named by commits.
//!
//! The table of a topic's life lies where its segments do (`segments/GENERATION/TOPIC`), so that every file is below its
//! root. Nothing here is evidence: whatever it says can be made again from the segments.
//!
//! Invariant: a commit is claimed by put-if-absent after reading those before it, and names each segment of a lane once
//! and in order; the lane's transaction is its last offset.

mod action;
mod checkpoint;
mod schema;

use std::collections::BTreeMap;

use bursar_schemas::archive::{Footer, delta_log};
use bursar_schemas::ids::Generation;
use bursar_schemas::position::{Lane, Topic};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::Value;

use self::action::{File, Standing, commit, commit_key, metadata, protocol};
pub use self::checkpoint::CheckpointError;
use self::checkpoint::{checkpoint_key, hint_key, parse_hint};
use super::log::Clock;
use super::store::{Put, Segments, StoreError};

/// Segments named by one commit at most.
const MOST_FILES: usize = 1000;

/// Commits read at the same time.
const READS: usize = 8;

/// Why a table cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The last commit is not one of ours, so nobody knows what the table holds.
    #[error("{0} was not written by an archiver: run `bursar archive rebuild-delta`")]
    Foreign(String),
    /// A checkpoint cannot be made.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A column has no type in Delta.
    #[error("topic {0} has a column that Delta has no type for")]
    Schema(Topic),
}

/// One table as its writer sees it.
#[derive(Debug)]
struct Table {
    generation: Generation,
    topic: Topic,
    /// The next commit; none before the log was read.
    version: Option<u64>,
    standing: Standing,
}

/// The tables of an archive.
pub struct Delta {
    segments: Segments,
    clock: Clock,
    tables: BTreeMap<(Generation, Topic), Table>,
}

impl std::fmt::Debug for Delta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delta").field("tables", &self.tables).finish_non_exhaustive()
    }
}

impl Delta {
    /// The tables over an archive's segments.
    #[must_use]
    pub fn new(segments: Segments, clock: Clock) -> Self {
        Self { segments, clock, tables: BTreeMap::new() }
    }

    fn now_ms(&self) -> i64 {
        (self.clock)().div_euclid(1000)
    }

    /// Commits a lane's segments up to an offset, at most a thousand of them, so that a table which is far behind catches
    /// up without holding up sealing; `known` is the last one's footer and size, where it is at hand.
    ///
    /// # Errors
    /// When the store fails, or the table is not ours. The next call goes on where this one stopped.
    pub async fn upto(
        &mut self,
        generation: Generation,
        lane: Lane,
        upto: u64,
        known: Option<(&Footer, u64)>,
    ) -> Result<(), DeltaError> {
        loop {
            let standing = self.open(generation, lane.topic).await?;
            let mut next = standing.of(lane);
            if next >= upto {
                return Ok(());
            }
            let mut files = Vec::new();
            while next < upto && files.len() < MOST_FILES {
                let file = match known.filter(|(footer, _)| footer.start == next) {
                    Some((footer, bytes)) => Some(File::new(footer, bytes)),
                    None => file_at(&self.segments, generation, lane, next).await?,
                };
                let Some(file) = file else { break };
                next = file.next;
                files.push(file);
            }
            if files.is_empty() || self.commit(generation, lane.topic, standing, &files).await? {
                return Ok(());
            }
        }
    }

    /// Takes a segment whose records are removed out of its table.
    ///
    /// # Errors
    /// As [`Delta::upto`].
    pub async fn remove(&mut self, footer: &Footer) -> Result<(), DeltaError> {
        let file = File::new(footer, 0);
        loop {
            let standing = self.open(footer.generation, footer.topic).await?;
            // What the table never named needs no removing.
            let Some(action) = file.remove(self.now_ms()).filter(|_| standing.of(file.lane) > footer.start)
            else {
                return Ok(());
            };
            let text = commit(&standing, &[], [action], "DELETE", self.now_ms());
            if self.claim(footer.generation, footer.topic, standing, text).await? {
                return Ok(());
            }
        }
    }

    /// Makes a table anew from the segments that are there, as one commit: the log that was there is deleted. Returns
    /// how many files it names.
    ///
    /// # Errors
    /// When the store fails; running it again mends that.
    pub async fn rebuild(
        &mut self,
        generation: Generation,
        topic: Topic,
        partitions: u32,
    ) -> Result<u64, DeltaError> {
        self.segments.delete_below(&delta_log(generation, topic)).await?;
        self.tables.remove(&(generation, topic));
        let mut files = Vec::new();
        for partition in 0..partitions {
            let (lane, mut next) = (Lane::new(topic, partition), 0);
            while let Some(file) = file_at(&self.segments, generation, lane, next).await? {
                next = file.next;
                files.push(file);
            }
        }
        let mut named = 0;
        for chunk in files.chunks(10_000) {
            named += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            loop {
                let standing = self.open(generation, topic).await?;
                // An archiver at work may have named some of them since.
                let unnamed: Vec<File> =
                    chunk.iter().filter(|file| file.next > standing.of(file.lane)).cloned().collect();
                if unnamed.is_empty() || self.commit(generation, topic, standing, &unnamed).await? {
                    break;
                }
            }
        }
        Ok(named)
    }

    /// Makes every table anew; returns how many files each names.
    ///
    /// # Errors
    /// As [`Delta::rebuild`].
    pub async fn rebuild_all(&mut self) -> Result<Vec<(Generation, Topic, u64)>, DeltaError> {
        let mut tables: BTreeMap<(Generation, Topic), u32> = BTreeMap::new();
        for (generation, lane) in self.segments.lanes().await? {
            let partitions = tables.entry((generation, lane.topic)).or_insert(0);
            *partitions = (*partitions).max(lane.partition.saturating_add(1));
        }
        let mut made = Vec::new();
        for ((generation, topic), partitions) in tables {
            made.push((generation, topic, self.rebuild(generation, topic, partitions).await?));
        }
        Ok(made)
    }

    /// The table's standing after its last commit, read on from what is known of it.
    async fn open(&mut self, generation: Generation, topic: Topic) -> Result<Standing, DeltaError> {
        let fresh = || Table { generation, topic, version: None, standing: Standing::default() };
        let table = self.tables.entry((generation, topic)).or_insert_with(fresh);
        let mut version = table.version.unwrap_or(0).saturating_sub(1);
        let last = self.segments.read(&commit_key(generation, topic, version)).await?;
        if last.is_none() || table.version.is_none() {
            // Nothing is known yet, or the table was made anew.
            table.standing = Standing::default();
            version = newest_known(&self.segments, generation, topic).await?;
        }
        while let Some(bytes) = self.segments.read(&commit_key(generation, topic, version)).await? {
            let read = Standing::read(&bytes);
            table.standing =
                read.ok_or_else(|| DeltaError::Foreign(commit_key(generation, topic, version)))?;
            version += 1;
        }
        table.version = Some(version);
        Ok(table.standing.clone())
    }

    /// Adds files, each its lane's next, to a table that stands so; false when somebody else was first.
    async fn commit(
        &mut self,
        generation: Generation,
        topic: Topic,
        mut standing: Standing,
        files: &[File],
    ) -> Result<bool, DeltaError> {
        let at_ms = self.now_ms();
        let schema = schema::schema_string(topic).ok_or(DeltaError::Schema(topic))?;
        let mut actions: Vec<Value> = Vec::new();
        if standing.schema.is_empty() {
            actions.push(protocol());
        }
        if standing.schema != digest(&schema) {
            actions.push(metadata(generation, topic, &schema, at_ms));
            standing.schema = digest(&schema);
        }
        let mut lanes: Vec<Lane> = Vec::new();
        for file in files {
            standing.next.insert(file.lane.partition, file.next);
            actions.extend(file.add(at_ms));
            if !lanes.contains(&file.lane) {
                lanes.push(file.lane);
            }
        }
        let text = commit(&standing, &lanes, actions, "WRITE", at_ms);
        self.claim(generation, topic, standing, text).await
    }

    /// Claims the next version for a commit.
    async fn claim(
        &mut self,
        generation: Generation,
        topic: Topic,
        standing: Standing,
        text: String,
    ) -> Result<bool, DeltaError> {
        let Some(table) = self.tables.get_mut(&(generation, topic)) else { return Ok(false) };
        let version = table.version.unwrap_or(0);
        let key = commit_key(table.generation, table.topic, version);
        let created = self.segments.put(&key, Bytes::from(text)).await? == Put::Created;
        if created {
            table.version = Some(version + 1);
            table.standing = standing;
            if version > 0 && version.is_multiple_of(checkpoint::EVERY) {
                // Readers do without it, and the next one covers what this one would have.
                if let Err(error) = self.checkpoint(generation, topic, version).await {
                    tracing::warn!(%topic, version, %error, "the Delta table got no checkpoint");
                }
            }
        }
        Ok(created)
    }

    /// Puts the checkpoint after a commit.
    async fn checkpoint(&self, generation: Generation, topic: Topic, version: u64) -> Result<(), DeltaError> {
        let before = hinted(&self.segments, generation, topic).await?.filter(|before| *before < version);
        let before = match before {
            Some(before) => {
                let file = self.segments.read(&checkpoint_key(generation, topic, before)).await?;
                file.map(|file| (before, file))
            }
            None => None,
        };
        let first = before.as_ref().map_or(0, |(before, _)| before + 1);
        let commits: Vec<Option<Bytes>> = futures::stream::iter(first..=version)
            .map(|version| async move { self.segments.read(&commit_key(generation, topic, version)).await })
            .buffered(READS)
            .try_collect()
            .await?;
        // Where one is missing the table is being made anew.
        let Some(commits) = commits.into_iter().collect::<Option<Vec<Bytes>>>() else { return Ok(()) };
        let now_ms = self.now_ms();
        let made = tokio::task::spawn_blocking(move || {
            checkpoint::make(before.map(|(_, file)| file), &commits, version, now_ms)
        });
        let made = made.await.map_err(CheckpointError::from)??;
        self.segments.put(&checkpoint_key(generation, topic, version), made.file).await?;
        self.segments.replace(&hint_key(generation, topic), made.hint).await?;
        Ok(())
    }
}

/// The commit whose checkpoint is named the newest one.
async fn hinted(
    segments: &Segments,
    generation: Generation,
    topic: Topic,
) -> Result<Option<u64>, StoreError> {
    let hint = segments.read(&hint_key(generation, topic)).await?;
    Ok(hint.as_deref().and_then(parse_hint))
}

/// A commit that is there, from which on the newest one can be looked for: that of the newest checkpoint, or else as
/// many as there are; 0 when there is none.
async fn newest_known(segments: &Segments, generation: Generation, topic: Topic) -> Result<u64, StoreError> {
    if let Some(version) = hinted(segments, generation, topic).await?
        && segments.size(&commit_key(generation, topic, version)).await?.is_some()
    {
        return Ok(version);
    }
    Ok(segments.count_below(&delta_log(generation, topic), ".json").await?.saturating_sub(1))
}

/// A short name of a schema: a new one makes a commit state it.
fn digest(schema: &str) -> String {
    super::buffer::sha256(schema.as_bytes()).to_string().chars().take(16).collect()
}

/// The segment that starts at an offset, as a table's file; one whose records were removed has no rows.
async fn file_at(
    segments: &Segments,
    generation: Generation,
    lane: Lane,
    start: u64,
) -> Result<Option<File>, StoreError> {
    let Some((mut footer, removed)) = segments.statement(generation, lane, start).await? else {
        return Ok(None);
    };
    let key = bursar_schemas::archive::segment_key(generation, lane, start);
    let bytes = segments.size(&key).await?.unwrap_or(0);
    if removed {
        footer.rows = 0;
    }
    Ok(Some(File::new(&footer, bytes)))
}
