//! `bursar keys`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cli::{KeyCreate, Keys, Place};
use crate::door::Door;
use crate::exit::{Failure, Outcome};
use crate::publisher::KeyRequest;
use crate::{print, secrets};

const COLUMNS: [&str; 8] =
    ["key", "organisation", "team", "project", "issued_at", "author", "revoked_at", "revoked_by"];

pub(crate) async fn run(place: &Place, keys: Keys) -> Outcome {
    match keys {
        Keys::Create(create) => self::create(place, create).await,
        Keys::List(format) => {
            let door = Door::open(place).await?;
            let answer = door.client.get("/v1/keys").await?;
            door.close().await?;
            print::rows(
                answer["keys"].as_array().map(Vec::as_slice).unwrap_or_default(),
                &COLUMNS,
                format.format,
            )
        }
        Keys::Revoke { key } => {
            let door = Door::open(place).await?;
            door.client.delete(&format!("/v1/keys/{}", escape(&key))).await?;
            door.close().await?;
            print::out(&format!("key {key} is revoked\n"))
        }
    }
}

/// A path segment of a URL.
pub(crate) fn escape(segment: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    segment
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

async fn create(place: &Place, create: KeyCreate) -> Outcome {
    let mut tags = BTreeMap::new();
    for tag in &create.tags {
        let (name, value) = tag
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| Failure::usage(anyhow::anyhow!("a tag is NAME=VALUE, not {tag:?}")))?;
        tags.insert(name.to_owned(), value.to_owned());
    }
    if let Some(file) = create.secret_file.as_ref().filter(|file| file.exists()) {
        return Err(Failure::usage(anyhow::anyhow!("{} exists already", file.display())));
    }
    let request = KeyRequest {
        id: create.id,
        organisation: create.organisation,
        team: create.team,
        project: create.project,
        tags,
        models: create.models,
    };
    let door = Door::open(place).await?;
    let answer = door.client.post("/v1/keys", &request).await?;
    door.close().await?;
    let text = |field: &str| answer.get(field).and_then(Value::as_str).unwrap_or_default();
    match &create.secret_file {
        Some(file) => {
            secrets::write_private(file, &format!("{}\n", text("secret")))?;
            print::out(&format!("key {}: its secret is in {}\n", text("key"), file.display()))
        }
        None => print::out(&format!(
            "key {}\n{}\n(shown this once; only its hash is stored)\n",
            text("key"),
            text("secret")
        )),
    }
}
