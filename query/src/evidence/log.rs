//! The log: its leaves from three places that must agree, its tiles, and every checkpoint that was kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bursar_schemas::evidence::{
    BUNDLE, Checkpoint, Kind as KeyKind, Removal, TILE, Tile, TileTree, bundle_path, checkpoint_key,
    leaf_key, parse_bundle, parse_bundle_path, parse_tile_path, tile_path,
};
use bursar_schemas::ids::{Digest, Generation};
use bursar_schemas::merkle::leaf_hash;
use bursar_schemas::position::Lane;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::ObjectStore;

use super::inventory::Inventory;
use super::objects::get;
use super::report::{Kind, Report, seconds};
use super::{EvidenceError, VerifyOptions};

mod checkpoints;
mod leaves;

pub(super) use self::checkpoints::{Words, with_witnesses};

/// Objects read at the same time.
const READS: usize = 16;

const BLOCK: u64 = 256;

/// A segment as its leaf has it.
#[derive(Debug, Clone)]
pub(super) struct Sealed {
    pub(super) leaf: u64,
    pub(super) at_us: i64,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) sha256: Digest,
    pub(super) rows_root: Digest,
    pub(super) times_us: Option<(i64, i64)>,
    /// True when its schemas are those of this program.
    pub(super) contract: bool,
}

/// What the leaves say.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Leaves read.
    pub(super) size: u64,
    /// Leaves that a checkpoint of a given key covers.
    pub(super) covered: u64,
    pub(super) newest: Option<Checkpoint>,
    /// What witnesses whose keys are given say.
    pub(super) witnesses: Words,
    pub(super) trusted: Option<Checkpoint>,
    pub(super) contains_trusted: bool,
    pub(super) trusted_at_us: Option<i64>,
    pub(super) last_at_us: Option<i64>,
    pub(super) lanes: BTreeMap<(Generation, Lane), Vec<Sealed>>,
    pub(super) deployment_keys: BTreeSet<Digest>,
    /// By the leaf of a segment: the leaf that states its removal, and what it says.
    pub(super) removals: BTreeMap<u64, (u64, Removal)>,
    /// Hashes of all leaves.
    pub(super) hashes: Vec<Digest>,
}

impl Log {
    pub(super) fn segments(&self) -> u64 {
        self.lanes.values().map(|lane| u64::try_from(lane.len()).unwrap_or(u64::MAX)).sum()
    }
}

/// Reads the log and holds everything in it to everything else.
pub(super) async fn read(
    store: &Arc<dyn ObjectStore>,
    inventory: &Inventory,
    options: &VerifyOptions,
    report: &mut Report,
) -> Result<Log, EvidenceError> {
    let mut log = Log::default();
    let signed = checkpoints::read(store, inventory, &options.keys, &mut log.witnesses, report).await?;
    let mut roots: BTreeMap<u64, (Digest, String)> =
        signed.iter().map(|(size, checkpoint)| (*size, (checkpoint.root, checkpoint_key(*size)))).collect();
    if let Some(note) = &options.trusted {
        let opened = Checkpoint::open(note, &options.keys);
        let (trusted, note) = opened.map_err(|error| EvidenceError::Trusted(error.to_string()))?;
        let signed = note.verify(&options.keys).unwrap_or_default();
        let witnessed = signed.iter().any(|(key, _)| key.kind() == KeyKind::Cosignature);
        if !witnessed && options.keys.iter().any(|key| key.kind() == KeyKind::Cosignature) {
            return Err(EvidenceError::Trusted("no witness whose key was given has cosigned it".to_owned()));
        }
        for (key, signature) in signed {
            if let (KeyKind::Cosignature, Some(at)) = (key.kind(), signature.cosigned_at()) {
                let at = seconds(at);
                report.note(format!("the trusted checkpoint was cosigned by {} at {at}", key.name()));
            }
        }
        log.witnesses.take(&note, trusted.size, &options.keys);
        log.trusted = Some(trusted);
    }
    let mut reader = Reader {
        store,
        inventory,
        tree: TileTree::default(),
        checked: BTreeSet::new(),
        last: extent(inventory, &signed),
    };
    let mut leaves = leaves::Leaves::default();
    reader.run(&mut roots, &mut leaves, &mut log, report).await?;
    for (size, (_, name)) in roots {
        report.add(
            Kind::Missing,
            name,
            format!("it was signed for {size} leaves, and {} are there", log.size),
        );
    }
    log.newest = signed.range(..=log.size).next_back().map(|(_, checkpoint)| checkpoint.clone());
    log.covered = log.newest.as_ref().map_or(0, |checkpoint| checkpoint.size);
    for index in log.covered..log.size {
        report.add(Kind::Unsigned, leaf_key(index), "no checkpoint covers it");
    }
    if let Some(trusted) = log.trusted.as_ref().filter(|trusted| trusted.size > log.size) {
        let detail =
            format!("a trusted checkpoint has {} leaves, the archive has {}", trusted.size, log.size);
        report.add(Kind::RolledBack, "log", detail);
    }
    if let Some(trusted) = log.trusted.as_ref().filter(|trusted| trusted.size == 0) {
        log.contains_trusted = trusted.root == TileTree::default().root();
        if !log.contains_trusted {
            report.add(
                Kind::Forked,
                "log",
                "the trusted checkpoint of no leaves has a root that is not theirs",
            );
        }
    }
    reader.strangers(report);
    log.witnesses.tell(&options.keys, log.size, report);
    leaves.finish(&mut log, &options.keys, report);
    Ok(log)
}

/// How many leaves there are by the names and checkpoints of the archive.
fn extent(inventory: &Inventory, signed: &BTreeMap<u64, Checkpoint>) -> u64 {
    let leaves = inventory.leaves.last().map_or(0, |last| last.saturating_add(1));
    let bundles = inventory
        .bundles
        .iter()
        .map(|(index, width)| index.saturating_mul(BLOCK).saturating_add(u64::try_from(*width).unwrap_or(0)));
    let signed = signed.last_key_value().map_or(0, |(size, _)| *size);
    // A name alone can claim any number: no more is believed than one block beyond what else there is.
    leaves.max(signed).max(bundles.max().unwrap_or(0).min(leaves.max(signed).saturating_add(BLOCK)))
}

struct Reader<'a> {
    store: &'a Arc<dyn ObjectStore>,
    inventory: &'a Inventory,
    tree: TileTree,
    checked: BTreeSet<String>,
    last: u64,
}

impl Reader<'_> {
    async fn run(
        &mut self,
        roots: &mut BTreeMap<u64, (Digest, String)>,
        leaves: &mut leaves::Leaves,
        log: &mut Log,
        report: &mut Report,
    ) -> Result<(), EvidenceError> {
        while self.tree.size() < self.last {
            let start = self.tree.size();
            let entries = self.block(start, report).await?;
            let due = BLOCK.min(self.last - start);
            for entry in entries {
                let index = self.tree.size();
                let mut full = Vec::new();
                self.tree.push(&entry, &mut full);
                log.hashes.push(leaf_hash(&entry));
                leaves.take(index, &entry, log, report);
                let size = self.tree.size();
                log.size = size;
                for tile in full {
                    self.compare(&tile, true, report).await?;
                }
                let signed = roots.remove(&size);
                if let Some((root, name)) = &signed
                    && *root != self.tree.root()
                {
                    report.add(Kind::Forked, name.clone(), "the leaves that are there have another root");
                }
                if let Some(trusted) = log.trusted.as_ref().filter(|trusted| trusted.size == size) {
                    log.contains_trusted = trusted.root == self.tree.root();
                    log.trusted_at_us = log.last_at_us;
                    if !log.contains_trusted {
                        let detail = "the trusted checkpoint has another root than the leaves that are there";
                        report.add(Kind::Forked, format!("log of {size} leaves"), detail);
                    }
                }
                self.partial(size, signed.is_some(), report).await?;
            }
            if self.tree.size() - start < due {
                report.note(format!("nothing after leaf {} can be checked", self.tree.size()));
                break;
            }
        }
        Ok(())
    }

    /// The leaves of a block, as far as any source has them: each by the word of two of leaf, bundle and tile.
    async fn block(&mut self, start: u64, report: &mut Report) -> Result<Vec<Vec<u8>>, EvidenceError> {
        let index = start / BLOCK;
        let widest = |widths: Option<usize>| widths.unwrap_or(0);
        let bundle =
            widest(self.inventory.bundles.range((index, 0)..=(index, BUNDLE)).next_back().map(|it| it.1));
        let tile =
            widest(self.inventory.tiles.range((0, index, 0)..=(0, index, TILE)).next_back().map(|it| it.2));
        let bundled = if bundle > 0 { get(self.store, &bundle_path(index, bundle)).await? } else { None };
        let bundled: Vec<&[u8]> = bundled.as_deref().and_then(parse_bundle).unwrap_or_default();
        let hashes = if tile > 0 { get(self.store, &tile_path(0, index, tile)).await? } else { None };
        let hashes: Vec<&[u8]> =
            hashes.as_deref().map(|bytes| bytes.chunks(32).collect()).unwrap_or_default();
        let due = usize::try_from(BLOCK.min(self.last - start)).unwrap_or(0);
        let (store, inventory) = (self.store, self.inventory);
        let own: Vec<Option<Bytes>> = futures::stream::iter((start..).take(due))
            .map(|index| {
                let there = inventory.leaves.contains(&index);
                async move { if there { get(store, &leaf_key(index)).await } else { Ok(None) } }
            })
            .buffered(READS)
            .try_collect()
            .await?;
        let mut entries = Vec::with_capacity(due);
        for ((position, own), leaf) in own.into_iter().enumerate().zip(start..) {
            let in_bundle = bundled.get(position).copied();
            let hash = hashes.get(position).copied();
            let follows = |entry: &[u8]| hash.is_none_or(|hash| leaf_hash(entry).0 == hash);
            let chosen = match (own.as_deref(), in_bundle) {
                (None, None) => {
                    report.add(Kind::Missing, leaf_key(leaf), "neither the leaf nor its bundle holds it");
                    return Ok(entries);
                }
                (None, Some(entry)) => {
                    report.add(Kind::Missing, leaf_key(leaf), "its bundle holds it still");
                    entry
                }
                (Some(entry), Some(other)) if entry != other => {
                    if follows(other) && !follows(entry) {
                        report.add(
                            Kind::Altered,
                            leaf_key(leaf),
                            "its bundle and its tile agree on other bytes",
                        );
                        other
                    } else {
                        // The bundle is compared as a whole below.
                        entry
                    }
                }
                (Some(entry), _) => entry,
            };
            entries.push(chosen.to_vec());
        }
        Ok(entries)
    }

    /// Holds a tile to the leaves.
    async fn compare(&mut self, tile: &Tile, needed: bool, report: &mut Report) -> Result<(), EvidenceError> {
        if self.checked.contains(&tile.key) {
            return Ok(());
        }
        match get(self.store, &tile.key).await? {
            Some(bytes) if bytes == tile.bytes => {}
            Some(_) => report.add(Kind::Altered, tile.key.clone(), "it does not follow from the leaves"),
            None if needed => report.add(Kind::Missing, tile.key.clone(), "the leaves need it"),
            // Its full form came since the names were listed.
            None => {}
        }
        self.checked.insert(tile.key.clone());
        Ok(())
    }

    fn is_full(&self, key: &str) -> bool {
        let full = key.split_once(".p/").map_or(key, |(full, _)| full);
        parse_tile_path(full).is_some_and(|tile| self.inventory.tiles.contains(&tile))
            || parse_bundle_path(full).is_some_and(|bundle| self.inventory.bundles.contains(&bundle))
    }

    /// Holds the partial tiles of a size to the leaves, those that are there and those that must be.
    async fn partial(&mut self, size: u64, signed: bool, report: &mut Report) -> Result<(), EvidenceError> {
        let (index, width) = (size / BLOCK, usize::try_from(size % BLOCK).unwrap_or(0));
        let there = self.inventory.bundles.contains(&(index, width))
            || self.inventory.tiles.contains(&(0, index, width))
            || width == 0;
        if !there && !signed {
            return Ok(());
        }
        for tile in self.tree.partial() {
            let named = parse_tile_path(&tile.key).is_some_and(|it| self.inventory.tiles.contains(&it))
                || parse_bundle_path(&tile.key).is_some_and(|it| self.inventory.bundles.contains(&it));
            let needed = signed && !self.is_full(&tile.key);
            if named || needed {
                self.compare(&tile, needed, report).await?;
            }
        }
        Ok(())
    }

    /// Tiles and slots that belong to no size of this log.
    fn strangers(&self, report: &mut Report) {
        let tiles =
            self.inventory.tiles.iter().map(|(level, index, width)| tile_path(*level, *index, *width));
        let bundles = self.inventory.bundles.iter().map(|(index, width)| bundle_path(*index, *width));
        for key in tiles.chain(bundles).filter(|key| !self.checked.contains(key)) {
            report.add(Kind::Foreign, key, "it belongs to no size of the log");
        }
        for index in self.inventory.leaves.range(self.tree.size()..) {
            report.add(Kind::Foreign, leaf_key(*index), "the leaves before it are not there");
        }
    }
}
