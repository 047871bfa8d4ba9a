//! Where a cosigned checkpoint is kept: written once for its size and witness, and shown as the newest one.

use std::collections::BTreeMap;

use bursar_schemas::evidence::{
    CHECKPOINT, Checkpoint, Kind, Note, Signature, VerifierKey, checkpoint_key, consistency_proof_from,
    consistency_subtrees, cosigned_key, tile_path,
};
use bursar_schemas::ids::Digest;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::sync::Mutex;

use crate::archive::log::{LogSettings, PUTS, Signed};
use crate::archive::store::{Segments, StoreError};

/// The places of a log, as far as witnesses go.
pub(super) struct Keeper {
    segments: Segments,
    copy: Option<Segments>,
    /// Of the log and of all its witnesses.
    keys: Vec<VerifierKey>,
    /// Held while what is shown is looked at and replaced.
    showing: Mutex<()>,
}

impl Keeper {
    pub(super) fn new(segments: Segments, settings: &LogSettings) -> Self {
        let mut keys = settings.keys();
        keys.extend(settings.witnesses.iter().map(|witness| witness.key.clone()));
        Self { segments, copy: settings.copy.clone(), keys, showing: Mutex::new(()) }
    }

    /// The published checkpoint of a size, if there is one: another archiver may be ahead of this process.
    pub(super) async fn published(&self, size: u64) -> Result<Option<Signed>, StoreError> {
        let Some(note) = self.segments.read(&checkpoint_key(size)).await? else { return Ok(None) };
        let opened = Checkpoint::open(&note, &self.keys).ok().filter(|(found, _)| found.size == size);
        Ok(opened.map(|(checkpoint, note)| Signed { checkpoint, note: note.to_text() }))
    }

    /// The proof that the log of a first size is the beginning of a published one, from a few tiles.
    pub(super) async fn consistency(&self, first: u64, size: u64) -> Result<Vec<Digest>, StoreError> {
        let subtrees = consistency_subtrees(first, size);
        let places = subtrees.iter().flatten().filter_map(|subtree| subtree.place(size));
        let needed: BTreeMap<_, _> = places.map(|it| ((it.level, it.index), it.width)).collect();
        let tiles: BTreeMap<(usize, u64), Bytes> = futures::stream::iter(needed)
            .map(|((level, index), width)| async move {
                let tile = self.tile(level, index, width).await?;
                Ok::<_, StoreError>(((level, index), tile))
            })
            .buffer_unordered(PUTS)
            .try_collect()
            .await?;
        let proof = consistency_proof_from(first, size, |subtree| {
            let place = subtree.place(size)?;
            place.hash(tiles.get(&(place.level, place.index))?)
        });
        proof.ok_or_else(|| StoreError::Broken("a tile of the log is cut off".to_owned()))
    }

    /// A tile as it was at a size, or its full form: partial ones go when it is there.
    async fn tile(&self, level: usize, index: u64, width: usize) -> Result<Bytes, StoreError> {
        for name in [width, bursar_schemas::evidence::TILE].map(|width| tile_path(level, index, width)) {
            if let Some(tile) = self.segments.read(&name).await? {
                return Ok(tile);
            }
        }
        Err(StoreError::Broken(format!("{} is not there", tile_path(level, index, width))))
    }

    /// Keeps what a witness cosigned. Whoever was first for this size and witness has said the same.
    pub(super) async fn keep(&self, signed: &Signed, by: &Signature) -> Result<(), StoreError> {
        let mut note = self.of_log(signed)?;
        note.signatures.push(by.clone());
        let (name, bytes) = (cosigned_key(signed.checkpoint.size, by.id), Bytes::from(note.to_text()));
        self.segments.put(&name, bytes.clone()).await?;
        if let Some(copy) = &self.copy
            && let Err(error) = copy.put(&name, bytes).await
        {
            // The archive is whole without it; the next one covers this one.
            tracing::warn!(%error, name, "a cosigned checkpoint could not be pushed to its second place");
        }
        let _showing = self.showing.lock().await;
        let shown = self.segments.read(CHECKPOINT).await?;
        if let Some(note) = self.merged(shown.as_deref(), &signed.checkpoint, note, by) {
            self.segments.replace(CHECKPOINT, Bytes::from(note.to_text())).await?;
        }
        Ok(())
    }

    /// The checkpoint with the log's own signatures alone.
    fn of_log(&self, signed: &Signed) -> Result<Note, StoreError> {
        let broken = |error: bursar_schemas::evidence::NoteError| StoreError::Broken(error.to_string());
        let mut note = Note::parse(signed.note.as_bytes()).map_err(broken)?;
        let by_log = note.verify(&self.keys).map_err(broken)?;
        let by_log = by_log.into_iter().filter(|(key, _)| key.kind() == Kind::Ed25519);
        note.signatures = by_log.map(|(_, signature)| signature.clone()).collect();
        Ok(note)
    }

    /// What to show: the cosigned checkpoint, with what other witnesses said of the same; none when a newer one is shown.
    fn merged(
        &self,
        shown: Option<&[u8]>,
        checkpoint: &Checkpoint,
        mut note: Note,
        by: &Signature,
    ) -> Option<Note> {
        let shown = shown.and_then(|shown| Checkpoint::open(shown, &self.keys).ok());
        let Some((newest, shown)) = shown else { return Some(note) };
        if newest.size > checkpoint.size {
            return None;
        }
        if shown.text == note.text {
            let held = shown.verify(&self.keys).unwrap_or_default().into_iter();
            let others = held.filter(|(key, it)| key.kind() == Kind::Cosignature && it.id != by.id);
            note.signatures.extend(others.map(|(_, signature)| signature.clone()));
        }
        Some(note)
    }
}
