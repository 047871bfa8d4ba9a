#![allow(clippy::all, clippy::unwrap_used, missing_docs)]
use bursar_gateway_shim::*;
use bursar_schemas::{
    avro::Micros, facts::*, ids::*, memory::MemoryJournal, policy::Document, position::*, price::PriceTable,
    producer::*,
};
use bytes::Bytes;
use http_body_util::*;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo,TokioExecutor};
use sha2::Digest as _;
use std::sync::Arc;
use std::time::*;
fn now() -> Micros {
    Micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64)
}
struct Null(MemoryJournal);
impl bursar_schemas::ports::Outlet for Null {
    fn append(
        &self,
        e: Vec<bursar_schemas::ports::Entry>,
    ) -> Result<bursar_schemas::ports::Receipt, bursar_schemas::ports::OutletError> {
        let _ = e;
        Ok(Box::pin(std::future::ready(Ok(()))))
    }
}
const A: &str = r#"{"id":"c","model":"m-2026","choices":[{"message":{"content":"answer"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}"#;
#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() {
    let a: Vec<String> = std::env::args().collect();
    match a[1].as_str() {
        "up" => {
            let l = tokio::net::TcpListener::bind("127.0.0.1:7101").await.unwrap();
            loop {
                let (s, _) = l.accept().await.unwrap();
                s.set_nodelay(true).unwrap();
                tokio::spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(
                            TokioIo::new(s),
                            service_fn(|r: hyper::Request<hyper::body::Incoming>| async {
                                let _ = r.into_body().collect().await;
                                Ok::<_, std::convert::Infallible>(
                                    hyper::Response::builder()
                                        .header("content-type", "application/json")
                                        .body(Full::new(Bytes::from_static(A.as_bytes())))
                                        .unwrap(),
                                )
                            }),
                        )
                        .await;
                });
            }
        }
        "bare" => {
            let c = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
                .build_http::<hyper::body::Incoming>();
            let l = tokio::net::TcpListener::bind("127.0.0.1:7102").await.unwrap();
            loop {
                let (s, _) = l.accept().await.unwrap();
                s.set_nodelay(true).unwrap();
                let c = c.clone();
                tokio::spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(
                            TokioIo::new(s),
                            service_fn(move |mut r: hyper::Request<hyper::body::Incoming>| {
                                let c = c.clone();
                                async move {
                                    *r.uri_mut() =
                                        "http://127.0.0.1:7101/v1/chat/completions".parse().unwrap();
                                    c.request(r).await
                                }
                            }),
                        )
                        .await;
                });
            }
        }
        "shim" => {
            let j = MemoryJournal::new(1);
            let d=Document::from_toml([("t","[[organisation]]\nid=\"acme\"\n[[provider]]\nid=\"main\"\nbase_url=\"http://127.0.0.1:7101/v1\"\nprices=\"openai\"\n[[model]]\nid=\"alias\"\ntargets=[{provider=\"main\",model=\"m\"}]\n[[price]]\nprovider=\"main\"\nmodel=\"m\"\nmeters={input=\"1\",output=\"2\"}\nmax_output=100\n")]).unwrap();
            let id = |n: u8, r| Identity::new(ProducerId([n; 16]), r, [n; 32], &[9; 32]);
            let p = Recorder::new(id(3, Role::Policy), Arc::new(j.clone()));
            let lane = Lane::new(Topic::Policy, 0);
            let h = Head::draft(now(), 0, "");
            let fs: Vec<Fact> = vec![
                PolicyPublished {
                    head: h.clone(),
                    version: 1,
                    author: "t".into(),
                    approver: None,
                    source_revision: None,
                    document: d.to_json(),
                }
                .into(),
                KeyIssued {
                    head: h,
                    key: "k".into(),
                    secret_hash: Digest(sha2::Sha256::digest(b"bsk-x").into()),
                    organisation: "acme".into(),
                    team: None,
                    project: None,
                    tags: Default::default(),
                    models: vec![],
                    author: "t".into(),
                }
                .into(),
            ];
            drop(p.record(fs.into_iter().map(|fact| Draft { lane, fact })).unwrap());
            let c = ShimConfig::new(([127, 0, 0, 1], 7103).into(), 1, [1; 32], [2; 32]);
            let n = std::sync::atomic::AtomicU64::new(0);
            let _s = Shim::start(
                c,
                Handles {
                    journal: Arc::new(j.clone()),
                    recorder: Arc::new(Recorder::new(id(1, Role::Shim), Arc::new(Null(j)))),
                    secrets: Arc::new(|r| Err(SecretError { reference: r.into(), reason: "x".into() })),
                    clock: Arc::new(now),
                    random: Arc::new(move |b| {
                        let c = n.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_be_bytes();
                        b.iter_mut().zip(c).for_each(|(x, y)| *x = y)
                    }),
                    prices: PriceTable::default(),
                },
            )
            .await
            .unwrap();
            std::future::pending::<()>().await;
        }
        _ => {
            let port = &a[2];
            let n: usize = a[3].parse().unwrap();
            let size: usize = a[4].parse().unwrap();
            let c =
                hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
            let body = Bytes::from(format!(
                r#"{{"model":"alias","max_tokens":5,"messages":[{{"role":"user","content":"{}"}}]}}"#,
                "x ".repeat(size / 2)
            ));
            let t = Instant::now();
            let mut hs = vec![];
            for _ in 0..8 {
                let c = c.clone();
                let body = body.clone();
                let uri = format!("http://127.0.0.1:{port}/v1/chat/completions");
                hs.push(tokio::spawn(async move {
                    for _ in 0..n / 8 {
                        let r = c
                            .request(
                                hyper::Request::post(&uri)
                                    .header("authorization", "Bearer bsk-x")
                                    .header("content-type", "application/json")
                                    .body(Full::new(body.clone()))
                                    .unwrap(),
                            )
                            .await
                            .unwrap();
                        assert_eq!(r.status(), 200);
                        r.into_body().collect().await.unwrap();
                    }
                }));
            }
            for h in hs {
                h.await.unwrap();
            }
            println!("{n} in {:?}", t.elapsed());
        }
    }
}
