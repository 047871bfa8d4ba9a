//! Placing, listing and releasing legal holds; what policy and holds say now.

use std::sync::Arc;

use bursar_query::{QueryConfig, QueryService};
use bursar_schemas::facts::{Fact, HoldPlaced, HoldReleased};
use bursar_schemas::ids::hex;
use bursar_schemas::policy::{Hold, Holds, PolicyState};
use bursar_schemas::ports::Journal;
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::wire::{self, Unreadable};
use object_store::memory::InMemory;
use serde_json::{Value, json};

use crate::admin::retention::PlaceRequest;
use crate::admin::server::time;
use crate::clock::Clock;
use crate::exit::{Failure, Outcome};
use crate::publisher::Publisher;
use crate::secrets;

const LANE: Lane = Lane::new(Topic::Policy, 0);

/// Topics that a hold speaks of when it does not say: those whose records speak of requests.
pub(crate) const TOPICS: [Topic; 3] = [Topic::Requests, Topic::Routes, Topic::Spend];

/// The policy and the holds in force, as far as the topic was read.
#[derive(Default)]
pub(crate) struct Ruling {
    pub(crate) policy: PolicyState,
    pub(crate) holds: Holds,
    next: u64,
}

impl Ruling {
    /// Reads everything that stands in the topic now.
    pub(crate) async fn read(journal: &dyn Journal) -> Outcome<Self> {
        let mut ruling = Self::default();
        ruling.read_on(journal).await?;
        Ok(ruling)
    }

    /// Reads what came since.
    pub(crate) async fn read_on(&mut self, journal: &dyn Journal) -> Outcome {
        let end = journal.bounds(LANE).await?.end;
        if self.next >= end {
            return Ok(());
        }
        let mut cursor = journal.read(LANE, self.next).await?;
        while self.next < end {
            let batch = cursor.next().await?;
            for record in &batch.records {
                match wire::decode(&record.value) {
                    Ok(fact) => self.take(&fact),
                    // A later version wrote it, and it may be a hold.
                    Err(Unreadable::Schema(id)) => {
                        return Err(Failure::refused(format!(
                            "the policy topic holds facts of a later version (schema id {id}): use that version"
                        )));
                    }
                    Err(reason) => {
                        tracing::warn!(offset = record.offset, %reason, "unreadable record on the policy topic");
                    }
                }
            }
            self.next = batch.next;
        }
        Ok(())
    }

    fn take(&mut self, fact: &Fact) {
        self.policy.apply(fact);
        self.holds.apply(fact);
    }
}

/// Makes sure that a condition can be asked of topics, without an archive at hand.
pub(crate) async fn check_condition(topics: &[Topic], condition: &str, clock: &Clock) -> Outcome {
    let config = QueryConfig::default();
    let service =
        QueryService::open(config, Arc::new(InMemory::new()), None, None, Arc::clone(clock)).await?;
    for topic in topics {
        service.check_condition(*topic, condition).await.map_err(|error| {
            Failure::usage(anyhow::anyhow!("the condition cannot be asked of topic {topic}: {error}"))
        })?;
    }
    Ok(())
}

/// Places a hold; returns its id.
pub(crate) async fn place(publisher: &Publisher, request: PlaceRequest, author: &str) -> Outcome<String> {
    if request.reason.trim().is_empty() {
        return Err(Failure::refused("a hold needs a reason"));
    }
    let named = |name: &String| {
        let unknown = || Failure::usage(anyhow::anyhow!("there is no topic {name:?}"));
        Topic::from_name(name).ok_or_else(unknown)
    };
    let topics: Vec<Topic> = match request.topics.as_slice() {
        [] => TOPICS.to_vec(),
        names => names.iter().map(named).collect::<Outcome<_>>()?,
    };
    check_condition(&topics, &request.condition, publisher.clock()).await?;
    let hold = match request.id {
        Some(id) => id,
        None => format!("hold-{}", hex(&secrets::random::<4>()?)),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if hold.is_empty() || hold.len() > 128 || !hold.bytes().all(plain) {
        return Err(Failure::refused("a hold's id has 1 to 128 letters, digits or any of - _ ."));
    }
    let before = Ruling::read(&**publisher.journal()).await?;
    if before.holds.get(&hold).is_some() {
        return Err(Failure::refused(format!("there is a hold {hold:?} already, or there was one")));
    }
    let placed = |head| HoldPlaced {
        head,
        hold: hold.clone(),
        topics: topics.iter().map(|topic| topic.name().to_owned()).collect(),
        condition: request.condition,
        reason: request.reason,
        author: author.to_owned(),
    };
    publisher.state_fact(|head| placed(head).into()).await?;
    let after = Ruling::read(&**publisher.journal()).await?;
    match after.holds.get(&hold) {
        Some(found) if found.author == author && found.stands() => Ok(hold),
        _ => Err(Failure::refused(format!("another hold {hold:?} was placed at the same time"))),
    }
}

/// Releases a hold.
pub(crate) async fn release(publisher: &Publisher, hold: &str, reason: &str, author: &str) -> Outcome {
    if reason.trim().is_empty() {
        return Err(Failure::refused("a release needs a reason"));
    }
    let before = Ruling::read(&**publisher.journal()).await?;
    match before.holds.get(hold) {
        None => return Err(Failure::refused(format!("there is no hold {hold:?}"))),
        Some(found) if !found.stands() => {
            return Err(Failure::refused(format!("hold {hold:?} is released already")));
        }
        Some(_) => {}
    }
    let released = |head| HoldReleased {
        head,
        hold: hold.to_owned(),
        reason: reason.to_owned(),
        author: author.to_owned(),
    };
    publisher.state_fact(|head| released(head).into()).await
}

/// Every hold that was placed.
pub(crate) async fn list(publisher: &Publisher) -> Outcome<Vec<Value>> {
    let ruling = Ruling::read(&**publisher.journal()).await?;
    let row = |hold: &Hold| {
        let released = hold.released.as_ref();
        json!({
            "hold": hold.hold,
            "state": if hold.stands() { "stands" } else { "released" },
            "topics": hold.topics.iter().map(|topic| topic.name()).collect::<Vec<_>>().join(","),
            "condition": hold.condition,
            "reason": hold.reason,
            "placed_at": time(hold.placed_at.0),
            "placed_by": hold.author,
            "released_at": released.map(|(at, ..)| time(at.0)),
            "released_by": released.map(|(_, by, _)| by),
            "release_reason": released.map(|(.., reason)| reason),
        })
    };
    Ok(ruling.holds.all().map(row).collect())
}
