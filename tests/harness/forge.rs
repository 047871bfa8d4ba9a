//! Records that no role wrote, and what becomes of topics and archives behind the product's back.

#![allow(dead_code, reason = "each test file uses its part")]

use std::time::Duration;

use bursar_ingest::kafka::{KafkaJournal, KafkaOutlet, KafkaSettings};
use bursar_schemas::avro::Micros;
use bursar_schemas::facts::{Fact, Role};
use bursar_schemas::ids::{Generation, ProducerId};
use bursar_schemas::ports::{Entry, Journal as _, Outlet as _, OutletError};
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::producer::{Chains, Identity};
use bytes::Bytes;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// Somebody with a way into Kafka, and none of the deployment's keys.
pub struct Forger {
    settings: KafkaSettings,
    outlet: KafkaOutlet,
    journal: KafkaJournal,
}

impl Forger {
    pub fn new(settings: KafkaSettings) -> Self {
        let outlet = KafkaOutlet::new(&settings).unwrap();
        let journal = KafkaJournal::new(&settings).unwrap();
        Self { settings, outlet, journal }
    }

    /// Writes bytes as they are; the error is the broker's refusal.
    pub async fn write(&self, lane: Lane, values: &[Vec<u8>]) -> Result<(), OutletError> {
        let entries =
            values.iter().map(|value| Entry { lane, value: Bytes::from(value.clone()), at: Micros(0) });
        self.append(entries.collect()).await
    }

    /// Writes facts in good form, in a role, under a key that the deployment never certified.
    pub async fn state(&self, lane: Lane, role: Role, facts: Vec<Fact>) -> Result<ProducerId, OutletError> {
        let producer = ProducerId([role as u8 + 1; 16]);
        let mut chains = Chains::new(Identity::new(producer, role, [7; 32], &[8; 32]));
        let mut entries = Vec::new();
        for fact in facts {
            chains.stamp(lane, fact, &mut entries);
        }
        self.append(entries).await.map(|()| producer)
    }

    async fn append(&self, entries: Vec<Entry>) -> Result<(), OutletError> {
        let receipt = self.outlet.append(entries)?;
        tokio::time::timeout(Duration::from_secs(60), receipt).await.expect("the broker's answer")
    }

    /// One above the last offset.
    pub async fn end(&self, lane: Lane) -> u64 {
        self.journal.bounds(lane).await.unwrap().end
    }

    /// The bytes of every record of a lane.
    pub async fn values(&self, lane: Lane) -> Vec<Bytes> {
        let end = self.end(lane).await;
        let mut cursor = self.journal.read(lane, 0).await.unwrap();
        let (mut values, mut next) = (Vec::new(), 0);
        while next < end {
            let batch = cursor.next().await.unwrap();
            next = batch.next;
            values.extend(batch.records.into_iter().map(|record| record.value));
        }
        values
    }

    pub async fn generation(&self, topic: Topic) -> Generation {
        self.journal.generation(topic).await.unwrap()
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        rdkafka::ClientConfig::new().set("bootstrap.servers", &self.settings.bootstrap).create().unwrap()
    }

    /// Deletes a topic.
    pub async fn delete(&self, topic: Topic) {
        let name = self.settings.topic(topic);
        let outcome = self.admin().delete_topics(&[&name], &AdminOptions::new()).await.unwrap();
        outcome.into_iter().for_each(|it| drop(it.unwrap()));
    }

    /// Deletes all records below an offset, as retention does.
    pub async fn forget(&self, lane: Lane, below: u64) {
        let mut places = TopicPartitionList::new();
        let partition = i32::try_from(lane.partition).unwrap();
        let offset = Offset::Offset(i64::try_from(below).unwrap());
        places.add_partition_offset(&self.settings.topic(lane.topic), partition, offset).unwrap();
        let outcome = self.admin().delete_records(&places, &AdminOptions::new()).await.unwrap();
        outcome.elements().iter().for_each(|it| it.error().unwrap());
    }
}
