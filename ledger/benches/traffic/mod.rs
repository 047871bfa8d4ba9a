//! Traffic on `spend` for the ledger's benchmarks: 10,000 budgets, paths of four accounts, a reservation and a
//! settlement for each attempt, stamped by one shim.

use std::collections::BTreeMap;

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{
    About, AccountRef, Basis, Confidence, CostLine, Fact, Head, LeaseId, Reserved, Settled,
};
use bursar_schemas::ids::{ProducerId, RequestId};
use bursar_schemas::meters::Meter;
use bursar_schemas::money::Money;

/// Budgets, all of which are drawn on.
pub const BUDGETS: u64 = 10_000;
/// Paths: each ends in a key's budget of its own, below 100 teams and 1000 projects and one organisation.
pub const PATHS: u64 = BUDGETS - 1101;
/// The upper bound of an attempt, in pico-dollars.
pub const BOUND: i128 = 5_000_000_000;

/// The four accounts of a path, sorted.
#[must_use]
pub fn accounts(path: u64, window: i64) -> Vec<AccountRef> {
    let account = |budget: String| AccountRef { budget, window };
    let mut accounts = vec![
        account("acme-month".into()),
        account(format!("team-{}", path % 100)),
        account(format!("project-{}", path % 1000)),
        account(format!("key-{path}")),
    ];
    accounts.sort();
    accounts
}

fn about(request: RequestId, path: u64) -> About {
    About {
        request,
        accounting_at: Micros(1_793_620_800_000_000),
        organisation: "acme".into(),
        team: Some(format!("team-{}", path % 100)),
        project: Some(format!("project-{}", path % 1000)),
        key: format!("key-{path}"),
        end_user: None,
        cost_center: Some("cc-4711".into()),
        tags: BTreeMap::from([("stage".to_owned(), "production".to_owned())]),
    }
}

/// The path of an attempt: any of them, in an order that no cache likes.
#[must_use]
pub const fn path_of(attempt: u64) -> u64 {
    attempt.wrapping_mul(0x9e37_79b9_7f4a_7c15) % PATHS
}

/// The two facts of an attempt under a lease.
#[must_use]
pub fn facts(attempt: u64, lease: LeaseId, window: i64) -> [Fact; 2] {
    let path = path_of(attempt);
    let accounts = accounts(path, window);
    let mut request = [0; 16];
    request[..8].copy_from_slice(&attempt.to_be_bytes());
    request[8..].copy_from_slice(&attempt.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    let request = RequestId(request);
    let (provider, model) = ("openai".to_owned(), "gpt-5-mini".to_owned());
    let line = |meter| CostLine {
        meter,
        quantity: 1234,
        price_per_million: Money::from_pico(250_000_000_000),
        amount: Money::from_pico(308_500_000),
    };
    let reserved = Reserved {
        head: Head::draft(Micros(1), 1, "2026-11-01"),
        about: about(request, path),
        attempt: 1,
        provider: provider.clone(),
        model: model.clone(),
        accounts: accounts.clone(),
        lease: Some(lease),
        amount: Money::from_pico(BOUND),
    };
    let settled = Settled {
        head: Head::draft(Micros(2), 1, "2026-11-01"),
        about: about(request, path),
        attempt: 1,
        provider,
        model,
        accounts,
        lease: Some(lease),
        reserved: Money::from_pico(BOUND),
        amount: Money::from_pico(617_000_000),
        confidence: Confidence::Reported,
        basis: Basis::Usage,
        lines: vec![line(Meter::Input), line(Meter::Output)],
        usage: Some(r#"{"prompt_tokens":1234,"completion_tokens":1234,"total_tokens":2468}"#.into()),
        overrun: Money::ZERO,
        reserved_by: None,
    };
    [reserved.into(), settled.into()]
}

/// A lease of a holder on a path.
#[must_use]
pub const fn lease(holder: ProducerId, number: u64) -> LeaseId {
    LeaseId { holder, number }
}
