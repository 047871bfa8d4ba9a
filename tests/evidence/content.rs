//! Captured content on the real binary: nobody's unless asked for, in clear nowhere, and gone with its subject's key
//! while every proof still holds.

use bursar_stand_in::provider::{StandIn, StandInConfig};
use serde_json::Value;

use super::delta::engines_agree;
use super::harness::canary::{KEY, PROMPT, policy};
use super::harness::{Place, chat, exchange, get, holding, wait_for};

/// A chat completion in the name of an end user.
fn ask(place: &Place, key: &str, user: &str) {
    let body = chat(&format!("{PROMPT} of {user}"));
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nX-Bursar-End-User: {user}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    wait_for("the key to be known", || {
        let (status, answer) = exchange(place.shim, &head, &body);
        assert!(status == 200 || status == 401, "{status}: {answer}");
        (status == 200).then_some(())
    });
}

fn kept(place: &Place) -> Vec<Value> {
    place.sql(
        "SELECT request, subject, object, end_user, policy_version FROM requests WHERE kind = 'ContentKept' ORDER BY \"at\"",
    )
}

fn verified(place: &Place) {
    wait_for("the archive to hold", || place.try_run(&["verify", "--columns"]).0.then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn content_is_captured_shown_to_the_keys_holder_and_erased() {
    let provider = StandInConfig { api_key: Some(KEY.to_owned()), ..StandInConfig::default() };
    let stand_in = StandIn::start(provider).await.unwrap();
    let base = stand_in.base_url.clone();
    tokio::task::spawn_blocking(move || all(&base)).await.unwrap();
}

fn all(base: &str) {
    let place = Place::new("[archive]\nseal_seconds = 1\n[content]\ncapture = true\n");
    let environment = [("CANARY_KEY", KEY)];
    place.write("policy.toml", &policy(base));
    let up = place.up_with(&environment);
    let red = place.key("red");
    // The configuration alone captures nothing: policy names no team.
    ask(&place, &red, "ann");
    let more =
        place.write("content.toml", "[content]\ncapture_teams = [\"red\"]\n[retention]\ncontent_days = 7\n");
    let typo = place.write("typo.toml", "[content]\ncapture_teams = [\"rod\"]\n");
    let policy_file = place.data().join("policy.toml");
    let apply = |more: &std::path::Path| {
        place.try_run(&["apply", policy_file.to_str().unwrap(), more.to_str().unwrap()])
    };
    let (ok, _, error) = apply(&typo);
    assert!(!ok && error.contains("there is no team \"rod\""), "{error}");
    assert!(apply(&more).0);
    wait_for("the shim to capture", || {
        ask(&place, &red, "ann");
        (!kept(&place).is_empty()).then_some(())
    });
    ask(&place, &red, "bob");
    let facts = wait_for("both users' content to be kept", || {
        let facts = kept(&place);
        let users: std::collections::BTreeSet<&str> =
            facts.iter().filter_map(|it| it["subject"].as_str()).collect();
        (users.len() == 2).then_some(facts)
    });
    assert!(facts.iter().all(|fact| fact["subject"] == fact["end_user"]), "{facts:?}");
    assert!(
        facts.iter().all(|fact| fact["policy_version"] == 2),
        "captured before policy asked for it: {facts:?}"
    );
    let (ann, bob) = (&facts[0], facts.last().unwrap());
    let show = |fact: &Value| place.try_run(&["content", "show", fact["request"].as_str().unwrap()]);
    for (fact, user) in [(ann, "ann"), (bob, "bob")] {
        let (ok, out, error) = show(fact);
        assert!(ok, "{error}");
        let shown: Value = serde_json::from_str(&out).unwrap();
        assert!(shown["prompt"].as_str().unwrap().contains(&format!("{PROMPT} of {user}")), "{shown}");
        assert!(shown["completion"].as_str().unwrap().contains("choices"), "{shown}");
    }
    let shown =
        place.sql("SELECT statement FROM requests WHERE kind = 'QueryRan' AND statement LIKE 'content show %' ORDER BY number");
    let shown: Vec<&str> = shown.iter().map(|row| row["statement"].as_str().unwrap()).collect();
    let whose = [ann, bob].map(|fact| format!("content show {}", fact["request"].as_str().unwrap()));
    assert_eq!(shown, whose, "who read it is on record");
    // In clear it is nowhere: facts, objects, logs, metrics.
    let (_, metrics) = get(place.admin, "/metrics");
    assert!(metrics.contains("bursar_content_kept_total") && !metrics.contains(PROMPT), "{metrics}");
    verified(&place);
    let erase = |arguments: &[&str]| place.try_run(&[&["erase"], arguments].concat());
    let (ok, _, error) = erase(&["--end-user", "ann", "--organisation", "acme", "--reason", " "]);
    assert!(!ok && error.contains("needs a reason"), "{error}");
    // A hold keeps the content that it speaks of, by whatever records of its request, and nobody else's.
    let hold = |id: &str, topic: &str, condition: &str| {
        place.run(&[
            "holds", "place", "--where", condition, "--topic", topic, "--reason", "a case", "--id", id,
        ]);
    };
    let bobs = format!("end_user = '{}'", bob["end_user"].as_str().unwrap());
    hold("case-15", "spend", "team = 'red' AND kind = 'Settled'");
    hold("case-16", "requests", &bobs);
    let forget = ["--end-user", "ann", "--organisation", "acme", "--reason", "asked to be forgotten"];
    let (ok, _, error) = erase(&forget);
    assert!(!ok && error.contains("case-15") && !error.contains("case-16"), "{error}");
    place.run(&["holds", "release", "case-15", "--reason", "closed"]);
    let (ok, _, error) = erase(&["--end-user", "bob", "--organisation", "acme", "--reason", "asked"]);
    assert!(!ok && error.contains("case-16"), "{error}");
    let (ok, out, error) = erase(&forget);
    assert!(ok && out.contains(ann["subject"].as_str().unwrap()), "{out}{error}");
    place.run(&["holds", "release", "case-16", "--reason", "closed"]);
    hold("case-17", "requests", "team = 'red'");
    assert!(!erase(&forget).0);
    let (ok, out, error) = erase(&[&forget[..], &["--despite-holds"]].concat());
    assert!(ok && out.contains("it has no data key"), "{out}{error}");
    let (ok, out, error) = show(ann);
    assert!(!ok && out.is_empty() && error.contains("was erased"), "{error}");
    assert!(show(bob).0);
    let recorded =
        place.sql("SELECT subject, key_destroyed, reason, author FROM policy WHERE kind = 'SubjectErased'");
    assert_eq!(recorded.len(), 2);
    assert_eq!(recorded[0]["reason"], "asked to be forgotten");
    verified(&place);
    up.stop();

    // Past its own retention it goes, unless a hold speaks of its request.
    let up = place.up_with(&[environment[0], ("BURSAR_CLOCK_OFFSET_SECONDS", "864000")]);
    let contents = |place: &Place| {
        let survey: Value = serde_json::from_str(&place.run(&["retention", "--format", "json"])).unwrap();
        let contents = &survey["content"];
        ["contents", "due", "held"].map(|name| contents[name].as_u64().unwrap())
    };
    let all = u64::try_from(facts.len()).unwrap();
    assert_eq!(contents(&place), [all, 0, all]);
    place.run(&["retention", "apply"]);
    assert!(show(bob).0);
    // A hold on somebody else keeps nothing of these, as soon as their facts are sealed and can be asked.
    place.run(&["holds", "place", "--where", "team = 'blue'", "--reason", "case 18"]);
    place.run(&["holds", "release", "case-17", "--reason", "closed"]);
    wait_for("the contents to be free", || (contents(&place) == [all, all, 0]).then_some(()));
    place.run(&["retention", "apply"]);
    let (ok, _, error) = show(bob);
    assert!(!ok && error.contains("there is no captured content"), "{error}");
    verified(&place);
    up.stop();
    engines_agree(&place.data().join("archive"), 1);
    for canary in [PROMPT, KEY] {
        let mut found = Vec::new();
        holding(place.data(), canary, &mut found);
        assert!(found.is_empty(), "{canary} is in {found:?}");
    }
}
