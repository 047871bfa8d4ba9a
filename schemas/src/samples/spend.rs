//! Samples of topic `spend`.

use super::{about, dollars, head, some, text};
use crate::facts::{
    AccountRef, Basis, Confidence, CostLine, Fact, LeaseId, LeaseMarked, LeaseRequested, LeaseReturned,
    Reserved, Role, Settled, ShimEnded, VoidReason, Voided,
};
use crate::ids::ProducerId;
use crate::meters::Meter;

pub(super) fn accounts() -> Vec<AccountRef> {
    vec![
        AccountRef { budget: text("acme"), window: 1_793_491_200 },
        AccountRef { budget: text("acme/search"), window: 0 },
    ]
}

pub(super) const LEASE: LeaseId = LeaseId { holder: super::PRODUCER, number: 6 };

fn settled() -> Fact {
    Settled {
        head: head(Role::Shim, 31),
        about: about(),
        attempt: 2,
        provider: text("mistral"),
        model: text("mistral-small"),
        accounts: accounts(),
        lease: Some(LEASE),
        reserved: dollars(200_000_000_000),
        amount: dollars(205_000_000_001),
        confidence: Confidence::Estimated,
        basis: Basis::Usage,
        lines: vec![
            CostLine {
                meter: Meter::Input,
                quantity: 1_000_000,
                price_per_million: dollars(100_000_000_000),
                amount: dollars(100_000_000_000),
            },
            CostLine {
                meter: Meter::Output,
                quantity: 350_000,
                price_per_million: dollars(300_000_000_003),
                amount: dollars(105_000_000_001),
            },
        ],
        usage: some("{\"prompt_tokens\":1000000,\"completion_tokens\":350000}"),
        overrun: dollars(5_000_000_001),
        reserved_by: Some(ProducerId([0xa0; 16])),
    }
    .into()
}

pub(super) fn facts() -> [Fact; 7] {
    [
        Reserved {
            head: head(Role::Shim, 30),
            about: about(),
            attempt: 2,
            provider: text("mistral"),
            model: text("mistral-small"),
            accounts: accounts(),
            lease: Some(LEASE),
            amount: dollars(200_000_000_000),
        }
        .into(),
        settled(),
        Voided {
            head: head(Role::Shim, 32),
            about: about(),
            attempt: 1,
            accounts: accounts(),
            lease: Some(LEASE),
            reserved: dollars(190_000_000_000),
            reason: VoidReason::Rejected,
            reserved_by: Some(ProducerId([0xa0; 16])),
        }
        .into(),
        LeaseRequested {
            head: head(Role::Shim, 33),
            lease: LEASE,
            accounts: accounts(),
            wanted: dollars(5_000_000_000_000),
            minimum: dollars(200_000_000_000),
        }
        .into(),
        LeaseReturned {
            head: head(Role::Shim, 34),
            lease: LEASE,
            number: 3,
            amount: dollars(4_000_000_000_000),
            last: true,
        }
        .into(),
        ShimEnded { head: head(Role::Shim, 35), incarnation: ProducerId([0xa0; 16]) }.into(),
        LeaseMarked { head: head(Role::Shim, 36), lease: LEASE, mark: dollars(3_000_000_000_000) }.into(),
    ]
}
