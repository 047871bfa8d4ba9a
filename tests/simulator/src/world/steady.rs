//! A steady load, to see what the sizing of leases comes to: how much money lies idle in them, how often the ledger
//! grants, and how long they last once it is silent.

use super::refusals::REFUSED;
use super::{Violation, World};
use crate::calendar::SECOND;
use crate::marks::Mark;
use crate::plan::{Act, Planned, Try};
use crate::random::Random;
use crate::settings::Settings;
use bursar_schemas::facts::AttemptOutcome;

/// The path of the load: organisation and team.
const PATH: usize = 1;

/// What a steady load came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steady {
    /// Most money idle in leases at a time, in pico-dollars.
    pub most_idle: i128,
    /// The mean of it over time.
    pub mean_idle: i128,
    /// Grants in the time that was looked at.
    pub grants: u64,
    /// Leases that every reader of the log remembers after that time.
    pub kept: usize,
    /// Whole seconds without a refusal after the ledger fell silent.
    pub survived: i64,
}

/// Requests one after the other over all shims, each costing a fifth of what it reserves on average.
#[must_use]
pub fn load(settings: &Settings, cost: i128) -> Vec<Planned> {
    let mut random = Random::new(settings.seed);
    let count = settings.span / settings.request_every;
    let one = |number: i64| {
        let shim = usize::try_from(number).unwrap_or(0) % settings.shims;
        let permille = random.within(100, 300);
        let part = i128::from(random.within(20, 180));
        let bound = cost * 5 * part / 100;
        let takes = random.within(500_000, 8 * SECOND);
        let (outcome, estimated, reported) = (AttemptOutcome::Answered, permille, true);
        let tries = vec![Try { bound, outcome, permille, estimated, reported, takes }];
        Planned { at: number * settings.request_every, act: Act::Request { shim, path: PATH, tries } }
    };
    (0..count).map(one).collect()
}

impl World {
    /// Lets the load run for `warm` seconds, looks at it for `looked`, then silences the ledger for at most `silent`.
    ///
    /// # Errors
    /// What the first checker found.
    pub fn steady(&mut self, warm: i64, looked: i64, silent: i64) -> Result<Steady, Violation> {
        let mut until = self.settings.start + warm * SECOND;
        self.run_until(until).map_err(|broken| self.violation(broken))?;
        let before = self.marks.count(Mark::Granted);
        let (mut most_idle, mut sum) = (0, 0);
        for _ in 0..looked {
            until += SECOND;
            self.run_until(until).map_err(|broken| self.violation(broken))?;
            let idle: i128 = self.truth.leases().map(|(_, lease)| lease.left).sum();
            most_idle = most_idle.max(idle);
            sum += idle;
        }
        let grants = self.marks.count(Mark::Granted) - before;
        let kept = self.broker.reference.leases().count();
        self.ledgers[0].paused_until = i64::MAX / 4;
        let denials = [Mark::DeniedSilent, Mark::DeniedTimeout, Mark::DeniedInFlight, Mark::DeniedSpent];
        let denied = |world: &Self| denials.iter().map(|mark| world.marks.count(*mark)).sum::<u64>();
        let (first, mut survived) = (denied(self), 0);
        while survived < silent {
            until += SECOND;
            match self.run_until(until) {
                // A refusal that a ledger would have prevented: the leases are used up.
                Err((check, _)) if check == REFUSED => break,
                ran => ran.map_err(|broken| self.violation(broken))?,
            }
            if denied(self) > first {
                break;
            }
            survived += 1;
        }
        Ok(Steady { most_idle, mean_idle: sum / i128::from(looked.max(1)), grants, kept, survived })
    }
}
