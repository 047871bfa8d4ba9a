//! What the journal holds in the end: every request must have left all of its facts there, each once.

use std::collections::HashSet;

use bursar_schemas::facts::{Ending, Fact};
use bursar_schemas::ids::RequestId;
use bursar_schemas::ports::Journal;
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::wire;

use crate::{Fault, Outcome};

/// Requests of which the journal holds that kind of fact.
#[derive(Debug, Default)]
pub struct Told {
    opened: HashSet<RequestId>,
    decided: HashSet<RequestId>,
    reserved: HashSet<RequestId>,
    ended: HashSet<RequestId>,
    settled: HashSet<RequestId>,
    finished: HashSet<RequestId>,
    doubled: u64,
}

impl Told {
    fn take(&mut self, fact: &Fact) {
        let (seen, request) = match fact {
            Fact::RequestOpened(fact) => (&mut self.opened, fact.about.request),
            Fact::RouteDecided(fact) => (&mut self.decided, fact.about.request),
            Fact::Reserved(fact) => (&mut self.reserved, fact.about.request),
            Fact::AttemptEnded(fact) => (&mut self.ended, fact.about.request),
            Fact::Settled(fact) => (&mut self.settled, fact.about.request),
            Fact::RequestClosed(fact) if fact.ending == Ending::Finished => {
                (&mut self.finished, fact.about.request)
            }
            _ => return,
        };
        self.doubled += u64::from(!seen.insert(request));
    }

    /// Reads three lanes to their ends.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn read(journal: &dyn Journal) -> Outcome<Self> {
        let mut told = Self::default();
        for topic in [Topic::Requests, Topic::Routes, Topic::Spend] {
            let lane = Lane::new(topic, 0);
            let end = journal.bounds(lane).await?.end;
            let mut cursor = journal.read(lane, 0).await?;
            let mut next = 0;
            while next < end {
                let batch = cursor.next().await?;
                for record in &batch.records {
                    told.take(&wire::decode(&record.value)?);
                }
                next = batch.next;
            }
        }
        Ok(told)
    }

    /// That so many requests left all six of their facts, each once.
    ///
    /// # Errors
    /// When anything is missing or there twice.
    pub fn must_be(&self, requests: u64) -> Outcome<String> {
        let kinds = [
            ("opened", &self.opened),
            ("decided", &self.decided),
            ("reserved", &self.reserved),
            ("ended", &self.ended),
            ("settled", &self.settled),
            ("finished", &self.finished),
        ];
        for (name, seen) in kinds {
            let found = u64::try_from(seen.len())?;
            if found != requests || seen != &self.opened {
                return Err(Fault::from(format!("{requests} requests were served, but {found} {name}")));
            }
        }
        if self.doubled > 0 {
            return Err(Fault::from(format!("{} facts are there twice", self.doubled)));
        }
        Ok(format!("all {} facts of {requests} requests arrived, each once", requests * 6))
    }
}
