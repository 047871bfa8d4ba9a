//! What comes from outside, fixed before a world begins: requests, faults and changes of policy, each with its time.
//! A failing plan is shortened by leaving events out.

use bursar_schemas::facts::{AttemptOutcome, Mode};

use crate::calendar::SECOND;
use crate::random::Random;
use crate::settings::{CENT, PATHS, Settings};

/// One attempt as the world will have it, if it comes to that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Try {
    /// The upper bound of its cost, in pico-dollars.
    pub bound: i128,
    /// How it ends.
    pub outcome: AttemptOutcome,
    /// What the provider charges, in thousandths of the bound; also when the shim never learns it.
    pub permille: i64,
    /// The same where no hard budget is on the path, and what is reserved only an estimate.
    pub estimated: i64,
    /// True when the provider reports usage.
    pub reported: bool,
    /// How long it takes, in microseconds.
    pub takes: i64,
}

/// Something from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it; times are in microseconds, amounts in pico-dollars")]
pub enum Act {
    Request { shim: usize, path: usize, tries: Vec<Try> },
    Limit { budget: usize, amount: i128 },
    Mode { budget: usize, mode: Mode },
    Recovery { budget: usize },
    Raise { budget: usize, change: i128, lasts: i64 },
    CrashLedger { slot: usize, kept: u64, down: i64 },
    PauseLedger { slot: usize, lasts: i64 },
    RestartLedgers { down: i64 },
    Rebalance { slot: usize, both: i64 },
    CrashShim { slot: usize, down: i64, disk: bool, again: bool },
    PauseShim { slot: usize, lasts: i64 },
    StopShim { slot: usize, down: i64 },
    RefuseFacts { slot: usize, lasts: i64 },
    LagLedger { slot: usize, lane: usize, lasts: i64 },
    LagShim { slot: usize, policy: bool, lasts: i64 },
    Hold { ledger: bool, slot: usize, lasts: i64 },
    Jump { by: i64 },
    Confuse { kind: u64, with: u64 },
}

/// When, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// After the start, in microseconds.
    pub at: i64,
    /// What.
    pub act: Act,
}

fn attempt(random: &mut Random, usual: i64) -> Try {
    let cents = match random.below(12) {
        0 => random.within(usual, usual * 8),
        1 => 1,
        _ => random.within(1, usual),
    };
    // Odd amounts, so that sums that only work for round ones show.
    let bound = i128::from(cents) * CENT - i128::from(random.within(0, 9_999));
    let permille = match random.below(4) {
        0 => 1000,
        1 => 0,
        _ => random.within(1, 1000),
    };
    let (outcome, reported) = match random.below(16) {
        0 => (AttemptOutcome::TimedOut, false),
        1 => (AttemptOutcome::Rejected, false),
        2 => (AttemptOutcome::Unreachable, false),
        3 => (AttemptOutcome::Broken, random.once_in(2)),
        4 => (AttemptOutcome::Abandoned, random.once_in(2)),
        5 => (AttemptOutcome::Answered, false),
        _ => (AttemptOutcome::Answered, true),
    };
    let bills = !matches!(outcome, AttemptOutcome::Rejected | AttemptOutcome::Unreachable);
    let takes = if random.once_in(10) { random.within(1, 8) * SECOND } else { random.within(5_000, 900_000) };
    let permille = if bills { permille } else { 0 };
    let estimated = if bills && random.once_in(3) { permille + random.within(1, 2000) } else { permille };
    Try { bound, outcome, permille, estimated, reported, takes }
}

fn request(random: &mut Random, settings: &Settings) -> Act {
    let mut tries = vec![attempt(random, settings.usual_cents)];
    while tries.len() < 3 && tries.last().is_some_and(|it| it.outcome != AttemptOutcome::Answered) {
        tries.push(attempt(random, settings.usual_cents));
    }
    let shim = usize::try_from(random.below(4)).unwrap_or(0) % settings.shims;
    // Some keys are busier than others, and some shims see one path only.
    let path = usize::try_from(random.below(7)).unwrap_or(0).min(PATHS.len() - 1);
    Act::Request { shim, path, tries }
}

fn change(random: &mut Random, settings: &Settings) -> Act {
    let budget = usize::try_from(random.below(5)).unwrap_or(0);
    let usual = settings.budgets[budget].amount;
    let part = |random: &mut Random, of: i64| usual * i128::from(random.within(1, of)) / 10;
    match random.below(9) {
        0 | 1 => Act::Limit { budget, amount: part(random, 25) },
        2 => Act::Limit { budget, amount: part(random, 3) },
        3..=5 if settings.faults.modes => {
            let mode = random.pick(&[Mode::Hard, Mode::Soft, Mode::Track, Mode::Bounded]);
            Act::Mode { budget: if random.once_in(3) { budget } else { 3 }, mode }
        }
        6 => Act::Recovery { budget },
        _ => {
            let change = part(random, 12);
            let change = if random.once_in(3) { -change } else { change };
            Act::Raise { budget, change, lasts: random.within(1, 12) * SECOND }
        }
    }
}

fn lasting(random: &mut Random) -> i64 {
    match random.below(4) {
        0 => random.within(7, 25) * SECOND,
        1 => random.within(1, 7) * SECOND,
        _ => random.within(50_000, 1_500_000),
    }
}

/// The faults of one slot of time.
fn trouble(random: &mut Random, settings: &Settings, at: i64, plan: &mut Vec<Planned>) {
    let faults = &settings.faults;
    let rates = [
        faults.ledger_crashes,
        faults.ledger_pauses,
        faults.ledger_restarts,
        faults.rebalances,
        faults.shim_crashes,
        faults.shim_losses,
        faults.shim_pauses,
        faults.shim_stops,
        faults.refusals,
        faults.lags,
        faults.holds,
        faults.jumps,
        faults.confusion,
        faults.changes,
    ];
    for (kind, rate) in rates.into_iter().enumerate() {
        // Drawn always, so that one rate does not shift the others.
        let mut own = Random::new(random.draw());
        if rate == 0 || !own.once_in(rate) {
            continue;
        }
        let random = &mut own;
        let slot = usize::try_from(random.below(8)).unwrap_or(0);
        let act = match kind {
            0 => Act::CrashLedger { slot, kept: random.below(5), down: lasting(random) },
            1 => Act::PauseLedger { slot, lasts: lasting(random) + 4 * SECOND },
            2 => Act::RestartLedgers { down: random.within(10_000, 3 * SECOND) },
            3 => Act::Rebalance { slot, both: lasting(random) },
            4 => {
                let (disk, again) = (true, random.once_in(2));
                Act::CrashShim { slot, down: lasting(random), disk, again }
            }
            5 => Act::CrashShim { slot, down: lasting(random), disk: false, again: false },
            6 => Act::PauseShim { slot, lasts: lasting(random) + 3 * SECOND },
            7 => Act::StopShim { slot, down: lasting(random) },
            8 => Act::RefuseFacts { slot, lasts: lasting(random) },
            9 if random.once_in(2) => {
                let lane = usize::try_from(random.below(3)).unwrap_or(0);
                Act::LagLedger { slot, lane, lasts: lasting(random) }
            }
            9 => Act::LagShim { slot, policy: random.once_in(2), lasts: lasting(random) },
            10 => Act::Hold { ledger: random.once_in(3), slot, lasts: lasting(random) },
            11 => {
                let hours = random.pick(&[0, 0, 1, 2, 24, 30 * 24]);
                Act::Jump { by: hours * 3600 * SECOND + random.within(5, 70) * SECOND }
            }
            12 => Act::Confuse { kind: random.draw(), with: random.draw() },
            _ => change(random, settings),
        };
        plan.push(Planned { at: at + random.within(0, SECOND / 2 - 1), act });
    }
}

/// The plan of a world.
#[must_use]
pub fn draw(settings: &Settings) -> Vec<Planned> {
    let mut random = Random::new(crate::random::mix(settings.seed, 1));
    let mut plan = Vec::new();
    let mut at = 0;
    while at < settings.span {
        at += random.within(1, 2 * settings.request_every);
        plan.push(Planned { at, act: request(&mut random, settings) });
        if random.once_in(15) {
            // A burst.
            for _ in 0..random.below(12) {
                plan.push(Planned { at, act: request(&mut random, settings) });
            }
        }
    }
    let mut random = Random::new(crate::random::mix(settings.seed, 2));
    for slot in 0..settings.span / (SECOND / 2) {
        trouble(&mut random, settings, slot * SECOND / 2, &mut plan);
    }
    plan.sort_by_key(|planned| planned.at);
    plan
}
