//! The way to the witnesses that the configuration names.

use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use axum::http::{Method, Request, Uri, header};
use bursar_gateway_shim::Authorities;
use bursar_ingest::archive::{AddCheckpoint, Answer, Witness};
use bursar_schemas::evidence::{Kind, VerifierKey};
use bursar_schemas::policy::address_fault;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};

use crate::config::WitnessSettings;
use crate::https::{self, Https};

/// Bytes of an answer that are read: a line for each key of the witness.
const ANSWER: usize = 64 * 1024;

/// A witness's key, and where checkpoints are posted to.
fn parse(settings: &WitnessSettings) -> anyhow::Result<(VerifierKey, Uri)> {
    if let Some(fault) = address_fault(&settings.url, settings.allow_http) {
        anyhow::bail!("its {fault}");
    }
    anyhow::ensure!(!settings.url.contains(['?', '#']), "its url holds a query or a fragment");
    let url = format!("{}/add-checkpoint", settings.url.trim_end_matches('/'));
    let url: Uri = url.parse().context("its url cannot be read")?;
    let key: VerifierKey = settings.key.parse().context("its key")?;
    let witness = key.kind() == Kind::Cosignature;
    anyhow::ensure!(
        witness,
        "its key is one that signs notes; a witness's is of the type for cosignatures (0x04)"
    );
    Ok((key, url))
}

/// Checks what can be checked without asking anybody.
pub(crate) fn check(all: &[WitnessSettings]) -> anyhow::Result<()> {
    let mut keys = std::collections::BTreeSet::new();
    for settings in all {
        let place = || format!("archive.witnesses: {:?}", settings.url);
        let (key, _) = parse(settings).with_context(place)?;
        anyhow::ensure!(keys.insert(key), "{}: its key is named twice", place());
    }
    Ok(())
}

/// The witnesses to ask.
pub(super) fn witnesses(all: &[WitnessSettings], authorities: &Authorities) -> anyhow::Result<Vec<Witness>> {
    if all.is_empty() {
        return Ok(Vec::new());
    }
    let client = https::client(authorities)?;
    let witness = |settings| {
        let (key, url) = parse(settings)?;
        Ok(Witness { key, port: Arc::new(Post { client: client.clone(), url }) })
    };
    all.iter().map(witness).collect()
}

/// Posts to one witness.
struct Post {
    client: Https,
    url: Uri,
}

#[async_trait]
impl AddCheckpoint for Post {
    async fn add_checkpoint(&self, body: String) -> Result<Answer, String> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.url.clone())
            .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
            .header(header::USER_AGENT, https::USER_AGENT)
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        let answer = self.client.request(request).await.map_err(|error| {
            if error.is_connect() { "it could not be reached" } else { "the connection broke off" }.to_owned()
        })?;
        let status = answer.status().as_u16();
        let content_type = answer.headers().get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        let body = Limited::new(answer.into_body(), ANSWER).collect().await;
        let body = body.map_err(|_| "its answer broke off or is too long".to_owned())?.to_bytes();
        Ok(Answer { status, content_type, body })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn what_is_wrong_with_a_witness_is_said_before_it_is_asked() {
        let signer = bursar_schemas::evidence::SignerKey::new("one.example", &[3; 32]).unwrap();
        let notes = signer.verifier().to_string();
        let key =
            VerifierKey::new("one.example", Kind::Cosignature, *signer.verifier().public_key()).unwrap();
        let settings = |url: &str, key: &str, allow_http| WitnessSettings {
            url: url.to_owned(),
            key: key.to_owned(),
            allow_http,
        };
        let cosigns = key.to_string();
        let (found, url) = parse(&settings("https://one.example/path/", &cosigns, false)).unwrap();
        assert_eq!((found, url.to_string().as_str()), (key, "https://one.example/path/add-checkpoint"));
        for (url, allow_http) in
            [("http://127.0.0.1:7380", false), ("http://[::1]", false), ("http://w", true)]
        {
            parse(&settings(url, &cosigns, allow_http)).unwrap();
        }
        for (url, key, fault) in [
            ("http://one.example", cosigns.as_str(), "not on loopback"),
            ("ftp://one.example", &cosigns, "https://"),
            ("https://me@one.example", &cosigns, "user or password"),
            ("https://one.example/?a=b", &cosigns, "query"),
            ("https://one.example", "one.example+1234", "expected NAME+ID+KEY"),
            ("https://one.example", &notes, "for cosignatures"),
        ] {
            let error = format!("{:#}", check(&[settings(url, key, false)]).unwrap_err());
            assert!(error.contains("archive.witnesses") && error.contains(fault), "{error}");
        }
        let twice = ["https://one.example", "https://two.example"].map(|url| settings(url, &cosigns, false));
        assert!(check(&twice).unwrap_err().to_string().contains("named twice"));
    }
}
