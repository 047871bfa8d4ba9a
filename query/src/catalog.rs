//! Which sealed segments there are: one chain per generation, topic and partition, followed link by link.
//!
//! Invariant: a segment counts only if it begins where its predecessor ends; everything else under the
//! archive's folder is foreign, is never read from, and is named in the status.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bursar_schemas::archive::{SEGMENTS, is_delta_key, parse_segment_key, segment_key};
use bursar_schemas::ids::Generation;
use bursar_schemas::position::Lane;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use crate::error::QueryError;
use crate::footer::{self, Sealed};

/// Footers read at once.
const READS_AT_ONCE: usize = 16;

/// Foreign objects that are named; more are only counted.
const FOREIGN_NAMED: usize = 100;

/// One partition in one life of its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LaneKey {
    pub(crate) lane: Lane,
    pub(crate) generation: Generation,
}

/// A sealed segment as queries need it.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) object: ObjectMeta,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) rows: u64,
    pub(crate) lost: Vec<(u64, u64)>,
    pub(crate) times_us: Option<(i64, i64)>,
    pub(crate) accounting_us: Option<(i64, i64)>,
    /// True when its records were removed under retention.
    pub(crate) removed: bool,
}

/// The chain of one lane.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chain {
    pub(crate) segments: Vec<Arc<Segment>>,
    /// One above the last sealed offset: where the next segment begins.
    pub(crate) next: u64,
    /// Per producer, the number that comes next after the chain.
    pub(crate) producers: BTreeMap<String, u64>,
    /// Why the chain ends although an object stands in the next slot.
    pub(crate) broken: Option<String>,
}

impl Chain {
    /// Adds the next link; false when the segment is not it.
    pub(crate) fn push(&mut self, key: LaneKey, sealed: Sealed) -> bool {
        let Sealed { object, footer, accounting_us, removed } = sealed;
        let fits = footer.lane() == key.lane
            && footer.generation == key.generation
            && footer.start == self.next
            && footer.end >= footer.start
            && object.location == Path::from(segment_key(key.generation, key.lane, footer.start));
        if !fits {
            self.broken = Some(format!("segment {} states another place than its name", object.location));
            return false;
        }
        self.next = footer.end.saturating_add(1);
        self.producers = footer.producers;
        self.broken = None;
        self.segments.push(Arc::new(Segment {
            object,
            start: footer.start,
            end: footer.end,
            rows: footer.rows,
            lost: footer.lost,
            times_us: footer.times_us,
            accounting_us,
            removed,
        }));
        true
    }

    /// Looks again at segments whose objects are not the ones that were read: their records were removed since.
    async fn renew(
        &mut self,
        store: &Arc<dyn ObjectStore>,
        objects: &BTreeMap<u64, ObjectMeta>,
    ) -> Result<(), QueryError> {
        for segment in &mut self.segments {
            let Some(object) = objects.get(&segment.start) else { continue };
            if (object.size, object.last_modified) == (segment.object.size, segment.object.last_modified) {
                continue;
            }
            let sealed = match footer::read_object(store, object.clone()).await {
                Ok(sealed) => sealed,
                Err(QueryError::Archive(reason)) => {
                    self.broken = Some(reason);
                    continue;
                }
                Err(error) => return Err(error),
            };
            if (sealed.footer.start, sealed.footer.end) == (segment.start, segment.end) {
                *segment = Arc::new(Segment {
                    object: sealed.object,
                    removed: sealed.removed,
                    start: segment.start,
                    end: segment.end,
                    rows: segment.rows,
                    lost: segment.lost.clone(),
                    times_us: segment.times_us,
                    accounting_us: segment.accounting_us,
                });
            }
        }
        Ok(())
    }
}

/// Objects under the archive's folder that are not in any chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Foreign {
    pub(crate) count: u64,
    pub(crate) named: Vec<String>,
}

impl Foreign {
    fn add(&mut self, key: String) {
        self.count += 1;
        if self.named.len() < FOREIGN_NAMED {
            self.named.push(key);
        }
    }
}

/// Reads on from the ends of known chains, one probe each.
pub(crate) async fn probe(
    store: &Arc<dyn ObjectStore>,
    chains: BTreeMap<LaneKey, Chain>,
) -> Result<BTreeMap<LaneKey, Chain>, QueryError> {
    let probes: Vec<_> =
        chains.into_iter().map(|(key, chain)| probe_one(Arc::clone(store), key, chain)).collect();
    stream::iter(probes).buffer_unordered(READS_AT_ONCE).try_collect().await
}

async fn probe_one(
    store: Arc<dyn ObjectStore>,
    key: LaneKey,
    mut chain: Chain,
) -> Result<(LaneKey, Chain), QueryError> {
    loop {
        match footer::read(&store, &segment_key(key.generation, key.lane, chain.next)).await {
            Ok(Some(sealed)) => {
                if !chain.push(key, sealed) {
                    break;
                }
            }
            Ok(None) => break,
            Err(QueryError::Archive(reason)) if reason.starts_with("segment ") => {
                chain.broken = Some(reason);
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok((key, chain))
}

/// Lists the whole archive and follows every chain on from what is known of it.
pub(crate) async fn list(
    store: &Arc<dyn ObjectStore>,
    mut chains: BTreeMap<LaneKey, Chain>,
) -> Result<(BTreeMap<LaneKey, Chain>, Foreign), QueryError> {
    let failed = |error: object_store::Error| QueryError::Archive(error.to_string());
    let mut foreign = Foreign::default();
    let mut found: BTreeMap<LaneKey, BTreeMap<u64, ObjectMeta>> = BTreeMap::new();
    let mut objects = store.list(Some(&Path::from(SEGMENTS)));
    while let Some(object) = objects.try_next().await.map_err(failed)? {
        match parse_segment_key(object.location.as_ref()) {
            Some((generation, lane, start)) => {
                found.entry(LaneKey { lane, generation }).or_default().insert(start, object);
            }
            None if is_delta_key(object.location.as_ref()) => {}
            None => foreign.add(object.location.to_string()),
        }
    }
    for (key, objects) in found {
        let mut chain = chains.remove(&key).unwrap_or_default();
        if chain.segments.is_empty() {
            // A lane's first segment is its lowest: whatever came before was never sealed.
            chain.next = objects.keys().next().copied().unwrap_or(0);
        }
        chain.renew(store, &objects).await?;
        follow(store, key, &mut chain, &objects).await?;
        let inside: BTreeSet<u64> = chain.segments.iter().map(|segment| segment.start).collect();
        for (_, object) in objects.iter().filter(|(start, _)| !inside.contains(start)) {
            foreign.add(object.location.to_string());
        }
        chains.insert(key, chain);
    }
    Ok((chains, foreign))
}

async fn read_one(
    store: Arc<dyn ObjectStore>,
    start: u64,
    object: ObjectMeta,
) -> (u64, Result<Sealed, QueryError>) {
    (start, footer::read_object(&store, object).await)
}

async fn follow(
    store: &Arc<dyn ObjectStore>,
    key: LaneKey,
    chain: &mut Chain,
    objects: &BTreeMap<u64, ObjectMeta>,
) -> Result<(), QueryError> {
    let reads: Vec<_> = objects
        .range(chain.next..)
        .map(|(start, object)| read_one(Arc::clone(store), *start, object.clone()))
        .collect();
    let mut footers = stream::iter(reads).buffered(READS_AT_ONCE);
    while let Some((start, sealed)) = footers.next().await {
        if start != chain.next {
            continue;
        }
        match sealed {
            Ok(sealed) => {
                if !chain.push(key, sealed) {
                    return Ok(());
                }
            }
            Err(QueryError::Archive(reason)) => {
                chain.broken = Some(reason);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
