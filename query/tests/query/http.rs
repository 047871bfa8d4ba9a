//! The same over HTTP.

use std::sync::Arc;

use arrow::array::AsArray as _;
use arrow::ipc::reader::StreamReader;
use axum::Router;
use axum::body::Body;
use bursar_query::{Token, router};
use bursar_schemas::meters::Meter;
use bursar_schemas::money::Money;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tower::ServiceExt as _;

use crate::support::*;

async fn app() -> Router {
    let mut world = World::new();
    for request in 0..3 {
        let amount = i128::from(u64::MAX) + i128::from(request);
        world.write(1, SPEND, settled(&about(request, NOW), 1, vec![line(Meter::Input, 3, amount)]));
    }
    let service = Arc::new(service(&store(), Some(&world)).await);
    let token =
        |name: &str, secret: &str| Token { name: name.to_owned(), sha256: Sha256::digest(secret).into() };
    router(service, vec![token("finance", "open sesame"), token("audit", "swordfish")])
}

async fn ask(
    app: &Router,
    method: Method,
    path: &str,
    token: Option<&str>,
    body: &Value,
) -> (StatusCode, String, Bytes) {
    let mut request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let response = app.clone().oneshot(request.body(body).unwrap()).await.unwrap();
    let status = response.status();
    let kind = response.headers().get("content-type").map_or("", |kind| kind.to_str().unwrap()).to_owned();
    (status, kind, response.into_body().collect().await.unwrap().to_bytes())
}

async fn sql(app: &Router, sql: &str, format: &str) -> (StatusCode, String, Bytes) {
    ask(app, Method::POST, "/v1/sql", Some("swordfish"), &json!({"sql": sql, "format": format})).await
}

#[tokio::test]
async fn nothing_is_said_without_a_token() {
    let app = app().await;
    for token in [None, Some(""), Some("open"), Some("finance"), Some("swordfish2")] {
        for path in ["/v1/sql", "/v1/chargeback?month=2026-11", "/v1/tables", "/v1/status", "/v1/other"] {
            let method = if path == "/v1/sql" { Method::POST } else { Method::GET };
            let (status, _, body) = ask(&app, method, path, token, &json!({"sql": "SELECT 1"})).await;
            let open = path == "/v1/other" && status == StatusCode::NOT_FOUND;
            assert!(status == StatusCode::UNAUTHORIZED || open, "{path} {token:?} {status}");
            assert!(!body.windows(4).any(|part| part == b"rows"), "{path}");
        }
    }
    let empty = router(Arc::new(service(&store(), None).await), vec![]);
    let (status, ..) = ask(&empty, Method::GET, "/v1/tables", Some(""), &Value::Null).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "without tokens it is closed");
}

#[tokio::test]
async fn rows_come_as_json_csv_and_arrow_and_amounts_are_exact_in_each() {
    let app = app().await;
    let statement = "SELECT team, sum(amount) AS amount, count(*) AS n, max(tags) AS t FROM \
                     (SELECT team, amount, tags['env'] AS tags FROM settlements) GROUP BY team";
    let exact = Money::from_pico(i128::from(u64::MAX) * 3 + 3).dollars();
    let (status, kind, body) = sql(&app, statement, "json").await;
    assert_eq!((status, kind.as_str()), (StatusCode::OK, "application/json"));
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["rows"], json!([{"team": "blue", "amount": exact, "n": 3, "t": "prod"}]));
    assert_eq!(answer["columns"][1], json!({"name": "amount", "type": "Decimal128(38, 12)"}));
    assert_eq!((&answer["row_count"], &answer["notes"]), (&json!(1), &json!([])));
    let (_, kind, body) = sql(&app, statement, "csv").await;
    assert!(kind.starts_with("text/csv"));
    assert_eq!(body, format!("team,amount,n,t\r\nblue,{exact},3,prod\r\n"));
    let (_, _, body) = sql(&app, statement, "arrow").await;
    let batches: Vec<_> = StreamReader::try_new(body.as_ref(), None).unwrap().map(Result::unwrap).collect();
    assert_eq!(batches[0].column(0).as_string::<i32>().value(0), "blue");
    let (_, _, body) = sql(&app, "SELECT lines, tags FROM spend LIMIT 1", "json").await;
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["rows"][0]["tags"], json!({"env": "prod"}));
    assert_eq!(answer["rows"][0]["lines"][0]["meter"], "input");
    let (_, _, body) = sql(&app, "SELECT * FROM generate_series(1, 300000)", "csv").await;
    assert_eq!(body.iter().filter(|byte| **byte == b'\n').count(), 300_001);
    let (_, _, body) = sql(&app, "SELECT 1 AS a WHERE false", "json").await;
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["rows"], json!([]));
}

#[tokio::test]
async fn errors_are_json_with_a_code() {
    let app = app().await;
    for (statement, status, code) in [
        ("DROP TABLE spend", StatusCode::FORBIDDEN, "statement_refused"),
        ("SELEC 1", StatusCode::BAD_REQUEST, "statement_not_understood"),
        ("SELECT repeat('a', 10)", StatusCode::BAD_REQUEST, "statement_not_understood"),
    ] {
        let (answered, _, body) = sql(&app, statement, "json").await;
        let error: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((answered, error["error"]["code"].as_str()), (status, Some(code)), "{statement}");
    }
    let (status, _, body) =
        ask(&app, Method::POST, "/v1/sql", Some("swordfish"), &json!({"query": "x"})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(serde_json::from_slice::<Value>(&body).unwrap()["error"]["message"].is_string());
}

#[tokio::test]
async fn an_answer_that_fails_on_its_way_breaks_off() {
    let body = json!({"sql": "SELECT * FROM generate_series(1, 2000000)", "format": "csv"}).to_string();
    let request = Request::builder().method(Method::POST).uri("/v1/sql");
    let request = request.header("authorization", "Bearer swordfish").body(Body::from(body)).unwrap();
    let response = app().await.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.into_body().collect().await.is_err(), "a part was taken for the whole");
}

#[tokio::test]
async fn statements_of_account_tables_and_status() {
    let app = app().await;
    let token = Some("open sesame");
    let path = "/v1/chargeback?month=2026-11&by=team,tag:env";
    let (status, _, body) = ask(&app, Method::GET, path, token, &Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    let statement: Value = serde_json::from_slice(&body).unwrap();
    let exact = Money::from_pico(i128::from(u64::MAX) * 3 + 3).dollars();
    assert_eq!(statement["total"], exact);
    assert_eq!(statement["rows"][0]["keys"], json!(["blue", "prod"]));
    let (_, kind, body) = ask(&app, Method::GET, &format!("{path}&format=csv"), token, &Value::Null).await;
    assert!(kind.starts_with("text/csv") && String::from_utf8_lossy(&body).contains(&exact));
    for bad in ["/v1/chargeback", "/v1/chargeback?month=x", "/v1/chargeback?month=2026-11&by=shoe"] {
        let (status, _, body) = ask(&app, Method::GET, bad, token, &Value::Null).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{bad}");
        assert!(serde_json::from_slice::<Value>(&body).unwrap()["error"]["code"].is_string());
    }
    let (_, _, body) = ask(&app, Method::GET, "/v1/tables", token, &Value::Null).await;
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["tables"].as_array().unwrap().len(), 14);
    let (_, _, body) = ask(&app, Method::GET, "/v1/status", token, &Value::Null).await;
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["lanes"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn no_answer_may_be_kept_on_its_way() {
    let app = app().await;
    let body = || Body::from(json!({"sql": "SELECT 1"}).to_string());
    for (method, path, format) in [
        (Method::POST, "/v1/sql", "application/json"),
        (Method::GET, "/v1/chargeback?month=2026-11", "application/json"),
        (Method::GET, "/v1/chargeback?month=2026-11&format=csv", "text/csv"),
        (Method::GET, "/v1/gaps", "application/json"),
    ] {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("authorization", "Bearer swordfish").body(body()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap());
        assert_eq!(header("cache-control"), Some("no-store"), "{path}");
        assert!(header("content-type").is_some_and(|kind| kind.starts_with(format)), "{path}");
    }
}
