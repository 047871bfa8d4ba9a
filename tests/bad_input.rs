//! Bad input at the doors of the whole product: each a clear error or a recorded fact; and no canary leaks.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod harness;

use bursar_stand_in::provider::{StandIn, StandInConfig};
use harness::canary::{KEY, PROMPT, policy};
use harness::{Place, chat, get, holding, post, tls, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_clearly_and_nothing_leaks() {
    let stand_in =
        StandIn::start(StandInConfig { api_key: Some(KEY.to_owned()), ..StandInConfig::default() })
            .await
            .unwrap();
    let base = stand_in.base_url.clone();
    tokio::task::spawn_blocking(move || {
        let place = Place::new("max_body_mebibytes = 1\n[archive]\nseal_seconds = 1\n");
        place.write("policy.toml", &policy(&base));
        let up = place.up_with(&[("CANARY_KEY", KEY)]);
        let key = place.key("red");

        let (status, answer) = wait_for("the key to be known", || {
            let answer = post(place.shim, &key, &chat(&format!("{PROMPT} say hello")));
            (answer.0 != 401).then_some(answer)
        });
        assert_eq!(status, 200, "{answer}");
        let cases: [(&str, Vec<u8>, u16); 6] = [
            ("truncated JSON", chat(PROMPT)[..40].to_vec(), 400),
            ("invalid UTF-8", [&b"{\"model\": \"small\", \"messages\": \""[..], &[0xff, 0xfe], b"\"}"].concat(), 400),
            ("an array", b"[]".to_vec(), 400),
            ("nothing", Vec::new(), 400),
            ("an unknown model", br#"{"model":"nope","messages":[]}"#.to_vec(), 404),
            ("50 MB", vec![b'x'; 50_000_000], 413),
        ];
        for (what, body, wanted) in &cases {
            let (status, answer) = post(place.shim, &key, body);
            assert_eq!(status, *wanted, "{what}: {answer}");
            assert!(!answer.contains(PROMPT), "{what}: the answer repeats the prompt");
        }
        let (status, _) = post(place.shim, "bsk-unknown", &chat("x"));
        assert_eq!(status, 401);
        // A refusal does not wait until its fact is in the journal.
        let wanted = ["invalid_api_key", "invalid_request", "model_not_found", "request_too_large"];
        wait_for("the refusals on record", || {
            let refused = place.sql("SELECT code, count(*) AS n FROM refusals GROUP BY code ORDER BY code");
            let codes: Vec<&str> = refused.iter().map(|row| row["code"].as_str().unwrap()).collect();
            (codes == wanted).then_some(())
        });

        // A policy with a typo names the place and changes nothing.
        let typo = place.write("typo.toml", &policy(&base).replace("amount", "amuont"));
        let (success, _, error) = place.try_run(&["apply", typo.to_str().unwrap()]);
        assert!(!success && error.contains("amuont"), "{error}");
        let secret = place.write("secret.toml", &policy(&base).replace("env:CANARY_KEY", KEY));
        let (success, _, error) = place.try_run(&["apply", secret.to_str().unwrap()]);
        assert!(!success && error.contains("reference") && !error.contains(KEY), "{error}");
        std::fs::remove_file(secret).unwrap();

        // SQL cannot leave the archive.
        for statement in [
            "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
            "SELECT * FROM '/etc/passwd'",
            "COPY requests TO '/tmp/x.csv'",
            "SET datafusion.execution.batch_size = 1",
            "DROP TABLE requests",
            "SELECT 1; SELECT 2",
        ] {
            let (success, out, error) = place.try_run(&["sql", statement]);
            assert!(!success && !out.contains("root:") && !error.contains("root:"), "{statement}: {out}{error}");
        }
        let asked = place.sql("SELECT count(*) AS n FROM requests WHERE kind = 'QueryRan' AND statement LIKE '%etc/pass' || 'wd%'");
        assert_eq!(asked[0]["n"].to_string().trim_matches('"'), "2", "a refused query is not on record");
        let (status, metrics) = get(place.admin, "/metrics");
        assert_eq!(status, 200, "{metrics}");
        wait_for("segments", || {
            let mut segments = Vec::new();
            holding(&place.data().join("archive"), "PAR1", &mut segments);
            (!segments.is_empty()).then_some(())
        });
        up.stop();
        for canary in [PROMPT, KEY, key.as_str()] {
            assert!(!metrics.contains(canary), "a metric holds {canary}");
            let mut found = Vec::new();
            holding(place.data(), canary, &mut found);
            found.retain(|path| !path.ends_with(".secret"));
            assert!(found.is_empty(), "{canary} is in {found:?}");
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_provider_whose_authority_is_known_is_called() {
    let config = StandInConfig { api_key: Some(KEY.to_owned()), ..StandInConfig::default() };
    let stand_in = StandIn::start(config).await.unwrap();
    let front = tls::front(stand_in.addr).await;
    tokio::task::spawn_blocking(move || {
        let place = Place::new("");
        place.write("policy.toml", &policy(&format!("{front}/v1")));
        let ask = |key: &str| {
            wait_for("the key to be known", || {
                let answer = post(place.shim, key, &chat("say hello"));
                (answer.0 != 401).then_some(answer)
            })
        };
        let up = place.up_with(&[("CANARY_KEY", KEY)]);
        let key = place.key("red");
        let (status, answer) = ask(&key);
        assert!(status == 502 && answer.contains("provider_unreachable"), "{status}: {answer}");
        up.stop();

        let plain = std::fs::read_to_string(place.data().join("bursar.toml")).unwrap();
        place.write("bursar.toml", &format!("{plain}\n[tls]\nca_file = \"own.pem\"\n"));
        let cut = tls::AUTHORITY.replace("-----END", "");
        let cases = [
            (None, "failed to read"),
            (Some("no certificate"), "there is none"),
            (Some(cut.as_str()), "failed to read certificates in PEM form"),
        ];
        for (content, reason) in cases {
            if let Some(content) = content {
                place.write("own.pem", content);
            }
            let (success, _, error) = place.try_run(&["up"]);
            assert!(!success && error.contains("tls.ca_file") && error.contains(reason), "{error}");
        }

        place.write("own.pem", tls::AUTHORITY);
        let up = place.up_with(&[("CANARY_KEY", KEY)]);
        let (status, answer) = ask(&key);
        assert_eq!(status, 200, "{answer}");
        up.stop();
    })
    .await
    .unwrap();
    assert_eq!(stand_in.stop().await.received, 1);
}
