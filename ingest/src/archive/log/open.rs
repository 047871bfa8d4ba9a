//! Reading the log that is there, before anything is added to it.

use bursar_schemas::evidence::{
    BUNDLE, CHECKPOINT, Checkpoint, VerifierKey, bundle_path, leaf_key, parse_bundle,
};
use futures::{StreamExt as _, TryStreamExt as _};

use super::{LogError, LogWriter, PUTS};
use crate::archive::store::{Segments, StoreError};

/// The newest checkpoint that a place keeps, if it is signed by one of the keys.
async fn newest(place: &Segments, keys: &[VerifierKey]) -> Result<Option<Checkpoint>, StoreError> {
    let Some(note) = place.read(CHECKPOINT).await? else { return Ok(None) };
    match Checkpoint::open(&note, keys) {
        Ok((checkpoint, _)) => Ok(Some(checkpoint)),
        Err(error) => {
            // It can be overwritten by anyone who can write there, so it only ever tells where to look first.
            tracing::warn!(%error, "the newest checkpoint cannot be used");
            Ok(None)
        }
    }
}

impl LogWriter {
    /// Reads all leaves once, holding them to the checkpoints signed before.
    pub(super) async fn open(&mut self) -> Result<(), LogError> {
        if self.opened {
            return Ok(());
        }
        let own = newest(&self.segments, &self.keys).await?;
        let copy = match &self.settings.copy {
            Some(copy) => newest(copy, &self.keys).await?,
            None => None,
        };
        let size = self.state.size();
        for checkpoint in own.iter().chain(&copy).filter(|checkpoint| checkpoint.size > size) {
            if self
                .signed
                .insert(checkpoint.size, checkpoint.root)
                .is_some_and(|root| root != checkpoint.root)
            {
                return Err(LogError::Changed { size: checkpoint.size });
            }
        }
        let known = own.as_ref().map_or(0, |checkpoint| checkpoint.size);
        self.read_bundles(known).await?;
        self.catch_up().await?;
        let found = self.state.size();
        if let Some((signed, _)) = self.signed.last_key_value() {
            return Err(LogError::RolledBack { signed: *signed, found });
        }
        self.published = self.published.max(known);
        self.state_keys().await?;
        self.publish().await?;
        self.tell_found();
        self.opened = true;
        Ok(())
    }

    /// Reads what lies in bundles: all that lie below a published size, then whatever full ones there are.
    async fn read_bundles(&mut self, published: u64) -> Result<(), LogError> {
        let bundle = u64::try_from(BUNDLE).unwrap_or(u64::MAX);
        let first = self.state.size() / bundle;
        let segments = self.segments.clone();
        let mut found = futures::stream::iter(first..)
            .map(|index| {
                let segments = &segments;
                async move { segments.read(&bundle_path(index, BUNDLE)).await.map(|bytes| (index, bytes)) }
            })
            .buffered(PUTS);
        while let Some((index, bytes)) = found.try_next().await? {
            let Some(bytes) = bytes else { break };
            let Some(entries) = parse_bundle(&bytes).filter(|entries| entries.len() == BUNDLE) else {
                return Err(StoreError::Broken(format!("{} is no bundle", bundle_path(index, BUNDLE))).into());
            };
            let skipped = usize::try_from(self.state.size().saturating_sub(index * bundle)).unwrap_or(BUNDLE);
            for entry in entries.into_iter().skip(skipped) {
                self.absorb(entry, &bundle_path(index, BUNDLE))?;
            }
            if self.state.size() <= published {
                // A checkpoint of a size is put after all its tiles.
                self.full.clear();
            } else {
                self.put_full().await?;
            }
        }
        while self.state.size() < published {
            let key = leaf_key(self.state.size());
            let Some(entry) = self.segments.read(&key).await? else { break };
            self.absorb(&entry, &key)?;
            if self.state.size() <= published {
                self.full.clear();
            }
        }
        Ok(())
    }
}
