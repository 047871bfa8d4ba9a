//! Three books of one replay, and what must hold between them.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

pub mod oracle;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use bursar_stand_in::provider::{ModelPrices, RunningStandIn, StandIn, StandInConfig, read_bill};
use bursar_stand_in::replay::{Outcome, ReplayConfig, TeamKey, replay};
use bursar_stand_in::trace::Row;
use serde_json::{Value, json};

use crate::harness::{Place, component, pico, wait_for};

/// Pico-dollars by team and served model.
pub type Book = BTreeMap<(String, String), i128>;

/// Dollars per million input and output tokens. One model is dear enough for totals beyond 2⁶⁴ pico-dollars.
pub const PRICES: [(&str, &str, &str); 4] = [
    ("alpha-gold", "10000000.00", "30000000.00"),
    ("alpha-small", "0.15", "0.60"),
    ("beta-gold", "9000000.123457", "25000000.00"),
    ("beta-small", "0.101", "0.407"),
];

/// Two stand-in providers with a bill each; the first fails now and then.
pub struct Providers {
    pub alpha: RunningStandIn,
    pub beta: RunningStandIn,
    pub bills: [PathBuf; 2],
    _folder: tempfile::TempDir,
}

impl Providers {
    pub async fn start(errors_per_mille: u64) -> Self {
        Self::start_slow(errors_per_mille, Duration::ZERO).await
    }

    /// As [`Providers::start`], with a wait before the first byte of every answer.
    pub async fn start_slow(errors_per_mille: u64, first_byte_delay: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bills = ["alpha", "beta"].map(|name| folder.path().join(format!("{name}.jsonl")));
        let start = |index: usize, errors: u64| {
            let prefix = ["alpha-", "beta-"][index];
            let price = |text: &str| pico(text);
            let prices = PRICES
                .iter()
                .filter(|(model, ..)| model.starts_with(prefix))
                .map(|(model, input, output)| {
                    ((*model).to_owned(), ModelPrices::new(price(input), price(output)))
                })
                .collect();
            StandIn::start(StandInConfig {
                bill: Some(bills[index].clone()),
                error_rate_per_mille: errors,
                first_byte_delay,
                seed: 11,
                prices,
                ..StandInConfig::default()
            })
        };
        let (alpha, beta) = (start(0, errors_per_mille).await.unwrap(), start(1, 0).await.unwrap());
        Self { alpha, beta, bills, _folder: folder }
    }
}

/// Two teams, three models; red has a hard budget that the replay crosses.
pub fn policy(providers: &Providers, red_limit: &str) -> String {
    let prices: String = PRICES
        .iter()
        .map(|(model, input, output)| {
            let provider = model.split('-').next().unwrap();
            format!("[[price]]\nprovider = \"{provider}\"\nmodel = \"{model}\"\nmax_output = 4096\nmeters = {{ input = \"{input}\", output = \"{output}\" }}\n")
        })
        .collect();
    format!(
        r#"
[[organisation]]
id = "acme"
time_zone = "Europe/Berlin"
[[team]]
id = "red"
organisation = "acme"
cost_center = "CC-1"
[[team]]
id = "blue"
organisation = "acme"
cost_center = "CC-2"
[[budget]]
id = "acme-total"
scope = "organisation:acme"
window = "total"
amount = "900000000.00"
[[budget]]
id = "red-total"
scope = "team:red"
window = "total"
amount = "{red_limit}"
[[budget]]
id = "blue-month"
scope = "team:blue"
window = "month"
amount = "900000000.00"
mode = "track"
[[provider]]
id = "alpha"
base_url = "{alpha}"
[[provider]]
id = "beta"
base_url = "{beta}"
[[model]]
id = "gold"
targets = [{{ provider = "alpha", model = "alpha-gold" }}, {{ provider = "beta", model = "beta-gold" }}]
[[model]]
id = "small"
targets = [{{ provider = "alpha", model = "alpha-small" }}, {{ provider = "beta", model = "beta-small" }}]
[[model]]
id = "steady"
targets = [{{ provider = "beta", model = "beta-small" }}]
{prices}"#,
        alpha = providers.alpha.base_url,
        beta = providers.beta.base_url,
    )
}

/// Replays rows for the teams, drawn by the seed, over the three models.
pub async fn replay_all(shim: SocketAddr, teams: &[(&str, String)], rows: &[Row], seed: u64) -> Vec<Outcome> {
    replay_from(shim, teams, rows, seed, 0).await
}

/// As [`replay_all`], with the rows' numbers from `first` on.
pub async fn replay_from(
    shim: SocketAddr,
    teams: &[(&str, String)],
    rows: &[Row],
    seed: u64,
    first: u64,
) -> Vec<Outcome> {
    let config = ReplayConfig {
        base_url: format!("http://{shim}/v1"),
        seed,
        teams: teams
            .iter()
            .map(|(team, key)| TeamKey { team: (*team).to_owned(), key: key.clone() })
            .collect(),
        models: ["gold", "small", "steady"].map(str::to_owned).to_vec(),
        max_tokens: Some(1000),
        bytes_per_token: 1,
        first_number: first,
        ..ReplayConfig::default()
    };
    replay(&config, rows, |_, _| ControlFlow::Continue(())).await.unwrap()
}

/// The three books, and the limits that they are held to.
pub struct Books {
    pub ours: Book,
    pub billed: Book,
    pub independent: Option<Book>,
    pub refused: BTreeMap<String, usize>,
    pub books: Vec<Value>,
}

/// Bursar's own: settled by team and model, once no request is open any more.
pub fn ours(place: &Place) -> Book {
    wait_for("every request to be closed", || place.sql(OPEN_REQUESTS).is_empty().then_some(()));
    let rows = place.sql("SELECT team, model, sum(amount) AS amount FROM settlements GROUP BY team, model");
    let field = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    let entry = |row: &Value| ((field(row, "team"), field(row, "model")), pico(&field(row, "amount")));
    rows.iter().map(entry).filter(|(_, amount)| *amount != 0).collect()
}

/// Requests that were opened and not closed.
pub const OPEN_REQUESTS: &str = "SELECT request FROM requests WHERE kind = 'RequestOpened' AND NOT duplicate \
    EXCEPT SELECT request FROM requests WHERE kind = 'RequestClosed'";

impl Books {
    pub fn gather(place: &Place, providers: &Providers, outcomes: &[Outcome]) -> Self {
        let teams: BTreeMap<&str, &str> =
            outcomes.iter().map(|it| (it.id.as_str(), it.team.as_str())).collect();
        let mut billed = Book::new();
        for bill in &providers.bills {
            for line in read_bill(bill).unwrap() {
                let team = (*teams.get(line.id.as_str()).expect("the stand-in billed an unknown request"))
                    .to_owned();
                *billed.entry((team, line.model)).or_default() += line.amount_pico;
            }
        }
        billed.retain(|_, amount| *amount != 0);
        let mut refused = BTreeMap::new();
        for outcome in outcomes.iter().filter(|it| it.error_code.as_deref() == Some("budget_exceeded")) {
            *refused.entry(outcome.team.clone()).or_default() += 1;
        }
        Self {
            ours: ours(place),
            billed,
            independent: independent(place, outcomes),
            refused,
            books: place.budgets(),
        }
    }

    pub fn must_agree(&self, red_limit: &str) {
        assert_eq!(self.ours, self.billed, "the chargeback differs from the stand-in's bill");
        if let Some(independent) = &self.independent {
            assert_eq!(&self.ours, independent, "the chargeback differs from the independent engine's sum");
        }
        let of = |team: &str| -> i128 {
            self.billed.iter().filter(|((it, _), _)| it == team).map(|(_, amount)| amount).sum()
        };
        assert!(of("red") <= pico(red_limit), "red was billed {} above its limit", of("red"));
        assert!(
            self.refused.get("red").is_some_and(|count| *count > 0),
            "red's budget was never crossed: {:?}",
            self.refused
        );
        assert_eq!(self.refused.get("blue"), None, "blue was refused though it has money");
        assert!(
            of("blue") > i128::from(u64::MAX),
            "the totals do not go beyond 2^64 pico-dollars: {}",
            of("blue")
        );
        for row in &self.books {
            let amount = |name: &str| pico(row[name].as_str().unwrap());
            let parts = ["settled", "reserved", "leased_idle", "stranded", "available"];
            assert_eq!(
                amount("limit"),
                parts.map(amount).iter().sum::<i128>(),
                "the books do not add up: {row}"
            );
        }
        let settled = |budget: &str| {
            let row = self.books.iter().find(|row| row["budget"] == budget).unwrap();
            pico(row["settled"].as_str().unwrap())
        };
        assert_eq!(settled("red-total"), of("red"));
        assert_eq!(settled("blue-month"), of("blue"));
        assert_eq!(settled("acme-total"), of("red") + of("blue"));
    }

    pub fn print(&self) {
        println!("team   model        chargeback = bill = independent sum (pico-dollars)");
        for ((team, model), amount) in &self.ours {
            println!("{team:<6} {model:<12} {amount}");
        }
        println!("refused for want of money: {:?}", self.refused);
    }
}

/// What DuckDB makes of the CSV over the ids that clients saw served.
fn independent(place: &Place, outcomes: &[Outcome]) -> Option<Book> {
    let python = component("BURSAR_TEST_PYTHON")?;
    let served = place.data().join("served.jsonl");
    let mut file = std::fs::File::create(&served).unwrap();
    for outcome in outcomes.iter().filter(|it| it.served) {
        let model = outcome.answered_model.as_ref().expect("a served answer names its model");
        writeln!(file, "{}", json!({"row": outcome.number, "team": outcome.team, "model": model})).unwrap();
    }
    let prices: BTreeMap<&str, [String; 2]> = PRICES
        .iter()
        .map(|(model, input, output)| (*model, [input, output].map(|it| pico(it).to_string())))
        .collect();
    let prices = place.write("prices.json", &serde_json::to_string(&prices).unwrap());
    let root = env!("CARGO_MANIFEST_DIR");
    let run = Command::new(python)
        .arg(format!("{root}/tests/oracle/books.py"))
        .arg(format!("{root}/tests/data/azure-llm-inference-2023-conv.csv"))
        .args([served, prices])
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let lines = String::from_utf8(run.stdout).unwrap();
    let book = lines.lines().map(|line| {
        let row: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        ((text("team"), text("model")), text("pico").parse().unwrap())
    });
    Some(book.collect())
}
