//! Facts, archives and services for the tests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use bursar_query::{Answer, Format, Limits, QueryConfig, QueryError, QueryService};
use bursar_schemas::archive::{FOOTER_KEY, Footer, segment_key};
use bursar_schemas::avro::Micros;
use bursar_schemas::columns::{self, Row, Standings};
use bursar_schemas::facts::*;
use bursar_schemas::ids::{Digest, Generation, ProducerId, RequestId};
use bursar_schemas::memory::MemoryJournal;
use bursar_schemas::meters::Meter;
use bursar_schemas::money::Money;
use bursar_schemas::policy::{Document, Organisation};
use bursar_schemas::ports::{Entry, Journal as _, Outlet as _, Record};
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::producer::{Identity, Recorder};
use bursar_schemas::wire;
use bytes::Bytes;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

/// 2026-11-10T12:00:00Z.
pub const NOW: i64 = 1_794_312_000_000_000;

pub const REQUESTS: Lane = Lane::new(Topic::Requests, 0);
pub const SPEND: Lane = Lane::new(Topic::Spend, 0);
pub const POLICY: Lane = Lane::new(Topic::Policy, 0);
pub const LIMITS: Lane = Lane::new(Topic::Limits, 0);

/// Numbers facts as producers do, and keeps them for the oracle.
#[derive(Default)]
pub struct World {
    pub journal: Option<MemoryJournal>,
    pub facts: Vec<(Lane, Fact)>,
    next: BTreeMap<(u8, Lane), u64>,
    pub values: BTreeMap<Lane, Vec<Bytes>>,
}

impl World {
    pub fn new() -> Self {
        Self { journal: Some(MemoryJournal::new(1)), ..Self::default() }
    }

    pub fn journal(&self) -> MemoryJournal {
        self.journal.clone().unwrap()
    }

    /// Writes a fact as the producer of that letter.
    pub fn write(&mut self, producer: u8, lane: Lane, fact: impl Into<Fact>) {
        let next = self.next.entry((producer, lane)).or_default();
        let number = *next;
        *next += 1;
        self.write_numbered(producer, number, lane, fact);
    }

    pub fn write_numbered(&mut self, producer: u8, number: u64, lane: Lane, fact: impl Into<Fact>) {
        let mut fact = fact.into();
        fact.head_mut().producer = ProducerId([producer; 16]);
        fact.head_mut().number = number;
        let value = Bytes::from(wire::encode(&fact));
        let at = fact.head().at;
        self.facts.push((lane, fact));
        self.write_bytes(lane, value, at);
    }

    /// Leaves out that many numbers.
    pub fn skip(&mut self, producer: u8, lane: Lane, count: u64) {
        *self.next.entry((producer, lane)).or_default() += count;
    }

    pub fn write_bytes(&mut self, lane: Lane, value: Bytes, at: Micros) {
        self.values.entry(lane).or_default().push(value.clone());
        drop(self.journal().append(vec![Entry { lane, value, at }]).unwrap());
    }
}

pub fn about(request: u64, at: i64) -> About {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&request.to_be_bytes());
    About {
        request: RequestId::new(at, random),
        accounting_at: Micros(at),
        organisation: "acme".to_owned(),
        team: Some("blue".to_owned()),
        project: None,
        key: "k1".to_owned(),
        end_user: None,
        cost_center: Some("cc-1".to_owned()),
        tags: [("env".to_owned(), "prod".to_owned())].into(),
    }
}

pub fn head(at: i64) -> Head {
    Head::draft(Micros(at), 1, "2026-11-01")
}

pub fn opened(about: &About) -> RequestOpened {
    RequestOpened {
        head: head(about.accounting_at.0),
        about: about.clone(),
        endpoint: Endpoint::ChatCompletions,
        model: "small".to_owned(),
        stream: false,
        body_bytes: 10,
        body_digest: Digest([1; 32]),
        durability: Durability::Relaxed,
    }
}

pub fn closed(about: &About) -> RequestClosed {
    RequestClosed {
        head: head(about.accounting_at.0 + 1000),
        about: about.clone(),
        ending: Ending::Finished,
        status: 200,
        attempts: 1,
        answer_bytes: 10,
        first_byte_us: Some(1),
        duration_us: 1000,
        settled: Money::ZERO,
        opened_by: None,
    }
}

pub fn line(meter: Meter, quantity: u64, pico: i128) -> CostLine {
    CostLine { meter, quantity, price_per_million: Money::from_pico(1), amount: Money::from_pico(pico) }
}

pub fn settled(about: &About, attempt: u32, lines: Vec<CostLine>) -> Settled {
    let amount = lines.iter().map(|line| line.amount).sum();
    Settled {
        head: head(about.accounting_at.0 + 2000),
        about: about.clone(),
        attempt,
        provider: "openai".to_owned(),
        model: "gpt-x".to_owned(),
        accounts: vec![],
        lease: None,
        reserved: amount,
        amount,
        confidence: Confidence::Reported,
        basis: Basis::Usage,
        lines,
        usage: None,
        overrun: Money::ZERO,
        reserved_by: None,
    }
}

pub fn voided(about: &About, attempt: u32) -> Voided {
    Voided {
        head: head(about.accounting_at.0 + 2000),
        about: about.clone(),
        attempt,
        accounts: vec![],
        lease: None,
        reserved: Money::ZERO,
        reason: VoidReason::NotSent,
        reserved_by: None,
    }
}

pub fn reserved(about: &About, attempt: u32) -> Reserved {
    Reserved {
        head: head(about.accounting_at.0 + 1),
        about: about.clone(),
        attempt,
        provider: "openai".to_owned(),
        model: "gpt-x".to_owned(),
        accounts: vec![],
        lease: None,
        amount: Money::from_pico(10),
    }
}

pub fn policy(version: u64, organisations: &[(&str, &str)]) -> PolicyPublished {
    let organisation =
        |(id, zone): &(&str, &str)| Organisation { time_zone: (*zone).to_owned(), ..Organisation::new(id) };
    let document =
        Document { organisations: organisations.iter().map(organisation).collect(), ..Document::default() };
    PolicyPublished {
        head: Head { role: Role::Policy, ..head(NOW) },
        version,
        author: "ops".to_owned(),
        approver: None,
        source_revision: None,
        document: document.to_json(),
    }
}

/// Seals what a journal holds of a lane up to an offset, in segments that end at `ends` (exclusive).
pub async fn seal(store: &Arc<dyn ObjectStore>, journal: &MemoryJournal, lane: Lane, ends: &[u64]) {
    let generation = journal.generation(lane.topic).await.unwrap();
    let mut standings = Standings::new();
    let mut start = 0;
    for end in ends {
        let range = usize::try_from(start).unwrap()..usize::try_from(*end).unwrap();
        let records = journal.records(lane)[range].to_vec();
        let (key, bytes) = segment(generation, lane, start, records, &mut standings);
        let created = object_store::PutOptions::from(object_store::PutMode::Create);
        match store.put_opts(&Path::from(key), bytes.into(), created).await {
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        start = *end;
    }
}

/// A segment's name and bytes.
pub fn segment(
    generation: Generation,
    lane: Lane,
    start: u64,
    records: Vec<Record>,
    standings: &mut Standings,
) -> (String, Vec<u8>) {
    let end = records.last().unwrap().offset;
    let lost = records[0].offset.checked_sub(1).filter(|last| *last >= start).map(|last| (start, last));
    let rows: Vec<Row> = records.into_iter().map(|record| Row::read(record, standings)).collect();
    let batch = columns::batch(lane.topic, generation, lane.partition, &rows).unwrap();
    let times: Vec<i64> =
        rows.iter().filter_map(|row| row.fact.as_ref().ok()).map(|fact| fact.at.0).collect();
    let footer = Footer {
        version: 1,
        generation,
        topic: lane.topic,
        partition: lane.partition,
        start,
        end,
        rows: u64::try_from(rows.len()).unwrap(),
        skipped: vec![],
        lost: lost.into_iter().collect(),
        // Proofs are not this crate's to check.
        rows_root: Digest([0; 32]),
        producers: standings.export(),
        times_us: times.iter().min().copied().zip(times.iter().max().copied()),
    };
    (segment_key(generation, lane, start), parquet_of(&batch, &footer))
}

pub fn parquet_of(batch: &RecordBatch, footer: &Footer) -> Vec<u8> {
    let footer = serde_json::to_string(footer).unwrap();
    let properties = WriterProperties::builder()
        .set_key_value_metadata(Some(vec![KeyValue::new(FOOTER_KEY.to_owned(), footer)]))
        .set_max_row_group_row_count(Some(3))
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    bytes
}

pub fn store() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

pub fn config() -> QueryConfig {
    QueryConfig { refresh: Duration::from_millis(20), listing: Duration::ZERO, ..QueryConfig::default() }
}

pub fn recorder(journal: &MemoryJournal) -> Arc<Recorder> {
    let identity = Identity::new(ProducerId([0xee; 16]), Role::Query, [7; 32], &[8; 32]);
    Arc::new(Recorder::new(identity, Arc::new(journal.clone())))
}

/// A service over a store and the world's journal, recording nothing.
pub async fn service(store: &Arc<dyn ObjectStore>, world: Option<&World>) -> QueryService {
    let journal = world.map(|world| Arc::new(world.journal()) as _);
    QueryService::open(config(), Arc::clone(store), journal, None, Arc::new(|| Micros(NOW))).await.unwrap()
}

pub async fn run(service: &QueryService, sql: &str) -> Result<String, QueryError> {
    run_as(service, sql, Format::Csv).await
}

pub async fn run_as(service: &QueryService, sql: &str, format: Format) -> Result<String, QueryError> {
    let answer: Answer = service.sql("test", sql, Limits::default()).await?;
    let mut out = Vec::new();
    answer.write(format, &mut out).await?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}
