//! Alerts through the whole product: raised once, posted over TLS to a webhook that fails first, signed as Standard
//! Webhooks wants it, and never posted again after it was taken, whatever restarts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod harness;

use bursar_stand_in::provider::{ModelPrices, StandIn, StandInConfig};
use harness::webhook::{KEY, Received, Receiver, base64, check_signature, hmac, secret};
use harness::{Place, contains, get, holding, pico, post, tls, wait_for};
use serde_json::{Value, json};

#[test]
fn the_oracle_agrees_with_published_examples() {
    // RFC 4648, section 10; RFC 4231, test case 2.
    assert_eq!(
        ["f", "fo", "foo", "foob"].map(|it| base64(it.as_bytes())),
        ["Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]
    );
    let digest = hmac(b"Jefe", b"what do ya want for nothing?");
    let known = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(bursar_schemas::ids::hex(&digest), known);
}

/// A token of output costs a dollar; the team should spend 10.50. Soft, since a killed shim keeps what it has leased.
fn policy(provider: &str) -> String {
    format!(
        r#"
[[organisation]]
id = "acme"
[[team]]
id = "red"
organisation = "acme"
[[provider]]
id = "alpha"
base_url = "{provider}"
[[price]]
provider = "alpha"
model = "alpha-m"
meters = {{ input = "0.000001", output = "1000000" }}
[[model]]
id = "m"
targets = [{{ provider = "alpha", model = "alpha-m" }}]
[[budget]]
id = "red"
scope = "team:red"
window = "total"
amount = "10.5"
mode = "soft"
alerts = [50, 80, 95]
[[budget]]
id = "all"
scope = "organisation:acme"
window = "total"
amount = "10.5"
mode = "soft"
[[webhook]]
id = "on-call"
url = "file:hook.url"
secret = "file:hook.secret"
scopes = ["team:red"]
"#
    )
}

/// Spends so many dollars.
fn spend(place: &Place, key: &str, dollars: u64) {
    let message =
        json!({"role": "user", "content": format!("stand-in prompt_tokens=1 completion_tokens={dollars}")});
    let body = json!({"model": "m", "max_tokens": dollars, "messages": [message]}).to_string();
    wait_for("the request to be served", || (post(place.shim, key, body.as_bytes()).0 == 200).then_some(()));
}

/// Alerts of a budget as they are listed, once that of a percentage is delivered.
fn listed(place: &Place, percent: u64) -> Vec<Value> {
    wait_for("the alert to be delivered", || {
        let rows: Vec<Value> = serde_json::from_str(&place.run(&["alerts", "--format", "json"])).unwrap();
        let rows: Vec<Value> = rows.into_iter().filter(|row| row["budget"] == "red").collect();
        let told = |row: &Value| row["webhooks"].as_str().unwrap().starts_with("on-call: delivered");
        rows.iter().any(|row| row["percent"] == percent && told(row)).then_some(rows)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_is_posted_until_it_is_taken_and_never_after() {
    let prices = [("alpha-m".to_owned(), ModelPrices::new(pico("0.000001"), pico("1000000")))];
    let config = StandInConfig { prices: prices.into(), ..StandInConfig::default() };
    let provider = StandIn::start(config).await.unwrap();
    let policy = policy(&provider.base_url);
    let receiver = Receiver::start();
    let front = tls::front(receiver.address).await;
    tokio::task::spawn_blocking(move || {
        let place = Place::new("[archive]\nseal_seconds = 1\n[tls]\nca_file = \"own.pem\"\n");
        place.write("own.pem", tls::AUTHORITY);
        let address = format!("{front}/hook?canary-address");
        place.write("hook.url", &address);
        place.write("hook.secret", &secret());
        place.write("policy.toml", &policy);
        let up = place.up();
        let key = place.key("red");
        spend(&place, &key, 6);
        let rows = listed(&place, 50);
        check_first(&rows, &receiver);
        let (_, metrics) = get(place.admin, "/metrics");
        for line in [
            "bursar_alert_deliveries_total{webhook=\"on-call\",outcome=\"delivered\"} 1",
            "bursar_alert_delivery_failures_total{webhook=\"on-call\"} 1",
        ] {
            assert!(metrics.contains(line), "{metrics}");
        }
        up.stop();
        // Whatever is sent again is sent before what is raised later.
        let mut up = place.up();
        spend(&place, &key, 3);
        assert_eq!(listed(&place, 80).len(), 2);
        assert_eq!(receiver.received().len(), 3, "a restart sent an alert again");
        up.kill();
        let up = place.up();
        spend(&place, &key, 1);
        assert_eq!(listed(&place, 95).len(), 3);
        check_all(&place, &receiver);
        up.stop();
        let said = place.run(&["verify", "--columns"]);
        assert!(!said.contains("unacceptable"), "{said}");
        check_silence(&place, &address);
    })
    .await
    .unwrap();
}

fn check_first(rows: &[Value], receiver: &Receiver) {
    assert_eq!(rows.len(), 1, "{rows:?}");
    let received = receiver.received();
    assert_eq!(received.len(), 2, "once refused, once taken");
    received.iter().for_each(check_signature);
    assert_eq!(received[0].1, received[1].1, "the bodies differ");
    assert!(received.iter().all(|(headers, _)| headers["webhook-id"] == rows[0]["id"].as_str().unwrap()));
    let message: Value = serde_json::from_slice(&received[1].1).unwrap();
    assert_eq!(message["type"], "budget.threshold");
    assert_eq!(message["timestamp"], rows[0]["raised_at"]);
    let data = &message["data"];
    assert_eq!(
        (&data["budget"], &data["percent"], &data["limit"]),
        (&json!("red"), &json!(50), &json!("10.50"))
    );
    let settled = pico(data["settled"].as_str().unwrap());
    assert!(settled >= pico("6") && settled < pico("6.01"), "{data}");
}

fn check_all(place: &Place, receiver: &Receiver) {
    let received = receiver.received();
    received.iter().for_each(check_signature);
    let percent = |(_, body): &Received| -> Value {
        let message: Value = serde_json::from_slice(body).unwrap();
        message["data"]["percent"].clone()
    };
    assert_eq!(received.iter().map(percent).collect::<Vec<_>>(), [50, 50, 80, 95]);
    let view = "SELECT percent, delivered, given_up, settled >= \"limit\" * percent / 100 AS reached FROM alerts \
                WHERE budget = 'red' ORDER BY percent";
    let rows = wait_for("the view to know", || {
        let rows = place.sql(view);
        rows.last().is_some_and(|row| row["percent"] == 95 && row["delivered"] == 1).then_some(rows)
    });
    let told = |percent: u64| json!({"percent": percent, "delivered": 1, "given_up": 0, "reached": true});
    assert_eq!(rows, [50, 80, 95].map(told));
    // The other budget is of nobody's concern, and on record all the same.
    let others = place.sql("SELECT percent, webhooks FROM alerts WHERE budget = 'all' ORDER BY percent");
    assert_eq!(others.len(), 2, "{others:?}");
    assert!(others.iter().all(|row| row["webhooks"] == json!([])), "{others:?}");
}

/// Neither the address nor the secret is anywhere but in its own file.
fn check_silence(place: &Place, address: &str) {
    for (secret, file) in [("canary-address", "hook.url"), (&base64(&KEY), "hook.secret")] {
        let mut found = Vec::new();
        holding(place.data(), secret, &mut found);
        assert!(found.len() == 1 && found[0].ends_with(file), "{secret} is in {found:?}");
    }
    assert!(!contains(place.log().as_bytes(), address));
    assert!(place.log().contains("a webhook did not take an alert"));
}
