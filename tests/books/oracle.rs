//! The ledger's balances against two other readings of the same facts: SQL, and a naive fold in another language.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::harness::{Place, component, pico};

/// One charged attempt.
pub struct Settled {
    pub request: String,
    pub team: String,
    pub amount: i128,
    pub confidence: String,
}

pub fn settled(place: &Place) -> Vec<Settled> {
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    place
        .sql("SELECT request, team, CAST(amount AS VARCHAR) AS amount, confidence FROM settlements")
        .iter()
        .map(|row| Settled {
            request: text(row, "request"),
            team: text(row, "team"),
            amount: pico(&text(row, "amount")),
            confidence: text(row, "confidence"),
        })
        .collect()
}

pub fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

/// What the naive fold makes of the topics; none where Python is not there.
pub fn fold(bootstrap: &str, prefix: &str) -> Option<Value> {
    let python = component("BURSAR_TEST_PYTHON")?;
    let root = env!("CARGO_MANIFEST_DIR");
    let run = Command::new(python)
        .arg(format!("{root}/tests/oracle/fold.py"))
        .args([bootstrap, prefix])
        .arg(format!("{root}/schemas/avro"))
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    Some(serde_json::from_slice(&run.stdout).unwrap())
}

fn by_budget(book: &Value) -> BTreeMap<&str, &Value> {
    book["accounts"].as_array().unwrap().iter().map(|it| (it["budget"].as_str().unwrap(), it)).collect()
}

/// Whether the ledger's balances are those of the naive fold, and nothing is reserved any more.
pub fn agrees(place: &Place, book: &Value) -> bool {
    let naive = by_budget(book);
    place.budgets().iter().all(|row| {
        let other = naive[row["budget"].as_str().unwrap()];
        let same = |name: &str| {
            pico(row[name].as_str().unwrap()) == other[name].as_str().unwrap().parse::<i128>().unwrap()
        };
        same("settled") && same("reserved") && same("limit") && pico(row["reserved"].as_str().unwrap()) == 0
    })
}

/// Fails unless the balances agree, the books add up, and no rule of hard budgets was broken.
pub fn must_hold(place: &Place, book: &Value) {
    let naive = by_budget(book);
    let books = place.budgets();
    assert_eq!(books.len(), naive.len(), "the ledger and the naive fold know other accounts");
    assert_eq!(book["faults"], Value::Array(Vec::new()), "a rule of hard budgets was broken");
    for row in &books {
        let amount = |name: &str| pico(row[name].as_str().unwrap());
        let other = naive[row["budget"].as_str().unwrap()];
        let wanted = |name: &str| other[name].as_str().unwrap().parse::<i128>().unwrap();
        for name in ["settled", "reserved", "limit"] {
            assert_eq!(amount(name), wanted(name), "{name} of {row} differs from the naive fold");
        }
        let parts = ["settled", "reserved", "leased_idle", "stranded", "available"];
        assert_eq!(amount("limit"), parts.map(amount).iter().sum::<i128>(), "the books do not add up: {row}");
        if row["mode"] == "hard" {
            assert!(amount("settled") <= amount("limit"), "a hard budget was exceeded: {row}");
        }
    }
    // By SQL, in the query service's arithmetic.
    let sums = place.sql(
        "SELECT budget, CAST(sum(amount) AS VARCHAR) AS settled FROM \
         (SELECT amount, unnest(accounts)['budget'] AS budget FROM spend WHERE kind = 'Settled' AND NOT duplicate) AS it \
         GROUP BY budget",
    );
    for row in &sums {
        let budget = row["budget"].as_str().unwrap();
        let other = naive[budget]["settled"].as_str().unwrap().parse::<i128>().unwrap();
        assert_eq!(
            pico(row["settled"].as_str().unwrap()),
            other,
            "SQL over the facts gives other books for {budget}"
        );
    }
}
