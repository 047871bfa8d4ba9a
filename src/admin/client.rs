//! The command line's side of the admin port.

use anyhow::Context as _;
use axum::http::{Method, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde_json::Value;

use crate::exit::{Failure, Outcome};
use crate::secrets::Secret;

/// A server that answers, and the token to show it.
pub(crate) struct Client {
    base: String,
    token: Secret,
    http: HttpClient<HttpConnector, Full<Bytes>>,
}

impl Client {
    pub(crate) fn new(base: &str, token: Secret) -> Self {
        let http = HttpClient::builder(TokioExecutor::new()).build_http();
        Self { base: base.trim_end_matches('/').to_owned(), token, http }
    }

    /// True when something answers there.
    pub(crate) async fn answers(&self) -> bool {
        self.send(Method::GET, "/healthz", None, None).await.is_ok_and(|(status, _)| status.is_success())
    }

    pub(crate) async fn get(&self, path: &str) -> Outcome<Value> {
        self.json(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &impl Serialize) -> Outcome<Value> {
        self.json(Method::POST, path, Some(serde_json::to_vec(body)?)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Outcome<Value> {
        self.json(Method::DELETE, path, None).await
    }

    /// The answer's bytes as they came, for formats that the server renders.
    pub(crate) async fn raw(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        accept: &str,
    ) -> Outcome<Bytes> {
        let (status, bytes) = self.send(method, path, body, Some(accept)).await?;
        if status.is_success() { Ok(bytes) } else { Err(refusal(status, &bytes)) }
    }

    async fn json(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Outcome<Value> {
        let bytes = self.raw(method, path, body, "application/json").await?;
        Ok(serde_json::from_slice(&bytes).context("failed to read the server's answer")?)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        accept: Option<&str>,
    ) -> Outcome<(StatusCode, Bytes)> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token.expose()));
        if let Some(accept) = accept {
            request = request.header(header::ACCEPT, accept);
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request =
            request.body(Full::new(Bytes::from(body.unwrap_or_default()))).map_err(Failure::usage)?;
        let answer = self.http.request(request).await;
        let answer = answer
            .map_err(|error| Failure::no_server(format!("no server answers at {}: {error}", self.base)))?;
        let status = answer.status();
        Ok((status, answer.into_body().collect().await.context("the server's answer broke off")?.to_bytes()))
    }
}

fn refusal(status: StatusCode, bytes: &Bytes) -> Failure {
    let body: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let message = body.pointer("/error/message").or_else(|| body.get("error")).and_then(Value::as_str);
    let message = message.map_or_else(|| format!("the server answered {status}"), str::to_owned);
    if status == StatusCode::BAD_REQUEST {
        Failure::usage(anyhow::anyhow!(message))
    } else {
        Failure::refused(message)
    }
}
