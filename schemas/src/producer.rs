//! One process incarnation as a writer of facts: numbers, running hash, signed heads.
//!
//! The [`Recorder`] stamps facts and hands them to an [`Outlet`] under one lock, so the order of numbers is
//! the order of the lane.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey, Verifier as _, VerifyingKey};
use sha2::{Digest as _, Sha256};

use crate::avro::Micros;
use crate::facts::{Fact, Head, ProducerHead, ProducerOpened, Role};
use crate::ids::{Digest, ProducerId, Signature};
use crate::ports::{Entry, Outlet, OutletError, Receipt};
use crate::position::Lane;
use crate::wire;

/// The running hash before a producer's first fact on a lane.
pub const HASH_BEFORE_FIRST: Digest = Digest([0; 32]);

/// The running hash after a fact: SHA-256 over the hash before it and its record bytes.
#[must_use]
pub fn running_hash(before: &Digest, value: &[u8]) -> Digest {
    Digest(Sha256::new().chain_update(before.0).chain_update(value).finalize().into())
}

/// The bytes that a deployment's key signs to certify an incarnation.
#[must_use]
pub fn certificate_bytes(producer: ProducerId, role: Role, public_key: &Digest) -> Vec<u8> {
    let mut bytes = b"bursar/certificate/v1\n".to_vec();
    bytes.extend_from_slice(&producer.0);
    bytes.extend_from_slice(role.word().as_bytes());
    bytes.push(b'\n');
    bytes.extend_from_slice(&public_key.0);
    bytes
}

/// The bytes that an incarnation signs to state how far its running hash has come on a lane.
#[must_use]
pub fn head_bytes(lane: Lane, producer: ProducerId, last: u64, hash: &Digest, ended: bool) -> Vec<u8> {
    let mut bytes =
        format!("bursar/head/v1\n{}\n{}\n{last}\n{ended}\n", lane.topic, lane.partition).into_bytes();
    bytes.extend_from_slice(&producer.0);
    bytes.extend_from_slice(&hash.0);
    bytes
}

/// True when `signature` is `key`'s over `message`.
#[must_use]
pub fn is_signed(key: &Digest, message: &[u8], signature: &Signature) -> bool {
    VerifyingKey::from_bytes(&key.0)
        .is_ok_and(|key| key.verify(message, &ed25519_dalek::Signature::from_bytes(&signature.0)).is_ok())
}

/// Who a producer is: drawn once per process start by the binary, which alone has randomness.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The incarnation.
    pub producer: ProducerId,
    /// Its role.
    pub role: Role,
    /// The deployment's public key.
    pub deployment_key: Digest,
    /// The deployment's certificate.
    pub certificate: Signature,
    /// The incarnation whose spool it took over.
    pub predecessor: Option<ProducerId>,
    key: SigningKey,
}

impl Identity {
    /// An identity from random bytes, certified by the deployment's key.
    #[must_use]
    pub fn new(producer: ProducerId, role: Role, secret: [u8; 32], deployment: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(&secret);
        let deployment = SigningKey::from_bytes(deployment);
        let public = Digest(key.verifying_key().to_bytes());
        let certificate = Signature(deployment.sign(&certificate_bytes(producer, role, &public)).to_bytes());
        let deployment_key = Digest(deployment.verifying_key().to_bytes());
        Self { producer, role, deployment_key, certificate, predecessor: None, key }
    }

    /// The incarnation's public key.
    #[must_use]
    pub fn public_key(&self) -> Digest {
        Digest(self.key.verifying_key().to_bytes())
    }

    fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.key.sign(message).to_bytes())
    }
}

/// How far a producer has come on one lane.
#[derive(Debug, Clone)]
struct LaneState {
    next: u64,
    hash: Digest,
    /// Number of the last head; nothing new since when `next` is one above it.
    head: Option<u64>,
}

/// Where some lanes of a producer stood, to go back to when nothing of a call was taken.
#[derive(Debug)]
pub struct Mark(Vec<(Lane, Option<LaneState>)>, bool);

/// The chains of one incarnation: pure, one step per fact.
#[derive(Debug)]
pub struct Chains {
    identity: Identity,
    lanes: BTreeMap<Lane, LaneState>,
    ended: bool,
}

impl Chains {
    /// No facts yet.
    #[must_use]
    pub const fn new(identity: Identity) -> Self {
        Self { identity, lanes: BTreeMap::new(), ended: false }
    }

    /// Where the lanes stand now.
    #[must_use]
    pub fn mark(&self, lanes: impl IntoIterator<Item = Lane>) -> Mark {
        let mut states: Vec<(Lane, Option<LaneState>)> = Vec::with_capacity(4);
        for lane in lanes {
            if !states.iter().any(|(known, _)| *known == lane) {
                states.push((lane, self.lanes.get(&lane).cloned()));
            }
        }
        Mark(states, self.ended)
    }

    /// Nothing that was stamped since was taken: its numbers are used again. Without this a refused opening fact
    /// would make every later fact of the incarnation a stranger's, and any other refusal a gap.
    pub fn undo(&mut self, mark: Mark) {
        for (lane, state) in mark.0 {
            match state {
                Some(state) => drop(self.lanes.insert(lane, state)),
                None => drop(self.lanes.remove(&lane)),
            }
        }
        self.ended = mark.1;
    }

    /// All lanes that it has written.
    fn lanes(&self) -> Vec<Lane> {
        self.lanes.keys().copied().collect()
    }

    fn push(&mut self, lane: Lane, mut fact: Fact, out: &mut Vec<Entry>) {
        let state =
            self.lanes.entry(lane).or_insert(LaneState { next: 0, hash: HASH_BEFORE_FIRST, head: None });
        let head = fact.head_mut();
        head.producer = self.identity.producer;
        head.role = self.identity.role;
        head.number = state.next;
        let at = head.at;
        let value = Bytes::from(wire::encode(&fact));
        state.next += 1;
        state.hash = running_hash(&state.hash, &value);
        out.push(Entry { lane, value, at });
    }

    /// Stamps a drafted fact for a lane; a lane's first is preceded by the producer's opening fact.
    pub fn stamp(&mut self, lane: Lane, fact: Fact, out: &mut Vec<Entry>) {
        if !self.lanes.contains_key(&lane) {
            let opened = ProducerOpened {
                head: Head::draft(fact.head().at, 0, ""),
                public_key: self.identity.public_key(),
                deployment_key: self.identity.deployment_key,
                certificate: self.identity.certificate,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                predecessor: self.identity.predecessor,
            };
            self.push(lane, opened.into(), out);
        }
        self.push(lane, fact, out);
    }

    /// A signed head for each lane that has news since the last one, or for all when the producer ends.
    pub fn heads(&mut self, at: Micros, ended: bool, out: &mut Vec<Entry>) {
        if self.ended {
            return;
        }
        self.ended = ended;
        let due: Vec<Lane> = self
            .lanes
            .iter()
            .filter(|(_, state)| ended || state.head.is_none_or(|head| head + 1 < state.next))
            .map(|(lane, _)| *lane)
            .collect();
        for lane in due {
            let Some(state) = self.lanes.get_mut(&lane) else { continue };
            let last = state.next.saturating_sub(1);
            let hash = state.hash;
            state.head = Some(state.next);
            let signature = self.identity.sign(&head_bytes(lane, self.identity.producer, last, &hash, ended));
            let fact = ProducerHead { head: Head::draft(at, 0, ""), last, hash, signature, ended };
            self.push(lane, fact.into(), out);
        }
    }
}

/// A drafted fact and the lane that it belongs to.
#[derive(Debug)]
pub struct Draft {
    /// Where it goes.
    pub lane: Lane,
    /// What is said; producer, role and number are stamped.
    pub fact: Fact,
}

/// The one way a process writes facts: stamps them and appends them in order.
pub struct Recorder {
    producer: ProducerId,
    chains: Mutex<Chains>,
    outlet: std::sync::Arc<dyn Outlet>,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("producer", &self.producer).finish_non_exhaustive()
    }
}

impl Recorder {
    /// A recorder for one identity.
    #[must_use]
    pub fn new(identity: Identity, outlet: std::sync::Arc<dyn Outlet>) -> Self {
        Self { producer: identity.producer, chains: Mutex::new(Chains::new(identity)), outlet }
    }

    /// The incarnation in whose name it writes.
    #[must_use]
    pub const fn producer(&self) -> ProducerId {
        self.producer
    }

    /// Stamps and appends facts, in order; the receipt resolves when all are acknowledged.
    ///
    /// # Errors
    /// When the outlet takes nothing more. If it is merely full, nothing was taken and the numbers are used again;
    /// otherwise they are used up and the outlet must be given up or reports the gap itself.
    pub fn record(&self, drafts: impl IntoIterator<Item = Draft>) -> Result<Receipt, OutletError> {
        self.record_by(drafts, |entries| self.outlet.append(entries))
    }

    /// As [`Recorder::record`]; the receipt resolves when the journal itself has everything.
    ///
    /// # Errors
    /// As [`Recorder::record`].
    pub fn record_through(&self, drafts: impl IntoIterator<Item = Draft>) -> Result<Receipt, OutletError> {
        self.record_by(drafts, |entries| self.outlet.append_through(entries))
    }

    fn record_by(
        &self,
        drafts: impl IntoIterator<Item = Draft>,
        append: impl FnOnce(Vec<Entry>) -> Result<Receipt, OutletError>,
    ) -> Result<Receipt, OutletError> {
        let drafts: Vec<Draft> = drafts.into_iter().collect();
        let mut entries = Vec::with_capacity(4);
        // A poisoned lock means that another thread panicked between two facts; the chains are still whole.
        let mut chains = self.chains.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = chains.mark(drafts.iter().map(|draft| draft.lane));
        for draft in drafts {
            chains.stamp(draft.lane, draft.fact, &mut entries);
        }
        Self::append(&mut chains, mark, entries, append)
    }

    fn append(
        chains: &mut Chains,
        mark: Mark,
        entries: Vec<Entry>,
        append: impl FnOnce(Vec<Entry>) -> Result<Receipt, OutletError>,
    ) -> Result<Receipt, OutletError> {
        let taken = append(entries);
        if matches!(taken, Err(OutletError::Full(_))) {
            chains.undo(mark);
        }
        taken
    }

    /// Appends a signed head on each lane with news; to be called every second or so.
    ///
    /// # Errors
    /// As [`Recorder::record`].
    pub fn record_heads(&self, at: Micros) -> Result<Receipt, OutletError> {
        self.append_heads(at, false)
    }

    /// Appends the last head on each lane; the recorder must not be used after it.
    ///
    /// # Errors
    /// As [`Recorder::record`].
    pub fn record_end(&self, at: Micros) -> Result<Receipt, OutletError> {
        self.append_heads(at, true)
    }

    fn append_heads(&self, at: Micros, ended: bool) -> Result<Receipt, OutletError> {
        let mut entries = Vec::new();
        let mut chains = self.chains.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = chains.mark(chains.lanes());
        chains.heads(at, ended, &mut entries);
        Self::append(&mut chains, mark, entries, |entries| self.outlet.append(entries))
    }
}
