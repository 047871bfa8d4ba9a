//! Statements with their answers, in files: `query` and a statement, `----`, and its rows; or `error` and a part
//! of the message.

use bursar_schemas::facts::*;
use bursar_schemas::meters::Meter;
use bursar_schemas::money::Money;
use bytes::Bytes;

use crate::support::*;

/// The world that the files ask about.
fn world() -> World {
    let mut world = World::new();
    world.write(9, POLICY, policy(1, &[("acme", "Europe/Berlin")]));
    let (first, second) = (about(1, NOW), about(2, NOW + 1));
    // The last hour of October in UTC is November in Berlin.
    let third = about(3, 1_793_487_600_000_000);
    for about in [&first, &second, &third] {
        world.write(1, REQUESTS, opened(about));
        world.write(1, REQUESTS, closed(about));
    }
    world.write(1, SPEND, reserved(&first, 1));
    world.write(
        1,
        SPEND,
        settled(&first, 1, vec![line(Meter::Input, 10, 1_000_000), line(Meter::Output, 20, 2_000_000)]),
    );
    world.write(1, SPEND, voided(&second, 1));
    let mut estimated = settled(&second, 2, vec![]);
    (estimated.basis, estimated.confidence) = (Basis::Reservation, Confidence::Estimated);
    estimated.amount = Money::from_pico(500_000_000_000);
    world.write(1, SPEND, estimated);
    world.write(1, SPEND, settled(&third, 1, vec![line(Meter::Reasoning, 1, 7)]));
    let mut late = settled(&third, 1, vec![line(Meter::Input, 1, 99)]);
    late.reserved_by = Some(bursar_schemas::ids::ProducerId([1; 16]));
    world.write(2, SPEND, late);
    world.write_bytes(SPEND, Bytes::from_static(b"nonsense"), bursar_schemas::avro::Micros(NOW));
    world.skip(2, SPEND, 2);
    let fact = ShimEnded { head: head(NOW), incarnation: bursar_schemas::ids::ProducerId([1; 16]) };
    world.write(2, SPEND, fact);
    world.write(1, REQUESTS, refused(&first));
    world.write(3, LIMITS, limit_set());
    world.write(9, POLICY, raised());
    alerts(&mut world);
    world
}

fn refused(about: &About) -> RequestRefused {
    RequestRefused {
        head: head(NOW + 5),
        request: about.request,
        about: Some(about.clone()),
        model: Some("small".to_owned()),
        status: 402,
        code: RefusalCode::BudgetExceeded,
        budget: Some("blue-monthly".to_owned()),
        limit: Some(Money::from_pico(10)),
        settled: Some(Money::from_pico(9)),
        reserved: Some(Money::ZERO),
        needed: Some(Money::from_pico(2)),
        resets_at: None,
        retryable: false,
        limits_age_ms: None,
        detail: "a\tb".to_owned(),
    }
}

fn limit_set() -> LimitSet {
    LimitSet {
        head: head(NOW + 3),
        epoch: 0,
        budget: "blue-monthly".to_owned(),
        amount: "100".parse().unwrap(),
        mode: Mode::Hard,
        recovery: Recovery::Forfeit,
        policy_version: 1,
        step: 0,
    }
}

/// Two alerts of one window, the first of them written by two ledgers and of the next window as well; one webhook took it,
/// said twice, and one was given up.
fn alerts(world: &mut World) {
    let ledger = |at: i64| Head { role: Role::Ledger, ..head(at) };
    let alert = |at: i64, window: i64, percent: u32| AlertRaised {
        head: ledger(at),
        epoch: 0,
        account: AccountRef { budget: "blue-monthly".to_owned(), window },
        alert: AlertKind::Threshold,
        percent,
        limit_amount: "100".parse().unwrap(),
        settled: "81".parse().unwrap(),
        reserved: Money::ZERO,
        overrun: Money::ZERO,
        forecast: None,
        starts_at: bursar_schemas::avro::Micros(window * 1_000_000),
        ends_at: None,
        webhooks: vec!["on-call".to_owned(), "gone".to_owned()],
        read: 7,
    };
    let told = |webhook: &str, delivered: bool| AlertDelivered {
        head: ledger(NOW + 9),
        epoch: 0,
        alert_producer: bursar_schemas::ids::ProducerId([4; 16]),
        alert_number: 0,
        webhook: webhook.to_owned(),
        delivered,
        attempts: 1,
        status: None,
    };
    world.write(4, LIMITS, alert(NOW + 5, 0, 50));
    world.write(5, LIMITS, alert(NOW + 6, 0, 50));
    world.write(5, LIMITS, alert(NOW + 7, 0, 80));
    world.write(5, LIMITS, alert(NOW + 8, 3600, 50));
    world.write(4, LIMITS, told("on-call", true));
    world.write(5, LIMITS, told("on-call", true));
    world.write(5, LIMITS, told("gone", false));
    // Not a ledger's word.
    let mut forged = alert(NOW + 4, 0, 100);
    forged.head.role = Role::Shim;
    world.write(6, LIMITS, forged);
}

fn raised() -> BudgetRaised {
    BudgetRaised {
        head: head(NOW + 4),
        budget: "blue-monthly".to_owned(),
        change: "50".parse().unwrap(),
        expires_at: None,
        author: "ops".to_owned(),
        reason: "a launch".to_owned(),
    }
}

#[tokio::test]
async fn files_of_statements_give_the_answers_they_state() {
    let world = world();
    let sealed = store();
    seal(&sealed, &world.journal(), SPEND, &[3, 5]).await;
    seal(&sealed, &world.journal(), REQUESTS, &[2]).await;
    let service = service(&sealed, Some(&world)).await;
    let mut cases = 0;
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/slt")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for block in text.split("\n\n").map(str::trim).filter(|block| !block.is_empty()) {
            let lines = || block.lines().filter(|line| !line.starts_with('#'));
            let Some(first) = lines().next() else { continue };
            let sql: Vec<&str> = lines().skip(1).take_while(|line| *line != "----").collect();
            let sql = sql.join("\n");
            let place = format!("{}: {sql}", path.display());
            let answer = run(&service, &sql).await;
            if let Some(part) = first.strip_prefix("error ") {
                let error = answer.expect_err(&place).to_string();
                assert!(error.contains(part), "{place}: {error}");
            } else {
                assert_eq!(first, "query", "{place}");
                let expected: Vec<&str> = lines().skip_while(|line| *line != "----").skip(1).collect();
                let answer = answer.unwrap_or_else(|error| panic!("{place}: {error}"));
                assert_eq!(answer.lines().skip(1).collect::<Vec<_>>(), expected, "{place}");
            }
            cases += 1;
        }
    }
    assert!(cases >= 15, "only {cases} cases were found");
}

#[tokio::test]
async fn every_column_of_every_table_and_view_is_documented() {
    let service = service(&store(), Some(&World::new())).await;
    let page = bursar_query::reference();
    for table in bursar_query::tables() {
        assert!(!table.doc.is_empty(), "{}", table.name);
        let shown = run(&service, &format!("DESCRIBE {}", table.name)).await.unwrap();
        let columns: Vec<&str> = shown.lines().skip(1).map(|line| line.split(',').next().unwrap()).collect();
        let documented: Vec<&str> = table.columns.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(columns, documented, "{}", table.name);
        assert!(table.columns.iter().all(|(_, doc)| !doc.is_empty()), "{}", table.name);
        assert!(page.contains(&format!("## {} (", table.name)));
    }
}
