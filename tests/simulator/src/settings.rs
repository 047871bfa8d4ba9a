//! What differs between worlds: sizes, delays, and which faults there are. Each world draws its own mixture, since a
//! world with every fault at once hides what a few of them do together.

use std::time::Duration;

use bursar_gateway_shim::LeaseSizing;
use bursar_gateway_shim::limits::Waits;
use bursar_ledger::core::Timing;
use bursar_schemas::facts::{Mode, Recovery};

use crate::calendar::{Kind, SECOND};
use crate::random::Random;

/// One cent in pico-dollars.
pub const CENT: i128 = 10_000_000_000;

/// Ids of the budgets' accounts; their places are their numbers. One is the account of a member of its budget.
pub const BUDGETS: [&str; 5] = ["org", "red", "px/k", "blue", "py"];

/// The budget on the provider of the first target: a fallback draws on another path without it.
pub const FIRST_TARGET: usize = 4;

/// Kinds of the budgets' windows.
pub const KINDS: [Kind; 5] = [Kind::Month, Kind::Day, Kind::Hour, Kind::Day, Kind::Total];

/// Budgets of each path that requests take.
pub const PATHS: [&[usize]; 6] = [&[0], &[0, 1], &[0, 1, 2], &[0, 3], &[0, 3, 4], &[3]];

/// A budget at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budgeted {
    /// Its amount in pico-dollars.
    pub amount: i128,
    /// Its mode.
    pub mode: Mode,
    /// How its stranded money comes back.
    pub recovery: Recovery,
}

/// Which faults a world has. A rate is once in so many occasions; 0 is never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// Ledgers crash.
    pub ledger_crashes: u64,
    /// Ledgers pause.
    pub ledger_pauses: u64,
    /// All ledgers stop, and start at once.
    pub ledger_restarts: u64,
    /// A ledger is replaced while it still runs.
    pub rebalances: u64,
    /// Shims crash, their disk survives.
    pub shim_crashes: u64,
    /// Shims lose all local state.
    pub shim_losses: u64,
    /// Shims pause.
    pub shim_pauses: u64,
    /// Shims stop in good order.
    pub shim_stops: u64,
    /// Spools refuse facts for a while.
    pub refusals: u64,
    /// A reader lags.
    pub lags: u64,
    /// A writer's records stay under way for long.
    pub holds: u64,
    /// Everything stands still for long.
    pub jumps: u64,
    /// A confused ledger writes nonsense.
    pub confusion: u64,
    /// Deliveries are repeated at once: once in so many.
    pub repeats: u64,
    /// Deliveries are repeated much later: once in so many.
    pub late_copies: u64,
    /// Budgets change: limits, modes, raises.
    pub changes: u64,
    /// Modes change as well.
    pub modes: bool,
    /// Shims' clocks differ.
    pub skew: bool,
    /// Shims keep snapshots and start from them.
    pub snapshots: bool,
    /// So do ledgers.
    pub ledger_snapshots: bool,
    /// Shims that lost everything are retired.
    pub retires: bool,
}

/// One world's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The seed.
    pub seed: u64,
    /// How many shims there are.
    pub shims: usize,
    /// How many ledgers.
    pub ledgers: usize,
    /// The first instant.
    pub start: i64,
    /// How long the plan lasts, in microseconds.
    pub span: i64,
    /// Mean time between requests, in microseconds.
    pub request_every: i64,
    /// Largest bound of a usual request, in cents.
    pub usual_cents: i64,
    /// The budgets.
    pub budgets: [Budgeted; 5],
    /// Longest usual delay on the way to the log, in microseconds.
    pub delay: i64,
    /// Longest usual delay of a reader.
    pub lag: i64,
    /// Most records that a reader takes at once.
    pub batch: usize,
    /// What goes wrong.
    pub faults: Faults,
    /// The ledgers' times.
    pub timing: Timing,
    /// The shims' sizing.
    pub sizing: LeaseSizing,
    /// The shims' patience.
    pub waits: Waits,
}

fn rate(random: &mut Random, active: bool, low: u64, high: u64) -> u64 {
    if active && random.once_in(2) { low + random.below(high - low) } else { 0 }
}

/// Every rate counts plan slots (one each half second of virtual time).
fn faults(random: &mut Random) -> Faults {
    let on = !random.once_in(6);
    let confused = on && random.once_in(2);
    Faults {
        ledger_crashes: rate(random, on, 6, 40),
        ledger_pauses: rate(random, on, 8, 50),
        ledger_restarts: rate(random, on, 12, 60),
        rebalances: rate(random, on, 12, 60),
        shim_crashes: rate(random, on, 6, 40),
        shim_losses: rate(random, on, 8, 50),
        shim_pauses: rate(random, on, 5, 25),
        shim_stops: rate(random, on, 6, 30),
        refusals: rate(random, on, 8, 50),
        lags: rate(random, on, 6, 40),
        holds: rate(random, on, 6, 40),
        jumps: rate(random, on, 8, 40),
        confusion: rate(random, confused, 1, 4),
        repeats: rate(random, on, 5, 30),
        late_copies: rate(random, on, 10, 50),
        changes: rate(random, true, 4, 20),
        modes: on && random.once_in(2),
        skew: on && random.once_in(3),
        snapshots: random.once_in(2),
        retires: on && random.once_in(2),
        ledger_snapshots: false,
    }
}

impl Faults {
    /// True when nothing goes wrong: then no request may be refused that the money covers.
    #[must_use]
    pub fn none(&self) -> bool {
        let quiet = Self { changes: 0, snapshots: false, ledger_snapshots: false, ..*self };
        quiet == Self::default()
    }
}

fn budgets(random: &mut Random, scarce: bool) -> [Budgeted; 5] {
    let mut cents = |low: i64, high: i64| {
        let factor = if scarce { 1 } else { 4 };
        i128::from(random.within(low, high) * factor) * CENT
    };
    let amounts = [cents(800, 8000), cents(300, 3000), cents(100, 1200), cents(200, 2500), cents(100, 3000)];
    let soft = random.pick(&[Mode::Soft, Mode::Soft, Mode::Bounded, Mode::Bounded, Mode::Track, Mode::Hard]);
    let mut number = 0;
    amounts.map(|amount| {
        let mode = if number == 3 { soft } else { Mode::Hard };
        number += 1;
        Budgeted { amount, mode, recovery: Recovery::Forfeit }
    })
}

impl Settings {
    /// The settings of a world.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let random = &mut random;
        let faults = faults(random);
        let calm = faults.none();
        // Shortly before an hour, a day or a month ends; or in the midst of an hour.
        let edge = random.pick(&[
            1_796_083_200, // 2026-12-01T00:00:00Z
            1_793_836_800, // 2026-11-05T00:00:00Z
            1_793_883_600, // 2026-11-05T13:00:00Z
            1_793_885_400, // 2026-11-05T13:30:00Z
        ]);
        let span = random.within(10, 40) * SECOND;
        let slow = !calm && random.once_in(4);
        let scarce = random.once_in(2);
        let seconds = |count: i64| count * SECOND;
        let mut budgets = budgets(random, scarce);
        let world = Self {
            seed,
            shims: usize::try_from(random.within(1, 4)).unwrap_or(1),
            ledgers: usize::try_from(random.within(1, 3)).unwrap_or(1),
            start: edge * SECOND - random.within(0, span / 2),
            span,
            request_every: random.within(80_000, 400_000),
            usual_cents: random.pick(&[10, 40, 120]),
            budgets,
            delay: if slow { random.pick(&[300_000, 2_000_000]) } else { 20_000 },
            lag: if slow { random.pick(&[200_000, 1_000_000]) } else { 15_000 },
            batch: random.pick(&[1, 4, 32]),
            timing: Timing {
                heartbeat: seconds(3),
                takeover_after: seconds(6),
                open_early: seconds(10),
                drain: seconds(2),
                drain_at_most: seconds(10),
                recall_wait: 1_500_000,
                reclaim_after: seconds(if calm { 40 } else { random.pick(&[3, 6, 20]) }),
                active_for: seconds(30),
                balance_every: 500_000,
                statements: random.pick(&[5, 2_500]),
            },
            sizing: LeaseSizing {
                horizon_seconds: 3,
                outage_reserve: Duration::from_secs(random.pick(&[0, 0, 20])),
                idle_after: Duration::from_secs(random.pick(&[3, 15])),
                ask_again_after: Duration::from_secs(random.pick(&[5, 30])),
            },
            waits: Waits {
                lease: Duration::from_secs(2),
                silence: Duration::from_secs(random.pick(&[4, 10])),
            },
            faults,
        };
        // Drawn last: what marks recover, and where ledgers start from, changes nothing else of a world.
        if random.once_in(2) {
            let blocks = |it: &&mut Budgeted| matches!(it.mode, Mode::Hard | Mode::Bounded);
            for budget in budgets.iter_mut().filter(blocks) {
                if !random.once_in(4) {
                    budget.recovery = Recovery::Journal;
                }
            }
        }
        let faults = Faults { ledger_snapshots: random.once_in(2), ..faults };
        Self { budgets, faults, ..world }
    }

    /// A world without faults under an even load of fifty requests a second, with an amount a day for all of it.
    #[must_use]
    pub fn steady(shims: usize, a_day: i128, outage: u64, seconds: i64) -> Self {
        let budget = |amount| Budgeted { amount, mode: Mode::Hard, recovery: Recovery::Forfeit };
        Self {
            seed: 1,
            shims,
            ledgers: 1,
            // 2026-11-05T13:00:00Z.
            start: 1_793_883_600 * SECOND,
            span: seconds * SECOND,
            request_every: SECOND / 50,
            usual_cents: 1,
            budgets: [30 * a_day, a_day, a_day, a_day, a_day].map(budget),
            delay: 20_000,
            lag: 15_000,
            batch: 32,
            faults: Faults::default(),
            timing: Timing::default(),
            sizing: LeaseSizing {
                horizon_seconds: 3,
                outage_reserve: Duration::from_secs(outage),
                idle_after: Duration::from_secs(15),
                ask_again_after: Duration::from_secs(30),
            },
            waits: Waits { lease: Duration::from_secs(2), silence: Duration::from_secs(10) },
        }
    }
}
