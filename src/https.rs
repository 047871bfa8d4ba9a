//! The HTTP client for addresses outside: webhooks and witnesses.

use std::time::Duration;

use bursar_gateway_shim::Authorities;
use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// What calls say of who makes them.
pub(crate) const USER_AGENT: &str = concat!("bursar/", env!("CARGO_PKG_VERSION"));

/// Follows no redirects and keeps no connection.
pub(crate) type Https = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A client that trusts these authorities, and takes `http://` where its user lets that through.
pub(crate) fn client(authorities: &Authorities) -> anyhow::Result<Https> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_connect_timeout(Some(Duration::from_secs(5)));
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(authorities.client()?)
        .https_or_http()
        .enable_http1()
        .wrap_connector(http);
    Ok(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(https))
}
