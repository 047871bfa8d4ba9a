//! The journal over Kafka: one consumer per cursor, assigned by hand at an offset.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bursar_schemas::avro::Micros;
use bursar_schemas::ids::Generation;
use bursar_schemas::ports::{Batch, Bounds, Cursor, Journal, JournalError, Record};
use bursar_schemas::position::{Lane, Topic};
use bytes::Bytes;
use parking_lot::Mutex;
use rdkafka::admin::AdminClient;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::{Offset, Timestamp};

use super::context::{Quiet, Reading};
use super::settings::Ahead;
use super::{KafkaSettings, KafkaSetupError, describe, generation, topics};

/// Most records in a batch.
const BATCH: usize = 4096;
/// How often a waiting cursor looks although nothing woke it: events that carry no record can hide a waking.
const LOOK: Duration = Duration::from_millis(250);

/// The journal over Kafka.
pub struct KafkaJournal {
    settings: Arc<KafkaSettings>,
    admin: AdminClient<Quiet>,
    asking: Arc<BaseConsumer<Quiet>>,
    /// Generations as first seen; another one later means a topic made anew.
    generations: Mutex<BTreeMap<Topic, Generation>>,
}

impl std::fmt::Debug for KafkaJournal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaJournal").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl KafkaJournal {
    /// A journal; connects in the background, so that it can be made while Kafka is away.
    ///
    /// # Errors
    /// When the client refuses its settings.
    pub fn new(settings: &KafkaSettings) -> Result<Self, KafkaSetupError> {
        let asking = BaseConsumer::from_config_and_context(&settings.common(), Quiet)
            .map_err(|error| KafkaSetupError::Client(describe(&error)))?;
        Ok(Self {
            settings: Arc::new(settings.clone()),
            admin: topics::admin(settings)?,
            asking: Arc::new(asking),
            generations: Mutex::default(),
        })
    }
}

#[async_trait]
impl Journal for KafkaJournal {
    async fn generation(&self, topic: Topic) -> Result<Generation, JournalError> {
        let name = self.settings.topic(topic);
        let found = topics::look(&self.admin, &self.settings, &name)
            .await
            .map_err(|error| JournalError::Unavailable(error.to_string()))?;
        let found = generation::of(&found.settings)
            .ok_or_else(|| JournalError::Failed(KafkaSetupError::NoGeneration(name).to_string()))?;
        let first = *self.generations.lock().entry(topic).or_insert(found);
        if first != found {
            return Err(JournalError::Failed(format!("{topic} was made anew: {first} became {found}")));
        }
        Ok(found)
    }

    async fn partitions(&self, topic: Topic) -> Result<u32, JournalError> {
        let name = self.settings.topic(topic);
        topics::look(&self.admin, &self.settings, &name)
            .await
            .map(|found| found.partitions)
            .map_err(|error| JournalError::Unavailable(error.to_string()))
    }

    async fn bounds(&self, lane: Lane) -> Result<Bounds, JournalError> {
        match bounds(&self.asking, &self.settings, lane).await {
            // A broker that was frozen, or just came back, says so before it knows its partitions again.
            Err(JournalError::NoLane(lane)) if lane.partition < self.partitions(lane.topic).await? => {
                Err(JournalError::Unavailable(format!("Kafka does not know yet where {lane} is")))
            }
            found => found,
        }
    }

    async fn read(&self, lane: Lane, from: u64) -> Result<Box<dyn Cursor>, JournalError> {
        self.generation(lane.topic).await?;
        let Bounds { start, end } = self.bounds(lane).await?;
        if from < start || from > end {
            return Err(JournalError::OutOfRange { lane, start, end, wanted: from });
        }
        let (settings, asking) = (Arc::clone(&self.settings), Arc::clone(&self.asking));
        let cursor = KafkaCursor::new(settings, asking, lane, from, Ahead::of(end - from))?;
        Ok(Box::new(cursor))
    }
}

/// Asks a broker; blocks a thread of its own, since the client library has no other way.
async fn bounds(
    asking: &Arc<BaseConsumer<Quiet>>,
    settings: &Arc<KafkaSettings>,
    lane: Lane,
) -> Result<Bounds, JournalError> {
    let (asking, settings) = (Arc::clone(asking), Arc::clone(settings));
    let ask = move || {
        let (topic, Some(partition)) = settings.place(lane) else { return Err(JournalError::NoLane(lane)) };
        match asking.fetch_watermarks(&topic, partition, settings.request_timeout) {
            Ok((start, end)) => {
                Ok(Bounds { start: u64::try_from(start).unwrap_or(0), end: u64::try_from(end).unwrap_or(0) })
            }
            Err(error) => match error.rdkafka_error_code() {
                Some(
                    RDKafkaErrorCode::UnknownTopicOrPartition
                    | RDKafkaErrorCode::UnknownTopic
                    | RDKafkaErrorCode::UnknownPartition,
                ) => Err(JournalError::NoLane(lane)),
                _ => Err(JournalError::Unavailable(describe(&error))),
            },
        }
    };
    tokio::task::spawn_blocking(ask)
        .await
        .map_err(|error| JournalError::Failed(format!("the question was given up: {error}")))?
}

/// A place in a lane.
struct KafkaCursor {
    settings: Arc<KafkaSettings>,
    asking: Arc<BaseConsumer<Quiet>>,
    /// None only while it is dropped.
    consumer: Option<BaseConsumer<Reading>>,
    context: Reading,
    lane: Lane,
    next: u64,
    /// Records and bytes of the last batch, as the next is likely alike.
    usual: (usize, usize),
    /// What ended the cursor, told again at every call.
    ended: Option<JournalError>,
}

impl KafkaCursor {
    fn new(
        settings: Arc<KafkaSettings>,
        asking: Arc<BaseConsumer<Quiet>>,
        lane: Lane,
        next: u64,
        ahead: Ahead,
    ) -> Result<Self, JournalError> {
        let failed = |error: KafkaError| JournalError::Failed(describe(&error));
        let context = Reading::default();
        let mut consumer = BaseConsumer::from_config_and_context(&settings.consumer(ahead), context.clone())
            .map_err(failed)?;
        let more = Arc::clone(&context.more);
        consumer.set_nonempty_callback(move || more.notify_one());
        let (topic, Some(partition)) = settings.place(lane) else { return Err(JournalError::NoLane(lane)) };
        let offset = i64::try_from(next)
            .map_err(|_| JournalError::Failed(format!("{next} is beyond what Kafka can count")))?;
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(&topic, partition, Offset::Offset(offset)).map_err(failed)?;
        consumer.assign(&assignment).map_err(failed)?;
        Ok(Self {
            settings,
            asking,
            consumer: Some(consumer),
            context,
            lane,
            next,
            usual: (0, 0),
            ended: None,
        })
    }

    /// Takes what was fetched, without waiting.
    fn take(&mut self) -> Vec<Record> {
        let Some(consumer) = &self.consumer else { return Vec::new() };
        let mut found: Vec<(u64, Micros, usize)> = Vec::with_capacity(self.usual.0);
        // One run of memory for all, which is quicker than one for each.
        let mut values: Vec<u8> = Vec::with_capacity(self.usual.1);
        let mut idle = 0;
        // An event without a record looks like an empty queue once; twice means empty.
        while idle < 2 && found.len() < BATCH && values.len() < self.settings.fetch_ahead_bytes {
            match consumer.poll(Duration::ZERO) {
                None => idle += 1,
                Some(Ok(message)) => {
                    let (offset, at) = place(&message);
                    if offset >= self.next {
                        self.next = offset + 1;
                        values.extend_from_slice(message.payload().unwrap_or_default());
                        found.push((offset, at, values.len()));
                    }
                }
                Some(Err(error)) => {
                    if let Some(reason) = self.judge(&error) {
                        self.ended = Some(reason);
                        break;
                    }
                }
            }
        }
        self.usual = (found.len(), values.len());
        // Whoever keeps the records keeps all of it, so nothing may be left over: where much is, it is copied.
        if values.capacity() - values.len() > values.len() / 8 {
            values = Vec::from(values.as_slice());
        }
        let (values, mut start) = (Bytes::from(values), 0);
        let mut record = |(offset, at, end)| {
            let value = values.slice(start..end);
            start = end;
            Record { offset, at, value }
        };
        found.into_iter().map(&mut record).collect()
    }

    /// Whether an error ends the cursor; the client gets over all others by itself.
    fn judge(&self, error: &KafkaError) -> Option<JournalError> {
        if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
            return Some(JournalError::Failed(describe(error)));
        }
        match error.rdkafka_error_code()? {
            // Bounds are asked for when it is told.
            RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset => {
                Some(JournalError::OutOfRange { lane: self.lane, start: 0, end: 0, wanted: self.next })
            }
            RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition => Some(JournalError::NoLane(self.lane)),
            RDKafkaErrorCode::UnknownTopicId => {
                Some(JournalError::Failed(format!("{} was made anew", self.lane.topic)))
            }
            RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::BadMessage => Some(JournalError::Failed(describe(error))),
            _ => None,
        }
    }

    async fn explain(&self, reason: JournalError) -> JournalError {
        let JournalError::OutOfRange { lane, wanted, .. } = reason else { return reason };
        match bounds(&self.asking, &self.settings, lane).await {
            Ok(Bounds { start, end }) => JournalError::OutOfRange { lane, start, end, wanted },
            Err(_) => reason,
        }
    }
}

#[async_trait]
impl Cursor for KafkaCursor {
    async fn next(&mut self) -> Result<Batch, JournalError> {
        loop {
            if self.ended.is_none() {
                let records = self.take();
                if !records.is_empty() {
                    return Ok(Batch { records, next: self.next });
                }
            }
            if let Some(reason) = self.ended.clone() {
                return Err(self.explain(reason).await);
            }
            if let Some(reason) = self.context.away.lock().take() {
                return Err(JournalError::Unavailable(reason));
            }
            // Only waiting for more: a call dropped here has taken nothing.
            let woken = tokio::time::timeout(LOOK, self.context.more.notified()).await;
            drop(woken);
        }
    }
}

impl Drop for KafkaCursor {
    fn drop(&mut self) {
        // Closing waits for the client's threads, which must not hold up a runtime.
        if let Some(consumer) = self.consumer.take()
            && let Err(error) =
                std::thread::Builder::new().name("kafka-cursor-end".to_owned()).spawn(move || drop(consumer))
        {
            tracing::warn!(%error, "a cursor was closed in place");
        }
    }
}

/// A record's offset and time.
fn place(message: &BorrowedMessage<'_>) -> (u64, Micros) {
    let milliseconds = match message.timestamp() {
        Timestamp::CreateTime(at) | Timestamp::LogAppendTime(at) => at,
        Timestamp::NotAvailable => 0,
    };
    (u64::try_from(message.offset()).unwrap_or(0), Micros(milliseconds.saturating_mul(1000)))
}
