//! Who is told of alerts, and what makes that part of a document contradict itself.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::budget::{Budget, Scope};
use super::document::{Document, is_default};
use crate::facts::Mode;
use crate::window::Window;

/// Highest percentage of a threshold: a soft budget may be exceeded many times over.
const HIGHEST: u32 = 1000;

/// Most thresholds of one budget.
const THRESHOLDS: usize = 16;

/// Most webhooks of a document: each of them may be told of every alert.
const WEBHOOKS: usize = 32;

/// An address that alerts are posted to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Its id, by which facts, logs and metrics name it.
    pub id: String,
    /// The address, or a reference to it (`env:NAME` or `file:PATH`) where it is itself a secret.
    pub url: String,
    /// Reference to the secret that signs: `env:NAME` or `file:PATH`, never the secret.
    pub secret: String,
    /// Budgets that it is told of; all where neither budgets nor scopes are named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<String>,
    /// Scopes whose budgets it is told of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<Scope>,
    /// Lets the address begin with `http://` also where it is not this machine's own.
    #[serde(default, skip_serializing_if = "is_default")]
    pub allow_http: bool,
}

impl Webhook {
    /// True when it is to be told of a budget.
    #[must_use]
    pub fn is_told_of(&self, budget: &Budget) -> bool {
        let all = self.budgets.is_empty() && self.scopes.is_empty();
        all || self.budgets.contains(&budget.id) || self.scopes.contains(&budget.scope)
    }
}

/// Why an address may not be posted to; the address itself is not repeated, since it may hold a secret.
#[must_use]
pub fn address_fault(url: &str, allow_http: bool) -> Option<&'static str> {
    let Some((scheme, rest)) = url.split_once("://") else { return Some("url does not begin with https://") };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() {
        return Some("url names no host");
    }
    if authority.contains('@') {
        return Some("url holds a user or password; the signature says who calls");
    }
    match scheme {
        "https" => None,
        "http" if allow_http || is_loopback(authority) => None,
        "http" => {
            Some("url begins with http:// and is not on loopback; write https://, or allow_http = true")
        }
        _ => Some("url does not begin with https://"),
    }
}

fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_reference(text: &str) -> bool {
    text.starts_with("env:") || text.starts_with("file:")
}

impl Document {
    pub(super) fn check_webhooks(&self, faults: &mut Vec<String>) {
        if self.webhooks.len() > WEBHOOKS {
            faults.push(format!("there are more than {WEBHOOKS} webhooks"));
        }
        for webhook in &self.webhooks {
            let place = format!("webhook {:?}", webhook.id);
            if !is_reference(&webhook.secret) {
                // The value is not repeated: it may be the secret itself.
                faults.push(format!(
                    "{place}: secret is not a reference; write env:NAME or file:PATH, never the secret"
                ));
            }
            if !is_reference(&webhook.url)
                && let Some(fault) = address_fault(&webhook.url, webhook.allow_http)
            {
                faults.push(format!("{place}: {fault}"));
            }
            for named in &webhook.budgets {
                match self.budgets.iter().find(|budget| budget.id == *named) {
                    None => faults.push(format!("{place}: there is no budget {named:?}")),
                    Some(budget) if !budget.has_alerts() => {
                        faults.push(format!("{place}: budget {named:?} raises no alerts"));
                    }
                    Some(_) => {}
                }
            }
        }
        for webhook in &self.webhooks {
            for scope in &webhook.scopes {
                let fault = match scope {
                    Scope::EndUser(_) | Scope::Pseudonym(_) => {
                        "an end user's budget is named in budgets, by its id"
                    }
                    _ if self.budgets.iter().any(|it| it.scope == *scope && it.has_alerts()) => continue,
                    _ => "no budget of that scope raises alerts",
                };
                // An end user's name is not repeated.
                faults.push(format!("webhook {:?}: scopes: {fault}", webhook.id));
            }
        }
        for budget in &self.budgets {
            check_alerts(budget, faults);
        }
    }
}

fn check_alerts(budget: &Budget, faults: &mut Vec<String>) {
    let mut fault = |what: &str| faults.push(format!("budget {:?}: {what}", budget.id));
    let alerts = budget.alerts.as_deref().unwrap_or_default();
    if budget.mode == Mode::Track && (!alerts.is_empty() || budget.forecast == Some(true)) {
        fault("mode track never alerts; make it soft, or take alerts and forecast out");
    }
    if budget.forecast == Some(true) && budget.window == Window::Total {
        fault("forecast is of no use for a window without an end");
    }
    if alerts.iter().any(|percent| !(1..=HIGHEST).contains(percent)) {
        fault("alerts are percentages of its amount, from 1 to 1000");
    }
    if !alerts.is_sorted_by(|one, next| one < next) {
        fault("alerts must rise, each once, such as [50, 80, 100]");
    }
    if alerts.len() > THRESHOLDS {
        fault("it has more than 16 alerts");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const BASE: &str = r#"
        [[organisation]]
        id = "acme"
        [[team]]
        id = "red"
        organisation = "acme"
    "#;

    fn read(budget: &str, webhook: &str) -> Result<Document, String> {
        let budget = format!("[[budget]]\nid = \"b\"\nscope = \"team:red\"\namount = \"5\"\n{budget}\n");
        let webhook = if webhook.is_empty() { "" } else { &format!("[[webhook]]\nid = \"w\"\n{webhook}\n") };
        Document::from_toml([("t", format!("{BASE}{budget}{webhook}").as_str())])
            .map_err(|error| error.to_string())
    }

    const DAY: &str = "window = \"day\"";
    const GOOD: &str = "url = \"https://hooks.example/x\"\nsecret = \"env:HOOK\"\n";

    #[test]
    fn alerts_that_cannot_be_meant_are_named() {
        for (budget, wanted) in [
            ("window = \"day\"\nalerts = [0]", "from 1 to 1000"),
            ("window = \"day\"\nalerts = [1001]", "from 1 to 1000"),
            ("window = \"day\"\nalerts = [80, 50]", "must rise"),
            ("window = \"day\"\nalerts = [80, 80]", "must rise"),
            ("window = \"day\"\nmode = \"track\"\nalerts = [80]", "never alerts"),
            ("window = \"day\"\nmode = \"track\"\nforecast = true", "never alerts"),
            ("window = \"total\"\nforecast = true", "without an end"),
            ("window = \"day\"\nalerts = [-1]", "invalid value"),
            ("window = \"day\"\nalerts = [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]", "more than 16"),
        ] {
            let said = read(budget, "").unwrap_err();
            assert!(said.contains(wanted), "{budget}: {said}");
        }
    }

    #[test]
    fn what_is_raised_unless_a_budget_says_otherwise() {
        let of = |more: &str| {
            let budget = read(more, "").unwrap().budgets.remove(0);
            (budget.thresholds().to_vec(), budget.forecasts())
        };
        assert_eq!(of(DAY), (vec![50, 80, 100], true));
        assert_eq!(of("window = \"total\""), (vec![50, 80, 100], false));
        assert_eq!(of("window = \"day\"\neach = \"end_user\""), (vec![], false));
        assert_eq!(of("window = \"day\"\neach = \"key\"\nalerts = [90]\nforecast = true"), (vec![90], true));
        assert_eq!(of("window = \"day\"\nmode = \"track\""), (vec![], false));
        assert_eq!(of("window = \"day\"\nalerts = []\nforecast = false"), (vec![], false));
    }

    #[test]
    fn webhooks_that_would_not_be_told_or_not_safely_are_named() {
        for (webhook, wanted) in [
            ("url = \"http://hooks.example/x\"\nsecret = \"env:HOOK\"", "not on loopback"),
            ("url = \"ftp://hooks.example\"\nsecret = \"env:HOOK\"", "does not begin with https://"),
            ("url = \"hooks.example\"\nsecret = \"env:HOOK\"", "does not begin with https://"),
            ("url = \"https://a:b@hooks.example\"\nsecret = \"env:HOOK\"", "user or password"),
            ("url = \"https:///x\"\nsecret = \"env:HOOK\"", "names no host"),
            ("url = \"http://127.0.0.1.hooks.example\"\nsecret = \"env:HOOK\"", "not on loopback"),
            ("url = \"https://hooks.example\"\nsecret = \"hunter2\"", "is not a reference"),
            (&format!("{GOOD}budgets = [\"c\"]"), "there is no budget \"c\""),
            (&format!("{GOOD}scopes = [\"team:blue\"]"), "no budget of that scope"),
            (&format!("{GOOD}scopes = [\"end_user:ada\"]"), "is named in budgets"),
            (&format!("{GOOD}colour = 1"), "unknown field"),
        ] {
            let said = read(DAY, webhook).unwrap_err();
            assert!(said.contains(wanted), "{webhook}: {said}");
            assert!(!said.contains("hunter2"), "a secret was repeated");
        }
        let quiet = "window = \"day\"\nalerts = []\nforecast = false";
        let said = read(quiet, &format!("{GOOD}budgets = [\"b\"]")).unwrap_err();
        assert!(said.contains("raises no alerts"), "{said}");
        let two = format!("{GOOD}[[webhook]]\nid = \"w\"\n{GOOD}");
        assert!(read(DAY, &two).unwrap_err().contains("twice"));
    }

    #[test]
    fn a_webhook_is_told_of_what_it_names() {
        let told = |webhook: &str| {
            let document = read(DAY, webhook).unwrap();
            assert_eq!(Document::from_json(&document.to_json()).unwrap(), document);
            document.webhooks[0].is_told_of(&document.budgets[0])
        };
        assert!(told(GOOD));
        assert!(told(&format!("{GOOD}budgets = [\"b\"]")));
        assert!(told(&format!("{GOOD}scopes = [\"team:red\"]")));
        assert!(told("url = \"http://127.0.0.1:9/x\"\nsecret = \"env:HOOK\""));
        assert!(told("url = \"http://[::1]:9/x\"\nsecret = \"env:HOOK\""));
        assert!(told("url = \"http://hooks/x\"\nallow_http = true\nsecret = \"file:hook\""));
        assert!(told("url = \"env:HOOK_URL\"\nsecret = \"file:hook\""));
        let document = read(DAY, GOOD).unwrap();
        let other = Budget { id: "c".into(), ..document.budgets[0].clone() };
        let named = Webhook { budgets: vec!["b".into()], ..document.webhooks[0].clone() };
        assert!(named.is_told_of(&document.budgets[0]) && !named.is_told_of(&other));
    }
}
