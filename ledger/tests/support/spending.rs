//! One budget, one shim that spends of it, one ledger that raises alerts.

use bursar_schemas::facts::{AccountRef, AlertRaised, Fact, Mode};
use bursar_schemas::money::Money;
use bursar_schemas::policy::{Budget, Document, Organisation, Scope};
use bursar_schemas::window::Window;

use super::shim::Shim;
use super::{Logs, Node, SECOND, START};

pub fn money(text: &str) -> Money {
    text.parse().unwrap()
}

/// A budget of 10 dollars a day that forecasts nothing.
pub fn soft() -> Budget {
    let scope = Scope::Organisation("acme".into());
    let budget = Budget::new("all", scope, Window::Day, money("10"));
    Budget { mode: Mode::Soft, forecast: Some(false), ..budget }
}

pub fn document(budget: Budget) -> Document {
    Document { organisations: vec![Organisation::new("acme")], budgets: vec![budget], ..Document::default() }
}

pub struct World {
    pub logs: Logs,
    pub node: Node,
    pub shim: Shim,
    pub spent: u32,
}

impl World {
    /// Begins at noon.
    pub fn new(budget: Budget) -> Self {
        Self::at(budget, START)
    }

    pub fn at(budget: Budget, now: i64) -> Self {
        let mut logs = Logs { now, ..Logs::new() };
        logs.publish(&document(budget));
        let (mut node, mut shim) = (Node::new(100), Shim::new(1));
        shim.heads(false, &mut logs);
        node.settle(&mut logs);
        node.tick(&mut logs);
        node.settle(&mut logs);
        Self { logs, node, shim, spent: 0 }
    }

    /// Today's account.
    pub fn account(&self) -> AccountRef {
        AccountRef { budget: "all".into(), window: self.logs.now / SECOND / 86_400 * 86_400 }
    }

    /// An attempt that reserved an amount and cost another stands in `spend`.
    pub fn write(&mut self, reserved: &str, amount: &str) {
        self.spent += 1;
        let (name, account) = (format!("r{}", self.spent), self.account());
        self.shim.reserve(&name, &[account], None, money(reserved), &mut self.logs);
        let attempt = self.shim.attempts.remove(&name).unwrap();
        self.shim.settle(&attempt, money(amount), None, &mut self.logs);
    }

    pub fn spend(&mut self, amount: &str) {
        self.write(amount, amount);
        self.settle();
    }

    pub fn settle(&mut self) {
        self.logs.now += SECOND;
        self.node.tick(&mut self.logs);
        self.node.settle(&mut self.logs);
    }

    pub fn raised(&self) -> Vec<AlertRaised> {
        let raised = |fact| match fact {
            Fact::AlertRaised(raised) => Some(*raised),
            _ => None,
        };
        self.logs.limits_facts().into_iter().filter_map(raised).collect()
    }

    /// What was raised, in order: kind, percentage, limit.
    pub fn told(&self) -> Vec<(&'static str, u32, String)> {
        let told = |it: &AlertRaised| (it.alert.word(), it.percent, it.limit_amount.dollars());
        self.raised().iter().map(told).collect()
    }
}
