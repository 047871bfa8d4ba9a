//! What a shim that died held of a hard budget: it comes back above the marks that it left, where policy wants that.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod harness;

use bursar_stand_in::provider::{ModelPrices, RunningStandIn, StandIn, StandInConfig};
use harness::{Place, Process, pico, post, wait_for};
use serde_json::{Value, json};

/// A provider at which a token of output costs a dollar, and of input nearly nothing.
async fn provider() -> RunningStandIn {
    let prices = [("m".to_owned(), ModelPrices::new(pico("0.000001"), pico("1000000")))];
    StandIn::start(StandInConfig { prices: prices.into(), ..StandInConfig::default() }).await.unwrap()
}

/// Two teams with a hundred dollars each: what dead shims held of red's comes back, of blue's it does not.
fn policy(provider: &RunningStandIn) -> String {
    let base = &provider.base_url;
    let mut text = format!(
        r#"
[[organisation]]
id = "acme"
[[provider]]
id = "alpha"
base_url = "{base}"
[[price]]
provider = "alpha"
model = "m"
meters = {{ input = "0.000001", output = "1000000" }}
[[model]]
id = "m"
targets = [{{ provider = "alpha", model = "m" }}]
"#
    );
    for (team, recovery) in [("red", "journal"), ("blue", "forfeit")] {
        text += &format!(
            r#"
[[team]]
id = "{team}"
organisation = "acme"
[[budget]]
id = "{team}"
scope = "team:{team}"
window = "total"
amount = "100"
recovery = "{recovery}"
"#
        );
    }
    text
}

struct World {
    place: Place,
    up: Process,
    keys: [String; 2],
    _provider: RunningStandIn,
}

const RED: usize = 0;
const BLUE: usize = 1;

impl World {
    /// Both teams were served once, and the shim holds fifty dollars of each.
    async fn new() -> Self {
        let provider = provider().await;
        let place = Place::new("[archive]\nseal_seconds = 1\n");
        place.write("policy.toml", &policy(&provider));
        let up = place.up();
        let keys = ["red", "blue"].map(|team| place.key(team));
        let world = Self { place, up, keys, _provider: provider };
        for team in [RED, BLUE] {
            wait_for("the key to be known", || (world.ask(team, 0) != 401).then_some(()));
            assert_eq!(world.ask(team, 20), 200);
        }
        wait_for("everything to be settled", || {
            let settled = |row: &Value| row["settled"] != "0.00" && row["reserved"] == "0.00";
            world.place.budgets().iter().all(settled).then_some(())
        });
        world
    }

    /// A request that may cost so many dollars and costs one.
    fn ask(&self, team: usize, most: u64) -> u16 {
        let message = json!({"role": "user", "content": "stand-in prompt_tokens=1 completion_tokens=1"});
        let body = json!({"model": "m", "max_tokens": most, "messages": [message]});
        post(self.place.shim, &self.keys[team], &body.to_string().into_bytes()).0
    }

    fn shims(&self) -> Vec<Value> {
        serde_json::from_str(&self.place.run(&["shims", "list", "--format", "json"])).unwrap()
    }

    fn stranded(&self, team: &str) -> i128 {
        let rows = self.place.budgets();
        pico(rows.iter().find(|row| row["budget"] == team).unwrap()["stranded"].as_str().unwrap())
    }

    /// What came back can be spent, what did not cannot; and every proof holds.
    fn check(&self, reason: &str) {
        let (red, blue) = (self.stranded("red"), self.stranded("blue"));
        assert!(blue > pico("40") && red < blue - pico("9"), "red {red}, blue {blue}");
        assert_eq!(self.ask(BLUE, 55), 429, "what a dead shim holds of it is forfeited");
        assert_eq!(self.ask(RED, 55), 200);
        let credit = format!(
            "SELECT reason FROM limits WHERE kind = 'LeaseCredited' AND reason = '{reason}' AND NOT duplicate"
        );
        assert_eq!(self.place.sql(&credit).len(), 1);
        wait_for("the archive to hold", || self.place.try_run(&["verify", "--columns"]).0.then_some(()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_gets_back_what_lies_above_the_marks() {
    let mut world = World::new().await;
    world.up.kill();
    world.up = world.place.up();
    wait_for("the end of the dead shim", || (world.stranded("blue") > 0).then_some(()));
    wait_for("its leases to be recovered", || (world.stranded("red") < world.stranded("blue")).then_some(()));
    world.check("journal");
    let shims = world.shims();
    assert!(shims.iter().any(|row| row["state"] == "ended"), "{shims:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shim_whose_disk_is_gone_is_retired_by_hand_and_on_record() {
    let mut world = World::new().await;
    let lost = world.shims()[0]["incarnation"].as_str().unwrap().to_owned();
    world.up.kill();
    std::fs::remove_dir_all(world.place.data().join("spool")).unwrap();
    world.up = world.place.up();
    let found = wait_for("both shims to be known", || {
        let rows = world.shims();
        rows.into_iter().find(|row| row["incarnation"] == lost.as_str() && row["leases"] == 2)
    });
    let amount = |name: &str| pico(found[name].as_str().unwrap());
    assert_eq!(found["state"], "running");
    assert!(amount("leased") > pico("99") && amount("recoverable") > pico("9"), "{found}");
    let retire = ["shims", "retire", &lost, "--reason", "its machine burnt down"];
    let (done, _, said) = world.place.try_run(&retire);
    assert!(!done && said.contains("it runs, or did until then"), "{said}");
    let (done, _, said) = world.place.try_run(&["shims", "retire", &"0".repeat(32), "--reason", "x"]);
    assert!(!done && said.contains("no shim"), "{said}");
    let said = wait_for("it to be silent for long enough", || {
        let (done, said, _) = world.place.try_run(&retire);
        done.then_some(said)
    });
    assert!(said.contains(&format!("${} above its marks", found["recoverable"].as_str().unwrap())), "{said}");
    wait_for("its leases to be recovered", || (world.stranded("blue") > 0).then_some(()));
    world.check("retired");
    let (done, _, said) = world.place.try_run(&retire);
    assert!(!done && said.contains("has ended"), "{said}");
    let record = "SELECT incarnation, author, reason, spend_end FROM policy WHERE kind = 'ShimRetired'";
    let rows = world.place.sql(record);
    assert_eq!(rows.len(), 1, "{rows:#?}");
    assert_eq!(rows[0]["incarnation"], lost.as_str());
    assert_eq!(
        (&rows[0]["author"], &rows[0]["reason"]),
        (&json!("operator"), &json!("its machine burnt down"))
    );
}
