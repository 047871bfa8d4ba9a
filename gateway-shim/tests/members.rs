//! Members whom the log does not know yet: what policy says of their budget holds for their first lease.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;
use std::time::Duration;

use bursar_gateway_shim::LeaseSizing;
use bursar_gateway_shim::leases::Ask;
use bursar_gateway_shim::limits::{LimitsCore, Patience, Step, Waits};
use bursar_schemas::avro::Micros;
use bursar_schemas::facts::Recovery;
use bursar_schemas::ids::ProducerId;
use bursar_schemas::money::Money;
use bursar_schemas::policy::{Budget, Draw, Each, Scope};
use bursar_schemas::window::{Window, zone};

fn core() -> LimitsCore {
    let sizing = LeaseSizing {
        horizon_seconds: 3,
        outage_reserve: Duration::ZERO,
        idle_after: Duration::from_secs(15),
        ask_again_after: Duration::from_secs(30),
    };
    let waits = Waits { lease: Duration::from_secs(2), silence: Duration::from_secs(10) };
    LimitsCore::new(0, ProducerId([7; 16]), sizing, waits)
}

/// The question for a member's first lease.
fn first_question(core: &mut LimitsCore, member: &str, recovery: Recovery) -> Ask {
    let scope = Scope::Organisation("acme".into());
    let whole = Budget::new("user", scope, Window::Total, Money::from_pico(1000));
    let budget = Arc::new(Budget { each: Some(Each::EndUser), recovery, ..whole });
    let utc = zone("UTC").unwrap();
    let drawn = core.drawn(&[Draw::member(&budget, member, &utc)], Micros(0));
    assert_eq!(drawn.path[0].budget, format!("user/{member}"));
    match core.look(&drawn.path, Money::from_pico(10), Micros(0), &mut Patience::default()) {
        Step::Wait(_, Some(ask)) => ask,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_lease_of_a_member_is_marked_where_policy_recovers_by_marks() {
    let mut core = core();
    assert!(first_question(&mut core, "a", Recovery::Journal).mark.is_some());
    assert_eq!(first_question(&mut core, "b", Recovery::Forfeit).mark, None, "policy has changed");
    assert!(first_question(&mut core, "c", Recovery::Journal).mark.is_some());
}
