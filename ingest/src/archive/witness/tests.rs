//! A witness that behaves as the specification says, and some that do not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use bursar_schemas::evidence::{
    CHECKPOINT, Checkpoint, Kind, SignerKey, checkpoint_key, consistency_proof, cosigned_key, leaf_key,
    verify_consistency,
};
use bursar_schemas::ids::Digest;
use bursar_schemas::merkle::leaf_hash;
use object_store::memory::InMemory;
use object_store::path::Path;

use super::protocol::{Word, read, request};
use super::*;
use crate::archive::log::LogWriter;

const ORIGIN: &str = "log.example/test";

const PACE: Pace = Pace {
    patience: Duration::from_millis(200),
    between: Duration::from_millis(1),
    retry_first: Duration::from_millis(1),
    retry_most: Duration::from_millis(5),
};

/// How a witness behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    Away,
    Silent,
    /// Signs as somebody else.
    Forging,
}

/// Keeps the newest checkpoint that it cosigned.
struct Naive {
    signer: SignerKey,
    log: VerifierKey,
    seen: Mutex<(u64, Option<Digest>)>,
    mood: Mutex<Mood>,
    cosigned: AtomicUsize,
}

impl Naive {
    fn new(name: &str, secret: u8) -> Arc<Self> {
        Arc::new(Self {
            signer: SignerKey::new(name, &[secret; 32]).unwrap(),
            log: log_key(1).verifier().clone(),
            seen: Mutex::new((0, None)),
            mood: Mutex::new(Mood::Well),
            cosigned: AtomicUsize::new(0),
        })
    }

    fn key(&self) -> VerifierKey {
        let key = self.signer.verifier();
        VerifierKey::new(key.name(), Kind::Cosignature, *key.public_key()).unwrap()
    }

    fn seen(&self) -> u64 {
        self.seen.lock().0
    }

    /// By the words of the specification.
    fn judge(&self, body: &str) -> Answer {
        let answer = |status, content_type: &str, body: String| Answer {
            status,
            content_type: content_type.to_owned(),
            body: Bytes::from(body),
        };
        let (head, note) = body.split_once("\n\n").unwrap();
        let mut lines = head.split('\n');
        let old: u64 = lines.next().unwrap().strip_prefix("old ").unwrap().parse().unwrap();
        let hash = |line: &str| {
            let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, line).unwrap();
            Digest(bytes.try_into().unwrap())
        };
        let proof: Vec<Digest> = lines.map(hash).collect();
        let Ok((checkpoint, note)) = Checkpoint::open(note.as_bytes(), std::slice::from_ref(&self.log))
        else {
            return answer(403, "text/plain", "no key".to_owned());
        };
        let mut seen = self.seen.lock();
        if old != seen.0 {
            return answer(409, "text/x.tlog.size", format!("{}\n", seen.0));
        }
        if let (_, Some(root)) = *seen {
            let (old, new) = ((old, &root), (checkpoint.size, &checkpoint.root));
            if verify_consistency(old, new, &proof).is_err() {
                return answer(422, "text/plain", "no".to_owned());
            }
        }
        *seen = (checkpoint.size, Some(checkpoint.root));
        self.cosigned.fetch_add(1, Ordering::SeqCst);
        let signer = match *self.mood.lock() {
            Mood::Forging => SignerKey::new(self.signer.verifier().name(), &[99; 32]).unwrap(),
            _ => self.signer.clone(),
        };
        let other = SignerKey::new("other.example", &[98; 32]).unwrap();
        let lines =
            [&other, &signer].map(|it| it.cosign(&note.text, 1_800_000_000 + checkpoint.size).unwrap().1);
        answer(200, "text/plain", lines.concat())
    }
}

/// The way to a witness: its trait is of this crate, so it stands around the shared one.
struct Way(Arc<Naive>);

#[async_trait]
impl AddCheckpoint for Way {
    async fn add_checkpoint(&self, body: String) -> Result<Answer, String> {
        let mood = *self.0.mood.lock();
        match mood {
            Mood::Away => Err("it is away".to_owned()),
            Mood::Silent => std::future::pending().await,
            Mood::Well | Mood::Forging => Ok(self.0.judge(&body)),
        }
    }
}

fn log_key(secret: u8) -> SignerKey {
    SignerKey::new(ORIGIN, &[secret; 32]).unwrap()
}

/// An archive's log and who asks witnesses about it.
struct Place {
    segments: Segments,
    copy: Segments,
    settings: LogSettings,
    now: Arc<AtomicI64>,
    writer: LogWriter,
    witnesses: Witnesses,
    _tasks: JoinSet<()>,
}

impl Place {
    /// On stores of its own.
    fn new(naive: &[&Arc<Naive>]) -> Self {
        let place = || Segments::new(Arc::new(InMemory::new()), Path::default());
        Self::at(place(), place(), Arc::new(AtomicI64::new(1_800_000_000_000_000)), naive)
    }

    /// Another process at the same log.
    fn again(&self, naive: &[&Arc<Naive>]) -> Self {
        Self::at(self.segments.clone(), self.copy.clone(), Arc::clone(&self.now), naive)
    }

    fn at(segments: Segments, copy: Segments, now: Arc<AtomicI64>, naive: &[&Arc<Naive>]) -> Self {
        let witness = |it: &&Arc<Naive>| Witness { key: it.key(), port: Arc::new(Way(Arc::clone(it))) };
        let clock = Arc::clone(&now);
        let settings = LogSettings {
            signer: log_key(1),
            earlier: Vec::new(),
            deployment_key: Digest([5; 32]),
            heartbeat: None,
            copy: Some(copy.clone()),
            witnesses: naive.iter().map(witness).collect(),
            clock: Arc::new(move || clock.load(Ordering::SeqCst)),
        };
        let writer = LogWriter::new(segments.clone(), settings.clone());
        let witnesses = Witnesses::new(&segments, &settings, &writer.newest(), PACE);
        let mut tasks = JoinSet::new();
        witnesses.start(&mut tasks);
        Self { segments, copy, settings, now, writer, witnesses, _tasks: tasks }
    }

    /// Grows the log to a size, a checkpoint for each leaf.
    async fn grow(&mut self, size: u64) {
        while self.writer.size() < size {
            self.now.fetch_add(60_000_000, Ordering::SeqCst);
            self.writer.beat(Duration::from_secs(60)).await.unwrap();
        }
    }

    /// Waits until a witness's status is as asked for.
    async fn until(&self, witness: usize, what: impl Fn(&WitnessStatus) -> bool) -> WitnessStatus {
        let wait = async {
            loop {
                let status = self.witnesses.status().swap_remove(witness);
                if what(&status) {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(60), wait).await;
        found.unwrap_or_else(|_| panic!("it never came: {:?}", self.witnesses.status()))
    }

    async fn cosigned(&self, witness: usize, size: u64) {
        let status = self.until(witness, |it| it.cosigned == Some(size) && it.fault.is_none()).await;
        assert_eq!(status.cosigned_at, Some(1_800_000_000 + size), "{status:?}");
    }

    /// Who cosigned what is kept under a name.
    async fn signers(&self, place: &Segments, name: &str, naive: &[&Arc<Naive>]) -> (u64, Vec<String>) {
        let note = place.read(name).await.unwrap().unwrap_or_else(|| panic!("{name} is not there"));
        let mut keys: Vec<VerifierKey> = naive.iter().map(|it| it.key()).collect();
        keys.push(self.settings.signer.verifier().clone());
        let (checkpoint, note) = Checkpoint::open(&note, &keys).unwrap();
        let signed = note.verify(&keys).unwrap();
        let names = signed.iter().map(|(key, _)| key.name().to_owned());
        (checkpoint.size, names.filter(|name| name != ORIGIN).collect())
    }
}

#[tokio::test]
async fn checkpoints_are_cosigned_kept_and_shown() {
    let (one, two) = (Naive::new("one.example", 3), Naive::new("two.example", 4));
    let mut place = Place::new(&[&one, &two]);
    for size in [1, 2, 255, 256, 257, 400, 513, 520] {
        place.grow(size).await;
        place.cosigned(0, size).await;
        place.cosigned(1, size).await;
        for (witness, name) in [(&one, "one.example"), (&two, "two.example")] {
            let kept = cosigned_key(size, witness.key().id());
            for store in [&place.segments, &place.copy] {
                let found = place.signers(store, &kept, &[&one, &two]).await;
                assert_eq!(found, (size, vec![name.to_owned()]), "the other's line is in its own");
            }
        }
        let (shown, mut names) = place.signers(&place.segments, CHECKPOINT, &[&one, &two]).await;
        names.sort();
        assert_eq!((shown, names), (size, vec!["one.example".to_owned(), "two.example".to_owned()]));
        // What tells of a rollback is left to whoever publishes.
        assert_eq!(place.signers(&place.copy, CHECKPOINT, &[&one, &two]).await, (size, Vec::new()));
    }
    // A new process goes on where the witness is, also when nothing new was published.
    let mut again = place.again(&[&one]);
    again.writer.read_on().await.unwrap();
    again.cosigned(0, 520).await;
    again.grow(521).await;
    again.cosigned(0, 521).await;
}

#[tokio::test]
async fn what_is_published_while_a_witness_is_away_collapses_into_the_newest() {
    let (one, two) = (Naive::new("one.example", 3), Naive::new("two.example", 4));
    let mut place = Place::new(&[&one, &two]);
    *one.mood.lock() = Mood::Away;
    *two.mood.lock() = Mood::Silent;
    place.grow(40).await;
    let fault = |place: &Place, witness| place.witnesses.status().swap_remove(witness).fault.unwrap();
    place.until(0, |it| it.fault.is_some()).await;
    place.until(1, |it| it.fault.is_some()).await;
    assert!(fault(&place, 0).contains("cannot be asked: it is away"));
    assert!(fault(&place, 1).contains("did not answer within 200ms"));
    // Sealing went on all the while.
    place.grow(300).await;
    *one.mood.lock() = Mood::Well;
    place.cosigned(0, 300).await;
    assert_eq!(one.cosigned.load(Ordering::SeqCst), 1, "each of them was cosigned");
    assert!(place.witnesses.status()[1].fault.is_some(), "one witness answers for the other");
}

#[tokio::test]
async fn a_cosignature_by_another_key_is_not_used() {
    let one = Naive::new("one.example", 3);
    *one.mood.lock() = Mood::Forging;
    let mut place = Place::new(&[&one]);
    place.grow(3).await;
    let status = place.until(0, |it| it.fault.is_some()).await;
    assert!(status.fault.unwrap().contains("none of the keys that were given"));
    assert_eq!(status.cosigned, None);
    assert_eq!(place.segments.read(&cosigned_key(3, one.key().id())).await.unwrap(), None);
    // A witness of another log's key.
    let strange = Arc::new(Naive {
        log: log_key(2).verifier().clone(),
        seen: Mutex::new((0, None)),
        mood: Mutex::new(Mood::Well),
        cosigned: AtomicUsize::new(0),
        signer: one.signer.clone(),
    });
    let mut place = Place::new(&[&strange]);
    place.grow(1).await;
    let fault = place.until(0, |it| it.fault.is_some()).await.fault.unwrap();
    assert!(fault.contains("trusts none of the keys"), "{fault}");
}

#[tokio::test]
async fn an_archiver_that_is_behind_another_finds_what_the_other_published() {
    let one = Naive::new("one.example", 3);
    let mut first = Place::new(&[&one]);
    let mut second = first.again(&[&one]);
    first.grow(6).await;
    first.cosigned(0, 6).await;
    second.writer.read_on().await.unwrap();
    second.grow(9).await;
    second.cosigned(0, 9).await;
    // The first one asks about what it knows, and is told of more.
    let keeper = super::keep::Keeper::new(first.segments.clone(), &first.settings);
    let old = Arc::new(keeper.published(6).await.unwrap().unwrap());
    let mut seen = 6;
    let (size, _) = first.witnesses.askers[0].about(&old, &mut seen).await.unwrap();
    assert_eq!((size, seen), (9, 9));
    // An older one that is kept late is not shown in the newer one's place.
    let line = one.signer.cosign(&old.checkpoint.text(), 7).unwrap().1;
    let note = bursar_schemas::evidence::Note::parse((old.note.clone() + &line).as_bytes()).unwrap();
    keeper.keep(&old, note.signatures.last().unwrap()).await.unwrap();
    assert_eq!(first.signers(&first.segments, CHECKPOINT, &[&one]).await.0, 9);
}

#[tokio::test]
async fn a_rolled_back_and_a_forked_log_are_faults_that_stay() {
    let one = Naive::new("one.example", 3);
    let mut place = Place::new(&[&one]);
    place.grow(9).await;
    place.cosigned(0, 9).await;
    // The archive as it was, and no second place that knows better.
    let store = || Segments::new(Arc::new(InMemory::new()), Path::default());
    let rolled = store();
    for name in (0..5).map(leaf_key).chain([checkpoint_key(5)]) {
        rolled.put(&name, place.segments.read(&name).await.unwrap().unwrap()).await.unwrap();
    }
    let mut rolled = Place::at(rolled, store(), Arc::clone(&place.now), &[&one]);
    rolled.writer.read_on().await.unwrap();
    let fault = rolled.until(0, |it| it.fault.is_some()).await.fault.unwrap();
    assert!(fault.contains("the witness has cosigned 9 leaves, the archive has 5"), "{fault}");
    // It is sealed on all the same; nobody cosigns that.
    for size in [9, 12] {
        rolled.grow(size).await;
        let fault =
            rolled.until(0, |it| it.fault.as_ref().is_some_and(|it| it.contains("contradicts"))).await;
        assert_eq!(fault.cosigned, None);
        assert_eq!(one.seen(), 9);
    }
}

#[tokio::test]
async fn proofs_come_from_the_tiles_that_are_there() {
    let mut place = Place::new(&[]);
    place.grow(600).await;
    let mut hashes = Vec::new();
    for index in 0..600 {
        hashes.push(leaf_hash(&place.segments.read(&leaf_key(index)).await.unwrap().unwrap()));
    }
    let keeper = super::keep::Keeper::new(place.segments.clone(), &place.settings);
    // Partial tiles of 256 and 512 leaves are gone since the full ones came.
    for (first, size) in [(1, 600), (255, 256), (100, 300), (256, 400), (511, 513), (512, 600), (599, 600)] {
        let proof = keeper.consistency(first, size).await.unwrap();
        let (first, size) = (usize::try_from(first).unwrap(), usize::try_from(size).unwrap());
        assert_eq!(proof, consistency_proof(&hashes[..size], first), "{first} to {size}");
    }
    assert!(keeper.consistency(5, 601).await.is_err(), "a proof for leaves that are not there");
}

#[test]
fn a_request_is_what_the_specification_says() {
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: 5, root: Digest([7; 32]) };
    let note = checkpoint.sign(&log_key(1));
    let (zeros, ones) = ("A".repeat(43) + "=", "AQEB".repeat(10) + "AQE=");
    let body = request(3, &[Digest([0; 32]), Digest([1; 32])], &note);
    assert_eq!(body, format!("old 3\n{zeros}\n{ones}\n\n{note}"));
    assert_eq!(request(0, &[], &note), format!("old 0\n\n{note}"));
}

#[test]
fn each_answer_has_one_meaning() {
    let naive = Naive::new("one.example", 3);
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: 5, root: Digest([7; 32]) };
    let note = checkpoint.sign(&log_key(1));
    let (key, line) = naive.signer.cosign(&checkpoint.text(), 77).unwrap();
    let says = |status, content_type: &str, body: &str| {
        let (content_type, body) = (content_type.to_owned(), Bytes::from(body.to_owned()));
        read(&Answer { status, content_type, body }, (3, 5), &note, &key).map_err(|error| error.to_string())
    };
    let Ok(Word::Cosigned(signature)) = says(200, "", &line) else { panic!("it cosigned") };
    assert_eq!((signature.cosigned_at(), signature.id), (Some(77), key.id()));
    assert_eq!(says(409, "text/x.tlog.size", "4\n"), Ok(Word::Seen(4)));
    assert_eq!(says(409, "text/x.tlog.size; charset=utf-8", "0\n"), Ok(Word::Seen(0)));
    let another = naive.signer.cosign("another text\n", 77).unwrap().1;
    for (status, kind, body, fault) in [
        (200, "", "", "cannot be used"),
        (200, "", "<html>welcome</html>\n", "cannot be used"),
        (200, "", another.as_str(), "does not hold"),
        (200, "", &line[..line.len() - 1], "cannot be used"),
        (409, "text/x.tlog.size", "many\n", "without the size"),
        (409, "text/x.tlog.size", "3\n", "contradicts"),
        (409, "text/plain", "4\n", "contradicts"),
        (422, "", "", "contradicts"),
        (404, "", "", "does not know this log"),
        (403, "", "", "trusts none of the keys"),
        (500, "", "out of \u{7}paper\nsecond", "refused with status 500: out of paper"),
        (301, "", "", "refused with status 301"),
    ] {
        let error = says(status, kind, body).unwrap_err();
        assert!(error.contains(fault), "{status} {body:?}: {error}");
    }
}
