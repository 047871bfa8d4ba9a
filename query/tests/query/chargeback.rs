//! Statements of account against an oracle that adds up the facts by hand.

use std::collections::{BTreeMap, BTreeSet};

use bursar_query::{ChargebackRequest, Dimension, Format, Limits, QueryError};
use bursar_schemas::facts::{About, Basis, Confidence, Fact, Settled};
use bursar_schemas::ids::ProducerId;
use bursar_schemas::meters::Meter;
use bursar_schemas::money::{LARGEST, Money};
use proptest::prelude::*;

use crate::support::*;

/// 2026-11-01T00:00:00 in Berlin, New York and UTC, and the first of December.
const NOVEMBER: [(&str, &str, i64, i64); 3] = [
    ("acme", "Europe/Berlin", 1_793_487_600_000_000, 1_796_079_600_000_000),
    ("beta", "America/New_York", 1_793_505_600_000_000, 1_796_101_200_000_000),
    ("gamma", "UTC", 1_793_491_200_000_000, 1_796_083_200_000_000),
];

fn request(by: &[Dimension]) -> ChargebackRequest {
    ChargebackRequest { month: "2026-11".to_owned(), by: by.to_vec(), organisation: None }
}

/// What one generated attempt is.
#[derive(Debug, Clone)]
struct Attempt {
    organisation: usize,
    team: Option<u8>,
    env: Option<u8>,
    /// Microseconds from the month's first or last instant in the organisation's zone.
    edge: bool,
    apart: i64,
    amounts: Vec<u64>,
    own: bool,
    recovered: bool,
    void: bool,
    twice: bool,
    estimated: bool,
}

fn attempt() -> impl Strategy<Value = Attempt> {
    (
        (0..3_usize, proptest::option::of(0..3_u8), proptest::option::of(0..2_u8)),
        (any::<bool>(), -3_i64..3),
        proptest::collection::vec(any::<u64>(), 0..3),
        (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()),
    )
        .prop_map(|((organisation, team, env), (edge, apart), amounts, flags)| {
            let (own, recovered, void, twice, estimated) = flags;
            Attempt { organisation, team, env, edge, apart, amounts, own, recovered, void, twice, estimated }
        })
}

fn about_of(number: u64, attempt: &Attempt) -> About {
    let (organisation, _, starts, ends) = NOVEMBER[attempt.organisation];
    let mut about = about(number, if attempt.edge { ends } else { starts } + attempt.apart);
    organisation.clone_into(&mut about.organisation);
    about.team = attempt.team.map(|team| format!("team-{team}'s"));
    about.tags = attempt.env.map(|env| ("env".to_owned(), format!("e{env}"))).into_iter().collect();
    about
}

fn build(attempts: &[Attempt]) -> World {
    let mut world = World::new();
    world.write(9, POLICY, policy(1, &[("acme", "UTC")]));
    world.write(9, POLICY, policy(2, &[("acme", "Europe/Berlin"), ("beta", "America/New_York")]));
    for (number, attempt) in attempts.iter().enumerate() {
        let about = about_of(u64::try_from(number).unwrap(), attempt);
        let lines = attempt
            .amounts
            .iter()
            .map(|amount| line(Meter::Input, 1, i128::from(*amount)))
            .collect::<Vec<_>>();
        let mut fact = settled(&about, 1, lines);
        if attempt.estimated {
            fact.confidence = Confidence::Estimated;
        }
        if attempt.amounts.is_empty() {
            (fact.basis, fact.amount) = (Basis::Reservation, Money::from_pico(77));
        }
        if attempt.recovered {
            // A successor charges more than was used: it must not count beside the producer's own.
            let mut late = fact.clone();
            late.amount = late.amount.plus(Money::from_pico(1_000_000));
            late.lines = vec![];
            late.reserved_by = Some(ProducerId([1; 16]));
            world.write(2, SPEND, late);
        }
        if attempt.own && attempt.void {
            world.write(1, SPEND, voided(&about, 1));
        } else if attempt.own {
            world.write(1, SPEND, fact.clone());
            if attempt.twice {
                let number = world.facts.last().unwrap().1.head().number;
                world.write_numbered(1, number, SPEND, fact);
            }
        }
    }
    world
}

type Oracle = BTreeMap<(String, Option<String>, Option<String>), i128>;

/// Naive sums over the facts themselves.
fn oracle(world: &World) -> Oracle {
    let mut seen = BTreeSet::new();
    let mut endings: BTreeMap<_, Vec<(bool, Option<Settled>)>> = BTreeMap::new();
    for (lane, fact) in &world.facts {
        if !seen.insert((fact.head().producer, *lane, fact.head().number)) {
            continue;
        }
        match fact {
            Fact::Settled(fact) => (endings.entry((fact.about.request, fact.attempt)).or_default())
                .push((fact.reserved_by.is_some(), Some((**fact).clone()))),
            Fact::Voided(fact) => (endings.entry((fact.about.request, fact.attempt)).or_default())
                .push((fact.reserved_by.is_some(), None)),
            _ => {}
        }
    }
    let mut sums = Oracle::new();
    for mut ended in endings.into_values() {
        ended.sort_by_key(|(by_another, _)| *by_another);
        let Some((_, Some(fact))) = ended.into_iter().next() else { continue };
        let about = fact.about;
        let (.., starts, ends) =
            NOVEMBER.into_iter().find(|(organisation, ..)| *organisation == about.organisation).unwrap();
        if (starts..ends).contains(&about.accounting_at.0) {
            let key = (about.organisation, about.team, about.tags.get("env").cloned());
            *sums.entry(key).or_default() += fact.amount.pico();
        }
    }
    sums
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn statements_agree_with_sums_over_the_facts(attempts in proptest::collection::vec(attempt(), 0..40), cut in 0..40_usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = build(&attempts);
            let store = store();
            let cut = cut.min(world.journal().records(SPEND).len());
            if cut > 0 {
                seal(&store, &world.journal(), SPEND, &[u64::try_from(cut).unwrap()]).await;
            }
            let service = service(&store, Some(&world)).await;
            let by = [Dimension::Team, Dimension::Tag("env".to_owned())];
            let statement = service.chargeback("test", &request(&by), Limits::default()).await.unwrap();
            let rows: Oracle = statement
                .rows
                .iter()
                .map(|row| ((row.organisation.clone(), row.keys[0].clone(), row.keys[1].clone()), row.amount.pico()))
                .collect();
            let expected = oracle(&world);
            prop_assert_eq!(rows.len(), statement.rows.len(), "a key came twice");
            prop_assert_eq!(statement.total.pico(), expected.values().sum::<i128>());
            prop_assert_eq!(&rows, &expected);
            // The view says the same.
            let view = run(&service, "SELECT sum(amount) FROM chargeback WHERE \"month\" = '2026-11'").await.unwrap();
            let total: Money = view.lines().nth(1).filter(|line| !line.is_empty()).unwrap_or("0").parse().unwrap();
            prop_assert_eq!(total.pico(), expected.values().sum::<i128>());
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn totals_beyond_64_bits_are_exact_and_beyond_38_digits_an_error() {
    let mut world = World::new();
    let big = i128::from(u64::MAX) * 3 + 1;
    for request in 0..3 {
        world.write(1, SPEND, settled(&about(request, NOW), 1, vec![line(Meter::Input, 1, big)]));
    }
    let service = service(&store(), Some(&world)).await;
    let statement =
        service.chargeback("test", &request(&[Dimension::Team]), Limits::default()).await.unwrap();
    assert_eq!(statement.total.pico(), big * 3);
    let csv = statement.render(Format::Csv).unwrap();
    assert!(csv.contains(&format!("acme,blue,{},3,3,3,0\r\n", Money::from_pico(big * 3))), "{csv}");

    // Two amounts that fit on their own and not together, in one row and in two.
    for teams in [["blue", "blue"], ["blue", "red"]] {
        for (request_number, team) in (100..).zip(teams) {
            let mut about = about(request_number, NOW);
            about.team = Some(team.to_owned());
            world.write(1, SPEND, settled(&about, 1, vec![line(Meter::Input, 1, LARGEST - 5)]));
        }
        let failed = service.chargeback("test", &request(&[Dimension::Team]), Limits::default()).await;
        assert!(matches!(failed, Err(QueryError::Overflow(_))), "{failed:?}");
        let failed = run(&service, "SELECT sum(amount) FROM costs").await;
        assert!(matches!(failed, Err(QueryError::Overflow(_))), "{failed:?}");
    }
}

#[tokio::test]
async fn what_the_total_does_not_hold_stands_below_it() {
    let mut world = World::new();
    let (first, second, third) = (about(1, NOW), about(2, NOW), about(3, NOW));
    for about in [&first, &second, &third] {
        world.write(1, REQUESTS, opened(about));
        world.write(1, SPEND, reserved(about, 1));
    }
    world.write(1, REQUESTS, closed(&first));
    world.write(1, SPEND, settled(&first, 1, vec![line(Meter::Output, 7, 70)]));
    let mut unpriced = settled(&second, 1, vec![]);
    unpriced.basis = Basis::Unpriced;
    world.write(1, SPEND, unpriced);
    let mut estimated = settled(&second, 2, vec![]);
    (estimated.basis, estimated.confidence, estimated.amount) =
        (Basis::Reservation, Confidence::Estimated, Money::from_pico(5));
    world.skip(1, SPEND, 3);
    world.write(1, SPEND, estimated);
    world.write_bytes(SPEND, bytes::Bytes::from_static(b"?"), bursar_schemas::avro::Micros(NOW));
    let service = service(&store(), Some(&world)).await;
    let statement = service.chargeback("test", &request(&[]), Limits::default()).await.unwrap();
    assert_eq!(statement.total.pico(), 75);
    let below = &statement.below;
    assert_eq!((below.unpriced_attempts, below.estimated_attempts, below.estimated_amount.pico()), (1, 1, 5));
    assert_eq!((below.open_requests, below.open_attempts), (2, 1));
    assert_eq!((below.missing_facts, below.unreadable_records, below.records_behind), (3, 1, 0));
    assert_eq!(below.as_of.0, NOW);
    let position = below.positions.iter().find(|position| position.topic == SPEND.topic).unwrap();
    assert_eq!(position.next, u64::try_from(world.journal().records(SPEND).len()).unwrap());
    assert!(!below.is_nothing());
    for format in [Format::Table, Format::Csv, Format::Json] {
        let text = statement.render(format).unwrap();
        assert!(text.contains("0.000000000075"), "{text}");
        assert!(text.to_lowercase().contains("open") && text.contains("2"), "{text}");
    }
}

#[tokio::test]
async fn months_and_dimensions_are_checked() {
    let service = service(&store(), Some(&World::new())).await;
    for month in ["2026-13", "2026-1", "november", "2026-11-01", "' OR 1=1", "äöü-11"] {
        let asked = ChargebackRequest { month: month.to_owned(), by: vec![], organisation: None };
        let failed = service.chargeback("test", &asked, Limits::default()).await;
        assert!(matches!(failed, Err(QueryError::Parameter(_))), "{month}: {failed:?}");
    }
    // Text is text: nothing of it is read as SQL.
    let hostile = "x' OR '1'='1".to_owned();
    let asked = ChargebackRequest {
        month: "2026-11".to_owned(),
        by: vec![Dimension::Tag(hostile.clone())],
        organisation: Some(hostile),
    };
    assert!(service.chargeback("test", &asked, Limits::default()).await.unwrap().rows.is_empty());
    assert!("tag:".parse::<Dimension>().is_err() && "teams".parse::<Dimension>().is_err());
}
