//! Publishes policy: versions, keys and raises. What counts is decided by the fold of `policy`, so two
//! publishers at once cannot both win; a publication returns only when its effect was read back.

mod change;
mod retire;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bursar_ledger::runner::settle;
use bursar_schemas::facts::{Fact, Head, KeyIssued, KeyRevoked, PartitionsSet, PolicyPublished};
use bursar_schemas::ids::{Digest, Pseudonyms, hex};
use bursar_schemas::policy::{Document, PolicyState};
use bursar_schemas::ports::{Journal, JournalError};
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::producer::{Draft, Recorder};
use bursar_schemas::wire;
use sha2::Digest as _;
use tokio::sync::{Mutex, watch};

use crate::clock::Clock;
use crate::exit::{Failure, Outcome};
use crate::secrets::{self, Secret};

pub(crate) use change::{Change, Lasts};

/// Prefix of virtual keys, by which secret scanners can find them.
pub(crate) const KEY_PREFIX: &str = "bsk-";

const LANE: Lane = Lane::new(Topic::Policy, 0);

/// How long a publication may take to come back.
const PATIENCE: Duration = Duration::from_secs(15);

/// The policy in force, and how far the topic was read.
#[derive(Debug, Clone, Default)]
pub(crate) struct InForce {
    pub(crate) state: Arc<PolicyState>,
    pub(crate) next: u64,
}

/// A key to be made.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyRequest {
    pub(crate) id: Option<String>,
    pub(crate) organisation: Option<String>,
    pub(crate) team: Option<String>,
    pub(crate) project: Option<String>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) models: Vec<String>,
}

/// Publishes and follows the policy topic.
pub(crate) struct Publisher {
    journal: Arc<dyn Journal>,
    recorder: Arc<Recorder>,
    clock: Clock,
    pseudonyms: Pseudonyms,
    in_force: watch::Receiver<InForce>,
    /// One publication at a time from this process; others are kept off by the fold.
    turn: Mutex<()>,
}

impl Publisher {
    /// Reads the topic to its end, then follows it in the background. Waits for a journal that is away.
    pub(crate) async fn start(
        journal: Arc<dyn Journal>,
        recorder: Arc<Recorder>,
        clock: Clock,
        pseudonyms: Pseudonyms,
    ) -> Outcome<Self> {
        let end = settle(|| journal.bounds(LANE)).await.context("failed to read the policy topic")?.end;
        let (sender, mut in_force) = watch::channel(InForce::default());
        tokio::spawn(follow(Arc::clone(&journal), sender));
        in_force.wait_for(|it| it.next >= end).await.context("failed to follow the policy topic")?;
        let publisher = Self { journal, recorder, clock, pseudonyms, in_force, turn: Mutex::new(()) };
        publisher.hold_to_partitions().await?;
        Ok(publisher)
    }

    /// Records at the first start into how many partitions organisations are spread, and holds every later one to it.
    async fn hold_to_partitions(&self) -> Outcome {
        let found = settle(|| self.journal.partitions(Topic::Spend)).await;
        let found = found.context("failed to read the spend topic")?;
        let mut state = self.state();
        if state.partitions.is_none() {
            let head = self.head(state.version);
            state = self.publish(PartitionsSet { head, partitions: found }.into()).await?;
        }
        match state.partitions {
            Some(recorded) if recorded != found => Err(Failure::usage(anyhow::anyhow!(
                "the topics have {found} partitions, and the policy topic says {recorded}: with another number organisations \
                 would begin anew elsewhere, as if they had spent nothing. Go back to {recorded}"
            ))),
            _ => Ok(()),
        }
    }

    /// The policy in force, as read so far.
    pub(crate) fn state(&self) -> Arc<PolicyState> {
        Arc::clone(&self.in_force.borrow().state)
    }

    /// Waits until everything that stands in the topic now was read.
    async fn catch_up(&self) -> Outcome<Arc<PolicyState>> {
        let end = self.journal.bounds(LANE).await.context("failed to read the policy topic")?.end;
        let mut in_force = self.in_force.clone();
        let reached = tokio::time::timeout(PATIENCE, in_force.wait_for(|it| it.next >= end)).await;
        let reached = reached.context("the policy topic did not come back in time")?;
        Ok(Arc::clone(&reached.context("the policy topic is no longer followed")?.state))
    }

    async fn publish(&self, fact: Fact) -> Outcome<Arc<PolicyState>> {
        self.publish_all(vec![Draft { lane: LANE, fact }]).await
    }

    async fn publish_all(&self, drafts: Vec<Draft>) -> Outcome<Arc<PolicyState>> {
        let receipt = self.recorder.record(drafts).context("failed to publish")?;
        tokio::time::timeout(PATIENCE, receipt)
            .await
            .context("the journal did not acknowledge in time")??;
        self.catch_up().await
    }

    fn head(&self, version: u64) -> Head {
        Head::draft((self.clock)(), version, "")
    }

    /// A document with the end users that its files name as pseudonyms: the form in which it is published and compared.
    pub(crate) fn publishable(&self, document: Document) -> Document {
        document.with_pseudonyms(|organisation, user| self.pseudonyms.of(organisation, user))
    }

    /// Where the topic is read from.
    pub(crate) const fn journal(&self) -> &Arc<dyn Journal> {
        &self.journal
    }

    pub(crate) const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Records what stands beside the document, such as a hold; returns when it was read back.
    pub(crate) async fn state_fact(&self, fact: impl FnOnce(Head) -> Fact) -> Outcome {
        let _turn = self.turn.lock().await;
        let state = self.catch_up().await?;
        self.publish(fact(self.head(state.version))).await.map(|_| ())
    }

    /// Publishes a document as the next version.
    pub(crate) async fn apply(
        &self,
        document: &Document,
        author: &str,
        revision: Option<String>,
    ) -> Outcome<u64> {
        let _turn = self.turn.lock().await;
        document.check().map_err(Failure::usage)?;
        if document.names_end_users() {
            return Err(Failure::usage(anyhow::anyhow!("a policy with end users' names is not published")));
        }
        let before = self.catch_up().await?;
        if before.version > 0 && before.document == *document && before.raises.is_empty() {
            return Ok(before.version);
        }
        let version = before.version + 1;
        let fact = PolicyPublished {
            head: self.head(before.version),
            version,
            author: author.to_owned(),
            approver: None,
            source_revision: revision,
            document: document.to_json(),
        };
        if fact.document.len() > wire::LONGEST - 4096 {
            return Err(Failure::usage(anyhow::anyhow!(
                "the policy is too large: {} bytes",
                fact.document.len()
            )));
        }
        let after = self.publish(fact.into()).await?;
        if after.version == version && after.document == *document {
            Ok(version)
        } else {
            Err(Failure::refused("another policy was published at the same time; look at it and apply again"))
        }
    }

    /// Makes a key; returns its id and secret, which is stored nowhere.
    pub(crate) async fn create_key(&self, request: KeyRequest, author: &str) -> Outcome<(String, Secret)> {
        let _turn = self.turn.lock().await;
        let state = self.catch_up().await?;
        let owner = resolve_owner(&state.document, &request)?;
        let id = match request.id {
            Some(id) => id,
            None => format!("key-{}", hex(&secrets::random::<4>()?)),
        };
        if id.is_empty()
            || id.len() > 128
            || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        {
            return Err(Failure::refused("a key's id has 1 to 128 letters, digits or any of - _ ."));
        }
        if state.keys.contains_key(&id) {
            return Err(Failure::refused(format!("there is a key {id:?} already")));
        }
        let secret = Secret::new(format!("{KEY_PREFIX}{}", hex(&secrets::random::<32>()?)));
        let fact = KeyIssued {
            head: self.head(state.version),
            key: id.clone(),
            secret_hash: Digest(sha2::Sha256::digest(secret.expose().as_bytes()).into()),
            organisation: owner.0,
            team: owner.1,
            project: request.project,
            tags: request.tags,
            models: request.models,
            author: author.to_owned(),
        };
        let hash = fact.secret_hash;
        let after = self.publish(fact.into()).await?;
        match after.keys.get(&id) {
            Some(key) if key.secret_hash == hash => Ok((id, secret)),
            _ => Err(Failure::refused(format!("another key {id:?} was made at the same time"))),
        }
    }

    /// Revokes a key.
    pub(crate) async fn revoke_key(&self, key: &str, author: &str) -> Outcome {
        let _turn = self.turn.lock().await;
        let state = self.catch_up().await?;
        match state.keys.get(key) {
            None => return Err(Failure::refused(format!("there is no key {key:?}"))),
            Some(found) if found.revoked.is_some() => {
                return Err(Failure::refused(format!("key {key:?} is revoked already")));
            }
            Some(_) => {}
        }
        let fact =
            KeyRevoked { head: self.head(state.version), key: key.to_owned(), author: author.to_owned() };
        self.publish(fact.into()).await.map(|_| ())
    }
}

/// Organisation and team of a key to be made.
fn resolve_owner(document: &Document, request: &KeyRequest) -> Outcome<(String, Option<String>)> {
    let missing =
        |what: &str, id: &str| Failure::refused(format!("there is no {what} {id:?} in the policy in force"));
    let mut team = request.team.clone();
    if let Some(id) = &request.project {
        let project =
            document.projects.iter().find(|found| found.id == *id).ok_or_else(|| missing("project", id))?;
        if team.as_ref().is_some_and(|team| *team != project.team) {
            return Err(Failure::refused(format!("project {id:?} is of team {:?}", project.team)));
        }
        team = Some(project.team.clone());
    }
    let mut organisation = request.organisation.clone();
    if let Some(id) = &team {
        let found = document.teams.iter().find(|found| found.id == *id).ok_or_else(|| missing("team", id))?;
        if organisation.as_ref().is_some_and(|organisation| *organisation != found.organisation) {
            return Err(Failure::refused(format!("team {id:?} is of organisation {:?}", found.organisation)));
        }
        organisation = Some(found.organisation.clone());
    }
    let organisation = match (organisation, document.organisations.as_slice()) {
        (Some(id), all) if all.iter().any(|found| found.id == id) => id,
        (Some(id), _) => return Err(missing("organisation", &id)),
        (None, [only]) => only.id.clone(),
        (None, _) => {
            return Err(Failure::refused("say which team, project or organisation the key draws on"));
        }
    };
    Ok((organisation, team))
}

/// Reads the topic for ever; a fault of the journal is waited out.
async fn follow(journal: Arc<dyn Journal>, sender: watch::Sender<InForce>) {
    let mut state = PolicyState::default();
    let mut next = 0;
    while !sender.is_closed() {
        if let Err(error) = follow_from(&*journal, &sender, &mut state, &mut next).await {
            if !matches!(error, JournalError::Unavailable(_)) {
                // Also when the journal is closed at the end of the process.
                tracing::info!(%error, "policy topic is no longer followed");
                return;
            }
            tracing::warn!(%error, "policy topic is not readable, trying again");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

async fn follow_from(
    journal: &dyn Journal,
    sender: &watch::Sender<InForce>,
    state: &mut PolicyState,
    next: &mut u64,
) -> Result<(), JournalError> {
    let mut cursor = journal.read(LANE, *next).await?;
    loop {
        let batch = tokio::select! {
            batch = cursor.next() => batch?,
            () = sender.closed() => return Ok(()),
        };
        for record in &batch.records {
            match wire::decode(&record.value) {
                Ok(fact) => {
                    state.apply(&fact);
                }
                Err(reason) => {
                    tracing::warn!(offset = record.offset, %reason, "unreadable record on the policy topic")
                }
            }
        }
        *next = batch.next;
        if sender.send(InForce { state: Arc::new(state.clone()), next: *next }).is_err() {
            return Ok(());
        }
    }
}
