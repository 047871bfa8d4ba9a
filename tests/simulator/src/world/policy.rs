//! What people publish: the document, and raises.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{BudgetRaised, Fact, Head, KeyIssued, PolicyPublished, Role, ShimRetired};
use bursar_schemas::ids::{Digest, ProducerId};
use bursar_schemas::money::Money;
use bursar_schemas::policy::{Budget, Document, Each, Organisation, Project, Scope, Team};
use bursar_schemas::window::Window;

use super::{Event, World};
use crate::calendar::Kind;
use crate::marks::Mark;
use crate::settings::{BUDGETS, Budgeted, KINDS, Settings};

/// What was published last.
#[derive(Debug)]
pub(super) struct Published {
    budgets: [Budgeted; 5],
    version: u64,
    number: u64,
}

impl Published {
    pub(super) const fn new(settings: &Settings) -> Self {
        Self { budgets: settings.budgets, version: 0, number: 0 }
    }
}

fn scope(budget: usize) -> Scope {
    match budget {
        0 => Scope::Organisation("acme".into()),
        1 => Scope::Team("red".into()),
        2 => Scope::Project("px".into()),
        3 => Scope::Team("blue".into()),
        _ => Scope::Project("py".into()),
    }
}

const fn window(kind: Kind) -> Window {
    match kind {
        Kind::Hour => Window::Hour,
        Kind::Day => Window::Day,
        Kind::Month => Window::Month,
        Kind::Total => Window::Total,
    }
}

/// The budgets of a document as shims keep them.
pub(super) fn shared(document: &Document) -> Vec<Arc<Budget>> {
    document.budgets.iter().cloned().map(Arc::new).collect()
}

fn document(budgets: &[Budgeted; 5]) -> Document {
    let team = |id: &str| Team {
        id: id.into(),
        organisation: "acme".into(),
        cost_center: None,
        tags: BTreeMap::new(),
        models: Vec::new(),
    };
    let project = |id: &str, team: &str| Project {
        id: id.into(),
        team: team.into(),
        cost_center: None,
        tags: BTreeMap::new(),
        models: Vec::new(),
    };
    let id = |number: usize| BUDGETS[number].split('/').next().unwrap_or_default();
    let budget = |(number, it): (usize, &Budgeted)| Budget {
        mode: it.mode,
        recovery: it.recovery,
        each: BUDGETS[number].contains('/').then_some(Each::Key),
        ..Budget::new(id(number), scope(number), window(KINDS[number]), Money::from_pico(it.amount))
    };
    Document {
        organisations: vec![Organisation::new("acme")],
        teams: vec![team("red"), team("blue")],
        projects: vec![project("px", "red"), project("py", "blue")],
        budgets: budgets.iter().enumerate().map(budget).collect(),
        ..Document::default()
    }
}

impl World {
    fn policy_head(&mut self) -> Head {
        let mut head = Head::draft(Micros(self.now), 0, "");
        (head.producer, head.role) = (ProducerId([200; 16]), Role::Policy);
        head.number = self.published.number;
        self.published.number += 1;
        head
    }

    /// Makes the key that is a member of a budget.
    pub(super) fn issue_key(&mut self) {
        let fact = KeyIssued {
            head: self.policy_head(),
            key: "k".into(),
            secret_hash: Digest([1; 32]),
            organisation: "acme".into(),
            team: None,
            project: None,
            tags: BTreeMap::new(),
            models: Vec::new(),
            author: "ada".into(),
        };
        self.append_policy(fact.into());
    }

    /// Publishes the budgets as they are wanted now.
    pub(super) fn publish(&mut self) {
        self.published.version += 1;
        let fact = PolicyPublished {
            head: self.policy_head(),
            version: self.published.version,
            author: "ada".into(),
            approver: None,
            source_revision: None,
            document: document(&self.published.budgets).to_json(),
        };
        self.append_policy(fact.into());
    }

    fn append_policy(&mut self, fact: Fact) {
        self.broker.policy.push(Rc::new(fact));
        for slot in 0..self.ledgers.len() {
            self.wake_ledger(slot);
        }
        for slot in 0..self.shims.len() {
            self.wake_shim_policy(slot);
        }
    }

    /// An operator attests that an incarnation can never run again.
    pub(super) fn attest(&mut self, incarnation: ProducerId) {
        let fact = ShimRetired {
            head: self.policy_head(),
            incarnation,
            partition: 0,
            spend_end: self.broker.spend.len() as u64,
            author: "ada".into(),
            reason: "its machine is gone".into(),
        };
        self.append_policy(fact.into());
    }

    pub(super) fn change_budget(&mut self, budget: usize, change: impl FnOnce(&mut Budgeted)) {
        let before = self.published.budgets[budget];
        change(&mut self.published.budgets[budget]);
        let after = self.published.budgets[budget];
        if after.mode != before.mode {
            self.hit(Mark::ModeChanged);
        }
        if after.recovery != before.recovery {
            self.hit(Mark::RecoveryChanged);
        }
        self.note(|| {
            let (from, to) = (Money::from_pico(before.amount), Money::from_pico(after.amount));
            let (was, is) = (before.recovery, after.recovery);
            let name = BUDGETS[budget];
            format!("policy: {name} from {from} {} {was} to {to} {} {is}", before.mode, after.mode)
        });
        self.publish();
    }

    pub(super) fn raise(&mut self, budget: usize, change: i128, lasts: i64) {
        let expires_at = self.now + lasts;
        let fact = BudgetRaised {
            head: self.policy_head(),
            budget: BUDGETS[budget].into(),
            change: Money::from_pico(change),
            expires_at: Some(Micros(expires_at)),
            author: "ada".into(),
            reason: "a deadline".into(),
        };
        self.note(|| format!("policy: {} by {} for {lasts} us", BUDGETS[budget], Money::from_pico(change)));
        self.append_policy(fact.into());
        self.at(expires_at, Event::Expiry(budget));
    }

    /// A raise ends: nothing acts on it here; ledgers look at their own clocks.
    pub(super) fn note_expiry(&mut self, budget: usize) -> bool {
        self.note(|| format!("policy: a raise of {} ends", BUDGETS[budget]));
        false
    }

    /// The newest version of the document, and the amounts in it.
    pub(super) const fn newest_version(&self) -> u64 {
        self.published.version
    }
}
