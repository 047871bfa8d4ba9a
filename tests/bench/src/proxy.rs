//! A do-nothing proxy, the limit of what a gateway can be: an axum server and a pooled hyper client, bodies passed
//! on as they come, nothing looked at.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::serve::ListenerExt as _;
use hyper::StatusCode;
use hyper::header::HOST;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;

use crate::Outcome;

#[derive(Clone)]
struct Next {
    client: Client<HttpConnector, Body>,
    upstream: SocketAddr,
}

/// Listens on a free loopback port and serves in the background of this runtime.
///
/// # Errors
/// When nothing can be listened on.
pub async fn start(upstream: SocketAddr) -> Outcome<SocketAddr> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1024).build(connector);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            eprintln!("proxy: a connection without TCP_NODELAY: {error}");
        }
    });
    let router = Router::new().fallback(pass).with_state(Next { client, upstream });
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            eprintln!("proxy: {error}");
        }
    });
    Ok(address)
}

async fn pass(State(next): State<Next>, mut request: Request) -> Response {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let Ok(uri) = format!("http://{}{path}", next.upstream).parse() else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    *request.uri_mut() = uri;
    request.headers_mut().remove(HOST);
    match next.client.request(request).await {
        Ok(answer) => answer.map(Body::new),
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}
