//! What must hold of alerts: each is true, none is repeated by its writer, and in the end none is missing.

use bursar_schemas::facts::{AccountRef, AlertKind, AlertRaised, Mode, Phase};
use bursar_schemas::policy::THRESHOLDS;

use super::{Broken, World};
use crate::marks::Mark;
use crate::settings::BUDGETS;

/// Which alert it is, and who wrote it: an alert may stand in the log twice only when two ledgers acted at once.
pub(super) type Told = (AccountRef, AlertKind, u32, usize);

impl World {
    /// An alert reached the log.
    pub(super) fn check_alert(&mut self, raised: &AlertRaised, writer: usize) -> Result<(), Broken> {
        self.hit(Mark::AlertRaised);
        let detail = || format!("{:?} {} {}", raised.account, raised.alert, raised.percent);
        let settled = raised.settled.pico();
        // What is settled only grows, and the log of `spend` is ahead of every ledger.
        let true_now = self.naive.stand(&raised.account).settled >= settled;
        let reached = settled * 100 >= raised.limit_amount.pico() * i128::from(raised.percent);
        if !true_now || (raised.alert == AlertKind::Threshold && !reached) {
            return Err(("an alert tells what is so", detail()));
        }
        let told = (raised.account.clone(), raised.alert, raised.percent, writer);
        if !self.alerts.insert(told) {
            return Err(("a ledger raises an alert once", detail()));
        }
        Ok(())
    }

    fn told(&self, account: &AccountRef, alert: AlertKind, percent: u32) -> usize {
        let (first, last) =
            ((account.clone(), alert, percent, 0), (account.clone(), alert, percent, usize::MAX));
        self.alerts.range(first..=last).count()
    }

    /// Once nothing is under way, every threshold that a window of the present has reached was told of.
    pub(super) fn check_alerts(&self) -> Result<(), Broken> {
        // A confused ledger may have given a budget another mode than policy, which says whether anybody is told.
        let told = |budget: &&str| !budget.contains('/') && !self.wasted.limits(budget);
        let own: Vec<usize> = (0..BUDGETS.len()).filter(|budget| told(&BUDGETS[*budget])).collect();
        for name in Self::accounts_at(&own, self.now) {
            let open = self.rules.window(&name).is_some_and(|it| it.phase == Phase::Open);
            let (limit, mode) = self.rules.limit(&name.budget);
            if !open || mode == Mode::Track || limit <= 0 {
                continue;
            }
            let settled = self.naive.stand(&name).settled;
            for percent in THRESHOLDS.into_iter().filter(|it| settled * 100 >= limit * i128::from(*it)) {
                if self.told(&name, AlertKind::Threshold, percent) == 0 {
                    let detail = format!("{name:?}: {settled} of {limit} and no word of {percent} %");
                    return Err(("every threshold that is reached is told of in the end", detail));
                }
            }
        }
        Ok(())
    }
}
