//! What the sizing of leases comes to: twenty shims, ten thousand dollars a day, fifty requests a second.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "a test fails by panicking; the table belongs to the result"
)]

use bursar_simulator::settings::Settings;
use bursar_simulator::world::{Steady, World, load};

const DOLLAR: i128 = 1_000_000_000_000;
/// Spent evenly over a day.
const A_DAY: i128 = 10_000 * DOLLAR;
const LOOKED: i64 = 60;

fn steady(outage: u64, silent: i64) -> Steady {
    let settings = Settings::steady(20, A_DAY, outage, 90 + LOOKED + silent);
    let cost = A_DAY / (86_400 * 50);
    let plan = load(&settings, cost);
    let mut world = World::new(settings, plan, false);
    world.steady(90, LOOKED, silent).unwrap_or_else(|violation| panic!("{violation}"))
}

#[test]
fn little_money_lies_idle_and_the_ledger_is_asked_seldom() {
    let found = steady(0, 0);
    assert!(found.most_idle * 100 <= A_DAY, "{found:?}");
    assert!(found.grants <= 3 * 60, "{found:?}");
}

#[test]
fn the_log_remembers_the_leases_in_use_and_not_all_that_were_granted() {
    let settings = Settings::steady(20, A_DAY, 0, 1600);
    let plan = load(&settings, A_DAY / (86_400 * 50));
    let mut world = World::new(settings, plan, false);
    let found = world.steady(90, 1500, 0).unwrap_or_else(|violation| panic!("{violation}"));
    // Each shim has one that it fills from and some that small requests use up.
    assert!(found.kept <= 8 * 20 && found.grants > 1000, "{found:?}");
}

#[test]
#[ignore = "a minute and more; with --ignored --nocapture it prints the curve"]
fn leases_outlive_the_outage_that_is_reserved_for() {
    println!("reserve  idle mean  most (dollars)  of the day  grants/s  silence survived");
    for outage in [0, 15, 60, 300] {
        let found = steady(outage, 900);
        let dollars = |pico: i128| pico / DOLLAR;
        println!(
            "{outage:>6}s {:>10} {:>15} {:>9}‱ {:>6}.{:02} {:>13}s",
            dollars(found.mean_idle),
            dollars(found.most_idle),
            found.most_idle * 10_000 / A_DAY,
            found.grants / 60,
            found.grants % 60 * 100 / 60,
            found.survived
        );
        assert!(found.survived >= i64::try_from(outage).unwrap(), "{outage}: {found:?}");
        assert!(found.grants <= 3 * 60, "{found:?}");
    }
}
