//! Evidence of one request in one file, checked with nothing but the log's key.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use bursar_schemas::evidence::{
    Checkpoint, Kind, Leaf, Manifest, Note, Proof, VerifierKey, verify_inclusion,
};
use bursar_schemas::facts::Fact;
use bursar_schemas::ids::{Digest, RequestId, hex};
use bursar_schemas::merkle::leaf_hash;
use bursar_schemas::wire;
use serde::{Deserialize, Serialize};

use super::EvidenceError;
use super::log::Words;
use super::plain::plain;
use super::report::{Witnessed, time};

/// What a bundle says that it is.
pub(super) const FORMAT: &str = "bursar-evidence/v1";

/// How a reader without this program checks a bundle.
pub(super) const RECIPE: [&str; 7] = [
    "Take the log's verifier key from outside this file: NAME+ID+base64(0x01 and 32 bytes of an Ed25519 key).",
    "Each segment's `proof` is a C2SP .tlog-proof file: check its checkpoint's signature with that key (the text up \
     to and with the line feed before the empty line), then hash SHA-256(0x00, `manifest`) up along its path \
     (SHA-256(0x01, left, right), RFC 9162 section 2.1.3.2) to the root in the checkpoint's third line.",
    "The manifest's `rows_root` is the same kind of root over the segment's records: for each fact hash \
     SHA-256(0x00, `value` from hexadecimal digits) up along `path`, as leaf `row` of `rows`, to that root. Its `offset` is \
     the manifest's `first` plus `row`, and larger by at most what `last` - `first` + 1 is larger than `rows`.",
    "`value` is a zero byte, the Avro schema's id as four big-endian bytes, then the Avro datum; the schemas are \
     part of the product (schemas/avro, ids.json says which one an id means) and their fingerprint is in the manifest.",
    "A witness's line in the checkpoint is an Ed25519 signature of `cosignature/v1`, a line `time SECONDS` and the text; \
     its 4 bytes of key id are followed by the seconds in 8 bytes (C2SP tlog-cosignature). Take its key from outside, too.",
    "`scanned` says which part of the log was searched for the request. To repeat the search, run `bursar prove` on \
     the archive, or filter the Parquet files' column `request`.",
    "`bursar verify --bundle FILE --key KEY` does all of this.",
];

/// A segment that facts stand in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvenSegment {
    /// The leaf's entry, word for word.
    pub manifest: String,
    /// The `.tlog-proof` file that shows it in the log.
    pub proof: String,
}

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvenFact {
    /// Which of the segments it stands in.
    pub segment: usize,
    /// Its offset in the lane.
    pub offset: u64,
    /// Its place among the segment's rows, from 0.
    pub row: u64,
    /// The segment's rows.
    pub rows: u64,
    /// Siblings up to the segment's `rows_root`.
    pub path: Vec<Digest>,
    /// The record's bytes in hexadecimal digits.
    pub value: String,
}

const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What was searched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scanned {
    /// Leaves of the log, all of which were read.
    pub leaves: u64,
    /// Time of the last leaf, in microseconds since 1970.
    pub until_us: Option<i64>,
    /// Segments of the topics that speak of requests.
    pub segments: u64,
    /// Of these, not opened as all their facts are older than the request by more than a day.
    pub too_old: u64,
    /// Of these, not searched as their records were removed under retention.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub removed: u64,
    /// Rows searched.
    pub rows: u64,
}

/// Evidence of one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// [`FORMAT`].
    pub format: String,
    /// The request.
    pub request: RequestId,
    /// The signed checkpoint, word for word, with the lines of the witnesses that had cosigned it.
    pub checkpoint: String,
    /// Segments that its facts stand in.
    pub segments: Vec<ProvenSegment>,
    /// Its facts, in the order of topics, partitions and offsets.
    pub facts: Vec<ProvenFact>,
    /// What was searched.
    pub scanned: Scanned,
    /// How to check it without this program.
    pub how_to_check: Vec<String>,
}

/// What a bundle proves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BundleReport {
    /// The request.
    pub request: RequestId,
    /// True when every fact is proved.
    pub holds: bool,
    /// What is wrong.
    pub faults: Vec<String>,
    /// One line for each fact that is proved.
    pub facts: Vec<String>,
    /// The checkpoint's size.
    pub leaves: u64,
    /// What the witnesses say whose keys were given.
    pub witnesses: Vec<Witnessed>,
    /// What the result means.
    pub verdict: Vec<String>,
}

impl BundleReport {
    /// For people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("request       {}\n", self.request);
        for fact in &self.facts {
            // Writing to a text cannot fail.
            let _ = writeln!(text, "proved        {}", plain(fact));
        }
        for fault in &self.faults {
            let _ = writeln!(text, "fault         {}", plain(fault));
        }
        for sentence in &self.verdict {
            let _ = writeln!(text, "{}", plain(sentence));
        }
        text
    }
}

/// The request that a fact speaks of.
pub(super) fn request_of(fact: &Fact) -> Option<RequestId> {
    match fact {
        Fact::RequestRefused(refused) => Some(refused.request),
        other => other.about().map(|about| about.request),
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let byte =
        |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let plain = text.len().is_multiple_of(2) && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    if plain { text.as_bytes().chunks(2).map(byte).collect() } else { None }
}

/// Checks a bundle; the keys come from outside it.
///
/// # Errors
/// When it is no bundle. What does not hold is told in the report.
pub fn verify_bundle(text: &[u8], keys: &[VerifierKey]) -> Result<BundleReport, EvidenceError> {
    let bundle: Bundle =
        serde_json::from_slice(text).map_err(|error| EvidenceError::Bundle(error.to_string()))?;
    if bundle.format != FORMAT {
        return Err(EvidenceError::Bundle(format!("its format is {:?}", bundle.format)));
    }
    let mut faults = Vec::new();
    let opened = Checkpoint::open(bundle.checkpoint.as_bytes(), keys)
        .map_err(|error| faults.push(format!("its checkpoint: {error}")))
        .ok();
    let checkpoint = opened.as_ref().map(|(checkpoint, _)| checkpoint);
    let manifests: Vec<Option<(u64, Manifest)>> = (0..)
        .zip(&bundle.segments)
        .map(|(index, segment)| {
            segment_of(segment, checkpoint, keys)
                .map_err(|fault: String| faults.push(format!("segment {index}: {fault}")))
                .ok()
        })
        .collect();
    let mut facts = Vec::new();
    // A row is one fact, however many offsets are claimed for it.
    let mut rows = BTreeSet::new();
    for fact in &bundle.facts {
        let manifest = manifests.get(fact.segment).and_then(Option::as_ref);
        let proved = manifest
            .ok_or_else(|| "its segment is not proved".to_owned())
            .and_then(|(leaf, it)| Ok((*leaf, it, check(fact, it, bundle.request)?)));
        match proved {
            Ok((leaf, manifest, line)) => {
                let place = format!("{}/{} offset {}", manifest.generation, manifest.lane(), fact.offset);
                if rows.insert((leaf, fact.row)) {
                    facts.push(format!("{place}  {line}"));
                } else {
                    faults.push(format!("{place}: row {} of leaf {leaf} is in twice", fact.row));
                }
            }
            Err(fault) => faults.push(format!("fact at offset {}: {fault}", fact.offset)),
        }
    }
    if bundle.facts.is_empty() {
        faults.push("it holds no fact".to_owned());
    }
    let leaves = checkpoint.map_or(0, |checkpoint| checkpoint.size);
    if bundle.scanned.leaves != leaves {
        faults.push(format!("{} leaves were searched, its checkpoint has {leaves}", bundle.scanned.leaves));
    }
    let note = opened.as_ref().map(|(_, note)| note);
    let witnesses = note.map(|note| cosigned(note, leaves, keys, &mut faults)).unwrap_or_default();
    let verdict = verdict(&bundle.scanned, facts.len(), faults.len(), leaves)
        .into_iter()
        .chain([witnessed(&witnesses, note, keys)])
        .collect();
    let (request, holds) = (bundle.request, faults.is_empty());
    Ok(BundleReport { request, holds, faults, facts, leaves, witnesses, verdict })
}

/// What each witness says whose key was given; one that says nothing is a fault, since somebody counts on it.
fn cosigned(note: &Note, size: u64, keys: &[VerifierKey], faults: &mut Vec<String>) -> Vec<Witnessed> {
    let mut words = Words::default();
    words.take(note, size, keys);
    let mut witnesses = Vec::new();
    for key in keys.iter().filter(|key| key.kind() == Kind::Cosignature) {
        match words.of(key) {
            Some(witnessed) => witnesses.push(witnessed),
            None => faults.push(format!("its checkpoint is not cosigned by {}", key.name())),
        }
    }
    witnesses
}

/// What the witnesses' lines mean.
fn witnessed(witnesses: &[Witnessed], note: Option<&Note>, keys: &[VerifierKey]) -> String {
    if !witnesses.is_empty() {
        let each: Vec<String> = witnesses.iter().map(|it| format!("{} at {}", it.name, it.at)).collect();
        return format!(
            "The checkpoint was cosigned by {}: they were shown no other history.",
            each.join(", ")
        );
    }
    let lines = note.map_or(&[][..], |note| &note.signatures);
    let known = |id: &[u8; 4]| keys.iter().any(|key| key.id() == *id);
    let others: Vec<&str> =
        lines.iter().filter(|line| !known(&line.id)).map(|line| line.name.as_str()).collect();
    if others.is_empty() {
        return "No witness has cosigned the checkpoint: only the log's own key stands for it.".to_owned();
    }
    format!("Not looked at are the lines of {}: no such key was given (--witness).", others.join(", "))
}

/// What so many proved facts and faults mean.
fn verdict(scanned: &Scanned, facts: usize, faults: usize, leaves: u64) -> [String; 2] {
    let proved = if faults == 0 {
        format!("{facts} facts are proved to stand in the log of {leaves} leaves.")
    } else {
        format!("The bundle does not hold: {faults} faults.")
    };
    let searched = format!(
        "That there are no others is what its maker states: {} rows of {} segments were searched, {} segments were \
         too old, {} were removed under retention, up to {}.",
        scanned.rows,
        scanned.segments.saturating_sub(scanned.too_old).saturating_sub(scanned.removed),
        scanned.too_old,
        scanned.removed,
        scanned.until_us.map_or_else(|| "no time".to_owned(), time)
    );
    [proved, searched]
}

fn segment_of(
    segment: &ProvenSegment,
    checkpoint: Option<&Checkpoint>,
    keys: &[VerifierKey],
) -> Result<(u64, Manifest), String> {
    let proof = Proof::parse(&segment.proof).map_err(|error| error.to_string())?;
    let under = proof.verify(segment.manifest.as_bytes(), keys).map_err(|error| error.to_string())?;
    if checkpoint != Some(&under) {
        return Err("it is proved under another checkpoint".to_owned());
    }
    match Leaf::parse(segment.manifest.as_bytes()) {
        Ok(Leaf::Segment(manifest)) => Ok((proof.index, manifest)),
        Ok(_) => Err("its leaf is not that of a segment".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn check(fact: &ProvenFact, manifest: &Manifest, request: RequestId) -> Result<String, String> {
    let value = unhex(&fact.value).ok_or("its value is not hexadecimal")?;
    if fact.rows != manifest.rows {
        return Err("its segment has another number of rows".to_owned());
    }
    verify_inclusion(leaf_hash(&value), fact.row, manifest.rows, &fact.path, &manifest.rows_root)
        .map_err(|error| error.to_string())?;
    let least = manifest.first.checked_add(fact.row).ok_or("its row is beyond all offsets")?;
    let dense = manifest.last - manifest.first + 1 == manifest.rows;
    if fact.offset > manifest.last || fact.offset < least || (dense && fact.offset != least) {
        return Err("its offset is not that of its row".to_owned());
    }
    let read = wire::decode(&value).map_err(|error| error.to_string())?;
    if request_of(&read) != Some(request) {
        return Err("it speaks of another request".to_owned());
    }
    let head = read.head();
    let amount = if let Fact::Settled(settled) = &read {
        format!(", settled at {}", settled.amount)
    } else {
        String::new()
    };
    let (kind, producer) = (read.kind(), hex(&head.producer.0));
    Ok(format!(
        "{kind} {} by {} {producer} number {}{amount}",
        time(head.at.0),
        head.role.word(),
        head.number
    ))
}
