//! Samples of topic `limits`.

use super::spend::{LEASE, accounts};
use super::{dollars, head, text};
use crate::avro::Micros;
use crate::facts::{
    AccountRef, AlertDelivered, AlertKind, AlertRaised, BalanceStated, CreditReason, EpochMarked, Fact,
    IncarnationEnded, LeaseClosed, LeaseCredited, LeaseGranted, LeaseRefusal, LeaseRefused, LeaseRevoked,
    LimitSet, Mode, Phase, Recovery, Role, WindowMoved,
};
use crate::ids::ProducerId;

const EPOCH: u64 = 900;

fn account() -> AccountRef {
    AccountRef { budget: text("acme/search"), window: 1_793_491_200 }
}

fn of_budgets() -> [Fact; 3] {
    [
        EpochMarked {
            head: head(Role::Ledger, 40),
            instance: ProducerId([0xb2; 16]),
            supersedes: Some(EPOCH),
        }
        .into(),
        LimitSet {
            head: head(Role::Ledger, 41),
            epoch: EPOCH,
            budget: text("acme/search"),
            amount: dollars(10_000_000_000_000),
            mode: Mode::Bounded,
            recovery: Recovery::Journal,
            policy_version: 18,
            step: 2,
        }
        .into(),
        WindowMoved {
            head: head(Role::Ledger, 42),
            epoch: EPOCH,
            account: account(),
            starts_at: Micros(1_793_491_200_000_000),
            ends_at: Some(Micros(1_796_083_200_000_000)),
            phase: Phase::Draining,
        }
        .into(),
    ]
}

fn of_leases() -> [Fact; 5] {
    [
        LeaseGranted {
            head: head(Role::Ledger, 43),
            epoch: EPOCH,
            lease: LEASE,
            accounts: accounts(),
            amount: dollars(5_000_000_000_000),
            cause: 1_201,
            read: 1_207,
        }
        .into(),
        LeaseRefused {
            head: head(Role::Ledger, 44),
            epoch: EPOCH,
            lease: LEASE,
            reason: LeaseRefusal::InFlight,
            account: Some(account()),
            cause: 1_202,
            read: 1_208,
        }
        .into(),
        LeaseCredited {
            head: head(Role::Ledger, 45),
            epoch: EPOCH,
            lease: LEASE,
            number: 3,
            amount: dollars(4_000_000_000_000),
            accounts: accounts(),
            reason: CreditReason::Retired,
            cause: Some(1_203),
            read: 1_209,
        }
        .into(),
        LeaseRevoked { head: head(Role::Ledger, 46), epoch: EPOCH, lease: LEASE }.into(),
        LeaseClosed { head: head(Role::Ledger, 47), epoch: EPOCH, lease: LEASE }.into(),
    ]
}

/// Alerts, whose ids come after all others.
pub(super) fn alerts() -> [Fact; 2] {
    let raised = AlertRaised {
        head: head(Role::Ledger, 60),
        epoch: EPOCH,
        account: account(),
        alert: AlertKind::Forecast,
        percent: 80,
        limit_amount: dollars(25_000_000_000_000),
        settled: dollars(20_500_000_000_000),
        reserved: dollars(700_000_000_000),
        overrun: dollars(5_000_000_002),
        forecast: Some(dollars(31_000_000_000_000)),
        starts_at: Micros(1_793_491_200_000_000),
        ends_at: Some(Micros(1_796_083_200_000_000)),
        webhooks: vec![text("on-call"), text("finance")],
        read: 1_212,
    };
    let delivered = AlertDelivered {
        head: head(Role::Ledger, 61),
        epoch: EPOCH,
        alert_producer: ProducerId([0xb2; 16]),
        alert_number: 60,
        webhook: text("on-call"),
        delivered: true,
        attempts: 3,
        status: Some(204),
    };
    [raised.into(), delivered.into()]
}

pub(super) fn facts() -> Vec<Fact> {
    let ended = IncarnationEnded {
        head: head(Role::Ledger, 48),
        epoch: EPOCH,
        incarnation: ProducerId([0xa0; 16]),
        cause: 1_204,
        read: 1_210,
    };
    let stated = BalanceStated {
        head: head(Role::Ledger, 49),
        epoch: EPOCH,
        account: account(),
        settled: dollars(9_000_000_000_000),
        reserved: dollars(900_000_000_000),
        overrun: dollars(5_000_000_001),
        read: 1_211,
    };
    of_budgets().into_iter().chain(of_leases()).chain([ended.into(), stated.into()]).collect()
}
