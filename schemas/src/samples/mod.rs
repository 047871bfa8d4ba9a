//! One filled-in fact of each kind, for tests: no field is empty, absent or equal to its neighbour where its
//! type allows more, so that a field dropped or swapped is seen.

mod limits;
mod requests;
mod spend;

use std::collections::BTreeMap;

use crate::avro::Micros;
use crate::facts::{
    About, BudgetRaised, Currency, Fact, Head, HoldPlaced, HoldReleased, KeyIssued, KeyRevoked,
    PartitionsSet, PolicyPublished, ProducerHead, ProducerOpened, Role, ShimRetired, SubjectErased,
};
use crate::ids::{Digest, ProducerId, Pseudonym, RequestId, Signature};
use crate::money::Money;

/// The producer of every sample.
pub const PRODUCER: ProducerId = ProducerId([0xa1; 16]);

/// The request that samples speak of.
pub const REQUEST: RequestId = RequestId([0x01, 0x9a, 0, 0, 0, 1, 0x70, 2, 0x80, 3, 4, 5, 6, 7, 8, 9]);

/// 2026-11-03T14:05:06.789012Z.
pub const AT: Micros = Micros(1_793_714_706_789_012);

fn head(role: Role, number: u64) -> Head {
    Head {
        producer: PRODUCER,
        role,
        number,
        at: AT,
        policy: 17,
        prices: "2026-10-31".to_owned(),
        currency: Currency::Usd,
    }
}

fn text(value: &str) -> String {
    value.to_owned()
}

fn some(value: &str) -> Option<String> {
    Some(value.to_owned())
}

fn dollars(pico: i128) -> Money {
    Money::from_pico(pico)
}

fn tags() -> BTreeMap<String, String> {
    BTreeMap::from([(text("stage"), text("prod")), (text("team"), text("søk"))])
}

/// The attributes of the samples' request.
#[must_use]
pub fn about() -> About {
    About {
        request: REQUEST,
        accounting_at: Micros(AT.0 - 1_000_000),
        organisation: text("acme"),
        team: some("search"),
        project: some("reranker"),
        key: text("key-7"),
        end_user: Some(Pseudonym([0xe5; 16])),
        cost_center: some("CC-1042"),
        tags: tags(),
    }
}

fn of_producers() -> [Fact; 2] {
    [
        ProducerOpened {
            head: head(Role::Shim, 0),
            public_key: Digest([0x11; 32]),
            deployment_key: Digest([0x22; 32]),
            certificate: Signature([0x33; 64]),
            version: text("0.1.0"),
            predecessor: Some(ProducerId([0xa0; 16])),
        }
        .into(),
        ProducerHead {
            head: head(Role::Shim, 1),
            last: 41,
            hash: Digest([0x44; 32]),
            signature: Signature([0x55; 64]),
            ended: true,
        }
        .into(),
    ]
}

fn of_policy() -> [Fact; 6] {
    [
        PolicyPublished {
            head: head(Role::Policy, 50),
            version: 18,
            author: text("ada"),
            approver: some("grace"),
            source_revision: some("9f1c2d"),
            document: text("{\"organisations\":[]}"),
        }
        .into(),
        KeyIssued {
            head: head(Role::Policy, 51),
            key: text("key-8"),
            secret_hash: Digest([0x66; 32]),
            organisation: text("acme"),
            team: some("search"),
            project: some("reranker"),
            tags: tags(),
            models: vec![text("gpt-5-mini"), text("fast")],
            author: text("ada"),
        }
        .into(),
        KeyRevoked { head: head(Role::Policy, 52), key: text("key-6"), author: text("grace") }.into(),
        BudgetRaised {
            head: head(Role::Policy, 53),
            budget: text("acme/search"),
            change: dollars(-2_500_000_000_001),
            expires_at: Some(Micros(AT.0 + 86_400_000_000)),
            author: text("ada"),
            reason: text("launch week"),
        }
        .into(),
        ShimRetired {
            head: head(Role::Policy, 54),
            incarnation: ProducerId([0xa0; 16]),
            partition: 3,
            spend_end: 4_711,
            author: text("ada"),
            reason: text("its machine burnt down"),
        }
        .into(),
        PartitionsSet { head: head(Role::Policy, 55), partitions: 12 }.into(),
    ]
}

fn of_holds() -> [Fact; 3] {
    [
        HoldPlaced {
            head: head(Role::Policy, 60),
            hold: text("hold-4"),
            topics: vec![text("requests"), text("spend")],
            condition: text("team = 'search'"),
            reason: text("case 17"),
            author: text("ada"),
        }
        .into(),
        HoldReleased {
            head: head(Role::Policy, 61),
            hold: text("hold-3"),
            reason: text("case 9 is closed"),
            author: text("grace"),
        }
        .into(),
        SubjectErased {
            head: head(Role::Policy, 62),
            subject: text("key:key-6"),
            key_destroyed: true,
            reason: text("asked to be forgotten"),
            author: text("ada"),
        }
        .into(),
    ]
}

/// One fact of each kind, in the order of [`Fact::KINDS`].
#[must_use]
pub fn facts() -> Vec<Fact> {
    let mut facts: Vec<Fact> = of_producers().into();
    facts.extend(requests::facts());
    facts.extend(requests::routes());
    facts.extend(spend::facts());
    facts.extend(limits::facts());
    facts.extend(of_policy());
    facts.extend(of_holds());
    facts.extend(limits::alerts());
    facts
}
