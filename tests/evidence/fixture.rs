//! An archive as honest roles leave it: certified producers, a ledger's grants, a signed log.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bursar_ingest::archive::{ArchiveConfig, Archiver, LogSettings, open_store, open_suspect};
use bursar_query::evidence::{Kind, Report, VerifyOptions, verify};
use bursar_schemas::avro::Micros;
use bursar_schemas::evidence::{SignerKey, TileTree, VerifierKey, checkpoint_key, leaf_key};
use bursar_schemas::facts::{
    AccountRef, EpochMarked, Fact, Head, LeaseGranted, LeaseId, LeaseRequested, LimitSet, Mode, Phase,
    Recovery, Role, WindowMoved,
};
use bursar_schemas::ids::{Digest, ProducerId, RequestId};
use bursar_schemas::memory::MemoryJournal;
use bursar_schemas::money::Money;
use bursar_schemas::ports::Journal;
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::producer::{Draft, Identity, Recorder};
use bursar_schemas::samples;

pub const ORIGIN: &str = "log.example/evidence";
const DEPLOYMENT: [u8; 32] = [40; 32];
const START: i64 = 1_793_714_706_000_000;

pub const REQUESTS: Lane = Lane::new(Topic::Requests, 0);
pub const SPEND: Lane = Lane::new(Topic::Spend, 0);
pub const LIMITS: Lane = Lane::new(Topic::Limits, 0);

pub fn dollars(amount: i128) -> Money {
    Money::from_pico(amount * 1_000_000_000_000)
}

pub fn account() -> Vec<AccountRef> {
    vec![AccountRef { budget: "acme".to_owned(), window: 0 }]
}

pub fn signer(secret: u8) -> SignerKey {
    SignerKey::new(ORIGIN, &[secret; 32]).unwrap()
}

pub fn key() -> VerifierKey {
    signer(1).verifier().clone()
}

/// A journal, its honest writers, and the archive that they fill.
pub struct World {
    pub folder: tempfile::TempDir,
    pub journal: MemoryJournal,
    pub shim: Recorder,
    pub ledger: Recorder,
    pub now: Arc<AtomicI64>,
    leases: u64,
}

pub fn recorder(journal: &MemoryJournal, role: Role, seed: u8, deployment: &[u8; 32]) -> Recorder {
    let identity = Identity::new(ProducerId([seed; 16]), role, [seed; 32], deployment);
    Recorder::new(identity, Arc::new(journal.clone()))
}

impl World {
    /// Empty, but for the ledger's epoch, limit and window.
    pub fn new() -> Self {
        let journal = MemoryJournal::new(1);
        let world = Self {
            folder: tempfile::tempdir().unwrap(),
            shim: recorder(&journal, Role::Shim, 7, &DEPLOYMENT),
            ledger: recorder(&journal, Role::Ledger, 8, &DEPLOYMENT),
            journal,
            now: Arc::new(AtomicI64::new(START)),
            leases: 0,
        };
        let head = || Head::draft(world.at(), 1, "");
        let [account] = <[AccountRef; 1]>::try_from(account()).unwrap();
        for fact in [
            Fact::from(EpochMarked { head: head(), instance: ProducerId([8; 16]), supersedes: None }),
            LimitSet {
                head: head(),
                epoch: 1,
                budget: "acme".to_owned(),
                amount: dollars(1000),
                mode: Mode::Hard,
                recovery: Recovery::Forfeit,
                policy_version: 1,
                step: 0,
            }
            .into(),
            WindowMoved {
                head: head(),
                epoch: 1,
                account,
                starts_at: Micros(0),
                ends_at: None,
                phase: Phase::Open,
            }
            .into(),
        ] {
            drop(world.ledger.record([Draft { lane: LIMITS, fact }]).unwrap());
        }
        world
    }

    pub fn at(&self) -> Micros {
        Micros(self.now.fetch_add(1000, Ordering::SeqCst))
    }

    pub fn archive(&self) -> PathBuf {
        self.folder.path().join("archive")
    }

    pub fn end_of(&self, lane: Lane) -> u64 {
        u64::try_from(self.journal.records(lane).len()).unwrap()
    }

    /// A sample fact of a kind, about a request.
    pub fn fact(&self, kind: &str, request: RequestId) -> Fact {
        let mut fact = samples::facts().into_iter().find(|fact| fact.kind() == kind).unwrap();
        match &mut fact {
            Fact::RequestOpened(it) => it.about.request = request,
            Fact::RequestClosed(it) => it.about.request = request,
            Fact::RouteDecided(it) => it.about.request = request,
            Fact::Settled(it) => it.about.request = request,
            other => panic!("{} speaks of no request", other.kind()),
        }
        *fact.head_mut() = Head::draft(self.at(), 1, "2026-10-31");
        fact
    }

    /// One request of a shim, from its opening to its end.
    pub fn request(&self, shim: &Recorder, number: u8) -> RequestId {
        let request = RequestId::new(self.at().0, [number; 10]);
        let drafts = [
            ("RequestOpened", Topic::Requests),
            ("RouteDecided", Topic::Routes),
            ("Settled", Topic::Spend),
            ("RequestClosed", Topic::Requests),
        ]
        .map(|(kind, topic)| Draft { lane: Lane::new(topic, 0), fact: self.fact(kind, request) });
        drop(shim.record(drafts).unwrap());
        request
    }

    /// The shim asks for a lease and the ledger grants it.
    pub fn lease(&mut self) -> LeaseId {
        self.leases += 1;
        let lease = LeaseId { holder: ProducerId([7; 16]), number: self.leases };
        let head = || Head::draft(self.at(), 1, "");
        let (wanted, minimum) = (dollars(10), dollars(1));
        let asked = LeaseRequested { head: head(), lease, accounts: account(), wanted, minimum };
        drop(self.shim.record([Draft { lane: SPEND, fact: asked.into() }]).unwrap());
        let cause = self.end_of(SPEND) - 1;
        self.grant(lease, cause, dollars(10));
        lease
    }

    pub fn grant(&self, lease: LeaseId, cause: u64, amount: Money) {
        let head = Head::draft(self.at(), 1, "");
        let granted =
            LeaseGranted { head, epoch: 1, lease, accounts: account(), amount, cause, read: cause + 1 };
        drop(self.ledger.record([Draft { lane: LIMITS, fact: granted.into() }]).unwrap());
    }

    pub fn heads(&self) {
        drop(self.shim.record_heads(self.at()).unwrap());
        drop(self.ledger.record_heads(self.at()).unwrap());
    }

    /// Five requests, a lease, signed heads; all sealed and logged.
    pub async fn round(&mut self) -> RequestId {
        self.lease();
        let requests: Vec<RequestId> = (1..6).map(|number| self.request(&self.shim, number)).collect();
        self.heads();
        self.seal().await;
        requests[2]
    }

    /// Three rounds and the last words.
    pub async fn honest() -> (Self, RequestId) {
        let mut world = Self::new();
        world.round().await;
        let request = world.round().await;
        world.round().await;
        drop(world.shim.record_end(world.at()).unwrap());
        drop(world.ledger.record_end(world.at()).unwrap());
        world.seal().await;
        (world, request)
    }

    pub fn log_settings(&self) -> LogSettings {
        let now = Arc::clone(&self.now);
        LogSettings {
            signer: signer(1),
            earlier: Vec::new(),
            deployment_key: Digest(*VerifierKeyOf::deployment(&DEPLOYMENT).public_key()),
            heartbeat: None,
            copy: None,
            witnesses: Vec::new(),
            clock: Arc::new(move || now.load(Ordering::SeqCst)),
        }
    }

    pub async fn seal(&self) {
        self.seal_journal(Arc::new(self.journal.clone())).await;
    }

    pub async fn seal_journal(&self, journal: Arc<dyn Journal>) {
        self.seal_as(journal, ArchiveConfig::default()).await;
    }

    pub async fn seal_as(&self, journal: Arc<dyn Journal>, config: ArchiveConfig) {
        let (store, prefix) = open_store(self.archive().to_str().unwrap()).unwrap();
        let config = ArchiveConfig { prefix, ..config };
        assert!(Archiver::start(journal, store, config, Some(self.log_settings())).stop(true).await);
    }

    /// A copy of the archive to be tampered with.
    pub fn copy(&self) -> Copy {
        let folder = tempfile::tempdir().unwrap();
        let copied =
            std::process::Command::new("cp").arg("-r").arg(self.archive()).arg(folder.path()).status();
        assert!(copied.unwrap().success());
        Copy { root: folder.path().join("archive"), folder }
    }
}

/// Public halves of secret bytes.
pub struct VerifierKeyOf;

impl VerifierKeyOf {
    pub fn deployment(secret: &[u8; 32]) -> VerifierKey {
        SignerKey::new("deployment.example", secret).unwrap().verifier().clone()
    }
}

/// Somebody's copy of an archive.
pub struct Copy {
    #[expect(dead_code, reason = "the folder goes with it")]
    folder: tempfile::TempDir,
    pub root: PathBuf,
}

impl Copy {
    /// Every object's name, sorted.
    pub fn names(&self) -> Vec<String> {
        fn walk(root: &Path, folder: &Path, names: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(root, &path, names);
                } else {
                    names.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        let mut names = Vec::new();
        walk(&self.root, &self.root, &mut names);
        names.sort();
        names
    }

    /// The segments of a topic, in order.
    pub fn segments(&self, topic: &str) -> Vec<String> {
        self.names()
            .into_iter()
            .filter(|it| it.starts_with("segments/") && it.contains(&format!("/{topic}/")))
            .collect()
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.root.join(name)).unwrap()
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    pub fn delete(&self, name: &str) {
        std::fs::remove_file(self.root.join(name)).unwrap();
    }

    pub fn entries(&self) -> Vec<Vec<u8>> {
        (0..)
            .map(leaf_key)
            .take_while(|key| self.root.join(key).exists())
            .map(|key| self.read(&key))
            .collect()
    }

    /// Replaces the log by one over other leaves, as whoever holds a key could, with checkpoints of those sizes.
    pub fn rebuild_log(&self, entries: &[Vec<u8>], by: &SignerKey, sizes: &[usize]) {
        std::fs::remove_dir_all(self.root.join("log")).unwrap();
        let mut tree = TileTree::default();
        for (index, entry) in (0..).zip(entries) {
            let mut tiles = Vec::new();
            tree.push(entry, &mut tiles);
            self.write(&leaf_key(index), entry);
            let size = usize::try_from(tree.size()).unwrap();
            if sizes.contains(&size) {
                tiles.extend(tree.partial());
                let origin = by.verifier().name().to_owned();
                let checkpoint =
                    bursar_schemas::evidence::Checkpoint { origin, size: tree.size(), root: tree.root() };
                let note = checkpoint.sign(by);
                self.write(&checkpoint_key(tree.size()), note.as_bytes());
                self.write("log/checkpoint", note.as_bytes());
            }
            tiles.iter().for_each(|tile| self.write(&tile.key, &tile.bytes));
        }
    }

    pub async fn verify_with(&self, change: impl FnOnce(&mut VerifyOptions)) -> Report {
        let mut options = VerifyOptions { keys: vec![key()], ..VerifyOptions::default() };
        change(&mut options);
        let (store, _) = open_suspect(self.root.to_str().unwrap()).unwrap();
        verify(store, &options).await.unwrap()
    }

    pub async fn verify(&self) -> Report {
        self.verify_with(|_| {}).await
    }
}

/// Holds a report to name something, of a kind, in a finding whose text holds a word.
pub fn assert_named(report: &Report, kind: Kind, what: &str, word: &str) {
    assert!(!report.holds() && !report.complete, "nothing was found where {what} is {kind:?}");
    let found = report
        .findings
        .iter()
        .any(|finding| finding.kind == kind && finding.what.contains(what) && finding.detail.contains(word));
    let listed: BTreeMap<_, _> = report.findings.iter().map(|it| ((it.kind, &it.what), &it.detail)).collect();
    assert!(found, "{what} is not named as {kind:?} ({word}): {listed:#?}");
}
