//! How many facts of `spend` one core takes in a second: 10,000 budgets, paths of four accounts, one reservation
//! and one settlement for each attempt. Prints the figure; run with `cargo bench -p bursar-ledger`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a benchmark fails by panicking and looks at the clock"
)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bursar_ledger::core::{Config, Core, Input, Timing};
use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{
    About, AccountRef, Basis, Confidence, CostLine, Fact, Head, LeaseId, Reserved, Role, Settled,
};
use bursar_schemas::ids::{ProducerId, RequestId};
use bursar_schemas::meters::Meter;
use bursar_schemas::money::Money;
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::producer::{Chains, Identity};

const ATTEMPTS: u64 = 500_000;
const BUDGETS: u64 = 10_000;

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

fn facts(attempt: u64, holder: ProducerId) -> [Fact; 2] {
    let path = attempt.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (BUDGETS - 1200);
    let account = |budget: String| AccountRef { budget, window: 1_793_577_600 };
    let mut accounts = vec![
        account("acme-month".into()),
        account(format!("team-{}", path % 100)),
        account(format!("project-{}", path % 1000)),
        account(format!("key-{path}")),
    ];
    accounts.sort();
    let mut request = [0; 16];
    request[..8].copy_from_slice(&attempt.to_be_bytes());
    request[8..].copy_from_slice(&attempt.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    let request = RequestId(request);
    let (provider, model) = ("openai".to_owned(), "gpt-5-mini".to_owned());
    let lease = Some(LeaseId { holder, number: path });
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
        lease,
        amount: Money::from_pico(5_000_000_000),
    };
    let settled = Settled {
        head: Head::draft(Micros(2), 1, "2026-11-01"),
        about: about(request, path),
        attempt: 1,
        provider,
        model,
        accounts,
        lease,
        reserved: Money::from_pico(5_000_000_000),
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

fn main() {
    let identity = Identity::new(ProducerId([1; 16]), Role::Shim, [1; 32], &[7; 32]);
    let (deployment_key, holder) = (identity.deployment_key, identity.producer);
    let mut chains = Chains::new(identity);
    let mut entries = Vec::new();
    let lane = Lane::new(Topic::Spend, 0);
    for attempt in 0..ATTEMPTS {
        for fact in facts(attempt, holder) {
            chains.stamp(lane, fact, &mut entries);
        }
    }
    let bytes: usize = entries.iter().map(|entry| entry.value.len()).sum();
    for hashing in [false, true] {
        let timing = Timing::default();
        let instance = ProducerId([2; 16]);
        let mut core = Core::new(Config { partition: 0, partitions: 1, instance, deployment_key, timing });
        let mut effects = Vec::new();
        if !hashing {
            // As at a restart: an earlier ledger has checked the running hash of all this.
            let refused = support_read(&mut core, instance, u64::MAX / 4);
            assert!(refused, "the statement counts");
        }
        let (begun, begun_busy) = (Instant::now(), busy());
        for (offset, entry) in entries.iter().enumerate() {
            let input = Input::Spend { offset: offset as u64, value: &entry.value };
            core.apply(input, &mut effects).unwrap();
        }
        let took = begun.elapsed();
        let took_busy = busy().zip(begun_busy).map_or(took, |(now, begun)| now.saturating_sub(begun));
        assert_eq!(core.waiting().0, 0, "every reservation is settled");
        assert!(effects.is_empty());
        let facts = entries.len() as u128;
        println!(
            "{} facts of {} bytes on average, running hashes {}: {} ms, of them {} ms on a core: {} facts/s a core",
            facts,
            bytes / entries.len(),
            if hashing { "checked" } else { "checked before" },
            took.as_millis(),
            took_busy.as_millis(),
            facts * 1_000_000 / took_busy.as_micros().max(1),
        );
    }
}

/// How long this thread has been on a core, where the system tells (Linux): a figure that does not depend on what
/// else the machine does.
fn busy() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    stat.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// Lets the core read in `limits` that `spend` was read before that offset.
fn support_read(core: &mut Core, ledger: ProducerId, read: u64) -> bool {
    use bursar_schemas::facts::{EpochMarked, IncarnationEnded};
    let head = |number| {
        let mut head = Head::draft(Micros(1), 1, "");
        (head.producer, head.role, head.number) = (ledger, Role::Ledger, number);
        head
    };
    let marker = EpochMarked { head: head(1), instance: ledger, supersedes: None };
    let incarnation = ProducerId([9; 16]);
    let ended = IncarnationEnded { head: head(2), epoch: 0, incarnation, cause: 0, read };
    let mut effects = Vec::new();
    for (offset, fact) in [Fact::from(marker), Fact::from(ended)].into_iter().enumerate() {
        core.apply(Input::Limits { offset: offset as u64, fact: &Ok(fact) }, &mut effects).unwrap();
    }
    core.fold().has_ended(&incarnation)
}
