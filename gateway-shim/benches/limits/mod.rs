//! A shim's budgets in memory: `N` hard budgets on the path of one key, and a lease that lasts.

use std::time::Duration;

use bursar_gateway_shim::LeaseSizing;
use bursar_gateway_shim::limits::{LimitsCore, Patience, Step, Waits};
use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{
    About, AccountRef, EpochMarked, Fact, Head, LeaseGranted, LimitSet, Mode, Phase, PolicyPublished,
    Recovery, Role, WindowMoved,
};
use bursar_schemas::ids::{ProducerId, RequestId};
use bursar_schemas::money::Money;
use bursar_schemas::policy::{Directory, Document, PolicyState};
use bursar_schemas::price::PriceTable;

const SHIM: ProducerId = ProducerId([1; 16]);
const LEDGER: ProducerId = ProducerId([2; 16]);
const NOW: Micros = Micros(1_793_620_800_000_000);
const PLENTY: i128 = 1_000_000_000_000_000_000;

/// Budgets, a lease on them, and a request's attributes.
pub struct Limits {
    pub core: LimitsCore,
    directory: Directory,
    about: About,
}

fn policy(budgets: usize) -> Document {
    let mut text = String::from(
        "[[organisation]]\nid = \"acme\"\n[[team]]\nid = \"research\"\norganisation = \"acme\"\n\
         [[project]]\nid = \"parser\"\nteam = \"research\"\n",
    );
    let scopes =
        ["organisation:acme", "team:research", "project:parser", "team:research", "organisation:acme"];
    for (number, scope) in scopes.iter().cycle().take(budgets).enumerate() {
        text += &format!(
            "[[budget]]\nid = \"budget-{number}\"\nscope = \"{scope}\"\nwindow = \"total\"\namount = \"1000000\"\n"
        );
    }
    Document::from_toml([("policy.toml", text.as_str())]).unwrap()
}

impl Limits {
    pub fn with(budgets: usize) -> Self {
        let document = policy(budgets);
        let mut state = PolicyState::default();
        let mut head = Head::draft(NOW, 0, "");
        (head.producer, head.role) = (LEDGER, Role::Policy);
        let (author, document_text) = ("test".to_owned(), document.to_json());
        let (approver, source_revision) = (None, None);
        let published =
            PolicyPublished { head, version: 1, author, approver, source_revision, document: document_text };
        state.apply(&published.into());
        let directory = Directory::new(&state, &PriceTable::default());
        let sizing = LeaseSizing {
            horizon_seconds: 3,
            outage_reserve: Duration::ZERO,
            idle_after: Duration::from_secs(15),
            ask_again_after: Duration::from_secs(30),
        };
        let waits = Waits { lease: Duration::from_secs(2), silence: Duration::from_secs(15) };
        let about = About {
            request: RequestId([3; 16]),
            accounting_at: NOW,
            organisation: "acme".to_owned(),
            team: Some("research".to_owned()),
            project: Some("parser".to_owned()),
            key: "parser-1".to_owned(),
            end_user: None,
            cost_center: None,
            tags: std::collections::BTreeMap::new(),
        };
        let mut limits = Self { core: LimitsCore::new(0, SHIM, sizing, waits), directory, about };
        limits.open(&document);
        limits
    }

    /// The log: an epoch, the limits, their windows, and a grant that answers the first request's question.
    fn open(&mut self, document: &Document) {
        let mut number = 0;
        let mut head = || {
            number += 1;
            let mut head = Head::draft(NOW, 1, "");
            (head.producer, head.role, head.number) = (LEDGER, Role::Ledger, number);
            head
        };
        let mut facts: Vec<Fact> =
            vec![EpochMarked { head: head(), instance: LEDGER, supersedes: None }.into()];
        for budget in &document.budgets {
            let account = AccountRef { budget: budget.id.clone(), window: 0 };
            let (amount, mode, recovery) = (budget.amount, Mode::Hard, Recovery::Forfeit);
            let limit = LimitSet {
                head: head(),
                epoch: 0,
                budget: budget.id.clone(),
                amount,
                mode,
                recovery,
                policy_version: 1,
                step: 0,
            };
            let (starts_at, ends_at, phase) = (Micros(0), None, Phase::Open);
            let window = WindowMoved { head: head(), epoch: 0, account, starts_at, ends_at, phase };
            facts.extend([limit.into(), window.into()]);
        }
        let mut offset = 0;
        let mut take = |core: &mut LimitsCore, fact: Fact| {
            core.apply(offset, &Ok(fact), NOW).unwrap();
            offset += 1;
        };
        for fact in facts {
            take(&mut self.core, fact);
        }
        let draws = self.directory.budgets(&self.about);
        let path = self.core.drawn(&draws, NOW).path;
        assert_eq!(path.len(), document.budgets.len());
        let step = self.core.look(&path, Money::from_pico(1000), NOW, &mut Patience::default());
        let Step::Wait(_, Some(ask)) = step else { panic!("{step:?}") };
        let grant = LeaseGranted {
            head: head(),
            epoch: 0,
            lease: ask.lease,
            accounts: path.to_vec(),
            amount: Money::from_pico(PLENTY),
            cause: 0,
            read: 1,
        };
        take(&mut self.core, grant.into());
    }

    /// One request: from its attributes to a lease that covers it, and its settlement.
    pub fn admit_and_settle(&mut self) {
        let amount = Money::from_pico(1000);
        let draws = self.directory.budgets(&self.about);
        let drawn = self.core.drawn(&draws, NOW);
        assert!(drawn.blocks && drawn.missing.is_none());
        match self.core.look(&drawn.path, amount, NOW, &mut Patience::default()) {
            Step::Got(lease, None) => drop(self.core.settle(lease, amount, Money::from_pico(300))),
            step => panic!("{step:?}"),
        }
    }
}
