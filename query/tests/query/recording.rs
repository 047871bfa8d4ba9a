//! Every query is a recorded fact, or has no answer.

use std::sync::Arc;

use bursar_query::{ChargebackRequest, Limits, QueryError, QueryService};
use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{Fact, QueryRan};
use bursar_schemas::memory::MemoryJournal;
use bursar_schemas::ports::OutletError;
use bursar_schemas::wire;

use crate::support::*;

fn recorded(journal: &MemoryJournal) -> Vec<QueryRan> {
    let facts = journal.records(REQUESTS).into_iter().map(|record| wire::decode(&record.value).unwrap());
    facts.filter_map(|fact| if let Fact::QueryRan(fact) = fact { Some(*fact) } else { None }).collect()
}

async fn service(world: &World) -> QueryService {
    let journal = world.journal();
    let recorder = recorder(&journal);
    let clock = Arc::new(|| Micros(NOW));
    QueryService::open(config(), store(), Some(Arc::new(journal)), Some(recorder), clock).await.unwrap()
}

#[tokio::test]
async fn what_was_asked_by_whom_and_how_it_went_is_recorded() {
    let world = World::new();
    let service = service(&world).await;
    run(&service, "SELECT * FROM (VALUES (1), (2)) AS t (a)").await.unwrap();
    run(&service, "DROP TABLE spend").await.unwrap_err();
    run(&service, "SELECT nothing FROM spend").await.unwrap_err();
    let few = Limits { rows: 1, ..Limits::default() };
    service.sql("test", "SELECT * FROM (VALUES (1), (2)) AS t (a)", few).await.unwrap_err();
    let asked = ChargebackRequest { month: "2026-11".to_owned(), by: vec![], organisation: None };
    service.chargeback("finance", &asked, Limits::default()).await.unwrap();
    let long = format!("SELECT 'x{}'", "ä".repeat(40_000));
    run(&service, &long).await.unwrap_err();
    let facts = recorded(&world.journal());
    let outcomes: Vec<(&str, &str, u64)> =
        facts.iter().map(|fact| (fact.by.as_str(), fact.outcome.as_str(), fact.rows)).collect();
    assert_eq!(
        outcomes,
        [
            ("test", "finished", 2),
            ("test", "statement_refused", 0),
            ("test", "statement_not_understood", 0),
            ("test", "too_many_rows", 2),
            ("finance", "finished", 0),
            ("test", "statement_refused", 0),
        ]
    );
    assert_eq!(facts[1].statement, "DROP TABLE spend");
    assert_eq!(facts[4].statement, "chargeback month=2026-11 by=");
    assert_eq!(facts[5].statement.len(), 64 * 1024 - 1, "cut at a whole character");
    // Queries can be asked about like anything else.
    let seen = run(&service, "SELECT count(*) FROM requests WHERE kind = 'QueryRan'").await.unwrap();
    assert_eq!(seen.lines().nth(1), Some("6"));
}

#[tokio::test]
async fn a_query_that_cannot_be_recorded_is_refused() {
    let world = World::new();
    let service = service(&world).await;
    run(&service, "SELECT 1").await.unwrap();
    world.journal().refuse(Some(OutletError::Full("the disk".to_owned())));
    let failed = run(&service, "SELECT 1").await;
    assert!(matches!(failed, Err(QueryError::NotRecorded(_))), "{failed:?}");
    let asked = ChargebackRequest { month: "2026-11".to_owned(), by: vec![], organisation: None };
    let failed = service.chargeback("test", &asked, Limits::default()).await;
    assert!(matches!(failed, Err(QueryError::NotRecorded(_))), "{failed:?}");
    world.journal().refuse(None);
    run(&service, "SELECT 1").await.unwrap();
}

#[tokio::test]
async fn a_long_answer_is_recorded_before_it_leaves_and_when_it_is_left() {
    let world = World::new();
    let service = service(&world).await;
    let long = "SELECT value AS a, value + 1 AS b, value + 2 AS c FROM generate_series(1, 900000)";
    let mut answer = service.sql("test", long, Limits::default()).await.unwrap();
    assert_eq!(recorded(&world.journal()).last().unwrap().outcome, "streaming");
    let mut rows = 0;
    while let Some(batch) = answer.next().await.unwrap() {
        rows += batch.num_rows();
    }
    assert_eq!(rows, 900_000);
    let last = recorded(&world.journal()).pop().unwrap();
    assert_eq!((last.outcome.as_str(), last.rows), ("finished", 900_000));
    drop(answer);
    assert_eq!(recorded(&world.journal()).len(), 2);

    drop(service.sql("test", long, Limits::default()).await.unwrap());
    assert_eq!(recorded(&world.journal()).pop().unwrap().outcome, "abandoned");
}
