//! The names that an archive holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bursar_schemas::archive::{SEGMENTS, is_delta_key, parse_segment_key};
use bursar_schemas::evidence::{
    CHECKPOINT, CHECKPOINTS, LEAVES, parse_bundle_path, parse_cosigned, parse_numbered, parse_tile_path,
};
use bursar_schemas::ids::Generation;
use bursar_schemas::position::Lane;
use futures::TryStreamExt as _;
use object_store::ObjectStore;
use object_store::path::Path;

use super::EvidenceError;
use super::objects::largest;
use super::report::{Kind, Report};

/// What an archiver puts to see whether the store refuses a second put.
const PROBE: &str = "probe/put-if-absent";

/// Names what is too large to be read.
fn bound(key: &str, size: u64, report: &mut Report) {
    if size > largest(key) {
        let most = largest(key);
        report.add(Kind::Altered, key, format!("it has {size} bytes, of which its kind has at most {most}"));
    }
}

/// Numbers and sizes instead of names, so that millions of them fit.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    /// Starts and sizes of the segments of each lane.
    pub(super) segments: BTreeMap<(Generation, Lane), BTreeMap<u64, u64>>,
    pub(super) leaves: BTreeSet<u64>,
    pub(super) checkpoints: BTreeSet<u64>,
    /// Size, and the witness's key id.
    pub(super) cosigned: BTreeSet<(u64, [u8; 4])>,
    /// Level, number and width.
    pub(super) tiles: BTreeSet<(usize, u64, usize)>,
    /// Number and width.
    pub(super) bundles: BTreeSet<(u64, usize)>,
}

impl Inventory {
    pub(super) async fn take(
        store: &Arc<dyn ObjectStore>,
        report: &mut Report,
    ) -> Result<Self, EvidenceError> {
        let mut inventory = Self::default();
        // Segments first: an archiver at work puts a segment before its leaf.
        let mut segments = store.list(Some(&Path::from(SEGMENTS)));
        while let Some(meta) = segments.try_next().await? {
            let key = meta.location.as_ref();
            if !inventory.know(key, meta.size) {
                report.add(Kind::Foreign, key, "its name is not that of a segment");
            }
            bound(key, meta.size, report);
        }
        let mut listing = store.list(None);
        while let Some(meta) = listing.try_next().await? {
            let key = meta.location.as_ref();
            if key.strip_prefix(SEGMENTS).is_some_and(|rest| rest.starts_with('/')) {
                continue;
            }
            if !inventory.know(key, meta.size) {
                report.add(Kind::Foreign, key, "its name is none that an archive has");
            }
            bound(key, meta.size, report);
        }
        Ok(inventory)
    }

    fn know(&mut self, key: &str, size: u64) -> bool {
        if let Some((generation, lane, start)) = parse_segment_key(key) {
            self.segments.entry((generation, lane)).or_default().insert(start, size);
        } else if let Some(index) = parse_numbered(LEAVES, key) {
            self.leaves.insert(index);
        } else if let Some(size) = parse_numbered(CHECKPOINTS, key) {
            self.checkpoints.insert(size);
        } else if let Some(cosigned) = parse_cosigned(key) {
            self.cosigned.insert(cosigned);
        } else if let Some(tile) = parse_tile_path(key) {
            self.tiles.insert(tile);
        } else if let Some(bundle) = parse_bundle_path(key) {
            self.bundles.insert(bundle);
        } else {
            // A Delta table's commits say nothing that counts: they can be made again from the segments.
            return key == CHECKPOINT || key == PROBE || is_delta_key(key);
        }
        true
    }
}
