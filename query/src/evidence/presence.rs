//! Segments that are missing from the log or from the archive, and topics that were made anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bursar_schemas::archive::segment_key;
use bursar_schemas::ids::{Digest, Generation};
use bursar_schemas::position::Lane;
use object_store::ObjectStore;

use super::EvidenceError;
use super::inventory::Inventory;
use super::log::Log;
use super::objects::get;
use super::report::{Kind, Report};
use super::segment::footer_of;

type LaneId = (Generation, Lane);

/// Names each segment that is missing or that no leaf names, and each topic that was made anew.
pub(super) async fn check(
    store: &Arc<dyn ObjectStore>,
    inventory: &Inventory,
    log: &Log,
    report: &mut Report,
) -> Result<(), EvidenceError> {
    let none = BTreeMap::new();
    let empty = Vec::new();
    let lanes: BTreeSet<LaneId> = log.lanes.keys().chain(inventory.segments.keys()).copied().collect();
    let mut lives: BTreeMap<Lane, BTreeSet<Generation>> = BTreeMap::new();
    for (generation, lane) in lanes {
        let logged = log.lanes.get(&(generation, lane)).unwrap_or(&empty);
        if !logged.is_empty() {
            lives.entry(lane).or_default().insert(generation);
        }
        let there = inventory.segments.get(&(generation, lane)).unwrap_or(&none);
        let named: BTreeSet<u64> = logged.iter().map(|sealed| sealed.first).collect();
        let mut next = logged.last().map_or(0, |sealed| sealed.last.saturating_add(1));
        for start in there.keys().filter(|start| !named.contains(start)) {
            let key = segment_key(generation, lane, *start);
            let bytes = get(store, &key).await?.unwrap_or_default();
            let known = same_bytes(log, &bytes);
            // Aside, as a stranger's bytes may be made to break a reader.
            let footer = tokio::task::spawn_blocking(move || footer_of(&bytes)).await;
            match (known, footer.unwrap_or_else(|error| Err(error.to_string()))) {
                (Some(other), _) => report.add(Kind::Doubled, key, format!("it holds the bytes of {other}")),
                (None, Ok(footer))
                    if *start == next
                        && (footer.generation, footer.lane(), footer.start) == (generation, lane, next) =>
                {
                    next = footer.end.saturating_add(1);
                    let detail = "it follows the chain, but no leaf vouches for it: its archiver died before it was \
                                  logged (starting one logs it), or it is a stranger's";
                    report.add(Kind::Unlogged, key, detail);
                }
                (None, Ok(_)) => {
                    report.add(Kind::Foreign, key, "no leaf names it and it does not follow its chain")
                }
                (None, Err(error)) => report.add(Kind::Foreign, key, format!("no leaf names it: {error}")),
            }
        }
    }
    for (lane, lives) in lives.iter().filter(|(_, lives)| lives.len() > 1) {
        let names: Vec<String> = lives.iter().map(|life| format!("{life}")).collect();
        let detail = format!(
            "the topic was deleted and made anew; what stood unsealed at the end of a life is not here. Lives: {}",
            names.join(", ")
        );
        report.add(Kind::Recreated, lane.to_string(), detail);
    }
    Ok(())
}

/// The segment whose logged bytes these are.
fn same_bytes(log: &Log, bytes: &[u8]) -> Option<String> {
    use sha2::Digest as _;
    name_of(log, &Digest(sha2::Sha256::digest(bytes).into()))
}

pub(super) fn name_of(log: &Log, sha256: &Digest) -> Option<String> {
    log.lanes.iter().find_map(|((generation, lane), sealed)| {
        let found = sealed.iter().find(|it| it.sha256 == *sha256)?;
        Some(segment_key(*generation, *lane, found.first))
    })
}
