//! Retention and legal holds as an operator works with them, on the real binary over two years in a minute.

use serde_json::Value;

use super::delta::engines_agree;
use super::harness::{Place, wait_for};

const POLICY: &str = r#"
[retention]
requests_days = 30
routes_days = 30
spend_days = 365
"#;

const MONTHS: &str = "5184000";

/// Asks for a model that is not there, as a team, and waits until the refusal is sealed.
fn refused(place: &Place, team: &str) {
    let key = place.key(team);
    let body = b"{\"model\":\"no-such-model\",\"messages\":[]}";
    assert_eq!(super::harness::post(place.shim, &key, body).0, 404);
    let of_team = format!("SELECT request FROM requests WHERE team = '{team}'");
    let request = wait_for("the refusal to be on record", || {
        place.sql(&of_team).first().and_then(|row| row["request"].as_str()).map(str::to_owned)
    });
    let file = place.data().join("evidence.json");
    wait_for("the refusal to be sealed", || {
        place.try_run(&["prove", &request, "--out", file.to_str().unwrap()]).0.then_some(())
    });
}

fn json(place: &Place, args: &[&str]) -> Value {
    serde_json::from_str(&place.run(args)).unwrap()
}

fn teams(place: &Place) -> Vec<String> {
    let rows = place.sql("SELECT DISTINCT team FROM requests WHERE team IS NOT NULL ORDER BY team");
    rows.iter().map(|row| row["team"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn records_go_when_their_time_is_over_and_no_hold_keeps_them() {
    let place = Place::new("[archive]\nseal_seconds = 1\n");
    let policy = place.write("policy.toml", include_str!("../../src/starter_policy.toml"));
    let retention = place.write("retention.toml", POLICY);
    let (policy, retention) = (policy.to_str().unwrap(), retention.to_str().unwrap());
    let up = place.up();
    assert!(place.run(&["apply", policy, retention]).contains("retention"));
    refused(&place, "research");
    refused(&place, "support");
    // Nothing is due on the first day.
    let day_one = json(&place, &["retention", "--format", "json"]);
    assert_eq!(day_one["past"].as_array().unwrap().len(), 0, "{day_one:#}");
    assert!(place.run(&["retention", "apply"]).contains("removed 0 segments"));
    // Holds say why, are asked before they stand, and are placed once.
    let hold = |arguments: &[&str]| place.try_run(&[&["holds", "place"], arguments].concat());
    let (ok, _, error) = hold(&["--where", "no_such_column = 1", "--reason", "case 17"]);
    assert!(!ok && error.contains("no_such_column"), "{error}");
    let (ok, _, error) = hold(&["--where", "true) OR (true", "--reason", "case 17"]);
    assert!(!ok && error.contains("cannot be asked"), "{error}");
    let (ok, _, error) = hold(&["--where", "team = 'research'", "--reason", " "]);
    assert!(!ok && error.contains("needs a reason"), "{error}");
    let (ok, _, error) = hold(&["--where", "team = 'research'", "--reason", "case 17", "--id", "case-17"]);
    assert!(ok, "{error}");
    assert!(!hold(&["--where", "true", "--reason", "again", "--id", "case-17"]).0);
    up.stop();

    let up = place.up_with(&[("BURSAR_CLOCK_OFFSET_SECONDS", MONTHS)]);
    assert_eq!(teams(&place), ["research", "support"]);
    let survey = json(&place, &["retention", "--format", "json"]);
    let past = survey["past"].as_array().unwrap();
    let held: Vec<_> = past.iter().filter(|it| it["state"] == "held").collect();
    assert!(!held.is_empty() && held.iter().all(|it| it["hold"] == "case-17"), "{survey:#}");
    let due = past.iter().filter(|it| it["state"] == "due").count();
    assert!(
        due >= 1 && past.iter().all(|it| it["topic"] == "requests" || it["topic"] == "routes"),
        "{survey:#}"
    );
    assert!(place.run(&["retention"]).contains("case-17"));
    let out = place.run(&["retention", "apply"]);
    assert!(out.contains(&format!("removed {due} segments")), "{out}");
    // The other team's records are gone, those on hold are not; every reader says so.
    assert_eq!(teams(&place), ["research"]);
    let text = place.run(&["sql", "SELECT count(*) FROM requests"]);
    assert!(text.contains("were removed under retention"), "{text}");
    let facts =
        place.sql("SELECT author, retention_days, removed_rows FROM requests WHERE kind = 'RecordsRemoved'");
    assert_eq!(facts.len(), due, "{facts:?}");
    assert!(facts.iter().all(|fact| fact["author"] == "operator"), "{facts:?}");
    assert!(place.run(&["verify", "--columns"]).contains("were removed under retention"));
    assert!(place.run(&["retention", "apply"]).contains("removed 0 segments"), "a removal is done once");
    let (ok, _, error) = place.try_run(&["holds", "release", "case-17", "--reason", ""]);
    assert!(!ok && error.contains("needs a reason"), "{error}");
    place.run(&["holds", "release", "case-17", "--reason", "the case is closed"]);
    let listed = json(&place, &["holds", "list", "--format", "json"]);
    assert_eq!(listed[0]["release_reason"], "the case is closed", "{listed:#}");
    up.stop();

    // Without a server, the folder is opened for the command.
    let shifted = |args: &[&str]| {
        let output = std::process::Command::new(super::harness::BURSAR)
            .args(args)
            .env("BURSAR_DATA", place.data())
            .env("BURSAR_CLOCK_OFFSET_SECONDS", MONTHS)
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let out = shifted(&["retention", "apply"]);
    assert!(out.contains(&format!("removed {} segments", held.len())), "{out}");
    let up = place.up_with(&[("BURSAR_CLOCK_OFFSET_SECONDS", MONTHS)]);
    assert_eq!(teams(&place), Vec::<String>::new());
    assert!(place.run(&["verify"]).contains("were removed under retention"));
    up.stop();
    // Other engines see what is left, also of tables that were made anew.
    let archive = place.data().join("archive");
    engines_agree(&archive, 2);
    let made = place.run(&["archive", "rebuild-delta"]);
    assert!(made.contains("/requests: "), "{made}");
    engines_agree(&archive, 2);
    assert!(place.run(&["verify"]).contains("were removed under retention"));
}
