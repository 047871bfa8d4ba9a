//! What Kafka promises beyond the suite, against a real broker.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use bursar_ingest::kafka::{
    KafkaJournal, KafkaOutlet, KafkaSettings, KafkaSetupError, Security, TopicPlan, TopicReport,
    ensure_topics,
};
use bursar_ingest::spool::{Spool, SpoolConfig};
use bursar_schemas::ports::{Journal as _, JournalError, Outlet as _, OutletError};
use bursar_schemas::position::{Lane, Topic};
use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::facts::producer;
use crate::support::{SPEND, collect, entry, eventually, read_all, texts, within};
use crate::{PARTITIONS, Subject};

/// The value of that name; none leaves the test out, unless components are required.
fn given(name: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    let required = std::env::var("BURSAR_TEST_COMPONENTS").is_ok_and(|value| value == "required");
    assert!(value.is_some() || !required, "components are required, but {name} is not set");
    if value.is_none() {
        eprintln!("left out: {name} is not set");
    }
    value
}

/// A prefix that nobody else uses on the broker.
fn prefix() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
    format!("t{now}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn plan() -> TopicPlan {
    TopicPlan { replication: 1, min_insync: 1, ..TopicPlan::new(PARTITIONS) }
}

async fn made() -> Option<KafkaSettings> {
    let settings = KafkaSettings::new(&given("BURSAR_TEST_KAFKA")?, &prefix());
    ensure_topics(&settings, &plan()).await.unwrap();
    Some(settings)
}

pub async fn subject() -> Option<Subject> {
    let settings = made().await?;
    Some(Subject {
        journal: Arc::new(KafkaJournal::new(&settings).unwrap()),
        outlet: Arc::new(KafkaOutlet::new(&settings).unwrap()),
        keep: Box::new(()),
    })
}

fn admin(settings: &KafkaSettings) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", &settings.bootstrap).create().unwrap()
}

async fn delete(settings: &KafkaSettings, topic: Topic) {
    let outcome = admin(settings).delete_topics(&[&settings.topic(topic)], &AdminOptions::new()).await;
    outcome.unwrap().pop().unwrap().unwrap();
}

#[tokio::test]
async fn topics_are_made_as_planned_and_found_again() {
    let Some(bootstrap) = given("BURSAR_TEST_KAFKA") else { return };
    let settings = KafkaSettings::new(&bootstrap, &prefix());
    let report = ensure_topics(&settings, &plan()).await.unwrap();
    assert_eq!(report.created, Topic::ALL);
    assert_eq!(report.differences, Vec::new());
    // One broker cannot hold three copies.
    assert_eq!(report.unfit_for_hard_budgets.len(), 4);
    let again = ensure_topics(&settings, &plan()).await.unwrap();
    assert_eq!(again, TopicReport { created: Vec::new(), ..report });
}

#[tokio::test]
async fn differences_are_told_and_another_partition_count_stops() {
    let Some(settings) = made().await else { return };
    let stricter = TopicPlan { min_insync: 2, replication: 3, ..plan() };
    let report = ensure_topics(&settings, &stricter).await.unwrap();
    let told: BTreeSet<(Topic, &str, &str, &str)> = report
        .differences
        .iter()
        .map(|one| (one.topic, &one.setting[..], &one.found[..], &one.wanted[..]))
        .collect();
    let expected = Topic::ALL
        .into_iter()
        .flat_map(|topic| [(topic, "min.insync.replicas", "1", "2"), (topic, "replication", "1", "3")])
        .collect();
    assert_eq!(told, expected);
    let more = TopicPlan { partitions: PARTITIONS + 1, ..plan() };
    let error = ensure_topics(&settings, &more).await.unwrap_err();
    assert!(matches!(error, KafkaSetupError::Partitions { found: 3, wanted: 4, .. }), "{error}");
}

#[tokio::test]
async fn a_topic_made_by_others_has_no_generation() {
    let Some(bootstrap) = given("BURSAR_TEST_KAFKA") else { return };
    let settings = KafkaSettings::new(&bootstrap, &prefix());
    let name = settings.topic(Topic::Limits);
    let topic = NewTopic::new(&name, 3, TopicReplication::Fixed(1));
    admin(&settings).create_topics([&topic], &AdminOptions::new()).await.unwrap().pop().unwrap().unwrap();
    let error = ensure_topics(&settings, &plan()).await.unwrap_err();
    assert!(matches!(&error, KafkaSetupError::NoGeneration(topic) if *topic == name), "{error}");
}

#[tokio::test]
async fn a_topic_made_anew_is_an_error_for_whoever_knew_it() {
    let Some(settings) = made().await else { return };
    let journal = KafkaJournal::new(&settings).unwrap();
    let outlet = KafkaOutlet::new(&settings).unwrap();
    let before = journal.generation(Topic::Spend).await.unwrap();
    within(outlet.append((0..10).map(|n| entry(SPEND, n)).collect()).unwrap()).await.unwrap();
    let mut cursor = journal.read(SPEND, 0).await.unwrap();
    collect(&mut cursor, 10).await;
    delete(&settings, Topic::Spend).await;
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while ensure_topics(&settings, &plan()).await.is_err() {
        assert!(std::time::Instant::now() < deadline);
    }
    // More records than the reader has seen: an offset alone would not show it.
    let fresh = KafkaOutlet::new(&settings).unwrap();
    within(fresh.append((100..150).map(|n| entry(SPEND, n)).collect()).unwrap()).await.unwrap();
    let told = loop {
        match within(cursor.next()).await {
            Err(JournalError::Unavailable(_)) => {}
            Err(error) => break error,
            Ok(batch) => panic!("read on in the new topic: {:?}", texts(&batch.records)),
        }
    };
    assert!(
        matches!(told, JournalError::NoLane(_) | JournalError::Failed(_) | JournalError::OutOfRange { .. }),
        "{told}"
    );
    assert!(matches!(journal.generation(Topic::Spend).await, Err(JournalError::Failed(_))));
    assert!(matches!(journal.read(SPEND, 0).await.err(), Some(JournalError::Failed(_))));
    assert_ne!(KafkaJournal::new(&settings).unwrap().generation(Topic::Spend).await.unwrap(), before);
}

#[tokio::test]
async fn what_retention_took_is_an_error_and_never_skipped() {
    let Some(settings) = made().await else { return };
    let journal = KafkaJournal::new(&settings).unwrap();
    let outlet = KafkaOutlet::new(&settings).unwrap();
    within(outlet.append((0..100).map(|n| entry(SPEND, n)).collect()).unwrap()).await.unwrap();
    let mut early = journal.read(SPEND, 0).await.unwrap();
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(&settings.topic(Topic::Spend), 1, Offset::Offset(40)).unwrap();
    admin(&settings).delete_records(&offsets, &AdminOptions::new()).await.unwrap();
    let gone = JournalError::OutOfRange { lane: SPEND, start: 40, end: 100, wanted: 0 };
    assert_eq!(journal.read(SPEND, 0).await.err(), Some(gone.clone()));
    assert_eq!(journal.bounds(SPEND).await.unwrap().start, 40);
    assert_eq!(read_all(&journal, SPEND).await.len(), 60);
    // A cursor that had begun may have fetched all before, or is told; it never begins at 40.
    match within(early.next()).await {
        Ok(batch) => assert_eq!(batch.records[0].offset, 0),
        Err(error) => assert_eq!(error, gone),
    }
}

#[tokio::test]
async fn a_record_that_the_broker_refuses_fails_and_the_outlet_goes_on() {
    let Some(bootstrap) = given("BURSAR_TEST_KAFKA") else { return };
    let settings = KafkaSettings::new(&bootstrap, &prefix());
    let narrow = TopicPlan { max_message_bytes: 20_000, ..plan() };
    ensure_topics(&settings, &narrow).await.unwrap();
    let journal = KafkaJournal::new(&settings).unwrap();
    let outlet = KafkaOutlet::new(&settings).unwrap();
    within(outlet.append(vec![entry(SPEND, 0)]).unwrap()).await.unwrap();
    let noise: Bytes =
        (0..200_000_u64).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()[1]).collect();
    let mut big = entry(SPEND, 1);
    big.value = noise;
    let refused = within(outlet.append(vec![big]).unwrap()).await;
    assert!(matches!(refused, Err(OutletError::Failed(_))), "{refused:?}");
    within(outlet.append(vec![entry(SPEND, 2)]).unwrap()).await.unwrap();
    assert_eq!(texts(&read_all(&journal, SPEND).await), ["spend/1 0", "spend/1 2"]);
    let mut longer = entry(SPEND, 3);
    longer.value = vec![0; settings.max_message_bytes].into();
    assert!(outlet.append(vec![longer]).is_err(), "longer than any broker takes");
}

#[tokio::test]
async fn an_unreachable_broker_is_told_and_facts_on_their_way_are_bounded() {
    let mut settings = KafkaSettings::new("127.0.0.1:1", "nowhere");
    settings.in_flight_bytes = 10_000;
    settings.request_timeout = Duration::from_millis(500);
    let journal = KafkaJournal::new(&settings).unwrap();
    assert!(matches!(journal.bounds(SPEND).await, Err(JournalError::Unavailable(_))));
    assert!(matches!(journal.generation(Topic::Spend).await, Err(JournalError::Unavailable(_))));
    let outlet = KafkaOutlet::new(&settings).unwrap();
    let mut taken = 0;
    let full = loop {
        match outlet.append(vec![entry(SPEND, taken)]) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, OutletError::Full(_)), "{full}");
    assert!((10..100).contains(&taken), "{taken} were taken");
}

fn secure(user: &str, password: &str) -> Option<Security> {
    Some(Security::SaslTls {
        ca_file: Some(PathBuf::from(given("BURSAR_TEST_KAFKA_CA")?)),
        mechanism: "SCRAM-SHA-256".to_owned(),
        username: user.to_owned(),
        password: password.to_owned(),
    })
}

#[tokio::test]
async fn all_works_over_sasl_and_tls_and_a_wrong_password_is_told() {
    let Some(bootstrap) = given("BURSAR_TEST_KAFKA_SASL") else { return };
    let Some(file) = given("BURSAR_TEST_KAFKA_PASSWORD_FILE") else { return };
    let password = std::fs::read_to_string(file).unwrap();
    let Some(security) = secure("admin", password.trim()) else { return };
    let mut settings = KafkaSettings::new(&bootstrap, &prefix());
    settings.security = security;
    ensure_topics(&settings, &plan()).await.unwrap();
    let journal = KafkaJournal::new(&settings).unwrap();
    let outlet = KafkaOutlet::new(&settings).unwrap();
    within(outlet.append((0..50).map(|n| entry(SPEND, n)).collect()).unwrap()).await.unwrap();
    assert_eq!(read_all(&journal, SPEND).await.len(), 50);

    let mut wrong = settings.clone();
    wrong.security = secure("admin", "not-the-password").unwrap();
    wrong.request_timeout = Duration::from_secs(3);
    let told = KafkaJournal::new(&wrong).unwrap().bounds(SPEND).await.unwrap_err();
    assert!(matches!(told, JournalError::Unavailable(_)), "{told}");
    assert!(!told.to_string().contains("not-the-password"));
    // The system's authorities did not sign this broker's certificate.
    let mut stranger = settings.clone();
    stranger.request_timeout = Duration::from_secs(3);
    let Security::SaslTls { ca_file, .. } = &mut stranger.security else { panic!() };
    *ca_file = None;
    assert!(KafkaJournal::new(&stranger).unwrap().bounds(SPEND).await.is_err());
}

/// What the script that starts brokers says, by name.
fn broker(action: &str, dir: &std::path::Path, more: &[&str]) -> BTreeMap<String, String> {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/components/kafka");
    let output = Command::new(script).arg(action).arg(dir).args(more).output().unwrap();
    assert!(output.status.success(), "{action}: {}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let pairs = lines.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

struct Broker(tempfile::TempDir);

impl Drop for Broker {
    fn drop(&mut self) {
        broker("stop", self.0.path(), &[]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spool_outlives_the_death_of_the_broker_and_nothing_is_lost_or_out_of_order() {
    if given("BURSAR_TEST_KAFKA").is_none() {
        return;
    }
    let own = Broker(tempfile::tempdir().unwrap());
    let settings = KafkaSettings::new(&broker("start", own.0.path(), &[])["BOOTSTRAP"], "spooled");
    ensure_topics(&settings, &plan()).await.unwrap();
    let journal = KafkaJournal::new(&settings).unwrap();
    let mut cursor = journal.read(SPEND, 0).await.unwrap();
    let outlet = Arc::new(KafkaOutlet::new(&settings).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(dir.path(), SpoolConfig::default(), producer(1), outlet).unwrap();
    for number in 0..3_000 {
        if number == 1_000 {
            broker("kill9", own.0.path(), &[]);
        }
        let receipt = spool.append(vec![entry(SPEND, number)]).unwrap();
        if number % 100 == 99 {
            within(receipt).await.unwrap();
        }
    }
    assert!(spool.figures().unacknowledged >= 2_000 && spool.figures().flushed_receipts > 0);
    broker("restart", own.0.path(), &[]);
    eventually("the broker has all", || spool.figures().unacknowledged == 0);
    let mut records = Vec::new();
    while records.len() < 3_000 {
        match within(cursor.next()).await {
            Ok(batch) => records.extend(batch.records),
            Err(JournalError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let expected: Vec<String> = (0..3_000).map(|number| format!("spend/1 {number}")).collect();
    assert_eq!(texts(&records), expected, "one idempotent producer repeats nothing");
    assert!((0..).zip(&records).all(|(offset, record)| record.offset == offset));
    let bounds = journal.bounds(SPEND).await.unwrap();
    assert_eq!(bounds.end, 3_000);
    assert_eq!(journal.bounds(Lane::new(Topic::Spend, 0)).await.unwrap().end, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_on_topics_suffice_and_a_missing_one_fails_its_topic_alone() {
    if given("BURSAR_TEST_KAFKA").is_none() {
        return;
    }
    let own = Broker(tempfile::tempdir().unwrap());
    let lines = broker("start", own.0.path(), &["--sasl-tls"]);
    let open = KafkaSettings::new(&lines["BOOTSTRAP"], "guarded");
    ensure_topics(&open, &plan()).await.unwrap();
    let allow = |user: &str, rest: &[&str]| {
        let user = format!("User:{user}");
        broker("acls", own.0.path(), &[&["--add", "--allow-principal", &user], rest].concat());
    };
    let reading = ["--operation", "Read", "--operation", "DescribeConfigs"];
    allow(
        "archiver",
        &[&reading[..], &["--topic", "guarded.", "--resource-pattern-type", "prefixed"]].concat(),
    );
    allow("shim", &["--operation", "Write", "--topic", "guarded.spend"]);
    let as_user = |user: &str| {
        let password = PathBuf::from(&lines["SASL_PASSWORD_DIR"]).join(format!("{user}.password"));
        let mut settings = KafkaSettings::new(&lines["SASL_BOOTSTRAP"], "guarded");
        settings.security = Security::SaslTls {
            ca_file: Some(PathBuf::from(&lines["SASL_CA"])),
            mechanism: lines["SASL_MECHANISM"].clone(),
            username: user.to_owned(),
            password: std::fs::read_to_string(password).unwrap(),
        };
        settings
    };
    let outlet = KafkaOutlet::new(&as_user("shim")).unwrap();
    within(outlet.append(vec![entry(SPEND, 0)]).unwrap()).await.unwrap();
    let limits = Lane::new(Topic::Limits, 1);
    let refused = within(outlet.append(vec![entry(limits, 0)]).unwrap()).await;
    assert!(matches!(refused, Err(OutletError::Failed(_))), "{refused:?}");
    within(outlet.append(vec![entry(SPEND, 1)]).unwrap()).await.unwrap();

    // No right on any consumer group is given: none is joined.
    let journal = KafkaJournal::new(&as_user("archiver")).unwrap();
    assert_eq!(texts(&read_all(&journal, SPEND).await), ["spend/1 0", "spend/1 1"]);
    assert_eq!(journal.bounds(limits).await.unwrap().end, 0);
}
