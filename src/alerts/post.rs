//! Posting to an address that policy names. What goes wrong is told without the address, which may be a secret itself.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use axum::http::{Method, Request, Uri, header};
use bursar_gateway_shim::Authorities;
use bursar_ledger::alerts::AlertState;
use bursar_schemas::avro::Micros;
use bursar_schemas::policy::{Webhook, address_fault};
use bytes::Bytes;
use http_body_util::Full;

use super::message;
use crate::https::{self, Https};
use crate::secrets;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// The client of all webhooks.
#[derive(Clone)]
pub(super) struct Post {
    client: Https,
    /// Where paths of references start.
    base: PathBuf,
}

impl Post {
    pub(super) fn new(base: PathBuf, authorities: &Authorities) -> anyhow::Result<Self> {
        Ok(Self { client: https::client(authorities)?, base })
    }

    /// Posts an alert once; gives the status of the answer. Redirects are not followed.
    ///
    /// # Errors
    /// When there is no answer, or nothing could be sent.
    pub(super) async fn send(
        &self,
        webhook: &Webhook,
        alert: &AlertState,
        now: Micros,
    ) -> anyhow::Result<u16> {
        let request = self.request(webhook, alert, now)?;
        let answer = tokio::time::timeout(PATIENCE, self.client.request(request)).await;
        match answer {
            Ok(Ok(answer)) => Ok(answer.status().as_u16()),
            Ok(Err(error)) if error.is_connect() => anyhow::bail!("it could not be reached"),
            Ok(Err(_)) => anyhow::bail!("the connection broke off"),
            Err(_) => anyhow::bail!("it did not answer within {} seconds", PATIENCE.as_secs()),
        }
    }

    fn request(
        &self,
        webhook: &Webhook,
        alert: &AlertState,
        now: Micros,
    ) -> anyhow::Result<Request<Full<Bytes>>> {
        let url = if webhook.url.contains("://") {
            webhook.url.clone()
        } else {
            let url = secrets::resolve(&webhook.url, &self.base).context("its url cannot be had")?;
            url.expose().to_owned()
        };
        if let Some(fault) = address_fault(&url, webhook.allow_http) {
            anyhow::bail!("its {fault}");
        }
        let url: Uri = url.parse().map_err(|_| anyhow::anyhow!("its url cannot be read"))?;
        let secret = secrets::resolve(&webhook.secret, &self.base).context("its secret cannot be had")?;
        let (id, seconds, body) = (alert.id(), now.0.div_euclid(1_000_000), message::body(alert));
        let signature = message::signature(&secret, &id, seconds, &body)?;
        Request::builder()
            .method(Method::POST)
            .uri(url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, https::USER_AGENT)
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds.to_string())
            .header("webhook-signature", signature)
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| anyhow::anyhow!("its url cannot be posted to"))
    }
}
