//! Which requests and reservations are still open, and where what was said of them stands.

use std::collections::{BTreeMap, HashMap};

use bursar_schemas::avro::Avro as _;
use bursar_schemas::facts::{About, Fact, Head, Role};
use bursar_schemas::ids::{ProducerId, RequestId};
use bursar_schemas::wire;

/// What a fact means for open requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// A request was opened.
    Opened(RequestId),
    /// A request was closed.
    Closed(RequestId),
    /// Money was set aside for an attempt.
    Reserved(RequestId, u32),
    /// An attempt was settled or its reservation voided.
    Settled(RequestId, u32),
}

/// Schema ids of the facts that matter here; all others are passed over unread.
pub(super) const OPENED: u32 = 10;
const CLOSED: u32 = 11;
pub(super) const REFUSED: u32 = 12;
const RESERVED: u32 = 30;
const SETTLED: u32 = 31;
const VOIDED: u32 = 32;

/// The number of a fact and what it means for open requests, read without the rest of the fact and without
/// taking memory: this stands in the way of every append.
pub(super) fn glance(value: &[u8]) -> Option<(u64, Option<Sign>)> {
    let id = wire::schema_id(value).ok()?;
    let mut datum = value.get(wire::FRAME..)?;
    if !Fact::KINDS.iter().any(|(_, kind, _)| *kind == id) {
        return None;
    }
    // A head begins with producer, role and number.
    let mut head = datum;
    ProducerId::skip(&mut head).ok()?;
    Role::skip(&mut head).ok()?;
    let number = u64::decode(&mut head).ok()?;
    if !matches!(id, OPENED | CLOSED | RESERVED | SETTLED | VOIDED) {
        return Some((number, None));
    }
    Head::skip(&mut datum).ok()?;
    // What is said of a request begins with its id.
    let request = RequestId::decode(&mut &*datum).ok()?;
    let mut attempt = || {
        About::skip(&mut datum).ok()?;
        u32::decode(&mut datum).ok()
    };
    let sign = match id {
        OPENED => Sign::Opened(request),
        CLOSED => Sign::Closed(request),
        RESERVED => Sign::Reserved(request, attempt()?),
        _ => Sign::Settled(request, attempt()?),
    };
    Some((number, Some(sign)))
}

/// What is known of one request; `P` says where or what each fact is.
#[derive(Debug, Clone)]
pub(super) struct Open<P> {
    /// Its opening; none once it is closed while a reservation is not yet settled.
    pub(super) opened: Option<P>,
    /// Open reservations, by attempt.
    pub(super) reserved: BTreeMap<u32, P>,
    /// Settlements and voids of a request that is still open, by attempt.
    pub(super) settled: BTreeMap<u32, P>,
}

/// All open requests.
#[derive(Debug)]
pub(super) struct Tracker<P>(HashMap<RequestId, Open<P>>);

impl<P> Default for Tracker<P> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<P> Tracker<P> {
    /// Takes in what a fact means.
    pub(super) fn observe(&mut self, sign: Sign, place: P) {
        let fresh = || Open { opened: None, reserved: BTreeMap::new(), settled: BTreeMap::new() };
        match sign {
            Sign::Opened(request) => self.0.entry(request).or_insert_with(fresh).opened = Some(place),
            Sign::Reserved(request, attempt) => {
                self.0.entry(request).or_insert_with(fresh).reserved.insert(attempt, place);
            }
            Sign::Closed(request) => {
                if let Some(open) = self.0.get_mut(&request) {
                    open.opened = None;
                    // What was settled matters only for the closing fact.
                    open.settled.clear();
                }
                self.forget_if_done(request);
            }
            Sign::Settled(request, attempt) => {
                if let Some(open) = self.0.get_mut(&request) {
                    open.reserved.remove(&attempt);
                    if open.opened.is_some() {
                        open.settled.insert(attempt, place);
                    }
                }
                self.forget_if_done(request);
            }
        }
    }

    fn forget_if_done(&mut self, request: RequestId) {
        if self.0.get(&request).is_some_and(|open| open.opened.is_none() && open.reserved.is_empty()) {
            self.0.remove(&request);
        }
    }

    /// How many requests are open, or have an open reservation.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Every place that is still needed.
    pub(super) fn places_mut(&mut self) -> impl Iterator<Item = &mut P> {
        self.0.values_mut().flat_map(|open| {
            open.opened.iter_mut().chain(open.reserved.values_mut()).chain(open.settled.values_mut())
        })
    }

    /// Every place that is still needed.
    pub(super) fn places(&self) -> impl Iterator<Item = &P> {
        self.0
            .values()
            .flat_map(|open| open.opened.iter().chain(open.reserved.values()).chain(open.settled.values()))
    }

    /// All that is open.
    pub(super) fn into_open(self) -> impl Iterator<Item = (RequestId, Open<P>)> {
        self.0.into_iter()
    }
}

/// The dead incarnation for which a successor wrote this fact.
pub(super) fn on_behalf_of(fact: &Fact) -> Option<ProducerId> {
    match fact {
        Fact::RequestClosed(fact) => fact.opened_by,
        Fact::Settled(fact) => fact.reserved_by,
        Fact::Voided(fact) => fact.reserved_by,
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// The whole decoder is the oracle.
    #[test]
    fn a_glance_sees_what_the_whole_fact_says() {
        let mut signs = 0;
        for mut fact in bursar_schemas::samples::facts() {
            fact.head_mut().number = 1 << 40;
            let expected = match &fact {
                Fact::RequestOpened(fact) => Some(Sign::Opened(fact.about.request)),
                Fact::RequestClosed(fact) => Some(Sign::Closed(fact.about.request)),
                Fact::Reserved(fact) => Some(Sign::Reserved(fact.about.request, fact.attempt)),
                Fact::Settled(fact) => Some(Sign::Settled(fact.about.request, fact.attempt)),
                Fact::Voided(fact) => Some(Sign::Settled(fact.about.request, fact.attempt)),
                _ => None,
            };
            signs += usize::from(expected.is_some());
            assert_eq!(glance(&wire::encode(&fact)), Some((1 << 40, expected)), "{}", fact.kind());
        }
        assert!(signs >= 5, "every kind that matters has a sample");
        assert_eq!(glance(b"no fact"), None);
    }
}
