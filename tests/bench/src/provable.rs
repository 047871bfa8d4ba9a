//! From a fact's append to the moment when whoever reads the store can prove it: a checkpoint covers the leaf of its
//! segment.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bursar_ingest::archive::{ArchiveConfig, Archiver, Clock, open_store};
use bursar_schemas::evidence::{CHECKPOINT, Checkpoint, Leaf, VerifierKey, leaf_key};
use bursar_schemas::facts::Role;
use bursar_schemas::ids::ProducerId;
use bursar_schemas::memory::MemoryJournal;
use bursar_schemas::ports::Outlet as _;
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::producer::{Chains, Identity};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};

use crate::archive::log_settings;
use crate::consume::traffic;
use crate::{Fault, Outcome};

/// How often facts are appended and the store is looked at; a figure may be too large by as much.
const LOOK: Duration = Duration::from_millis(5);
/// How much longer than the age a fact may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The configured age.
    pub age: Duration,
    /// Facts a second, over all lanes.
    pub a_second: u64,
    /// How long they are appended.
    pub seconds: u64,
    /// Lanes that carry them.
    pub lanes: u32,
}

/// Facts appended at a steady pace, and when each was.
struct Appending {
    journal: MemoryJournal,
    chains: Chains,
    attempt: u64,
    /// By lane and offset.
    appended: Vec<Vec<Instant>>,
}

impl Appending {
    fn new(journal: MemoryJournal, lanes: u32) -> Self {
        let identity = Identity::new(ProducerId([1; 16]), Role::Shim, [1; 32], &[7; 32]);
        let appended = (0..lanes).map(|_| Vec::new()).collect();
        Self { journal, chains: Chains::new(identity), attempt: 0, appended }
    }

    fn facts(&self) -> usize {
        self.appended.iter().map(Vec::len).sum()
    }

    /// Appends the two facts of an attempt, and what the producer says of itself before the first.
    fn append(&mut self) -> Outcome {
        let lanes = u64::try_from(self.appended.len())?;
        let lane = Lane::new(Topic::Spend, u32::try_from(self.attempt % lanes)?);
        let lease = traffic::lease(ProducerId([1; 16]), traffic::path_of(self.attempt));
        let mut entries = Vec::new();
        for fact in traffic::facts(self.attempt, lease, 1_793_577_600) {
            self.chains.stamp(lane, fact, &mut entries);
        }
        self.attempt += 1;
        let now = Instant::now();
        let appended = self.appended.get_mut(usize::try_from(lane.partition)?).ok_or("no such lane")?;
        appended.extend(entries.iter().map(|_| now));
        // In memory it is there when the call returns.
        drop(self.journal.append(entries)?);
        Ok(())
    }
}

/// What a reader of the store has seen of the log.
struct Reader {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    key: VerifierKey,
    note: Vec<u8>,
    leaves: u64,
    segments: u64,
    /// How long each fact took, in microseconds.
    took: Vec<u64>,
}

impl Reader {
    /// The bytes of an object; none where there is none.
    async fn get(&self, key: &str) -> Outcome<Option<Vec<u8>>> {
        let place = Path::from_iter(self.prefix.parts().chain(Path::from(key).parts()));
        match self.store.get(&place).await {
            Ok(found) => Ok(Some(found.bytes().await?.to_vec())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn look(&mut self, appended: &[Vec<Instant>]) -> Outcome {
        let Some(note) = self.get(CHECKPOINT).await? else { return Ok(()) };
        if note == self.note {
            return Ok(());
        }
        let now = Instant::now();
        let (checkpoint, _) = Checkpoint::open(&note, std::slice::from_ref(&self.key))?;
        self.note = note;
        while self.leaves < checkpoint.size {
            let leaf =
                self.get(&leaf_key(self.leaves)).await?.ok_or("a leaf of the checkpoint is not there")?;
            let leaf = Leaf::parse(&leaf)?;
            self.leaves += 1;
            let Leaf::Segment(manifest) = leaf else { continue };
            self.segments += 1;
            let lane = appended.get(usize::try_from(manifest.partition)?).ok_or("a lane that is none")?;
            let range = usize::try_from(manifest.first)?..=usize::try_from(manifest.last)?;
            for appended in lane.get(range).ok_or("a segment of facts that never were")? {
                self.took.push(u64::try_from(now.duration_since(*appended).as_micros())?);
            }
        }
        Ok(())
    }
}

/// Runs it on a new prefix of a store, or on a folder of its own, and prints the figures.
///
/// # Errors
/// When the archiver or the store fails, or a fact is not covered in time.
pub async fn run(plan: Plan, store: Option<String>) -> Outcome {
    let folder = tempfile::tempdir()?;
    let place = store.unwrap_or_else(|| format!("file://{}", folder.path().display()));
    let (store, prefix) = open_store(&place)?;
    let journal = MemoryJournal::new(plan.lanes);
    let clock: Clock = Arc::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    });
    let log = log_settings(clock)?;
    let key = log.signer.verifier().clone();
    let config = ArchiveConfig { prefix: prefix.clone(), seal_age: plan.age, ..ArchiveConfig::default() };
    let archiver = Archiver::start(Arc::new(journal.clone()), Arc::clone(&store), config, Some(log));
    let mut appending = Appending::new(journal, plan.lanes);
    let mut reader =
        Reader { store, prefix, key, note: Vec::new(), leaves: 0, segments: 0, took: Vec::new() };
    let (begun, length) = (Instant::now(), Duration::from_secs(plan.seconds));
    let deadline = begun + length + plan.age + PATIENCE;
    loop {
        // Two facts for each attempt.
        let due = u128::from(plan.a_second) * begun.elapsed().min(length).as_millis() / 2000;
        while u128::from(appending.attempt) < due {
            appending.append()?;
        }
        reader.look(&appending.appended).await?;
        if begun.elapsed() >= length && reader.took.len() == appending.facts() {
            break;
        }
        if Instant::now() > deadline {
            let missing = appending.facts() - reader.took.len();
            return Err(Fault::from(format!("no checkpoint covers {missing} facts")));
        }
        tokio::time::sleep(LOOK).await;
    }
    archiver.stop(false).await;
    print(plan, &mut reader)
}

fn print(plan: Plan, reader: &mut Reader) -> Outcome {
    reader.took.sort_unstable();
    let last = reader.took.len().saturating_sub(1);
    let share = |per_mille: usize| reader.took.get(last * per_mille / 1000).copied().unwrap_or(0) / 1000;
    println!(
        "provable: age {} s, {} facts a second on {} lanes, {} facts in {} segments",
        plan.age.as_secs(),
        plan.a_second,
        plan.lanes,
        reader.took.len(),
        reader.segments
    );
    let age = i64::try_from(plan.age.as_millis())?;
    println!(
        "  from append to a checkpoint in the store: p50 {} ms, p99 {} ms, most {} ms, which is the age {:+} ms",
        share(500),
        share(990),
        share(1000),
        i64::try_from(share(1000))? - age
    );
    Ok(())
}
