//! The chains of segments, each walked in order: what is hashed in parallel is judged one after another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bursar_schemas::archive::{Footer, segment_key};
use bursar_schemas::ids::{Digest, Generation};
use bursar_schemas::position::{Lane, Topic};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::ObjectStore;

use super::columns::Columns;
use super::inventory::Inventory;
use super::limits::{Attested, Causes, Refold};
use super::log::{Log, Sealed};
use super::objects::get;
use super::presence::name_of;
use super::producers::Producers;
use super::report::{Kind, Report};
use super::segment::{Fault, Rows, check as check_segment, check_tombstone};
use super::{EvidenceError, OnProgress, Progress, VerifyOptions};

/// Segments of one lane read and hashed ahead of the one that is judged.
const AHEAD: usize = 3;

type LaneId = (Generation, Lane);

/// What one lane's walk needs beside its segments.
struct Walk<'a> {
    store: &'a Arc<dyn ObjectStore>,
    log: &'a Log,
    chosen: &'a BTreeSet<u64>,
    progress: Option<OnProgress>,
    done: (AtomicU64, AtomicU64),
    of: (u64, u64),
    /// Known once `policy` was walked.
    attested: Attested,
    /// True when lanes are walked from their start to their end.
    whole: bool,
    /// True when columns are made anew.
    columns: bool,
}

/// Checks every lane that the log names, and that there is no other.
pub(super) async fn check(
    store: &Arc<dyn ObjectStore>,
    inventory: &Inventory,
    log: &Log,
    options: &VerifyOptions,
    report: &mut Report,
) -> Result<(), EvidenceError> {
    let chosen = chosen(log, options);
    let all = log.lanes.values().flatten().filter(|it| chosen.contains(&it.leaf));
    let of = all.fold((0, 0), |(count, bytes), it| (count + 1, bytes + it.bytes));
    let mut walk = Walk {
        attested: Attested::default(),
        store,
        log,
        chosen: &chosen,
        progress: options.progress.clone(),
        done: (AtomicU64::new(0), AtomicU64::new(0)),
        of,
        whole: options.sample.is_none() && options.since_us.is_none(),
        columns: options.columns,
    };
    // What `limits` answers stands on `spend`, so that goes first.
    let mut causes: BTreeMap<u32, Causes> = BTreeMap::new();
    for lane in log.lanes.keys().filter(|(_, lane)| lane.topic == Topic::Spend) {
        let found = walk.lane(*lane, inventory, None, report).await?.0;
        // After a topic was made anew nobody can tell which life an offset means.
        if causes.insert(lane.1.partition, found).is_some() {
            causes.entry(lane.1.partition).and_modify(|causes| causes.whole = false);
        }
    }
    // And what operators attested on `policy`.
    for lane in log.lanes.keys().filter(|(_, lane)| lane.topic == Topic::Policy) {
        walk.attested = walk.lane(*lane, inventory, None, report).await?.1;
    }
    let rest = |topic| !matches!(topic, Topic::Spend | Topic::Policy);
    for lane in log.lanes.keys().filter(|(_, lane)| rest(lane.topic)) {
        walk.lane(*lane, inventory, causes.get(&lane.1.partition), report).await?;
    }
    if !walk.whole {
        report.note(
            "producers' chains and the fold of limits were checked only where the segments looked into allow",
        );
    }
    Ok(())
}

/// The leaves of the segments to look into.
fn chosen(log: &Log, options: &VerifyOptions) -> BTreeSet<u64> {
    let since = options.since_us.unwrap_or(i64::MIN);
    let mut leaves: Vec<u64> =
        log.lanes.values().flatten().filter(|it| it.at_us >= since).map(|it| it.leaf).collect();
    if let Some(count) = options.sample {
        // Nobody who altered something beforehand could know which ones: the order follows from the newest root.
        let seed = log.newest.as_ref().map_or(Digest([0; 32]), |checkpoint| checkpoint.root);
        leaves.sort_by_key(|leaf| bursar_schemas::producer::running_hash(&seed, &leaf.to_be_bytes()).0);
        leaves.truncate(count);
    }
    leaves.into_iter().collect()
}

/// What stands at a segment's name.
enum Looked {
    /// The segment, and its bytes.
    Rows(Rows, Bytes),
    /// Its tombstone.
    Removed(Footer),
    /// Something else, or nothing.
    Wrong(Option<Fault>),
}

/// One lane as it is walked.
struct State<'a> {
    producers: Producers,
    refold: Option<Refold<'a>>,
    causes: Causes,
    attested: Attested,
    columns: Columns,
    report: Report,
}

impl Walk<'_> {
    async fn lane(
        &self,
        id: LaneId,
        inventory: &Inventory,
        causes: Option<&Causes>,
        report: &mut Report,
    ) -> Result<(Causes, Attested), EvidenceError> {
        let (generation, lane) = id;
        let Some(sealed) = self.log.lanes.get(&id) else { return Ok(Default::default()) };
        let none = BTreeMap::new();
        let there = inventory.segments.get(&id).unwrap_or(&none);
        let mut state = State {
            producers: Producers::new(lane, self.log.deployment_keys.clone(), self.whole),
            refold: (lane.topic == Topic::Limits).then(|| Refold::new(lane, causes, &self.attested)),
            causes: Causes::new(self.whole),
            attested: Attested::default(),
            columns: Columns::new(generation, lane),
            report: Report::default(),
        };
        if !self.whole {
            state.interrupt();
        }
        let chosen =
            sealed.iter().filter(|it| self.chosen.contains(&it.leaf) || !there.contains_key(&it.first));
        let mut read = futures::stream::iter(chosen)
            .map(|sealed| async move {
                self.segment(generation, lane, sealed).await.map(|looked| (sealed, looked))
            })
            .buffered(AHEAD);
        let mut next = 0;
        while let Some((sealed, looked)) = read.try_next().await? {
            if sealed.first != next {
                state.interrupt();
            }
            next = sealed.last.saturating_add(1);
            if let (Looked::Rows(_, bytes), true) = (&looked, self.columns) {
                state = state.compare(generation, sealed, bytes.clone()).await;
            }
            self.judge(generation, sealed, looked, &mut state);
        }
        let lives = self.log.lanes.keys().filter(|(_, other)| *other == lane).count();
        state.producers.finish(lives == 1, &mut state.report);
        if let Some(refold) = state.refold {
            refold.finish(&mut state.report);
        }
        report.merge(state.report);
        Ok((state.causes, state.attested))
    }

    /// Reads an object and checks it, beside the runtime.
    async fn segment(
        &self,
        generation: Generation,
        lane: Lane,
        sealed: &Sealed,
    ) -> Result<Looked, EvidenceError> {
        let key = segment_key(generation, lane, sealed.first);
        let Some(bytes) = get(self.store, &key).await? else { return Ok(Looked::Wrong(None)) };
        let logged = sealed.clone();
        let removal = self.log.removals.get(&sealed.leaf).map(|(_, removal)| removal.clone());
        let work = move || match (check_segment(generation, lane, &logged, &bytes), removal) {
            (Ok(rows), _) => Looked::Rows(rows, bytes),
            (Err(Fault::Altered { .. }), Some(removal)) => match check_tombstone(&removal, &bytes) {
                Ok(footer) => Looked::Removed(footer),
                Err(fault) => Looked::Wrong(Some(fault)),
            },
            (Err(fault), _) => Looked::Wrong(Some(fault)),
        };
        // A stranger's bytes may be made to break a reader: that is a finding, and the others are looked into.
        let checked = tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
            Looked::Wrong(Some(Fault::Contradiction(format!("it breaks its reader: {error}"))))
        });
        let segments = self.done.0.fetch_add(1, Ordering::Relaxed) + 1;
        let bytes = self.done.1.fetch_add(sealed.bytes, Ordering::Relaxed) + sealed.bytes;
        if let Some(progress) = &self.progress {
            progress(Progress { segments, of_segments: self.of.0, bytes, of_bytes: self.of.1 });
        }
        Ok(checked)
    }

    fn judge(&self, generation: Generation, sealed: &Sealed, looked: Looked, state: &mut State<'_>) {
        let key = segment_key(generation, state.producers.lane(), sealed.first);
        state.report.segments_checked += 1;
        let rows = match looked {
            Looked::Rows(rows, _) => rows,
            Looked::Removed(footer) => {
                if let Some((_, removal)) = self.log.removals.get(&sealed.leaf) {
                    state.report.remove(state.producers.lane(), removal, sealed.times_us);
                }
                state.lose(&key, &footer.lost);
                state.pass_over(&footer);
                return;
            }
            Looked::Wrong(fault) => {
                let (kind, detail) = match fault {
                    None => (Kind::Missing, format!("leaf {} logs it", sealed.leaf)),
                    Some(Fault::Altered { sha256, detail }) => match name_of(self.log, &sha256) {
                        Some(other) => (Kind::Reordered, format!("it holds the bytes of {other}")),
                        None => (Kind::Altered, detail),
                    },
                    Some(Fault::Contradiction(detail)) => (Kind::Altered, detail),
                };
                state.report.add(kind, key, detail);
                state.interrupt();
                return;
            }
        };
        state.report.rows += sealed.rows;
        state.report.bytes += sealed.bytes;
        if self.log.removals.contains_key(&sealed.leaf) {
            state.report.note(format!("{key}: the log states its removal, and it is still there"));
        }
        state.lose(&key, &rows.lost);
        if !rows.lost.is_empty() {
            state.interrupt();
        }
        let State { producers, refold, causes, attested, report, .. } = state;
        let topic = producers.lane().topic;
        // Only what counts, and whose writer is certified, can be answered or attests anything.
        producers.take_all(rows.each(), report, |offset, value, counts| match topic {
            Topic::Spend => causes.take(offset, value, counts),
            Topic::Policy if counts => attested.take(value),
            _ => {}
        });
        if let Some(refold) = refold {
            rows.each().for_each(|(offset, value)| refold.take(offset, value, report));
        }
    }
}

impl State<'_> {
    /// Holds a segment's columns to its records, beside the runtime.
    async fn compare(mut self, generation: Generation, sealed: &Sealed, bytes: Bytes) -> Self {
        if !sealed.contract {
            self.report.columns_of_others += 1;
            self.columns.interrupt();
            return self;
        }
        let mut columns = self.columns;
        let work = move || {
            let outcome = columns.check(&bytes);
            (columns, outcome)
        };
        let (columns, outcome) = tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
            let mut columns = Columns::new(generation, self.producers.lane());
            columns.interrupt();
            (columns, Err(format!("its columns break their reader: {error}")))
        });
        self.columns = columns;
        self.report.columns_checked += 1;
        if let Err(detail) = outcome {
            let key = segment_key(generation, self.producers.lane(), sealed.first);
            self.report.add(Kind::Altered, key, detail);
        }
        self
    }

    fn lose(&mut self, key: &str, lost: &[(u64, u64)]) {
        for (first, last) in lost {
            let detail = format!("offsets {first} to {last} were gone before they could be sealed");
            self.report.add(Kind::Lost, key, detail);
        }
    }

    /// Records that were removed: their footer says where each producer's numbers go on.
    fn pass_over(&mut self, footer: &Footer) {
        self.producers.pass_over(footer);
        self.columns.pass_over(&footer.producers);
        self.causes.whole = false;
        if let Some(refold) = &mut self.refold {
            refold.interrupt(&mut self.report);
        }
    }

    fn interrupt(&mut self) {
        self.producers.interrupt();
        self.columns.interrupt();
        self.causes.whole = false;
        if let Some(refold) = &mut self.refold {
            refold.interrupt(&mut self.report);
        }
    }
}
