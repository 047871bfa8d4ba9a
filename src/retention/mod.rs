//! Retention and legal holds: what is past its time, what a hold keeps, and removing the rest.
//!
//! The decisions are `ingest`'s (when is a segment due) and `query`'s (does a hold speak of it); this joins them, and
//! records who did what.
//!
//! Invariant: what cannot be found out counts as held.

pub(crate) mod content;
pub(crate) mod holds;
pub(crate) mod records;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bursar_ingest::archive::{Fate, Known, LogSettings, Logged, Remover, Segments, fate};
use bursar_ingest::content::Vault;
use bursar_query::{QueryService, Range};
use bursar_schemas::facts::{Fact, Head, RecordsRemoved};
use bursar_schemas::ids::Generation;
use bursar_schemas::policy::Retention;
use bursar_schemas::ports::{Journal, JournalError};
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::producer::{Draft, Recorder};
use serde::Serialize;
use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::exit::{Failure, Outcome};
use content::Contents;
use holds::Ruling;
use records::Records;

/// How long a fact may take to be acknowledged.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where removals are recorded.
const LANE: Lane = Lane::new(Topic::Requests, 0);

/// What stands between a segment that is past its retention and its removal; nothing when it is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub(crate) enum State {
    /// Nothing: `apply` removes it.
    Due,
    /// A hold, or a hold that cannot be asked.
    Held { hold: String, why: String },
    /// Roles rebuild their state from it.
    Needed,
    /// The log says that it is removed, and its object is still there: `apply` finishes it.
    Unfinished,
}

/// A segment past its retention.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Found {
    pub(crate) topic: Topic,
    pub(crate) partition: u32,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// Event time of its newest record.
    pub(crate) newest: Option<String>,
    pub(crate) object: String,
    #[serde(flatten)]
    pub(crate) state: State,
}

/// One topic's records.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Class {
    pub(crate) topic: String,
    /// Days that policy keeps them; none for ever.
    pub(crate) days: Option<u32>,
    pub(crate) segments: u64,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) past: u64,
    pub(crate) due: u64,
    pub(crate) due_rows: u64,
    pub(crate) due_bytes: u64,
    pub(crate) held: u64,
    pub(crate) removed: u64,
    /// When the next segment is past its retention.
    pub(crate) next: Option<String>,
}

/// What is past its retention, and what becomes of it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Survey {
    pub(crate) policy_version: u64,
    pub(crate) classes: Vec<Class>,
    pub(crate) past: Vec<Found>,
    /// Captured content; none where none was ever captured.
    pub(crate) content: Option<Contents>,
}

/// What a removal did.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Applied {
    pub(crate) removed: Vec<Found>,
    pub(crate) kept: Vec<Found>,
    /// Captured content as it was found, and deleted where it was due.
    pub(crate) content: Option<Contents>,
}

/// What the retention of one archive needs.
pub(crate) struct Parts {
    /// The archive, and the journal beside it.
    pub(crate) records: Records,
    pub(crate) log: LogSettings,
    /// Whether Delta tables are kept.
    pub(crate) delta: bool,
    /// The journal, reaching back into the archive: the holds and the policy in force are folded from it.
    pub(crate) history: Arc<dyn Journal>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) clock: Clock,
    /// The query service beside it, which is told when records are gone.
    pub(crate) asked: Option<Arc<QueryService>>,
    /// Captured content, without the keys to read it.
    pub(crate) vault: Option<Vault>,
}

/// The retention of one archive.
pub(crate) struct Keeper {
    parts: Parts,
    /// One at a time from this process; the log keeps others from doing anything twice.
    turn: Mutex<()>,
}

impl Keeper {
    pub(crate) fn new(parts: Parts) -> Self {
        Self { parts, turn: Mutex::new(()) }
    }

    fn remover(&self) -> Remover {
        let parts = &self.parts;
        let segments = Segments::new(Arc::clone(&parts.records.store), parts.records.prefix.clone());
        let remover = Remover::new(segments, parts.log.clone());
        if parts.delta { remover.with_delta(Arc::clone(&parts.log.clock)) } else { remover }
    }

    /// Puts a fact on the record; `otherwise` says what it means when that is not acknowledged in time.
    async fn record(&self, fact: Fact, otherwise: &'static str) -> Outcome {
        let receipt = self.parts.recorder.record([Draft { lane: LANE, fact }])?;
        tokio::time::timeout(PATIENCE, receipt).await.context(otherwise)??;
        Ok(())
    }

    /// What is past its retention, and what becomes of it.
    pub(crate) async fn survey(&self) -> Outcome<Survey> {
        let _turn = self.turn.lock().await;
        let ruling = Ruling::read(&*self.parts.history).await?;
        let mut remover = self.remover();
        let logged = remover.logged().await?;
        let sealed = self.parts.records.sealed().await?;
        let mut survey = Survey {
            policy_version: ruling.policy.version,
            classes: classes(&ruling.policy.document.retention),
            past: Vec::new(),
            content: self.contents(&ruling, &sealed, false).await?,
        };
        let mut journal = InJournal::new(&*self.parts.records.journal);
        for it in &logged {
            let fate = self.fate(it, &ruling, &mut journal).await?;
            let found = self.found(it, fate, &ruling, &remover, &sealed).await?;
            tally(&mut survey.classes, it, fate, found.as_ref());
            survey.past.extend(found);
        }
        Ok(survey)
    }

    /// Removes what is past its retention and under no hold.
    pub(crate) async fn apply(&self, by: &str) -> Outcome<Applied> {
        let _turn = self.turn.lock().await;
        let mut ruling = Ruling::read(&*self.parts.history).await?;
        let mut remover = self.remover();
        let logged = remover.logged().await?;
        let sealed = self.parts.records.sealed().await?;
        let content = self.contents(&ruling, &sealed, true).await?;
        let mut applied = Applied { removed: Vec::new(), kept: Vec::new(), content };
        let mut journal = InJournal::new(&*self.parts.records.journal);
        for it in &logged {
            // A hold that was placed meanwhile counts.
            ruling.read_on(&*self.parts.history).await?;
            let fate = self.fate(it, &ruling, &mut journal).await?;
            let Some(found) = self.found(it, fate, &ruling, &remover, &sealed).await? else { continue };
            match found.state {
                State::Due | State::Unfinished => {
                    self.remove(it, &ruling, &mut remover, by).await?;
                    applied.removed.push(found);
                }
                State::Held { .. } | State::Needed => applied.kept.push(found),
            }
        }
        if let Some(asked) = self.parts.asked.as_ref().filter(|_| !applied.removed.is_empty())
            && let Err(error) = asked.look_again().await
        {
            tracing::warn!(%error, "the query service will see within a minute that records were removed");
        }
        Ok(applied)
    }

    async fn contents(
        &self,
        ruling: &Ruling,
        sealed: &QueryService,
        apply: bool,
    ) -> Outcome<Option<Contents>> {
        let Some(vault) = &self.parts.vault else { return Ok(None) };
        let now = (self.parts.clock)().0;
        content::look(vault, ruling, sealed, now, apply).await.map(Some)
    }

    async fn fate(&self, it: &Logged, ruling: &Ruling, journal: &mut InJournal<'_>) -> Outcome<Fate> {
        let manifest = &it.manifest;
        let known = Known {
            manifest,
            days: ruling.policy.document.retention.of(manifest.topic),
            now_us: (self.parts.clock)().0,
            in_journal: journal.holds(manifest.generation, manifest.lane(), manifest.first).await?,
        };
        Ok(fate(&known))
    }

    /// What becomes of a segment that is past its retention; none for any other, and for what is removed already.
    async fn found(
        &self,
        it: &Logged,
        fate: Fate,
        ruling: &Ruling,
        remover: &Remover,
        sealed: &QueryService,
    ) -> Outcome<Option<Found>> {
        let state = if it.removal.is_some() {
            if !remover.is_unfinished(it).await? {
                return Ok(None);
            }
            State::Unfinished
        } else {
            match fate {
                Fate::Kept | Fate::Young(_) => return Ok(None),
                Fate::Needed => State::Needed,
                Fate::Due => held(it, ruling, sealed).await,
            }
        };
        let manifest = &it.manifest;
        Ok(Some(Found {
            topic: manifest.topic,
            partition: manifest.partition,
            first: manifest.first,
            last: manifest.last,
            rows: manifest.rows,
            bytes: manifest.bytes,
            newest: manifest.times_us.map(|(_, newest)| crate::admin::server::time(newest)),
            object: manifest.key.clone(),
            state,
        }))
    }

    /// Log, fact, tombstone, in this order.
    async fn remove(&self, it: &Logged, ruling: &Ruling, remover: &mut Remover, by: &str) -> Outcome {
        let manifest = &it.manifest;
        let days = u64::from(ruling.policy.document.retention.of(manifest.topic).unwrap_or(0));
        let leaf = match &it.removal {
            Some((leaf, _)) => *leaf,
            None => remover.announce(it, days, by).await?,
        };
        let fact = RecordsRemoved {
            head: Head::draft((self.parts.clock)(), ruling.policy.version, ""),
            removed_topic: manifest.topic.name().to_owned(),
            removed_generation: manifest.generation,
            removed_partition: manifest.partition,
            removed_first: manifest.first,
            removed_last: manifest.last,
            removed_rows: manifest.rows,
            object: manifest.key.clone(),
            object_sha256: manifest.sha256,
            rows_root: manifest.rows_root,
            sealed_leaf: it.leaf,
            retention_days: it.removal.as_ref().map_or(days, |(_, removal)| removal.retention_days),
            author: by.to_owned(),
        };
        let otherwise = "the journal did not acknowledge the removal in time; nothing was removed, try again";
        self.record(fact.into(), otherwise).await?;
        remover.finish(it, leaf).await?;
        tracing::info!(object = manifest.key, rows = manifest.rows, by, "removed under retention");
        Ok(())
    }
}

/// Whether a hold speaks of any record of a segment.
async fn held(it: &Logged, ruling: &Ruling, sealed: &QueryService) -> State {
    let manifest = &it.manifest;
    let range = Range {
        generation: manifest.generation,
        lane: manifest.lane(),
        first: manifest.first,
        last: manifest.last,
        rows: manifest.rows,
    };
    for hold in ruling.holds.all().filter(|hold| hold.speaks_of(manifest.topic)) {
        match sealed.holds_any(&hold.condition, &range).await {
            Ok(false) => {}
            Ok(true) => return State::Held { hold: hold.hold.clone(), why: hold.reason.clone() },
            Err(error) => {
                return State::Held { hold: hold.hold.clone(), why: format!("cannot be asked: {error}") };
            }
        }
    }
    State::Due
}

/// Where the journal's lanes begin, asked once each.
struct InJournal<'a> {
    journal: &'a dyn Journal,
    starts: BTreeMap<Lane, Option<(Generation, u64)>>,
}

impl<'a> InJournal<'a> {
    const fn new(journal: &'a dyn Journal) -> Self {
        Self { journal, starts: BTreeMap::new() }
    }

    async fn holds(&mut self, generation: Generation, lane: Lane, first: u64) -> Outcome<bool> {
        let start = match self.starts.get(&lane) {
            Some(start) => *start,
            None => {
                let start = match self.journal.bounds(lane).await {
                    Ok(bounds) => Some((self.journal.generation(lane.topic).await?, bounds.start)),
                    Err(JournalError::NoLane(_)) => None,
                    Err(error) => return Err(Failure::from(error)),
                };
                self.starts.insert(lane, start);
                start
            }
        };
        Ok(start.is_some_and(|(life, start)| life == generation && start <= first))
    }
}

fn classes(retention: &Retention) -> Vec<Class> {
    let class = |topic: Topic| Class {
        topic: topic.name().to_owned(),
        days: retention.of(topic),
        ..Class::default()
    };
    Topic::ALL.into_iter().map(class).collect()
}

fn tally(classes: &mut [Class], it: &Logged, fate: Fate, found: Option<&Found>) {
    let manifest = &it.manifest;
    let Some(class) = classes.iter_mut().find(|class| class.topic == manifest.topic.name()) else { return };
    match found.map(|found| &found.state) {
        None if it.removal.is_some() => {
            class.removed += 1;
            return;
        }
        Some(State::Due | State::Unfinished) => {
            class.past += 1;
            class.due += 1;
            class.due_rows += manifest.rows;
            class.due_bytes += manifest.bytes;
        }
        Some(State::Held { .. } | State::Needed) => {
            class.past += 1;
            class.held += 1;
        }
        None => {}
    }
    class.segments += 1;
    class.rows += manifest.rows;
    class.bytes += manifest.bytes;
    if let Fate::Young(due) = fate {
        let due = crate::admin::server::time(due);
        class.next = Some(class.next.take().map_or(due.clone(), |next| next.min(due)));
    }
}
