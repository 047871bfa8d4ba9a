//! Time: requests on both sides of a month's end and of both clock changes in Europe/Berlin. What `budgets` shows as
//! settled is what `chargeback` charges, by accounting time in the organisation's zone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod books;
mod harness;

use std::collections::BTreeMap;

use books::{Providers, policy};
use bursar_stand_in::trace;
use harness::{Place, pico, wait_for};
use serde_json::Value;

/// Instant in UTC, the local day and month in Berlin that it belongs to. In order: the clock never goes back.
const INSTANTS: [(&str, &str, &str); 8] = [
    ("2026-12-31T22:59:00Z", "2026-12-30T23:00:00Z", "2026-12"),
    ("2026-12-31T23:00:30Z", "2026-12-31T23:00:00Z", "2027-01"),
    ("2027-03-28T00:30:00Z", "2027-03-27T23:00:00Z", "2027-03"),
    ("2027-03-28T21:58:00Z", "2027-03-27T23:00:00Z", "2027-03"),
    ("2027-03-28T22:00:30Z", "2027-03-28T22:00:00Z", "2027-03"),
    ("2027-10-31T00:30:00Z", "2027-10-30T22:00:00Z", "2027-10"),
    ("2027-10-31T22:58:00Z", "2027-10-30T22:00:00Z", "2027-10"),
    ("2027-10-31T23:00:30Z", "2027-10-31T23:00:00Z", "2027-11"),
];

#[tokio::test(flavor = "multi_thread")]
async fn budgets_and_chargeback_agree_across_month_ends_and_clock_changes() {
    let providers = Providers::start(0).await;
    let place = Place::new("");
    let budgets = "[[budget]]\nid = \"red-day\"\nscope = \"team:red\"\nwindow = \"day\"\namount = \"900000000.00\"\n\
                   [[budget]]\nid = \"red-month\"\nscope = \"team:red\"\nwindow = \"month\"\namount = \"900000000.00\"\n";
    place.write("policy.toml", &format!("{}{budgets}", policy(&providers, "900000000.00")));
    let rows = trace::builtin().unwrap();
    let (mut days, mut months) = (BTreeMap::<&str, i128>::new(), BTreeMap::<&str, i128>::new());
    let mut key = None;
    for (index, (instant, day, month)) in INSTANTS.into_iter().enumerate() {
        let at: jiff::Timestamp = instant.parse().unwrap();
        let offset = (at.as_second() - jiff::Timestamp::now().as_second()).to_string();
        let up = place.up_with(&[("BURSAR_CLOCK_OFFSET_SECONDS", &offset)]);
        let key = key.get_or_insert_with(|| place.key("red")).clone();
        wait_for("the day's window", || {
            place.budgets().iter().any(|row| row["budget"] == "red-day" && row["window"] == day).then_some(())
        });
        let first = u64::try_from(index * 40).unwrap();
        let before = billed(&providers);
        let outcomes =
            books::replay_from(place.shim, &[("red", key)], &rows[index * 40..index * 40 + 40], 5, first)
                .await;
        assert!(outcomes.iter().all(|it| it.served), "{instant}: {outcomes:?}");
        wait_for("every request to be closed", || place.sql(books::OPEN_REQUESTS).is_empty().then_some(()));
        let spent = billed(&providers) - before;
        *days.entry(day).or_default() += spent;
        *months.entry(month).or_default() += spent;
        let settled = |budget: &str, window: Option<&str>| {
            let books = place.budgets();
            let row = books.iter().find(|row| {
                row["budget"] == budget
                    && window.is_none_or(|it| row["window"] == it)
                    && row["phase"] == "open"
            });
            pico(
                row.unwrap_or_else(|| panic!("{budget} {window:?} in {books:?}"))["settled"]
                    .as_str()
                    .unwrap(),
            )
        };
        assert_eq!(settled("red-day", Some(day)), days[day], "{instant}: the day");
        let shown = place.run(&["chargeback", "--month", month, "--by", "team", "--format", "json"]);
        let statement: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(
            pico(statement["total"].as_str().unwrap()),
            months[month],
            "{instant}: the month's chargeback"
        );
        let books = place.budgets();
        let mut monthly = books.iter().filter(|row| row["budget"] == "red-month");
        let settled_in = |row: &Value| pico(row["settled"].as_str().unwrap());
        assert!(
            monthly.any(|row| settled_in(row) == months[month]),
            "{instant}: the month's budget in {books:?}"
        );
        up.stop();
    }
    println!("{} days and {} months agree", days.len(), months.len());
}

/// What both providers billed so far.
fn billed(providers: &Providers) -> i128 {
    providers.alpha.totals().billed_pico + providers.beta.totals().billed_pico
}
