//! Facts of a made-up shim.

use std::collections::BTreeMap;
use std::sync::Arc;

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{
    About, AccountRef, Basis, Confidence, Durability, Ending, Endpoint, Fact, Head, RequestClosed,
    RequestOpened, Reserved, Role, Settled,
};
use bursar_schemas::ids::{Digest, ProducerId, RequestId};
use bursar_schemas::money::Money;
use bursar_schemas::ports::{Outlet, Record};
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::producer::{Draft, Identity, Recorder};
use bursar_schemas::wire;

pub const REQUESTS: Lane = Lane::new(Topic::Requests, 1);
pub const MONEY: Lane = Lane::new(Topic::Spend, 2);
const START: i64 = 1_700_000_000_000_000;

pub fn producer(number: u8) -> ProducerId {
    ProducerId([number; 16])
}

pub fn recorder(number: u8, outlet: Arc<dyn Outlet>) -> Recorder {
    Recorder::new(Identity::new(producer(number), Role::Shim, [number; 32], &[7; 32]), outlet)
}

pub fn request(number: u32) -> RequestId {
    let mut random = [0; 10];
    random[6..].copy_from_slice(&number.to_be_bytes());
    RequestId::new(START + i64::from(number), random)
}

pub fn about(number: u32) -> About {
    About {
        request: request(number),
        accounting_at: Micros(START),
        organisation: "acme".to_owned(),
        team: Some("search".to_owned()),
        project: None,
        key: "key-1".to_owned(),
        end_user: None,
        cost_center: Some("4711".to_owned()),
        tags: BTreeMap::from([("environment".to_owned(), "test".to_owned())]),
    }
}

pub fn dollars(amount: i128) -> Money {
    Money::from_pico(amount * 1_000_000_000_000)
}

fn head() -> Head {
    Head::draft(Micros(START), 3, "2026-01-01")
}

pub fn opened(number: u32) -> Draft {
    let fact = RequestOpened {
        head: head(),
        about: about(number),
        endpoint: Endpoint::ChatCompletions,
        model: "a-model".to_owned(),
        stream: true,
        body_bytes: 10,
        body_digest: Digest([1; 32]),
        durability: Durability::Overlapped,
    };
    Draft { lane: REQUESTS, fact: fact.into() }
}

pub fn closed(number: u32) -> Draft {
    let fact = RequestClosed {
        head: head(),
        about: about(number),
        ending: Ending::Finished,
        status: 200,
        attempts: 1,
        answer_bytes: 5,
        first_byte_us: Some(1),
        duration_us: 2,
        settled: dollars(1),
        opened_by: None,
    };
    Draft { lane: REQUESTS, fact: fact.into() }
}

fn accounts() -> Vec<AccountRef> {
    vec![AccountRef { budget: "acme".to_owned(), window: 0 }]
}

pub fn reserved(number: u32, attempt: u32, amount: i128) -> Draft {
    let fact = Reserved {
        head: head(),
        about: about(number),
        attempt,
        provider: "one".to_owned(),
        model: "a-model".to_owned(),
        accounts: accounts(),
        lease: None,
        amount: dollars(amount),
    };
    Draft { lane: MONEY, fact: fact.into() }
}

pub fn settled(number: u32, attempt: u32, amount: i128) -> Draft {
    let fact = Settled {
        head: head(),
        about: about(number),
        attempt,
        provider: "one".to_owned(),
        model: "a-model".to_owned(),
        accounts: accounts(),
        lease: None,
        reserved: dollars(amount),
        amount: dollars(amount),
        confidence: Confidence::Reported,
        basis: Basis::Usage,
        lines: Vec::new(),
        usage: None,
        overrun: dollars(0),
        reserved_by: None,
    };
    Draft { lane: MONEY, fact: fact.into() }
}

/// A request from its opening to its end.
pub fn whole(number: u32) -> Vec<Draft> {
    vec![opened(number), reserved(number, 1, 1), settled(number, 1, 1), closed(number)]
}

pub fn decode(records: &[Record]) -> Vec<Fact> {
    records.iter().map(|record| wire::decode(&record.value).unwrap()).collect()
}

/// The numbers that a producer's facts carry, in the order in which they came.
pub fn numbers(records: &[Record], of: ProducerId) -> Vec<u64> {
    decode(records)
        .iter()
        .map(Fact::head)
        .filter(|head| head.producer == of)
        .map(|head| head.number)
        .collect()
}

/// Asserts that the numbers begin at 0 and go on without a gap, whatever came twice; gives how many there are.
pub fn assert_gapless(numbers: &[u64]) -> u64 {
    let mut next = 0;
    for number in numbers {
        assert!(*number <= next, "{number} came before {next}");
        next = next.max(number + 1);
    }
    next
}
