//! The borrowed reading of attempts against the contract's own decoder: the same bytes are accepted, and the same
//! is read from them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;

use bursar_ledger::decode::{self, AttemptView, SpendView, Step};
use bursar_schemas::avro::{Avro as _, Micros};
use bursar_schemas::facts::{
    About, AccountRef, Basis, Confidence, CostLine, Fact, Head, LeaseId, Reserved, Settled, VoidReason,
    Voided,
};
use bursar_schemas::ids::{ProducerId, Pseudonym, RequestId};
use bursar_schemas::meters::Meter;
use bursar_schemas::money::Money;
use bursar_schemas::wire;
use proptest::prelude::*;

fn money() -> impl Strategy<Value = Money> {
    any::<i128>().prop_map(Money::from_pico)
}

fn producer() -> impl Strategy<Value = ProducerId> {
    any::<[u8; 16]>().prop_map(ProducerId)
}

fn head() -> impl Strategy<Value = Head> {
    (producer(), any::<u32>(), any::<i64>(), ".{0,12}").prop_map(|(producer, number, at, prices)| {
        let mut head = Head::draft(Micros(at), 3, &prices);
        (head.producer, head.number) = (producer, u64::from(number));
        head
    })
}

fn about() -> impl Strategy<Value = About> {
    let tags = proptest::collection::btree_map(".{0,6}", ".{0,6}", 0..4);
    let optional = || proptest::option::of(".{0,8}");
    let end_user = proptest::option::of(any::<[u8; 16]>().prop_map(Pseudonym));
    let request = any::<[u8; 16]>().prop_map(RequestId);
    (request, any::<i64>(), ".{0,8}", optional(), optional(), end_user, optional(), tags).prop_map(
        |(request, at, organisation, team, project, end_user, cost_center, tags)| About {
            request,
            accounting_at: Micros(at),
            key: organisation.clone(),
            organisation,
            team,
            project,
            end_user,
            cost_center,
            tags,
        },
    )
}

fn accounts() -> impl Strategy<Value = Vec<AccountRef>> {
    let account = (".{0,10}", any::<i64>()).prop_map(|(budget, window)| AccountRef { budget, window });
    proptest::collection::vec(account, 0..5)
}

fn lease() -> impl Strategy<Value = Option<LeaseId>> {
    let lease =
        (producer(), any::<u32>()).prop_map(|(holder, number)| LeaseId { holder, number: u64::from(number) });
    proptest::option::of(lease)
}

fn lines() -> impl Strategy<Value = Vec<CostLine>> {
    let line = (0..Meter::ALL.len(), any::<u32>(), money(), money()).prop_map(
        |(meter, quantity, price_per_million, amount)| CostLine {
            meter: Meter::ALL[meter],
            quantity: u64::from(quantity),
            price_per_million,
            amount,
        },
    );
    proptest::collection::vec(line, 0..4)
}

/// Any of the three facts.
fn fact() -> impl Strategy<Value = Fact> {
    let common = (head(), about(), any::<u32>(), accounts(), lease(), money());
    let more = (money(), money(), proptest::option::of(producer()), lines(), proptest::option::of(".{0,20}"));
    (common, more, 0..3_u8, 0..Basis::ALL.len()).prop_map(|(common, more, kind, basis)| {
        let (head, about, attempt, accounts, lease, reserved) = common;
        let (amount, overrun, reserved_by, lines, usage) = more;
        let (provider, model) = ("openai".to_owned(), "gpt-5".to_owned());
        match kind {
            0 => Reserved { head, about, attempt, provider, model, accounts, lease, amount }.into(),
            1 => Settled {
                head,
                about,
                attempt,
                provider,
                model,
                accounts,
                lease,
                reserved,
                amount,
                confidence: Confidence::Estimated,
                basis: Basis::ALL[basis],
                lines,
                usage,
                overrun,
                reserved_by,
            }
            .into(),
            _ => {
                let reason = VoidReason::Unreachable;
                Voided { head, about, attempt, accounts, lease, reserved, reason, reserved_by }.into()
            }
        }
    })
}

/// What the ledger needs of a fact, taken from the contract's own reading of it.
fn expected(fact: &Fact) -> (RequestId, u32, Vec<AccountRef>, Option<LeaseId>, Step) {
    match fact {
        Fact::Reserved(it) => {
            let step = Step::Reserve { amount: it.amount };
            (it.about.request, it.attempt, it.accounts.clone(), it.lease, step)
        }
        Fact::Settled(it) => {
            let step = Step::Settle {
                reserved: it.reserved,
                amount: it.amount,
                overrun: it.overrun,
                unpriced: it.basis == Basis::Unpriced,
                reserved_by: it.reserved_by,
            };
            (it.about.request, it.attempt, it.accounts.clone(), it.lease, step)
        }
        Fact::Voided(it) => {
            let step = Step::Void { reserved_by: it.reserved_by };
            (it.about.request, it.attempt, it.accounts.clone(), it.lease, step)
        }
        _ => panic!("not an attempt's fact"),
    }
}

fn assert_same(view: &AttemptView<'_>, fact: &Fact) {
    let accounts = Vec::<AccountRef>::decode(&mut &*view.accounts).unwrap();
    assert_eq!((view.request, view.attempt, accounts, view.lease, view.step), expected(fact));
    assert_eq!(view.head, decode::head_of(fact));
}

fn assert_agrees(value: &[u8]) {
    match (decode::read(value), wire::decode(value)) {
        (Ok(SpendView::Attempt(view)), Ok(fact)) => assert_same(&view, &fact),
        (Ok(SpendView::Other(read)), Ok(fact)) => {
            assert_eq!(read, fact);
            assert!(!(30..=32).contains(&fact.schema_id()), "the borrowed reading refused lawful bytes");
        }
        (Err(ours), Err(theirs)) => assert_eq!(ours, theirs),
        (ours, theirs) => panic!("{ours:?} is not {theirs:?}"),
    }
}

proptest! {
    #[test]
    fn what_was_written_is_read(fact in fact()) {
        assert_agrees(&wire::encode(&fact));
    }

    #[test]
    fn broken_bytes_are_refused_alike(fact in fact(), at in any::<prop::sample::Index>(), byte: u8, cut: bool) {
        let mut value = wire::encode(&fact);
        let at = at.index(value.len());
        if cut {
            value.truncate(at);
        } else {
            value[at] = byte;
        }
        assert_agrees(&value);
    }

    #[test]
    fn any_bytes_are_refused_alike(id in 29..36_u8, rest in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut value = vec![0, 0, 0, 0, id];
        value.extend(rest);
        assert_agrees(&value);
    }
}

#[test]
fn an_array_in_several_blocks_is_read() {
    let mut head = Head::draft(Micros(1), 1, "");
    head.producer = ProducerId([1; 16]);
    let about = About {
        request: RequestId([2; 16]),
        accounting_at: Micros(1),
        organisation: String::new(),
        team: None,
        project: None,
        key: String::new(),
        end_user: None,
        cost_center: None,
        tags: BTreeMap::new(),
    };
    let accounts = vec![AccountRef { budget: "day".into(), window: 5 }; 2];
    let (lease, reserved, reason, reserved_by) = (None, Money::ZERO, VoidReason::NotSent, None);
    let fact = Voided { head, about, attempt: 1, accounts, lease, reserved, reason, reserved_by };
    let mut value = wire::encode(&fact.into());
    // One block of two items becomes two blocks of one, the second in the form that states its size.
    let item = [6, b'd', b'a', b'y', 10];
    let at = value.windows(5).position(|bytes| bytes == item).unwrap();
    value[at - 1] = 2;
    value.splice(at + 5..at + 5, [1, 10]);
    assert_agrees(&value);
    assert!(matches!(decode::read(&value), Ok(SpendView::Attempt(_))));
}
