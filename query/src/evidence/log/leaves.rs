//! What the leaves say one after another: each lane's chain, the keys in use, the time.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bursar_schemas::archive::parse_segment_key;
use bursar_schemas::evidence::{Keys, Leaf, Manifest, Removal, VerifierKey, contract_fingerprint, leaf_key};
use bursar_schemas::ids::Generation;
use bursar_schemas::position::Lane;

use super::{Log, Sealed};
use crate::evidence::report::{Kind, Report, time};

/// How far two archivers' clocks may stand apart before a leaf counts as backdated, in microseconds.
const CLOCKS_APART: i64 = 10 * 60 * 1_000_000;

/// The chains that leaves make.
#[derive(Debug, Default)]
pub(super) struct Leaves {
    next: BTreeMap<(Generation, Lane), u64>,
    lanes: BTreeMap<(Generation, Lane), Vec<Sealed>>,
    /// Keys in use, with the leaves that state them.
    keys: Vec<(u64, Keys)>,
}

impl Leaves {
    pub(super) fn take(&mut self, index: u64, entry: &[u8], log: &mut Log, report: &mut Report) {
        let leaf = match Leaf::parse(entry) {
            Ok(leaf) => leaf,
            Err(error) => {
                report.add(Kind::Altered, leaf_key(index), error.to_string());
                return;
            }
        };
        let at = leaf.at_us();
        if let Some(last) = log.last_at_us.filter(|last| at < last.saturating_sub(CLOCKS_APART)) {
            let detail = format!("it says {} and comes after {}", time(at), time(last));
            report.add(Kind::Backdated, leaf_key(index), detail);
        }
        log.last_at_us = log.last_at_us.max(Some(at));
        match leaf {
            Leaf::Segment(manifest) => self.segment(index, &manifest, report),
            Leaf::Removal(removal) => self.removal(index, removal, log, report),
            Leaf::Keys(keys) => self.keys.push((index, keys)),
            Leaf::Heartbeat { .. } => {}
        }
    }

    fn segment(&mut self, index: u64, manifest: &Manifest, report: &mut Report) {
        let lane = (manifest.generation, manifest.lane());
        let sealed = self.lanes.entry(lane).or_default();
        let next = self.next.entry(lane).or_insert(0);
        if manifest.first > *next {
            let detail =
                format!("no leaf before {} logs offsets {} to {}", leaf_key(index), next, manifest.first - 1);
            report.add(Kind::Missing, format!("{}/{}", manifest.generation, manifest.lane()), detail);
        } else if manifest.first < *next {
            let twice = sealed.iter().any(|it| it.first == manifest.first);
            let kind = if twice { Kind::Doubled } else { Kind::Reordered };
            report.add(
                kind,
                leaf_key(index),
                format!("it logs {}, whose offsets were logged before", manifest.key),
            );
            return;
        }
        *next = manifest.last.saturating_add(1);
        sealed.push(Sealed {
            leaf: index,
            at_us: manifest.at_us,
            first: manifest.first,
            last: manifest.last,
            rows: manifest.rows,
            bytes: manifest.bytes,
            sha256: manifest.sha256,
            rows_root: manifest.rows_root,
            times_us: manifest.times_us,
            contract: manifest.schemas == contract_fingerprint(manifest.topic),
        });
    }

    /// A removal counts only of the very segment that a leaf before it logs.
    fn removal(&self, index: u64, removal: Removal, log: &mut Log, report: &mut Report) {
        let place = parse_segment_key(&removal.key);
        let lane = place.and_then(|(generation, lane, _)| self.lanes.get(&(generation, lane)));
        let of = lane.into_iter().flatten().find(|sealed| {
            sealed.leaf == removal.leaf
                && (sealed.first, sealed.last, sealed.rows) == (removal.first, removal.last, removal.rows)
                && (sealed.sha256, sealed.rows_root) == (removal.sha256, removal.rows_root)
        });
        if of.is_none() {
            let detail = format!("it removes {}, which no leaf before it logs so", removal.key);
            report.add(Kind::Forged, leaf_key(index), detail);
        } else if let Entry::Vacant(free) = log.removals.entry(removal.leaf) {
            free.insert((index, removal));
        } else {
            report.add(Kind::Doubled, leaf_key(index), format!("it removes {} a second time", removal.key));
        }
    }

    /// Only what a signed checkpoint covers is the log's word: anybody can put a leaf.
    pub(super) fn finish(self, log: &mut Log, given: &[VerifierKey], report: &mut Report) {
        log.lanes = self.lanes;
        let covered = log.covered;
        log.removals.retain(|_, (index, _)| *index < covered);
        if covered > 0 && self.keys.first().is_none_or(|(index, _)| *index > 0) {
            report.add(Kind::Forged, leaf_key(0), "the first leaf does not state the log's keys");
        }
        for (index, keys) in self.keys.into_iter().filter(|(index, _)| *index < covered) {
            let signed = log.newest.as_ref().map(|checkpoint| &checkpoint.origin);
            if signed.is_some_and(|origin| *origin != keys.origin) {
                let detail = format!("it states the keys of another log, {}", keys.origin);
                report.add(Kind::Forged, leaf_key(index), detail);
            } else if !given.iter().any(|key| key.to_string() == keys.log_key) {
                let detail = format!("it states a log key that was not given, {}", keys.log_key);
                report.add(Kind::Forged, leaf_key(index), detail);
            }
            log.deployment_keys.insert(keys.deployment_key);
        }
    }
}
