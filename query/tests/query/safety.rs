//! What a statement must not be able to do.

use std::collections::BTreeSet;
use std::time::Duration;

use bursar_query::statement::check;
use bursar_query::{Limits, QueryError};
use proptest::prelude::*;

use crate::support::*;

fn tables() -> BTreeSet<&'static str> {
    ["requests", "spend"].into()
}

/// Refused before anything runs.
const REFUSED: &[&str] = &[
    "",
    ";",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE spend",
    "CREATE TABLE t (a INT)",
    "CREATE TABLE t AS SELECT 1",
    "CREATE VIEW v AS SELECT 1",
    "CREATE FUNCTION f() RETURNS INT RETURN 1",
    "CREATE SCHEMA s",
    "CREATE DATABASE d",
    "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
    "CREATE EXTERNAL TABLE t (a VARCHAR) STORED AS CSV LOCATION 'file:///etc/passwd'",
    "CREATE UNBOUNDED EXTERNAL TABLE t STORED AS PARQUET LOCATION 's3://bucket/x'",
    "COPY spend TO '/var/out.parquet'",
    "COPY (SELECT 1) TO '/var/out.csv' STORED AS CSV",
    "COPY spend FROM '/etc/passwd'",
    "INSERT INTO spend SELECT * FROM spend",
    "INSERT OVERWRITE spend SELECT 1",
    "UPDATE spend SET amount = 0",
    "DELETE FROM spend",
    "TRUNCATE TABLE spend",
    "MERGE INTO spend USING requests ON true WHEN MATCHED THEN DELETE",
    "DROP TABLE spend",
    "ALTER TABLE spend ADD COLUMN a INT",
    "SET datafusion.execution.batch_size = 1",
    "SET datafusion.catalog.information_schema = true",
    "RESET datafusion.execution.batch_size",
    "SHOW ALL",
    "SHOW datafusion.execution.batch_size",
    "SHOW COLUMNS FROM spend",
    "SHOW CREATE TABLE spend",
    "SHOW FUNCTIONS",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "DEALLOCATE p",
    "BEGIN",
    "COMMIT",
    "USE s",
    "CALL f()",
    "GRANT ALL ON spend TO bob",
    "LOAD DATA INPATH '/etc/passwd' INTO TABLE spend",
    "ANALYZE TABLE spend",
    "VACUUM",
    "ATTACH DATABASE 'x' AS y",
    "INSTALL x",
    "EXPLAIN DELETE FROM spend",
    "EXPLAIN ANALYZE COPY spend TO '/var/out.csv'",
    "EXPLAIN EXPLAIN SELECT 1",
    "EXPLAIN CREATE TABLE t AS SELECT 1",
    "SELECT * INTO t FROM spend",
    "SELECT * FROM spend FOR UPDATE",
    "WITH t AS (INSERT INTO spend SELECT 1) SELECT * FROM t",
    "WITH t AS (DELETE FROM spend) SELECT * FROM t",
    "WITH RECURSIVE t AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM t) SELECT * FROM t",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM \"/etc/passwd\"",
    "SELECT * FROM '/etc/passwd.csv'",
    "SELECT * FROM \"file:///etc/passwd\"",
    "SELECT * FROM 's3://bucket/key.parquet'",
    "SELECT * FROM 'https://example.com/x.csv'",
    "SELECT * FROM `/proc/self/environ`",
    "SELECT (SELECT count(*) FROM \"/etc/passwd\")",
    "SELECT 1 WHERE EXISTS (SELECT * FROM \"/etc/passwd\")",
    "SELECT * FROM spend JOIN \"/etc/passwd\" ON true",
    "SELECT * FROM spend UNION ALL SELECT * FROM '/etc/passwd'",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_parquet('/etc/passwd')",
    "SELECT * FROM read_json('/etc/passwd')",
    "SELECT * FROM parquet_metadata('/etc/passwd')",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM metadata_cache()",
    "SELECT * FROM TABLE(read_csv('/etc/passwd'))",
    "SELECT * FROM LATERAL read_csv('/etc/passwd')",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM information_schema.df_settings",
    "SELECT * FROM \"information_schema\".\"df_settings\"",
    "SELECT * FROM bursar.public.spend",
    "SELECT * FROM datafusion.public.spend",
    "SELECT * FROM pg_catalog.pg_tables",
    "SELECT * FROM env",
    "TABLE spend",
    "DESCRIBE \"/etc/passwd\"",
    "DESCRIBE information_schema.tables",
];

#[test]
fn what_is_not_reading_from_the_tables_is_refused() {
    for sql in REFUSED {
        match check(sql, &tables()) {
            Err(QueryError::Refused(_) | QueryError::Statement(_)) => {}
            other => panic!("{sql}: {other:?}"),
        }
    }
}

#[test]
fn what_reads_from_the_tables_passes() {
    for sql in [
        "SELECT * FROM spend",
        "select * from SPEND;",
        "WITH t AS (SELECT * FROM spend) SELECT * FROM t",
        "WITH t AS (SELECT 1 AS a), u AS (SELECT * FROM t) SELECT * FROM u JOIN requests ON true",
        "SELECT * FROM generate_series(1, 3)",
        "SELECT * FROM (VALUES (1), (2)) AS v (a)",
        "SELECT * FROM spend WHERE request IN (SELECT request FROM requests)",
        "EXPLAIN SELECT * FROM spend",
        "EXPLAIN ANALYZE SELECT * FROM spend",
        "SHOW TABLES",
        "DESCRIBE spend",
        "SELECT 'DROP TABLE spend; COPY x TO y' AS harmless",
        "SELECT 1 -- ; DROP TABLE spend",
    ] {
        check(sql, &tables()).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

#[test]
fn statements_that_nest_without_end_are_refused_and_not_descended_into() {
    let many = |part: &str, count: usize| part.repeat(count);
    for sql in [
        format!("SELECT {}1", many("1+", 30_000)),
        format!("SELECT {}1{}", many("(", 30_000), many(")", 30_000)),
        format!("SELECT {}1", many("- ", 30_000)),
        format!("SELECT {}true", many("NOT ", 15_000)),
        format!("SELECT 1{}", many("::INT", 10_000)),
        format!("SELECT 1{}", many(" UNION SELECT 1", 4_000)),
        format!("SELECT a{}", many("[1]", 20_000)),
        format!("SELECT {}1{}", many("abs(", 10_000), many(")", 10_000)),
        format!("SELECT {}1{}", many("CASE WHEN true THEN ", 3_000), many(" END", 3_000)),
        format!("SELECT * FROM spend{}", many(" JOIN spend ON true", 3_000)),
        format!("SELECT {}1", many("EXPLAIN ", 8_000)),
        many("EXPLAIN ", 8_000),
        format!("SELECT * FROM {}spend{}", many("(SELECT * FROM ", 4_000), many(")", 4_000)),
        many("x", 70_000),
        many("[", 60_000),
        many("'", 60_001),
    ] {
        let shown: String = sql.chars().take(40).collect();
        match check(&sql, &tables()) {
            Err(QueryError::Refused(_) | QueryError::Statement(_)) => {}
            other => panic!("{shown}: {other:?}"),
        }
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_check_panic_or_pass_two_statements(sql in "[ a-zA-Z0-9_'\"`;(),.*/=<>|:\\[\\]-]{0,120}") {
        drop(check(&sql, &tables()));
        let three = format!("SELECT 1; {} ; SELECT 2", sql);
        // A comment can hide what follows; nothing else can.
        prop_assert!(sql.contains("--") || sql.contains("/*") || check(&three, &tables()).is_err());
    }
}

/// Deep but allowed statements must run, or fail, without taking the process with them.
#[tokio::test(flavor = "multi_thread")]
async fn statements_at_the_bound_are_run_without_overflowing_a_stack() {
    let service = service(&store(), Some(&World::new())).await;
    let sum = format!("SELECT {}1 AS a", "1+".repeat(498));
    assert_eq!(run(&service, &sum).await.unwrap(), "a\r\n499\r\n");
    let any = format!("SELECT count(*) FROM spend WHERE {}attempt = 1", "attempt = 2 OR ".repeat(240));
    assert_eq!(run(&service, &any).await.unwrap().lines().nth(1), Some("0"));
    let nested = format!("SELECT {}1{} AS a", "(".repeat(40), ")".repeat(40));
    assert!(run(&service, &nested).await.is_ok());
    let union = format!("SELECT 1 AS a{}", " UNION ALL SELECT 1".repeat(200));
    assert_eq!(run(&service, &union).await.unwrap().lines().count(), 202);
}

#[tokio::test]
async fn functions_that_blow_a_value_up_end_in_an_error() {
    let service = service(&store(), Some(&World::new())).await;
    let doubled = |step: &str| {
        let mut sql = "WITH t0 AS (SELECT 'xxxxxxxxxxxxxxxx' AS s)".to_owned();
        for level in 1..40 {
            sql.push_str(&format!(", t{level} AS (SELECT {step} AS s FROM t{})", level - 1));
        }
        sql + " SELECT length(s) FROM t39"
    };
    let arrays = doubled("array_concat(s, s)")
        .replace("'xxxxxxxxxxxxxxxx'", "[1, 2, 3, 4]")
        .replace("length(s)", "array_length(s)");
    let nested = doubled("[s, s]").replace("length(s)", "array_length(s)");
    for sql in [
        "SELECT repeat('a', 2000000000)".to_owned(),
        "SELECT lpad('a', 2000000000, 'b')".to_owned(),
        "SELECT rpad('a', 2000000000)".to_owned(),
        "SELECT replace('aaaaaaaa', 'a', 'bbbbbbbb')".to_owned(),
        "SELECT array_repeat(1, 2000000000)".to_owned(),
        "SELECT range(0, 2000000000)".to_owned(),
        "SELECT generate_series(0, 2000000000)".to_owned(),
        "SELECT array_resize([1], 2000000000, 1)".to_owned(),
        "SELECT getenv('PATH')".to_owned(),
        "SELECT read_file('/etc/passwd')".to_owned(),
        "SELECT pg_read_file('/etc/passwd')".to_owned(),
        "SELECT load_extension('x')".to_owned(),
        doubled("s || s"),
        doubled("concat(s, s)"),
        doubled("concat_ws(',', s, s)"),
        arrays,
        nested,
    ] {
        let error = run(&service, &sql).await.expect_err(&sql);
        let kind = matches!(error, QueryError::Statement(_) | QueryError::TooLarge(_));
        assert!(kind, "{sql}: {error:?}");
    }
    assert_eq!(run(&service, "SELECT 'a' || 1 || 'b' AS t").await.unwrap(), "t\r\na1b\r\n");
    assert_eq!(run(&service, "SELECT 'a' || NULL AS t").await.unwrap(), "t\r\n\r\n");
}

#[tokio::test]
async fn a_query_that_takes_too_long_too_much_or_too_many_rows_is_stopped() {
    let service = service(&store(), Some(&World::new())).await;
    let quick = Limits { time: Duration::from_millis(300), ..Limits::default() };
    let endless =
        "SELECT count(*) FROM generate_series(1, 10000000000) AS a, generate_series(1, 10000000000) AS b";
    let failed = service.sql("test", endless, quick).await;
    assert!(matches!(failed, Err(QueryError::TooLong(_))), "{failed:?}");

    let few = Limits { rows: 10, ..Limits::default() };
    let ten = "SELECT * FROM generate_series(1, 10)";
    assert!(service.sql("test", ten, few).await.is_ok());
    let failed = service.sql("test", "SELECT * FROM generate_series(1, 11)", few).await;
    assert!(matches!(failed, Err(QueryError::TooManyRows(10))), "{failed:?}");

    let mut small = config();
    (small.memory_bytes, small.spill_bytes) = (4 * 1024 * 1024, 0);
    let clock = std::sync::Arc::new(|| bursar_schemas::avro::Micros(NOW));
    let service = bursar_query::QueryService::open(small, store(), None, None, clock).await.unwrap();
    let hungry = "SELECT s FROM (SELECT value || 'x' AS s FROM generate_series(1, 900000)) ORDER BY s DESC";
    let failed = run(&service, hungry).await;
    assert!(matches!(failed, Err(QueryError::TooLarge(_))), "{failed:?}");
    // The service goes on.
    assert_eq!(run(&service, "SELECT 1 AS a").await.unwrap(), "a\r\n1\r\n");
}

#[tokio::test]
async fn only_so_many_queries_run_at_once() {
    let mut one = config();
    (one.concurrent_queries, one.turn_wait) = (1, Duration::from_millis(20));
    let clock = std::sync::Arc::new(|| bursar_schemas::avro::Micros(NOW));
    let service = bursar_query::QueryService::open(one, store(), None, None, clock).await.unwrap();
    let long = "SELECT value AS a, value + 1 AS b FROM generate_series(1, 900000)";
    let held = service.sql("test", long, Limits::default()).await.unwrap();
    let failed = run(&service, "SELECT 1").await;
    assert!(matches!(failed, Err(QueryError::Busy)), "{failed:?}");
    drop(held);
    run(&service, "SELECT 1").await.unwrap();
}

#[tokio::test]
async fn nothing_of_the_machine_shows() {
    let mut world = World::new();
    world.write(1, SPEND, settled(&about(1, NOW), 1, vec![]));
    let store = store();
    seal(&store, &world.journal(), SPEND, &[1]).await;
    let service = service(&store, None).await;
    let plan = run(&service, "EXPLAIN SELECT sum(amount) FROM spend").await.unwrap();
    assert!(plan.contains("segments/"), "{plan}");
    let temporary = std::env::temp_dir().display().to_string();
    for hidden in [env!("CARGO_MANIFEST_DIR"), &temporary, "file:"] {
        assert!(!plan.contains(hidden), "{plan}");
    }
}
