//! Captured content past its retention, and the erasure of a subject's.

use std::collections::BTreeSet;

use bursar_ingest::content::Vault;
use bursar_query::QueryService;
use bursar_schemas::facts::{Head, QueryRan, SubjectErased};
use bursar_schemas::ids::RequestId;
use bursar_schemas::policy::Hold;
use bursar_schemas::position::Topic;
use serde::Serialize;

use super::Keeper;
use super::holds::{Ruling, TOPICS};
use super::records::OpenRecords;
use crate::exit::{Failure, Outcome};
use crate::publisher::Publisher;

const DAY: i64 = 24 * 3600 * 1_000_000;

/// What became of captured content.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Contents {
    /// Days that policy keeps it.
    pub(crate) days: u32,
    /// Contents there are.
    pub(crate) contents: u64,
    /// Past their retention and under no hold.
    pub(crate) due: u64,
    /// Past their retention and kept: by a hold, or as one stands and their facts are not sealed yet.
    pub(crate) held: u64,
}

/// Contents that no hold speaks of, by request; all of them where no hold stands.
enum Free {
    All,
    These(BTreeSet<String>),
}

/// A content counts as free of holds only when the facts of its request are sealed, so that they could be asked.
async fn free(ruling: &Ruling, service: &QueryService) -> Result<Free, bursar_query::QueryError> {
    let holds: Vec<_> = ruling.holds.all().filter(|hold| hold.speaks_of(Topic::Requests)).collect();
    if holds.is_empty() {
        return Ok(Free::All);
    }
    let kept = service.kept_contents(Topic::Requests, "true", None).await?;
    let mut free: BTreeSet<String> = kept.into_iter().collect();
    for hold in holds {
        for held in service.kept_contents(Topic::Requests, &hold.condition, None).await? {
            free.remove(&held);
        }
    }
    Ok(Free::These(free))
}

/// What is past its retention; deleted when `apply` says so.
pub(super) async fn look(
    vault: &Vault,
    ruling: &Ruling,
    service: &QueryService,
    now_us: i64,
    apply: bool,
) -> Outcome<Contents> {
    let days = ruling.policy.document.retention.content();
    let all = vault.requests().await?;
    let mut contents =
        Contents { days, contents: u64::try_from(all.len()).unwrap_or(u64::MAX), ..Contents::default() };
    let past = |request: &&RequestId| request.opened_at().saturating_add(i64::from(days) * DAY) < now_us;
    let past: Vec<&RequestId> = all.iter().filter(past).collect();
    if past.is_empty() {
        return Ok(contents);
    }
    let free = free(ruling, service).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "a hold cannot be asked, so no captured content is deleted");
        Free::These(BTreeSet::new())
    });
    for request in past {
        if matches!(&free, Free::These(free) if !free.contains(&request.to_string())) {
            contents.held += 1;
            continue;
        }
        contents.due += 1;
        if apply {
            vault.delete(*request).await?;
        }
    }
    Ok(contents)
}

/// A content that somebody is about to see.
#[derive(Debug, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShownRequest {
    pub(crate) request: String,
}

/// Records that somebody sees a request's content, as a statement is recorded whose rows somebody sees.
pub(crate) async fn shown(keeper: &Keeper, request: &ShownRequest, by: &str) -> Outcome {
    let request: RequestId = request.request.parse().map_err(Failure::usage)?;
    let fact = QueryRan {
        head: Head::draft((keeper.parts.clock)(), 0, ""),
        by: by.to_owned(),
        statement: format!("content show {request}"),
        outcome: "finished".to_owned(),
        rows: 1,
        duration_us: 0,
    };
    keeper.record(fact.into(), "the journal did not acknowledge in time that it was shown").await
}

/// Whose content is to be made unreadable.
#[derive(Debug, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EraseRequest {
    pub(crate) subject: String,
    pub(crate) reason: String,
    /// Erase although a hold speaks of it.
    pub(crate) despite_holds: bool,
}

/// The hold that keeps something, and why; none when none does.
pub(crate) type Keeps = Option<(String, String)>;

/// A hold that speaks of a request of which the subject's content is kept, or may, and why; none when none does.
///
/// Records of `limits` and `policy` are of no request, so a hold on them alone speaks of no content.
pub(super) async fn held(
    vault: &Vault,
    ruling: &Ruling,
    service: &QueryService,
    subject: &str,
) -> Outcome<Keeps> {
    for hold in ruling.holds.all() {
        for topic in TOPICS.into_iter().filter(|topic| hold.speaks_of(*topic)) {
            match service.kept_contents(topic, &hold.condition, Some(subject)).await {
                Ok(held) if held.is_empty() => {}
                Ok(held) => {
                    let why = format!("{}, {} of its requests", hold.reason, held.len());
                    return Ok(Some((hold.hold.clone(), why)));
                }
                Err(error) => return Ok(Some((hold.hold.clone(), format!("cannot be asked: {error}")))),
            }
        }
    }
    let standing = |hold: &&Hold| TOPICS.into_iter().any(|topic| hold.speaks_of(topic));
    let Some(hold) = ruling.holds.all().find(standing) else { return Ok(None) };
    // A content lies there a moment before its fact is on record, and no condition finds it until then.
    let known = service.kept_contents(Topic::Requests, "true", None).await?;
    let known: BTreeSet<String> = known.into_iter().collect();
    for request in vault.requests().await? {
        if !known.contains(&request.to_string()) && vault.subject(request).await?.as_deref() == Some(subject)
        {
            let why = format!("cannot be asked: the content of request {request} is not on record yet");
            return Ok(Some((hold.hold.clone(), why)));
        }
    }
    Ok(None)
}

/// Destroys a subject's data key and records it; true when there was one. Refused while a hold speaks of the subject, or
/// while one stands and the records cannot be asked.
pub(crate) async fn erase(
    publisher: &Publisher,
    records: &OpenRecords,
    vault: &Vault,
    request: EraseRequest,
    author: &str,
) -> Outcome<bool> {
    if request.reason.trim().is_empty() {
        return Err(Failure::refused("an erasure needs a reason"));
    }
    let ruling = Ruling::read(&**publisher.journal()).await?;
    let standing: Vec<&str> =
        ruling.holds.all().filter(|hold| hold.stands()).map(|hold| hold.hold.as_str()).collect();
    if !standing.is_empty() && !request.despite_holds {
        let asked = async { records()?.held(vault, &ruling, &request.subject).await };
        let found = asked.await.unwrap_or_else(|failure| {
            Some((standing.join(", "), format!("the archive cannot be asked: {failure}")))
        });
        if let Some((hold, why)) = found {
            return Err(Failure::refused(format!(
                "a legal hold stands that this could destroy evidence of ({hold}: {why}): repeat it with \
                 --despite-holds if it may"
            )));
        }
    }
    let key_destroyed = vault.erase(&request.subject).await.map_err(|error| match error {
        bursar_ingest::content::VaultError::Subject => Failure::usage(error),
        error => Failure::from(error),
    })?;
    let erased = |head| SubjectErased {
        head,
        subject: request.subject.clone(),
        key_destroyed,
        reason: request.reason.clone(),
        author: author.to_owned(),
    };
    let recorded = publisher.state_fact(|head| erased(head).into()).await;
    recorded.map_err(|failure| Failure {
        error: failure.error.context("the key is destroyed, but that could not be recorded; erase once more"),
        ..failure
    })?;
    Ok(key_destroyed)
}
