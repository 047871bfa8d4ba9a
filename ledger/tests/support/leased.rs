//! One ledger, and one shim that holds a lease of eight dollars over two budgets of ten each.

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{AccountRef, Fact, Head, LeaseCredited, LeaseMarked};
use bursar_schemas::money::Money;
use bursar_schemas::policy::{Budget, Document, Organisation, Scope};
use bursar_schemas::window::Window;

use super::shim::Shim;
use super::{Logs, Node, SECOND};

pub use super::spending::money;

pub fn account(budget: &str) -> AccountRef {
    AccountRef { budget: budget.into(), window: 0 }
}

/// A hard budget of ten dollars for ever.
pub fn hard(id: &str) -> Budget {
    Budget::new(id, Scope::Organisation("acme".into()), Window::Total, money("10"))
}

pub struct World {
    pub logs: Logs,
    pub node: Node,
    pub shim: Shim,
    accounts: [AccountRef; 2],
}

impl World {
    /// Nothing is leased yet.
    pub fn new(budgets: [Budget; 2]) -> Self {
        let mut accounts = [0, 1].map(|index| account(&budgets[index].id));
        accounts.sort();
        let (organisations, budgets) = (vec![Organisation::new("acme")], budgets.into());
        let mut logs = Logs::new();
        logs.publish(&Document { organisations, budgets, ..Document::default() });
        let mut world = Self { logs, node: Node::new(100), shim: Shim::new(1), accounts };
        world.shim.heads(false, &mut world.logs);
        world.wait(1);
        world
    }

    /// The shim asks for the lease.
    pub fn ask(&mut self) {
        self.shim.ask(1, &self.accounts, money("8"), money("8"), &mut self.logs);
    }

    pub fn reserve(&mut self, name: &str, amount: &str) {
        self.shim.reserve(name, &self.accounts, Some(1), money(amount), &mut self.logs);
    }

    pub fn mark(&mut self, mark: &str) {
        let (head, lease) = (Head::draft(Micros(self.logs.now), 1, ""), self.shim.lease(1));
        self.shim.write(LeaseMarked { head, lease, mark: money(mark) }, &mut self.logs);
    }

    pub fn wait(&mut self, seconds: i64) {
        for _ in 0..seconds {
            self.logs.now += SECOND;
            self.node.tick(&mut self.logs);
            self.node.settle(&mut self.logs);
        }
    }

    pub fn credits(&self) -> Vec<LeaseCredited> {
        let credit = |fact| match fact {
            Fact::LeaseCredited(credit) => Some(*credit),
            _ => None,
        };
        self.logs.limits_facts().into_iter().filter_map(credit).collect()
    }

    pub fn committed(&self, budget: &str) -> Money {
        self.node.core.fold().account(&account(budget)).unwrap().committed
    }
}
