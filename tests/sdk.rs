//! The official OpenAI SDK for Python, sync and async, through the shim.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod harness;

use std::process::Command;

use bursar_stand_in::provider::{StandIn, StandInConfig};
use harness::{Place, component};

#[tokio::test(flavor = "multi_thread")]
async fn the_official_sdk_works_as_against_openai() {
    let Some(python) = component("BURSAR_TEST_PYTHON") else { return };
    let stand_in = StandIn::start(StandInConfig::default()).await.unwrap();
    let base = stand_in.base_url.clone();
    tokio::task::spawn_blocking(move || {
        let place = Place::new("");
        place.write("policy.toml", &policy(&base));
        let up = place.up();
        let (rich, poor) = (place.key("rich"), place.key("poor"));
        let url = format!("http://{}/v1", place.shim);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/sdk.py");
        let run = Command::new(python)
            .args([script, &url, &rich, &poor, "small", "text-embedding-3-small"])
            .output()
            .unwrap();
        assert!(
            run.status.success(),
            "{}{}\n{}",
            String::from_utf8_lossy(&run.stdout),
            String::from_utf8_lossy(&run.stderr),
            place.log()
        );
        let refused = place.sql("SELECT count(*) AS n FROM refusals WHERE team = 'poor'");
        assert_eq!(
            refused[0]["n"].to_string().trim_matches('"'),
            "1",
            "one call, one refusal fact: the SDK must not retry"
        );
        up.stop();
    })
    .await
    .unwrap();
}

fn policy(base: &str) -> String {
    format!(
        r#"
[[organisation]]
id = "acme"
[[team]]
id = "rich"
organisation = "acme"
[[team]]
id = "poor"
organisation = "acme"
[[budget]]
id = "rich-day"
scope = "team:rich"
window = "day"
amount = "50.00"
[[budget]]
id = "poor-day"
scope = "team:poor"
window = "day"
amount = "0.00"
[[provider]]
id = "openai"
base_url = "{base}"
[[model]]
id = "small"
targets = [{{ provider = "openai", model = "gpt-4o-mini" }}]
"#
    )
}
