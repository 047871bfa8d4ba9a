//! Checkpoints: those kept for their sizes, those that witnesses cosigned, the one that is shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use bursar_schemas::evidence::{
    CHECKPOINT, Checkpoint, Kind as KeyKind, MOST_SIGNATURES, Note, Signature, VerifierKey, checkpoint_key,
    cosigned_key,
};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::ObjectStore;

use super::READS;
use crate::evidence::EvidenceError;
use crate::evidence::inventory::Inventory;
use crate::evidence::objects::get;
use crate::evidence::report::{Kind, Report, Witnessed, seconds};

/// What witnesses say: of each key the largest size that it cosigned, and when, in seconds since 1970.
#[derive(Debug, Default)]
pub(in crate::evidence) struct Words(BTreeMap<VerifierKey, (u64, u64)>);

impl Words {
    /// Takes in the cosignatures that hold under the keys given.
    pub(in crate::evidence) fn take(&mut self, note: &Note, size: u64, keys: &[VerifierKey]) {
        for (key, signature) in note.verify(keys).unwrap_or_default() {
            if let (KeyKind::Cosignature, Some(at)) = (key.kind(), signature.cosigned_at()) {
                let word = self.0.entry(key.clone()).or_default();
                *word = (*word).max((size, at));
            }
        }
    }

    /// What a witness says, where its key was given and it says anything.
    pub(in crate::evidence) fn of(&self, key: &VerifierKey) -> Option<Witnessed> {
        let (leaves, at) = self.0.get(key).copied()?;
        Some(Witnessed { name: key.name().to_owned(), key: key.to_string(), leaves, at: seconds(at) })
    }

    /// What the witness that has seen most says: its name, leaves, seconds since 1970.
    pub(in crate::evidence) fn newest(&self) -> Option<(&str, u64, u64)> {
        let (key, (size, at)) = self.0.iter().max_by_key(|(_, word)| **word)?;
        Some((key.name(), *size, *at))
    }

    /// Tells of each witness whose key is given; one that cosigned nothing is a finding, since somebody counts on it.
    pub(super) fn tell(&self, keys: &[VerifierKey], leaves: u64, report: &mut Report) {
        for key in keys.iter().filter(|key| key.kind() == KeyKind::Cosignature) {
            let Some(witnessed) = self.of(key) else {
                let detail = "no checkpoint of this archive is cosigned by it, so it excludes nothing";
                report.add(Kind::Unwitnessed, key.name(), detail);
                continue;
            };
            let Witnessed { name, leaves: size, at, .. } = &witnessed;
            report.note(format!("{name} cosigned {size} of {leaves} leaves, last at {at}"));
            report.witnesses.push(witnessed);
        }
    }
}

/// Bytes of a witness's signature after its key's id: a time in seconds and an Ed25519 signature.
const COSIGNATURE: usize = 8 + 64;

/// The checkpoint that is kept for a size, with the line of each witness that cosigned it, those whose keys are given
/// first: a note has room for so many, and anybody who writes to the bucket can add some.
pub(in crate::evidence) async fn with_witnesses(
    store: &Arc<dyn ObjectStore>,
    inventory: &Inventory,
    size: u64,
    keys: &[VerifierKey],
) -> Result<Note, EvidenceError> {
    let parse = |note: &[u8]| Note::parse(note).map_err(|error| EvidenceError::NoLog(error.to_string()));
    let mut whole = parse(&get(store, &checkpoint_key(size)).await?.unwrap_or_default())?;
    let mut found = Vec::new();
    for (_, id) in inventory.cosigned.iter().filter(|(of, _)| *of == size) {
        let Some(note) = get(store, &cosigned_key(size, *id)).await? else { continue };
        let Ok(cosigned) = Note::parse(&note) else { continue };
        if cosigned.text != whole.text {
            continue;
        }
        let own = |it: &Signature| it.id == *id && it.bytes.len() == COSIGNATURE;
        if let Some(line) = cosigned.signatures.into_iter().find(own) {
            found.push((!keys.iter().any(|key| key.id() == *id && key.name() == line.name), line));
        }
    }
    found.sort_by_key(|(stranger, _)| *stranger);
    let room = MOST_SIGNATURES.saturating_sub(whole.signatures.len());
    whole.signatures.extend(found.into_iter().take(room).map(|(_, line)| line));
    Ok(whole)
}

/// Whether a checkpoint is kept for its size.
async fn kept(
    store: &Arc<dyn ObjectStore>,
    shown: &Checkpoint,
    keys: &[VerifierKey],
) -> Result<bool, EvidenceError> {
    let note = get(store, &checkpoint_key(shown.size)).await?;
    let opened = note.and_then(|note| Checkpoint::open(&note, keys).ok());
    Ok(opened.is_some_and(|(kept, _)| kept == *shown))
}

/// Takes in what witnesses cosigned; the log's own signature on it counts as a checkpoint like any other.
async fn cosigned(
    store: &Arc<dyn ObjectStore>,
    inventory: &Inventory,
    keys: &[VerifierKey],
    signed: &mut BTreeMap<u64, Checkpoint>,
    words: &mut Words,
    report: &mut Report,
) -> Result<(), EvidenceError> {
    let reads = futures::stream::iter(inventory.cosigned.iter().copied()).map(|(size, id)| async move {
        get(store, &cosigned_key(size, id)).await.map(|note| (size, id, note))
    });
    let mut reads = std::pin::pin!(reads.buffered(READS));
    let mut strangers = 0_u64;
    while let Some((size, id, note)) = reads.try_next().await? {
        let name = cosigned_key(size, id);
        let Some(note) = note else { continue };
        let (checkpoint, note) = match Checkpoint::open(&note, keys) {
            Err(error) => {
                report.add(Kind::Forged, name, error.to_string());
                continue;
            }
            Ok(opened) => opened,
        };
        if checkpoint.size != size || !note.signatures.iter().any(|it| it.id == id) {
            report.add(Kind::Altered, name, "it is of another size or witness than its name says");
            continue;
        }
        match signed.get(&size) {
            Some(kept) if *kept == checkpoint => {}
            Some(_) => {
                report.add(Kind::Forked, name, "the one kept for its size is another");
                continue;
            }
            None => {
                // It may have been published since the names were listed.
                if !kept(store, &checkpoint, keys).await? {
                    report.add(Kind::Missing, checkpoint_key(size), "it was cosigned and is not kept");
                }
                signed.insert(size, checkpoint);
            }
        }
        if !keys.iter().any(|key| key.id() == id) {
            strangers += 1;
        }
        words.take(&note, size, keys);
    }
    if strangers > 0 {
        report.note(format!(
            "{strangers} checkpoints carry the line of a witness whose key was not given (--witness): nobody looked at it"
        ));
    }
    Ok(())
}

/// Every checkpoint kept that one of the keys has signed, by size.
pub(super) async fn read(
    store: &Arc<dyn ObjectStore>,
    inventory: &Inventory,
    keys: &[VerifierKey],
    words: &mut Words,
    report: &mut Report,
) -> Result<BTreeMap<u64, Checkpoint>, EvidenceError> {
    let mut signed: BTreeMap<u64, Checkpoint> = BTreeMap::new();
    let mut origin: Option<String> = None;
    let reads = futures::stream::iter(inventory.checkpoints.iter().copied())
        .map(|size| async move { get(store, &checkpoint_key(size)).await.map(|note| (size, note)) });
    let mut reads = std::pin::pin!(reads.buffered(READS));
    while let Some((size, note)) = reads.try_next().await? {
        let key = checkpoint_key(size);
        let Some(note) = note else { continue };
        match Checkpoint::open(&note, keys) {
            Err(error) => report.add(Kind::Forged, key, error.to_string()),
            Ok((checkpoint, _)) if checkpoint.size != size => {
                report.add(Kind::Altered, key, format!("it is the checkpoint of {} leaves", checkpoint.size));
            }
            Ok((checkpoint, _)) if origin.as_ref().is_some_and(|origin| *origin != checkpoint.origin) => {
                report.add(Kind::Foreign, key, format!("it is of another log, {}", checkpoint.origin));
            }
            Ok((checkpoint, _)) => {
                origin.get_or_insert_with(|| checkpoint.origin.clone());
                signed.insert(size, checkpoint);
            }
        }
    }
    cosigned(store, inventory, keys, &mut signed, words, report).await?;
    if signed.is_empty() {
        report.add(Kind::Missing, "log/checkpoints", "no checkpoint is signed by a key that was given");
    }
    match get(store, CHECKPOINT).await? {
        None => report.add(Kind::Missing, CHECKPOINT, "the newest checkpoint is not shown"),
        Some(note) => match Checkpoint::open(&note, keys) {
            Err(error) => report.add(Kind::Altered, CHECKPOINT, error.to_string()),
            Ok((shown, note)) => match signed.get(&shown.size) {
                Some(kept) if *kept == shown => words.take(&note, shown.size, keys),
                Some(_) => report.add(Kind::Forked, CHECKPOINT, "the one kept for its size has another root"),
                // It may have been published since the names were listed.
                None if kept(store, &shown, keys).await? => words.take(&note, shown.size, keys),
                None => report.add(Kind::Missing, checkpoint_key(shown.size), "it is shown but not kept"),
            },
        },
    }
    Ok(signed)
}
