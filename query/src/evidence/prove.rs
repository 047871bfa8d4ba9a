//! Writing the evidence of one request.

use std::sync::Arc;

use bursar_schemas::archive::segment_key;
use bursar_schemas::evidence::{Proof, inclusion_proof, leaf_key};
use bursar_schemas::ids::{Digest, Generation, RequestId, hex};
use bursar_schemas::merkle::leaf_hash;
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::wire;
use object_store::ObjectStore;

use super::bundle::{Bundle, FORMAT, ProvenFact, ProvenSegment, RECIPE, Scanned, request_of};
use super::inventory::Inventory;
use super::log::{self, Log, Sealed};
use super::objects::get;
use super::report::Report;
use super::segment::{Fault, Rows, check as check_segment};
use super::{EvidenceError, VerifyOptions};

/// How much earlier than its request's id a fact may say that it was written: clocks differ, and days are long.
const CLOCKS_APART: i64 = 24 * 3600 * 1_000_000;

/// The rows of a segment that speak of a request, with their paths.
fn facts_in(rows: &Rows, request: RequestId, segment: usize) -> Vec<ProvenFact> {
    let speaks = |value: &[u8]| {
        value.windows(request.0.len()).any(|window| window == request.0)
            && wire::decode(value).is_ok_and(|fact| request_of(&fact) == Some(request))
    };
    let found: Vec<(usize, u64, Vec<u8>)> = rows
        .each()
        .enumerate()
        .filter(|(_, (_, value))| speaks(value))
        .map(|(row, (offset, value))| (row, offset, value.to_vec()))
        .collect();
    if found.is_empty() {
        return Vec::new();
    }
    let hashes: Vec<Digest> = rows.each().map(|(_, value)| leaf_hash(value)).collect();
    let fact = |(row, offset, value): (usize, u64, Vec<u8>)| ProvenFact {
        segment,
        offset,
        row: u64::try_from(row).unwrap_or(u64::MAX),
        rows: u64::try_from(hashes.len()).unwrap_or(u64::MAX),
        path: inclusion_proof(&hashes, row),
        value: hex(&value),
    };
    found.into_iter().map(fact).collect()
}

struct Prover<'a> {
    store: &'a Arc<dyn ObjectStore>,
    hashes: &'a [Digest],
    checkpoint: String,
    request: RequestId,
}

impl Prover<'_> {
    async fn rows(&self, generation: Generation, lane: Lane, sealed: &Sealed) -> Result<Rows, EvidenceError> {
        let key = segment_key(generation, lane, sealed.first);
        let damaged = |what: String| EvidenceError::Damaged(format!("{key}: {what}"));
        let bytes = get(self.store, &key).await?.ok_or_else(|| damaged("it is missing".to_owned()))?;
        let sealed = sealed.clone();
        let checked =
            tokio::task::spawn_blocking(move || check_segment(generation, lane, &sealed, &bytes)).await;
        checked.map_err(|error| damaged(format!("it breaks its reader: {error}")))?.map_err(|fault| {
            match fault {
                Fault::Altered { detail, .. } | Fault::Contradiction(detail) => damaged(detail),
            }
        })
    }

    async fn segment(&self, leaf: u64) -> Result<ProvenSegment, EvidenceError> {
        let entry = get(self.store, &leaf_key(leaf)).await?;
        let entry = entry.ok_or_else(|| EvidenceError::Damaged(format!("{} is missing", leaf_key(leaf))))?;
        let manifest =
            String::from_utf8(entry.to_vec()).map_err(|error| EvidenceError::Damaged(error.to_string()))?;
        let path = inclusion_proof(self.hashes, usize::try_from(leaf).unwrap_or(usize::MAX));
        let proof = Proof { index: leaf, path, checkpoint: self.checkpoint.clone() };
        Ok(ProvenSegment { manifest, proof: proof.to_text() })
    }
}

fn speaks_of_requests(topic: Topic) -> bool {
    matches!(topic, Topic::Requests | Topic::Routes | Topic::Spend)
}

/// Every fact of a request, with proofs that lead to the newest checkpoint that one of the keys has signed, as it was
/// cosigned by then.
///
/// # Errors
/// When the store fails, the archive is damaged where it matters, or nothing is known of the request.
pub async fn prove(
    store: Arc<dyn ObjectStore>,
    options: &VerifyOptions,
    request: RequestId,
) -> Result<Bundle, EvidenceError> {
    let mut report = Report::default();
    let inventory = Inventory::take(&store, &mut report).await?;
    let mut report = Report::default();
    let log: Log = log::read(&store, &inventory, options, &mut report).await?;
    if let Some(finding) = report.findings.first() {
        let what = format!("{} {} {}", finding.kind.word(), finding.what, finding.detail);
        return Err(EvidenceError::Damaged(what));
    }
    let newest = log.newest.as_ref().ok_or_else(|| EvidenceError::NoLog("no checkpoint".to_owned()))?;
    let checkpoint = log::with_witnesses(&store, &inventory, newest.size, &options.keys).await?.to_text();
    let prover = Prover { store: &store, hashes: &log.hashes, checkpoint: checkpoint.clone(), request };
    let mut scanned = Scanned { leaves: newest.size, until_us: log.last_at_us, ..Scanned::default() };
    let (mut segments, mut facts) = (Vec::new(), Vec::new());
    let oldest = request.opened_at().saturating_sub(CLOCKS_APART);
    for ((generation, lane), sealed) in
        log.lanes.iter().filter(|((_, lane), _)| speaks_of_requests(lane.topic))
    {
        for sealed in sealed {
            scanned.segments += 1;
            if sealed.times_us.is_some_and(|(_, latest)| latest < oldest) {
                scanned.too_old += 1;
                continue;
            }
            if log.removals.contains_key(&sealed.leaf) {
                scanned.removed += 1;
                continue;
            }
            let rows = prover.rows(*generation, *lane, sealed).await?;
            scanned.rows += sealed.rows;
            let found = facts_in(&rows, prover.request, segments.len());
            if !found.is_empty() {
                segments.push(prover.segment(sealed.leaf).await?);
                facts.extend(found);
            }
        }
    }
    if facts.is_empty() {
        return Err(EvidenceError::NoFacts(request.to_string()));
    }
    let how_to_check = RECIPE.iter().map(|step| (*step).to_owned()).collect();
    Ok(Bundle { format: FORMAT.to_owned(), request, checkpoint, segments, facts, scanned, how_to_check })
}
