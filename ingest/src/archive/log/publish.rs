//! Tiles, then the checkpoint of their size, then the hint and the copy.

use std::sync::Arc;

use bursar_schemas::evidence::{CHECKPOINT, Checkpoint, Tile, checkpoint_key};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};

use super::{LogError, LogWriter, PUTS, Signed};
use crate::archive::store::{Segments, StoreError};

async fn put_tiles(segments: &Segments, tiles: Vec<Tile>) -> Result<(), StoreError> {
    // Whoever was first put the same bytes: they follow from the leaves.
    futures::stream::iter(tiles)
        .map(|tile| async move { segments.put(&tile.key, Bytes::from(tile.bytes)).await.map(drop) })
        .buffer_unordered(PUTS)
        .try_collect()
        .await
}

/// Keeps a checkpoint for its size, and shows it as the newest.
async fn put_checkpoint(place: &Segments, size: u64, note: &Bytes) -> Result<(), StoreError> {
    place.put(&checkpoint_key(size), note.clone()).await?;
    place.replace(CHECKPOINT, note.clone()).await
}

impl LogWriter {
    pub(super) async fn put_full(&mut self) -> Result<(), StoreError> {
        put_tiles(&self.segments, self.full.clone()).await?;
        self.full.clear();
        Ok(())
    }

    /// Deletes the partial forms of a tile that is full: they say nothing that it does not say.
    async fn drop_partial(&self, full: &str) {
        if let Err(error) = self.segments.delete_below(&format!("{full}.p")).await {
            tracing::debug!(%error, full, "partial tiles stay, which is no harm");
        }
    }

    /// The checkpoint over all leaves known. The same leaves and key give the same bytes each time.
    fn sign(&self) -> Signed {
        let origin = self.settings.signer.verifier().name().to_owned();
        let checkpoint = Checkpoint { origin, size: self.state.size(), root: self.state.root() };
        Signed { note: checkpoint.sign(&self.settings.signer), checkpoint }
    }

    /// Tells of the checkpoint that was found published, when none had to be.
    pub(super) fn tell_found(&self) {
        if self.newest.borrow().is_none() && self.published == self.state.size() {
            self.newest.send_replace(Some(Arc::new(self.sign())));
        }
    }

    /// Publishes a checkpoint over all leaves known, unless that was done.
    pub(in crate::archive) async fn publish(&mut self) -> Result<(), LogError> {
        let size = self.state.size();
        if size <= self.published {
            return Ok(());
        }
        let full: Vec<String> = self.full.iter().map(|tile| tile.key.clone()).collect();
        self.put_full().await?;
        put_tiles(&self.segments, self.state.partial()).await?;
        let signed = self.sign();
        let note = Bytes::from(signed.note.clone());
        put_checkpoint(&self.segments, size, &note).await?;
        self.published = size;
        self.newest.send_replace(Some(Arc::new(signed)));
        for key in full {
            self.drop_partial(&key).await;
        }
        if let Some(copy) = &self.settings.copy
            && let Err(error) = put_checkpoint(copy, size, &note).await
        {
            // The archive is whole without it; the next checkpoint covers this one.
            tracing::warn!(%error, size, "a checkpoint could not be pushed to its second place");
        }
        Ok(())
    }
}
