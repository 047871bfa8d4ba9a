//! Captured content past its retention, and the erasure of a subject's.

use std::collections::BTreeSet;

use bursar_ingest::content::Vault;
use bursar_query::QueryService;
use bursar_schemas::facts::SubjectErased;
use bursar_schemas::ids::RequestId;
use serde::Serialize;

use super::holds::Ruling;
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
    let holds: Vec<_> =
        ruling.holds.all().filter(|hold| hold.speaks_of(bursar_schemas::position::Topic::Requests)).collect();
    if holds.is_empty() {
        return Ok(Free::All);
    }
    let mut free: BTreeSet<String> = service.kept_contents("true").await?.into_iter().collect();
    for hold in holds {
        for held in service.kept_contents(&hold.condition).await? {
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

/// Whose content is to be made unreadable.
#[derive(Debug, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EraseRequest {
    pub(crate) subject: String,
    pub(crate) reason: String,
    /// Erase although holds stand.
    pub(crate) despite_holds: bool,
}

/// Destroys a subject's data key and records it; true when there was one.
pub(crate) async fn erase(
    publisher: &Publisher,
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
        return Err(Failure::refused(format!(
            "legal holds stand that this could destroy evidence of ({}): repeat it with --despite-holds if it may",
            standing.join(", ")
        )));
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
