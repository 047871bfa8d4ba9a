//! Calling providers: pooled connections, addresses, keys, and which headers go through.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{PathAndQuery, Uri};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::RwLock;

use bursar_schemas::facts::Endpoint;
use bursar_schemas::policy::{Directory, Provider};

use crate::config::Secrets;
use crate::splice::Segments;
use crate::tls::{Authorities, TlsError};

/// How long a resolved secret is used before it is resolved again, so that a rotated key is taken up.
const SECRET_LIFE: Duration = Duration::from_secs(30);

/// Where one provider is called.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    chat: Uri,
    embeddings: Uri,
}

impl Addresses {
    pub(crate) const fn of(&self, endpoint: Endpoint) -> &Uri {
        match endpoint {
            Endpoint::ChatCompletions => &self.chat,
            Endpoint::Embeddings => &self.embeddings,
        }
    }
}

/// The addresses of every provider of a policy version; one whose base URL is no URL is left out.
pub(crate) fn addresses(directory: &Directory) -> HashMap<String, Addresses> {
    let provider = |provider: &Provider| {
        let base = provider.base_url.as_deref().unwrap_or("https://api.openai.com/v1");
        let chat = join(base, "/chat/completions")?;
        let embeddings = join(base, "/embeddings")?;
        Some((provider.id.clone(), Addresses { chat, embeddings }))
    };
    directory.document().providers.iter().filter_map(provider).collect()
}

fn join(base: &str, path: &str) -> Option<Uri> {
    let mut parts = base.parse::<Uri>().ok()?.into_parts();
    let (before, query) = match &parts.path_and_query {
        Some(found) => (found.path().trim_end_matches('/').to_owned(), found.query().map(str::to_owned)),
        None => (String::new(), None),
    };
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    parts.path_and_query = Some(PathAndQuery::try_from(format!("{before}{path}{query}")).ok()?);
    Uri::from_parts(parts).ok()
}

/// The client of all providers.
pub(crate) type UpstreamClient = Client<HttpsConnector<HttpConnector>, Segments>;

pub(crate) fn client(
    connect_timeout: Duration,
    authorities: &Authorities,
) -> Result<UpstreamClient, TlsError> {
    let mut http = HttpConnector::new();
    http.set_nodelay(true);
    http.enforce_http(false);
    http.set_connect_timeout(Some(connect_timeout));
    http.set_keepalive(Some(Duration::from_secs(60)));
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(authorities.client()?)
        .https_or_http()
        .enable_http1()
        .wrap_connector(http);
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(1024)
        .build(https))
}

/// Resolved secrets, kept for some seconds.
pub(crate) struct Keys {
    secrets: Secrets,
    kept: RwLock<HashMap<String, (Instant, HeaderValue)>>,
}

impl Keys {
    pub(crate) fn new(secrets: Secrets) -> Self {
        Self { secrets, kept: RwLock::default() }
    }

    /// The authorization header of a provider; none for one that asks for no key.
    pub(crate) fn authorization(&self, provider: &Provider) -> Result<Option<HeaderValue>, String> {
        let Some(reference) = &provider.api_key else { return Ok(None) };
        if let Some((since, value)) = self.kept.read().get(reference)
            && since.elapsed() < SECRET_LIFE
        {
            return Ok(Some(value.clone()));
        }
        let secret = (self.secrets)(reference).map_err(|error| error.to_string())?;
        let mut value = HeaderValue::from_str(&format!("Bearer {}", secret.expose().trim()))
            .map_err(|_| format!("the secret behind {reference} is no header value"))?;
        value.set_sensitive(true);
        let mut kept = self.kept.write();
        kept.retain(|_, (since, _)| since.elapsed() < SECRET_LIFE);
        kept.insert(reference.clone(), (Instant::now(), value.clone()));
        Ok(Some(value))
    }
}

const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

fn is_hop_by_hop(name: &HeaderName, connection: Option<&str>) -> bool {
    HOP_BY_HOP.contains(name)
        || name.as_str() == "keep-alive"
        || name.as_str() == "proxy-connection"
        || connection.is_some_and(|listed| {
            listed.split(',').any(|listed| listed.trim().eq_ignore_ascii_case(name.as_str()))
        })
}

/// Headers that carry a key or say on whose account a request goes: beside the operator's key the client's own mean
/// nothing, or another account than the operator's.
const CREDENTIALS: [&str; 8] = [
    "authorization",
    "api-key",
    "x-api-key",
    "x-goog-api-key",
    "ocp-apim-subscription-key",
    "cookie",
    "openai-organization",
    "openai-project",
];

/// The headers that go to a provider: the client's without its credentials, this product's and the hop's.
pub(crate) fn request_headers(
    client: &HeaderMap,
    end_user_header: &str,
    authorization: Option<HeaderValue>,
) -> HeaderMap {
    let connection = client.get(header::CONNECTION).and_then(|value| value.to_str().ok());
    let mut headers = HeaderMap::with_capacity(client.len() + 2);
    for (name, value) in client {
        let text = name.as_str();
        let ours = text.starts_with("x-bursar-") || text == end_user_header;
        let key = CREDENTIALS.contains(&text);
        let set_here = [header::HOST, header::CONTENT_LENGTH, header::ACCEPT_ENCODING, header::EXPECT];
        if !ours && !key && !set_here.contains(name) && !is_hop_by_hop(name, connection) {
            headers.append(name.clone(), value.clone());
        }
    }
    // Usage can only be read from an answer that is not compressed.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(value) = authorization {
        headers.insert(header::AUTHORIZATION, value);
    }
    headers
}

/// Takes the hop's own headers out of an answer.
pub(crate) fn clean_response(headers: &mut HeaderMap) {
    let connection = headers.get(header::CONNECTION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let gone: Vec<HeaderName> =
        headers.keys().filter(|name| is_hop_by_hop(name, connection.as_deref())).cloned().collect();
    for name in gone {
        headers.remove(name);
    }
}

/// The provider's own id of a request, where it is a plain word.
pub(crate) fn provider_request(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("x-request-id").or_else(|| headers.get("request-id"))?;
    crate::scan::plain_word(value.to_str().ok()?, 128)
}

/// A policy version with all that is computed from it once.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    pub(crate) directory: Directory,
    pub(crate) addresses: HashMap<String, Addresses>,
}

impl Policy {
    pub(crate) fn new(directory: Directory) -> Arc<Self> {
        let addresses = addresses(&directory);
        Arc::new(Self { directory, addresses })
    }
}

/// An answer of a provider.
pub(crate) type Answer = http::Response<Incoming>;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn paths_join_whatever_the_base_ends_in() {
        for (base, joined) in [
            ("http://h:1/v1", "http://h:1/v1/embeddings"),
            ("http://h:1/v1/", "http://h:1/v1/embeddings"),
            ("https://h", "https://h/embeddings"),
            ("https://h/a?api-version=1", "https://h/a/embeddings?api-version=1"),
        ] {
            assert_eq!(join(base, "/embeddings").unwrap().to_string(), joined);
        }
    }

    #[test]
    fn keys_and_hops_stay_behind() {
        let mut client = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer bsk-x"),
            ("x-api-key", "other"),
            ("api-key", "other"),
            ("x-goog-api-key", "other"),
            ("ocp-apim-subscription-key", "other"),
            ("cookie", "session=1"),
            ("openai-organization", "org-client"),
            ("openai-project", "proj-client"),
            ("x-bursar-end-user", "u"),
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("accept-encoding", "gzip"),
            ("openai-beta", "assistants=v2"),
            ("x-stainless-lang", "python"),
        ] {
            client.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let headers = request_headers(&client, "x-bursar-end-user", None);
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept-encoding", "openai-beta", "x-stainless-lang"]);
        assert_eq!(headers["accept-encoding"], "identity");
    }
}
