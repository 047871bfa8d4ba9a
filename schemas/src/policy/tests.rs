#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use super::*;
use crate::avro::Micros;
use crate::facts::{About, Fact, Head, KeyIssued, PolicyPublished, Role};
use crate::ids::{Digest, ProducerId, Pseudonym, Pseudonyms, RequestId};
use crate::price::PriceTable;

const BASE: &str = r#"
    [[organisation]]
    id = "acme"
    time_zone = "Europe/Berlin"
    [[team]]
    id = "red"
    organisation = "acme"
    [[provider]]
    id = "alpha"
    base_url = "http://alpha"
    [[model]]
    id = "small"
    targets = [{ provider = "alpha", model = "alpha-1" }]
"#;

fn budget(id: &str, scope: &str, more: &str) -> String {
    format!("[[budget]]\nid = \"{id}\"\nscope = \"{scope}\"\nwindow = \"day\"\namount = \"5\"\n{more}\n")
}

fn read(budgets: &[String]) -> Result<Document, PolicyError> {
    Document::from_toml([("test.toml", format!("{BASE}{}", budgets.concat()).as_str())])
}

fn faults(budgets: &[String]) -> String {
    read(budgets).unwrap_err().to_string()
}

/// The directory of a document that was published as facts keep it.
fn directory(document: Document) -> Directory {
    let pseudonyms = Pseudonyms::new(&[1; 32]);
    let document = document.with_pseudonyms(|organisation, user| pseudonyms.of(organisation, user));
    assert!(!document.names_end_users());
    let mut head = Head::draft(Micros(0), 0, "");
    (head.role, head.producer) = (Role::Policy, ProducerId([1; 16]));
    let published = PolicyPublished {
        head: head.clone(),
        version: 1,
        author: "ada".into(),
        approver: None,
        source_revision: None,
        document: document.to_json(),
    };
    let mut state = PolicyState::default();
    assert_eq!(state.apply(&Fact::from(published)), PolicyVerdict::Counted);
    assert_eq!(state.document, document, "the canonical form reads back");
    head.number = 1;
    let issued = KeyIssued {
        head,
        key: "k1".into(),
        secret_hash: Digest([0; 32]),
        organisation: "acme".into(),
        team: Some("red".into()),
        project: None,
        tags: BTreeMap::new(),
        models: Vec::new(),
        author: "ada".into(),
    };
    assert_eq!(state.apply(&Fact::from(issued)), PolicyVerdict::Counted);
    Directory::new(&state, &PriceTable::default())
}

fn about(user: Option<Pseudonym>) -> About {
    About {
        request: RequestId([0; 16]),
        accounting_at: Micros(0),
        organisation: "acme".into(),
        team: Some("red".into()),
        project: None,
        key: "k1".into(),
        end_user: user,
        cost_center: None,
        tags: BTreeMap::from([("stage".into(), "trial".into()), ("unit".into(), "7".into())]),
    }
}

fn ids(draws: Vec<Draw<'_>>) -> Vec<String> {
    let mut ids: Vec<String> = draws.into_iter().map(|draw| draw.id.into_owned()).collect();
    ids.sort();
    ids
}

#[test]
fn a_request_draws_on_every_budget_that_it_falls_under() {
    let document = read(&[
        budget("all", "organisation:acme", ""),
        budget("all-month", "organisation:acme", "mode = \"soft\""),
        budget("red", "team:red", ""),
        budget("blue-tag", "tag:stage=live", ""),
        budget("trial", "tag:stage=trial", ""),
        budget("key", "key:k1", ""),
        budget("ada", "end_user:ada@example.com", ""),
        budget("each", "team:red", "each = \"end_user\""),
        budget("each-key", "organisation:acme", "each = \"key\"\nmembers = 9"),
        budget("at-alpha", "provider:alpha", ""),
        budget("model", "model:alpha-1", ""),
        budget("model-each", "model:alpha-1", "each = \"end_user\""),
    ]);
    let directory = directory(document.unwrap());
    let ada = Pseudonyms::new(&[1; 32]).of("acme", "ada@example.com");
    let own = format!("each/{ada}");
    let drawn = ids(directory.budgets(&about(Some(ada))));
    assert_eq!(drawn, ["ada", "all", "all-month", "each-key/k1", own.as_str(), "key", "red", "trial"]);
    let drawn = ids(directory.budgets(&about(None)));
    assert_eq!(drawn, ["all", "all-month", "each-key/k1", "each/unnamed", "key", "red", "trial"]);
    let provider = directory.document().providers[0].clone();
    let mut target = Target { provider: provider.into(), model: "alpha-1".into() };
    let at = |target: &Target| ids(directory.budgets_of(&about(None), target));
    assert_eq!(at(&target), ["at-alpha", "model", "model-each/unnamed"]);
    target.model = "alpha-2".into();
    assert_eq!(at(&target), ["at-alpha"]);
    let elsewhere = About { organisation: "other".into(), ..about(None) };
    assert_eq!(ids(directory.budgets(&elsewhere)), [""; 0]);
}

#[test]
fn a_members_window_follows_from_policy() {
    let document = read(&[budget("each", "team:red", "each = \"end_user\""), budget("red", "team:red", "")]);
    let directory = directory(document.unwrap());
    let about = about(None);
    let draws = directory.budgets(&about);
    // 2026-11-02T23:30:00Z is half past midnight of the third in Berlin.
    let at = Micros(1_793_662_200_000_000);
    let account = |id: &str| draws.iter().find(|draw| draw.id == id).unwrap().on_demand(at);
    assert_eq!(account("each/unnamed").unwrap().window, 1_793_660_400);
    assert_eq!(account("red"), None, "the ledger opens it without being asked");
}

#[test]
fn scopes_that_cannot_hold_are_named() {
    let cases = [
        (budget("b", "model:small", ""), "names an alias"),
        (budget("b", "provider:beta", ""), "there is no provider:beta"),
        (budget("b", "galaxy:1", ""), "is not a scope"),
        (budget("b", "tag:stage", ""), "is not a scope"),
        (budget("b", "end_user:", ""), "is not a scope"),
        (budget("b", "end_user:ada", "each = \"end_user\""), "each is of no use"),
        (budget("b", "team:red", "members = 5"), "members is for budgets with each"),
        (budget("b", "team:red", "each = \"key\"\nmembers = 0"), "members is for budgets with each"),
        (budget("b", "team:red", "organisation = \"acme\""), "organisation is for"),
        (budget("b", "model:x", "organisation = \"other\""), "there is no organisation \"other\""),
        (
            budget("b", "team:red", "mode = \"soft\"\nrecovery = \"journal\""),
            "for budgets that are hard or bounded",
        ),
    ];
    for (toml, wanted) in cases {
        let said = faults(std::slice::from_ref(&toml));
        assert!(said.contains(wanted), "{toml}: {said}");
    }
    let both = [budget("b", "team:red", "each = \"key\""), budget("b/k1", "team:red", "")];
    assert!(faults(&both).contains("looks like an account"));
    let two = [budget("b", "tag:a=b", ""), "[[organisation]]\nid = \"other\"\n".to_owned()];
    assert!(faults(&two).contains("say whose it is"));
    let said = [budget("b", "tag:a=b", "organisation = \"acme\""), two[1].clone()];
    assert!(read(&said).is_ok());
}
