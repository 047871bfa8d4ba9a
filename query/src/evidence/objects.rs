//! An object's bytes, within what its kind may have, so that nobody can exhaust the memory of whoever checks.

use std::sync::Arc;

use bursar_schemas::archive::LARGEST_SEGMENT;
use bursar_schemas::evidence::{
    BUNDLE, CHECKPOINT, CHECKPOINTS, LEAVES, LONGEST_LEAF, TILE, parse_bundle_path, parse_cosigned,
    parse_numbered, parse_tile_path,
};
use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};

use super::EvidenceError;

/// The longest note that is read.
const NOTE: u64 = 256 * 1024;

/// The largest object of a name's kind.
pub(super) fn largest(key: &str) -> u64 {
    let small = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
    if parse_numbered(LEAVES, key).is_some() {
        small(LONGEST_LEAF)
    } else if key == CHECKPOINT || parse_numbered(CHECKPOINTS, key).is_some() || parse_cosigned(key).is_some()
    {
        NOTE
    } else if parse_tile_path(key).is_some() {
        small(TILE * 32)
    } else if parse_bundle_path(key).is_some() {
        small(BUNDLE * (LONGEST_LEAF + 2))
    } else {
        2 * LARGEST_SEGMENT
    }
}

/// An object's bytes; none when it is not there. What is too large for its kind, or no file at all, reads as empty: the
/// names that were listed say so of the first, and nothing that must be there is empty.
pub(super) async fn get(store: &Arc<dyn ObjectStore>, key: &str) -> Result<Option<Bytes>, EvidenceError> {
    match store.get(&Path::from(key)).await {
        Ok(found) if found.meta.size > largest(key) => Ok(Some(Bytes::new())),
        Ok(found) => Ok(Some(found.bytes().await?)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(object_store::Error::NotSupported { .. }) => Ok(Some(Bytes::new())),
        Err(error) => Err(error.into()),
    }
}
