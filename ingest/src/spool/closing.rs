//! What a successor says of a predecessor that died: pure.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{
    AttemptEnded, AttemptOutcome, Ending, Finding, FindingKind, Head, RequestClosed, RequestOpened, Reserved,
    ShimEnded,
};
use bursar_schemas::ids::ProducerId;
use bursar_schemas::money::Money;
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::producer::Draft;

/// A request that a predecessor left open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRequest {
    /// Its opening and the lane that it is on; none when only a reservation was left open.
    pub opened: Option<(Lane, RequestOpened)>,
    /// Open reservations, each with the lane that it is on.
    pub reservations: Vec<(Lane, Reserved)>,
    /// What its other attempts were settled at.
    pub settled: Money,
    /// The highest attempt seen.
    pub attempts: u32,
}

/// An incarnation that left its spool behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predecessor {
    /// The incarnation.
    pub producer: ProducerId,
    /// What it left open, by time of opening.
    pub orphans: Vec<OpenRequest>,
    /// Its last number on each lane, as far as its spool tells.
    pub last: BTreeMap<Lane, u64>,
    /// Facts that are sent again under its name.
    pub unacknowledged: u64,
}

/// What kind of damage was found in a spool's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DamageKind {
    /// The last write was cut short; it had never been acknowledged by a flush.
    TornTail,
    /// Bytes that are no frame any more; the file is kept under [`Damage::kept`].
    Corrupt,
}

/// A damaged place in a predecessor's spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Whose spool.
    pub producer: ProducerId,
    /// What kind.
    pub kind: DamageKind,
    /// Number of the segment.
    pub segment: u64,
    /// First byte that cannot be read.
    pub at: u64,
    /// How many bytes cannot be read.
    pub bytes: u64,
    /// Number of the first frame that can be missing.
    pub first: u64,
    /// Number of the last frame that is missing; none when no later frame tells.
    pub last: Option<u64>,
    /// Where the damaged file is kept.
    pub kept: Option<PathBuf>,
}

/// What was found at the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Incarnations that left their spools behind, oldest first.
    pub predecessors: Vec<Predecessor>,
    /// Damage found in them.
    pub damages: Vec<Damage>,
}

/// The facts that close what a predecessor left open: each reservation settled at its amount and its attempt
/// lost, each request closed as recovered, and last the predecessor's end on every `spend` lane it had.
#[must_use]
pub fn closing_facts(predecessor: &Predecessor, now: Micros) -> Vec<Draft> {
    let mut drafts = Vec::new();
    for orphan in &predecessor.orphans {
        let mut settled = orphan.settled;
        for (lane, reserved) in &orphan.reservations {
            settled = settled.plus(reserved.amount);
            let head = Head::draft(now, reserved.head.policy, &reserved.head.prices);
            let fact = reserved.settled_at_bound(head, predecessor.producer).into();
            drafts.push(Draft { lane: *lane, fact });
            let routes = Lane::new(Topic::Routes, lane.partition);
            drafts.push(Draft { lane: routes, fact: lose(reserved, now).into() });
        }
        if let Some((lane, opened)) = &orphan.opened {
            let fact = RequestClosed {
                head: Head::draft(now, opened.head.policy, &opened.head.prices),
                about: opened.about.clone(),
                ending: Ending::Recovered,
                status: 0,
                attempts: orphan.attempts,
                answer_bytes: 0,
                first_byte_us: None,
                duration_us: between(opened.head.at, now),
                settled,
                opened_by: Some(predecessor.producer),
            };
            drafts.push(Draft { lane: *lane, fact: fact.into() });
        }
    }
    // Last, since nothing of a lease may count as in flight once its holder has ended.
    for lane in predecessor.last.keys().filter(|lane| lane.topic == Topic::Spend) {
        let fact = ShimEnded { head: Head::draft(now, 0, ""), incarnation: predecessor.producer };
        drafts.push(Draft { lane: *lane, fact: fact.into() });
    }
    drafts
}

fn lose(reserved: &Reserved, now: Micros) -> AttemptEnded {
    AttemptEnded {
        head: Head::draft(now, reserved.head.policy, &reserved.head.prices),
        about: reserved.about.clone(),
        attempt: reserved.attempt,
        provider: reserved.provider.clone(),
        model: reserved.model.clone(),
        served_model: None,
        outcome: AttemptOutcome::Lost,
        status: None,
        provider_request: None,
        finish_reason: None,
        first_byte_us: None,
        duration_us: between(reserved.head.at, now),
        answer_bytes: 0,
    }
}

fn between(from: Micros, to: Micros) -> u64 {
    u64::try_from(to.0.saturating_sub(from.0)).unwrap_or(0)
}

/// The damage as facts, for the lane that the caller writes findings on. Their topic is `spool`, their
/// partition the segment, their offset the byte, and their numbers those of the missing frames.
#[must_use]
pub fn damage_facts(damages: &[Damage], lane: Lane, now: Micros) -> Vec<Draft> {
    damages
        .iter()
        .map(|damage| {
            let detail = match damage.kind {
                DamageKind::TornTail => {
                    format!("the spool's last write was cut short: {} bytes", damage.bytes)
                }
                DamageKind::Corrupt => format!("{} bytes of the spool cannot be read", damage.bytes),
            };
            let finding = Finding {
                head: Head::draft(now, 0, ""),
                kind: FindingKind::Unreadable,
                topic: "spool".to_owned(),
                partition: u32::try_from(damage.segment).unwrap_or(u32::MAX),
                offset: damage.at,
                subject: Some(damage.producer),
                first: damage.first,
                last: damage.last.unwrap_or(damage.first),
                detail,
            };
            Draft { lane, fact: finding.into() }
        })
        .collect()
}
