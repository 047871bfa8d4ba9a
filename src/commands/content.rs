//! `bursar content show` and `bursar erase`.

use anyhow::Context as _;
use bursar_schemas::ids::RequestId;
use serde_json::json;

use crate::cli::{Content, Erase, Place};
use crate::config::Config;
use crate::door::Door;
use crate::exit::{Failure, Outcome};
use crate::print;
use crate::retention::content::{EraseRequest, ShownRequest};
use crate::roles::content::vault;
use crate::wire::Deployment;

/// Shows a request's content to whoever has the key: it reads the store itself, no server does. Nothing is shown before it
/// is on record that it was.
pub(crate) async fn run(place: &Place, content: Content) -> Outcome {
    let Content::Show { request } = content;
    let request: RequestId = request.replace('-', "").parse().map_err(Failure::usage)?;
    let config = Config::load(&place.data, place.config.as_deref())?;
    let vault = vault(&config, false).map_err(Failure::usage)?;
    let (subject, clear) = vault.open_content(request).await.map_err(Failure::refused)?;
    let door = Door::open(place).await?;
    let shown = ShownRequest { request: request.to_string() };
    door.client.post("/v1/content/shown", &shown).await?;
    door.close().await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let shown = json!({
        "request": request.to_string(),
        "subject": subject,
        "cut": clear.cut,
        "prompt": text(&clear.prompt),
        "completion": text(&clear.completion),
    });
    print::out(&format!("{}\n", serde_json::to_string_pretty(&shown)?))
}

pub(crate) async fn erase(place: &Place, erase: Erase) -> Outcome {
    let subject = match (erase.subject, erase.end_user, erase.organisation) {
        (Some(subject), None, _) => subject,
        (None, Some(user), Some(organisation)) => {
            let config = Config::load(&place.data, place.config.as_deref())?;
            let deployment = Deployment::open(&config)
                .context("an end user's pseudonym follows from the deployment's key")?;
            deployment.pseudonyms().of(&organisation, &user).to_string()
        }
        _ => {
            return Err(Failure::usage(anyhow::anyhow!(
                "name --subject, or --end-user together with --organisation"
            )));
        }
    };
    let door = Door::open(place).await?;
    let request =
        EraseRequest { subject: subject.clone(), reason: erase.reason, despite_holds: erase.despite_holds };
    let answer = door.client.post("/v1/content/erase", &request).await?;
    door.close().await?;
    let said = if answer["key_destroyed"] == true {
        "its data key is destroyed: what was captured of it cannot be read any more"
    } else {
        "it has no data key: nothing that was captured of it can be read"
    };
    print::out(&format!("subject {subject}: {said}\n"))
}
