//! The store under the embedded journal: one ordered table, keyed by lane and offset.
//!
//! One table for all lanes rather than one for each: every table costs several flushes to the disk at each
//! opening, and a lane's records lie together in either.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use bursar_schemas::ids::Generation;
use bursar_schemas::ports::{JournalError, Record};
use bursar_schemas::position::{Lane, Topic};
use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::watermark::Watermarks;
use super::{EmbeddedError, partitions_of};

/// The format of the folder.
const FORMAT: u32 = 1;
/// Bytes of the store's own log, which is read again at each opening.
const LOG_BYTES: u64 = 128 << 20;
/// Bytes of a key.
const KEY: usize = 13;
/// Bytes before the record's own: its time.
const TIME: usize = 8;
/// Bytes of the table that are held in memory before they are sorted into its files.
const TABLE_BYTES: u64 = 16 << 20;

/// The store, with the lock on its folder.
pub(super) struct Store {
    database: Database,
    records: Keyspace,
    lanes: BTreeSet<Lane>,
    generations: [Generation; Topic::ALL.len()],
    marks: Watermarks,
    _lock: File,
}

impl Store {
    /// Opens or makes the store; gives each lane's end as well.
    pub(super) fn open(
        dir: &Path,
        partitions: u32,
        cache_bytes: u64,
    ) -> Result<(Self, BTreeMap<Lane, u64>), EmbeddedError> {
        let io = |error| EmbeddedError::Io { dir: dir.to_path_buf(), error };
        std::fs::create_dir_all(dir).map_err(io)?;
        let lock = lock(dir)?;
        let fault = |error| fault(dir, error);
        let database = Database::builder(dir.join("store"))
            .cache_size(cache_bytes)
            .max_journaling_size(LOG_BYTES)
            .open();
        let database = database.map_err(fault)?;
        let about = database.keyspace("about", KeyspaceCreateOptions::default).map_err(fault)?;
        let generations = settle(dir, &database, &about, partitions)?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(TABLE_BYTES);
        let records = database.keyspace("records", options).map_err(fault)?;
        let lanes: BTreeSet<Lane> = lanes(partitions).collect();
        // A killed process may have left a group that is written but not flushed; readers see only flushed ones.
        database.persist(PersistMode::SyncAll).map_err(fault)?;
        let marks = Watermarks::open(&dir.join("acknowledged"), lanes.iter().copied()).map_err(io)?;
        let mut ends = BTreeMap::new();
        for lane in &lanes {
            let end = end_of(dir, &records, *lane)?;
            let acknowledged = marks.acknowledged(*lane).map_err(io)?;
            if end < acknowledged {
                return Err(EmbeddedError::Damaged {
                    dir: dir.to_path_buf(),
                    detail: format!("{lane} ends at {end}, but {acknowledged} records were acknowledged"),
                });
            }
            ends.insert(*lane, end);
        }
        Ok((Self { database, records, lanes, generations, marks, _lock: lock }, ends))
    }

    pub(super) const fn generations(&self) -> [Generation; Topic::ALL.len()] {
        self.generations
    }

    /// Writes the records as one atomic group and flushes it to the disk.
    pub(super) fn commit(&self, records: &BTreeMap<Lane, Vec<Record>>) -> Result<(), String> {
        let describe = |error: fjall::Error| format!("failed to write to the store: {error}");
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for (lane, records) in records {
            for record in records {
                let mut value = Vec::with_capacity(TIME + record.value.len());
                value.extend_from_slice(&record.at.0.to_be_bytes());
                value.extend_from_slice(&record.value);
                batch.insert(&self.records, key(*lane, record.offset).as_slice(), value);
            }
        }
        batch.commit().map_err(describe)?;
        for (lane, records) in records {
            if let Some(last) = records.last() {
                self.marks
                    .note(*lane, last.offset + 1)
                    .map_err(|error| format!("failed to note how far {lane} is acknowledged: {error}"))?;
            }
        }
        Ok(())
    }

    /// Records from `from` on, below `end`, as far as the bounds allow; at least one.
    pub(super) fn read(
        &self,
        lane: Lane,
        from: u64,
        end: u64,
        most: usize,
        most_bytes: usize,
    ) -> Result<Vec<Record>, JournalError> {
        if !self.lanes.contains(&lane) {
            return Err(JournalError::NoLane(lane));
        }
        let mut records: Vec<Record> = Vec::new();
        let mut bytes = 0_usize;
        let found = self.records.range(key(lane, from)..key(lane, end)).take(most);
        for (expected, item) in (from..).zip(found) {
            let (found, value) = item.into_inner().map_err(|error| {
                JournalError::Failed(format!("failed to read {lane} from the store: {error}"))
            })?;
            let damaged = || {
                JournalError::Failed(format!(
                    "the store is damaged: {lane} has no readable record {expected}"
                ))
            };
            if found.as_ref() != key(lane, expected) {
                return Err(damaged());
            }
            let (at, payload) = value.split_at_checked(TIME).ok_or_else(damaged)?;
            let at = at.try_into().map(i64::from_be_bytes).map_err(|_| damaged())?;
            bytes += payload.len();
            if bytes > most_bytes && !records.is_empty() {
                return Ok(records);
            }
            // Copied, since a slice of the store's block would keep the whole block alive.
            let value = Bytes::copy_from_slice(payload);
            records.push(Record { offset: expected, at: bursar_schemas::avro::Micros(at), value });
        }
        if records.is_empty() {
            return Err(JournalError::Failed(format!("the store is damaged: {lane} lacks record {from}")));
        }
        Ok(records)
    }
}

/// All lanes, in their fixed order.
fn lanes(partitions: u32) -> impl Iterator<Item = Lane> {
    Topic::ALL.into_iter().flat_map(move |topic| {
        (0..partitions_of(topic, partitions)).map(move |partition| Lane::new(topic, partition))
    })
}

fn lock(dir: &Path) -> Result<File, EmbeddedError> {
    let io = |error| EmbeddedError::Io { dir: dir.to_path_buf(), error };
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).open(dir.join("lock")).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(EmbeddedError::Locked(dir.to_path_buf())),
        Err(TryLockError::Error(error)) => Err(io(error)),
    }
}

/// Checks format and partitions, and reads the generations; writes all of them in a new store.
fn settle(
    dir: &Path,
    database: &Database,
    about: &Keyspace,
    partitions: u32,
) -> Result<[Generation; Topic::ALL.len()], EmbeddedError> {
    let fault = |error| fault(dir, error);
    let damaged = |detail: &str| EmbeddedError::Damaged { dir: dir.to_path_buf(), detail: detail.to_owned() };
    let number = |name: &str| -> Result<Option<u32>, EmbeddedError> {
        let Some(value) = about.get(name).map_err(fault)? else { return Ok(None) };
        let bytes = value.as_ref().try_into().map_err(|_| damaged("its description cannot be read"))?;
        Ok(Some(u32::from_be_bytes(bytes)))
    };
    let Some(found) = number("format")? else {
        if database.keyspace_count() > 1 {
            return Err(damaged("it has records but no description"));
        }
        let mut batch = database.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(about, "format", FORMAT.to_be_bytes().as_slice());
        batch.insert(about, "partitions", partitions.to_be_bytes().as_slice());
        let mut generations = [Generation([0; 16]); Topic::ALL.len()];
        for (topic, generation) in Topic::ALL.iter().zip(&mut generations) {
            *generation = draw(dir)?;
            batch.insert(about, format!("generation-{topic}"), generation.0.as_slice());
        }
        batch.commit().map_err(fault)?;
        return Ok(generations);
    };
    if found != FORMAT {
        return Err(EmbeddedError::Format { dir: dir.to_path_buf(), found });
    }
    let found = number("partitions")?.ok_or_else(|| damaged("it does not say its partitions"))?;
    if found != partitions {
        return Err(EmbeddedError::Partitions { dir: dir.to_path_buf(), found, wanted: partitions });
    }
    let mut generations = [Generation([0; 16]); Topic::ALL.len()];
    for (topic, generation) in Topic::ALL.iter().zip(&mut generations) {
        let value = about.get(format!("generation-{topic}")).map_err(fault)?;
        let bytes = value.and_then(|value| value.as_ref().try_into().ok());
        *generation = Generation(bytes.ok_or_else(|| damaged("a topic has no generation"))?);
    }
    Ok(generations)
}

/// A random UUID, version 4.
fn draw(dir: &Path) -> Result<Generation, EmbeddedError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| EmbeddedError::Io {
        dir: dir.to_path_buf(),
        error: std::io::Error::other(error.to_string()),
    })?;
    id[6] = (id[6] & 0x0f) | 0x40;
    id[8] = (id[8] & 0x3f) | 0x80;
    Ok(Generation(id))
}

/// Where a record lies: topic, partition and offset, in the order in which they are read.
fn key(lane: Lane, offset: u64) -> [u8; KEY] {
    let mut key = [0; KEY];
    let topic = Topic::ALL.iter().position(|topic| *topic == lane.topic).unwrap_or(0);
    key[0] = u8::try_from(topic).unwrap_or(0);
    key[1..5].copy_from_slice(&lane.partition.to_be_bytes());
    key[5..].copy_from_slice(&offset.to_be_bytes());
    key
}

fn end_of(dir: &Path, records: &Keyspace, lane: Lane) -> Result<u64, EmbeddedError> {
    let Some(last) = records.range(key(lane, 0)..=key(lane, u64::MAX)).next_back() else { return Ok(0) };
    let found = last.key().map_err(|error| fault(dir, error))?;
    let offset = found.get(5..).and_then(|offset| offset.try_into().ok()).map(u64::from_be_bytes);
    let damaged =
        || EmbeddedError::Damaged { dir: dir.to_path_buf(), detail: "a key is not a position".to_owned() };
    Ok(offset.ok_or_else(damaged)?.saturating_add(1))
}

fn fault(dir: &Path, error: fjall::Error) -> EmbeddedError {
    let dir: PathBuf = dir.to_path_buf();
    match error {
        fjall::Error::Locked => EmbeddedError::Locked(dir),
        fjall::Error::Io(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
            EmbeddedError::Io { dir, error }
        }
        other => EmbeddedError::Damaged { dir, detail: other.to_string() },
    }
}
