//! Budgets as a company sets them, through the whole product: on users, models, providers and tags, each member's own,
//! and changed by hand.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod harness;

use bursar_stand_in::provider::{ModelPrices, RunningStandIn, StandIn, StandInConfig};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use harness::{Place, Process, holding, pico, post, wait_for};
use serde_json::{Value, json};

const ALICE: &str = "canary.alice@corp.example";
const BOB: &str = "canary.bob@corp.example";

/// Two providers at which a token of output costs a dollar, and of input nearly nothing.
async fn providers() -> [RunningStandIn; 2] {
    let start = |model: &str| {
        let prices = [(model.to_owned(), ModelPrices::new(pico("0.000001"), pico("1000000")))];
        StandIn::start(StandInConfig { prices: prices.into(), ..StandInConfig::default() })
    };
    [start("alpha-m").await.unwrap(), start("beta-m").await.unwrap()]
}

fn policy(providers: &[RunningStandIn; 2], budgets: &str) -> String {
    let [alpha, beta] = providers.each_ref().map(|it| it.base_url.clone());
    format!(
        r#"
[[organisation]]
id = "acme"
[[team]]
id = "red"
organisation = "acme"
tags = {{ stage = "trial" }}
[[provider]]
id = "alpha"
base_url = "{alpha}"
[[provider]]
id = "beta"
base_url = "{beta}"
[[price]]
provider = "alpha"
model = "alpha-m"
meters = {{ input = "0.000001", output = "1000000" }}
[[price]]
provider = "beta"
model = "beta-m"
meters = {{ input = "0.000001", output = "1000000" }}
[[model]]
id = "m"
targets = [{{ provider = "alpha", model = "alpha-m" }}, {{ provider = "beta", model = "beta-m" }}]
{budgets}"#
    )
}

/// A request that may cost so many dollars and costs one, and a little for its input.
fn body(user: Option<&str>, most: u64) -> Vec<u8> {
    let message = json!({"role": "user", "content": "stand-in prompt_tokens=1 completion_tokens=1"});
    let mut body = json!({"model": "m", "max_tokens": most, "messages": [message]});
    if let Some(user) = user {
        body["user"] = user.into();
    }
    body.to_string().into_bytes()
}

struct Running {
    place: Place,
    _up: Process,
    key: String,
}

impl Running {
    fn start(policy: &str) -> Self {
        let place = Place::new("[archive]\nseal_seconds = 1\n");
        // Kept outside the data folder: names in it must be found nowhere in there.
        let files = tempfile::tempdir().unwrap();
        let file = files.path().join("policy.toml");
        std::fs::write(&file, policy).unwrap();
        place.write("policy.toml", "[[organisation]]\nid = \"acme\"\n");
        let up = place.up();
        place.run(&["apply", file.to_str().unwrap()]);
        let key = place.key("red");
        let running = Self { place, _up: up, key };
        wait_for("the key to be known", || (running.ask(Some("nobody"), 0).0 != 401).then_some(()));
        running
    }

    /// Status, and the model that answered or why none did.
    fn ask(&self, user: Option<&str>, most: u64) -> (u16, String) {
        let (status, answer) = post(self.place.shim, &self.key, &body(user, most));
        let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
        let said = answer["model"].as_str().or(answer["error"]["message"].as_str());
        (status, said.unwrap_or_default().to_owned())
    }

    /// The whole answer, head included, of a request that would be answered with so many tokens.
    fn whole(&self, body: &[u8], tokens: u64) -> String {
        let body = String::from_utf8(body.to_vec()).unwrap();
        let body = body.replace("completion_tokens=1", &format!("completion_tokens={tokens}"));
        let mut stream = TcpStream::connect(self.place.shim).unwrap();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: shim\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.key,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// As [`Running::ask`], once the ledger has taken in what came before.
    fn ask_settled(&self, user: Option<&str>, most: u64) -> (u16, String) {
        wait_for("everything to be settled", || {
            let open = |row: &Value| row["reserved"] != "0.00" || row["phase"] != "open";
            (!self.place.budgets().iter().any(open)).then_some(())
        });
        self.ask(user, most)
    }

    fn row(&self, budget: &str) -> Value {
        let rows = self.place.budgets();
        rows.iter().find(|row| row["budget"] == budget).unwrap_or_else(|| panic!("{rows:#?}")).clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn budgets_hold_for_users_models_providers_and_tags_at_once() {
    let providers = providers().await;
    let policy = policy(
        &providers,
        &format!(
            r#"
[[budget]]
id = "user"
scope = "organisation:acme"
each = "end_user"
window = "day"
amount = "3.10"
[[budget]]
id = "bob"
scope = "end_user:{BOB}"
window = "month"
amount = "1.50"
[[budget]]
id = "alpha"
scope = "provider:alpha"
window = "total"
amount = "2.50"
[[budget]]
id = "beta-model"
scope = "model:beta-m"
window = "day"
amount = "100"
mode = "soft"
[[budget]]
id = "trials"
scope = "tag:stage=trial"
window = "month"
amount = "8.50"
"#
        ),
    );
    tokio::task::spawn_blocking(move || {
        let running = Running::start(&policy);
        assert_eq!(running.ask_settled(Some(ALICE), 2), (200, "alpha-m".to_owned()));
        // A second dollar could be spent at alpha, a third not: the fallback has money.
        assert_eq!(running.ask_settled(Some(ALICE), 1), (200, "alpha-m".to_owned()));
        assert_eq!(running.ask_settled(Some(ALICE), 1), (200, "beta-m".to_owned()));
        let (status, why) = running.ask_settled(Some(ALICE), 1);
        assert!(status == 429 && why.contains("Budget \"user/"), "{status} {why}");
        assert!(!why.contains(ALICE));
        // Bob has money of his own in one budget, and too little in another.
        let (status, why) = running.ask_settled(Some(BOB), 2);
        assert!(status == 429 && why.contains("Budget \"bob\""), "{status} {why}");
        assert_eq!(running.ask_settled(Some(BOB), 1), (200, "beta-m".to_owned()));
        // Nobody in particular has an account as well, which all such requests share.
        assert_eq!(running.ask_settled(None, 2), (200, "beta-m".to_owned()));
        assert_eq!(running.ask_settled(None, 2), (200, "beta-m".to_owned()));
        let (status, why) = running.ask_settled(None, 2);
        assert!(status == 429 && why.contains("Budget \"user/unnamed\""), "{status} {why}");
        for (user, budget) in [("carol", "8.50"), ("dora", "8.50")] {
            running.ask_settled(Some(user), 1);
            assert_eq!(running.row("trials")["limit"], budget);
        }
        let (status, why) = running.ask_settled(Some("erika"), 1);
        let spent = status == 429 && why.contains("Budget \"trials\"");
        assert!(spent, "{status} {why} {:#?}", running.place.budgets());
        check_books(&running);
        let passed = "SELECT count(*) AS n FROM routes WHERE reason = 'fallback_budget'";
        let passed = running.place.sql(passed);
        assert!(passed[0]["n"].as_i64().unwrap() >= 5, "{passed:?}");
        for name in [ALICE, BOB] {
            let mut found = Vec::new();
            holding(running.place.data(), name, &mut found);
            assert!(found.is_empty(), "{name} is in {found:?}");
        }
    })
    .await
    .unwrap();
}

fn check_books(running: &Running) {
    let rows = running.place.budgets();
    let settled = |budget: &str| pico(running.row(budget)["settled"].as_str().unwrap()) / pico("1");
    assert_eq!(["alpha", "beta-model", "trials", "bob"].map(settled), [2, 6, 8, 1]);
    let members: Vec<&str> =
        rows.iter().filter_map(|row| row["budget"].as_str()?.strip_prefix("user/")).collect();
    // Alice, Bob, carol, dora and the unnamed; and erika, if the ledger was asked for her. Nobody is refused before that, as a
    // cap of 0 has no bound.
    assert!((5..=6).contains(&members.len()), "{members:?}");
    for row in &rows {
        let amount = |name: &str| pico(row[name].as_str().unwrap());
        let parts = ["settled", "reserved", "leased_idle", "stranded", "available"];
        assert_eq!(amount("limit"), parts.map(amount).iter().sum::<i128>(), "{row}");
        assert!(row["mode"] == "soft" || amount("available") >= 0, "{row}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_raised_lowered_and_reset_on_record() {
    let providers = providers().await;
    let budgets = r#"
[[budget]]
id = "red"
scope = "team:red"
window = "day"
amount = "5"
[[budget]]
id = "user"
scope = "team:red"
each = "end_user"
window = "day"
amount = "4"
"#;
    let policy = policy(&providers, budgets);
    tokio::task::spawn_blocking(move || {
        let running = Running::start(&policy);
        let change = |args: &[&str]| {
            let whole: Vec<&str> = [&["budgets"], args, &["--reason", "for a test"]].concat();
            running.place.run(&whole)
        };
        assert_eq!(running.ask_settled(Some(ALICE), 2).0, 200);
        let said = change(&["lower", "red", "3.5"]);
        assert!(said.starts_with("budget red has a limit of $1.50 until 20"), "{said}");
        wait_for("the cut to hold", || (running.row("red")["limit"] == "1.50").then_some(()));
        // More than what may be leased already, which a cut does not take back.
        let (status, why) = running.ask_settled(Some(ALICE), 3);
        assert!(status == 429 && why.contains("Budget \"red\""), "{status} {why}");
        let said = change(&["raise", "red", "1.0", "--until", "2999-01-01T00:00:00Z"]);
        assert!(said.contains("$2.50 until 2999-01-01T00:00:00Z"), "{said}");
        let said = change(&["raise", "red", "0.5", "--permanent"]);
        assert!(said.contains("$3.00 until this policy version ends"), "{said}");
        // One dollar and a little was settled: all five are there again.
        let said = change(&["reset", "red"]);
        assert!(said.contains("has a limit of $6.00"), "{said}");
        wait_for("the reset to hold", || {
            let left = pico(running.row("red")["limit"].as_str().unwrap())
                - pico(running.row("red")["settled"].as_str().unwrap());
            (left == pico("5")).then_some(())
        });
        let (success, _, error) =
            running.place.try_run(&["budgets", "reset", "red", "--reason", "once more"]);
        assert!(!success && error.contains("nothing to reset"), "{error}");
        // A member's own account, by the name that the record does not hold.
        let said = change(&["lower", "user", "3", "--end-user", ALICE]);
        assert!(said.contains("has a limit of $1.00") && !said.contains(ALICE), "{said}");
        wait_for("the member's cut to hold", || {
            let (status, why) = running.ask_settled(Some(ALICE), 1);
            (status == 429 && why.contains("Budget \"user/")).then_some(())
        });
        assert_eq!(running.ask_settled(Some(BOB), 1).0, 200);
        let history = "SELECT \"by\" AS author, reason FROM budget_history WHERE reason LIKE '%for a test' ORDER BY reason";
        let history = running.place.sql(history);
        let reasons: Vec<&str> = history.iter().map(|row| row["reason"].as_str().unwrap()).collect();
        assert_eq!(reasons, ["for a test", "for a test", "for a test", "for a test", "reset: for a test"]);
        assert!(history.iter().all(|row| row["author"] == "operator"), "{history:?}");
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cap_is_lowered_to_what_is_left_where_policy_says_so() {
    let providers = providers().await;
    let budget = |lower: bool| {
        format!(
            "[[budget]]\nid = \"red\"\nscope = \"team:red\"\nwindow = \"day\"\namount = \"30.5\"\nlower_cap = {lower}\n"
        )
    };
    let (off, on) = (policy(&providers, &budget(false)), policy(&providers, &budget(true)));
    tokio::task::spawn_blocking(move || {
        let running = Running::start(&off);
        let (status, why) = running.ask_settled(None, 1000);
        assert!(status == 429 && why.contains("Budget \"red\""), "{status} {why}");
        let file = running.place.write("on.toml", &on);
        running.place.run(&["apply", file.to_str().unwrap()]);
        // Forty tokens are ready to be said: the cap that reaches the provider is what counts.
        let lowered = wait_for("the policy to hold", || {
            let answer = running.whole(&body(None, 1000), 40);
            answer.starts_with("HTTP/1.1 200").then_some(answer)
        });
        let header = |name: &str| {
            let line = lowered.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim().to_owned())
        };
        assert_eq!(header("x-bursar-output-cap:").as_deref(), Some("30"), "{lowered}");
        assert!(lowered.contains("\"completion_tokens\":30"), "{lowered}");
        // Half a dollar is left: below the least that is worth a call.
        let (status, why) = running.ask_settled(None, 1000);
        assert!(status == 429 && why.contains("is used up"), "{status} {why}");
        assert_eq!(pico(running.row("red")["settled"].as_str().unwrap()) / pico("1"), 30);
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bounded_budget_goes_by_an_estimate_and_says_so() {
    let providers = providers().await;
    let budget = "[[budget]]\nid = \"red\"\nscope = \"team:red\"\nwindow = \"day\"\namount = \"3.5\"\nmode = \"bounded\"\n";
    let policy = policy(&providers, budget);
    tokio::task::spawn_blocking(move || {
        let running = Running::start(&policy);
        assert_eq!(running.row("red")["mode"], "bounded");
        // A field without a rule has no bound, and passes all the same.
        let mut odd: Value = serde_json::from_slice(&body(None, 2)).unwrap();
        odd["messages"][0]["content"] =
            json!([{"type": "text", "text": "stand-in completion_tokens=2"}, {"type": "unheard_of"}]);
        let (status, answer) = post(running.place.shim, &running.key, odd.to_string().as_bytes());
        assert_eq!(status, 200, "{answer}");
        let (status, why) = running.ask_settled(None, 2);
        assert!(status == 429 && why.contains("Budget \"red\""), "{status} {why}");
        assert_eq!(running.ask_settled(None, 1).0, 200);
    })
    .await
    .unwrap();
}
