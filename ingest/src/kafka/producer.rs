//! The outlet over Kafka: one idempotent producer, and a new one after a failure.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bursar_schemas::ports::{Entry, Outlet, OutletError, Receipt};
use bursar_schemas::position::Topic;
use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer};
use tokio::sync::oneshot;

use super::{KafkaSettings, KafkaSetupError, all_topics, context, describe};

/// What a record costs in the bound beside its bytes, so that empty ones are bounded too.
const OVERHEAD: usize = 128;
/// What a batch's own header may take of the longest message.
const FRAMING: usize = 1024;

/// One call of `append` on its way.
struct Flight {
    state: Mutex<FlightState>,
    bytes: usize,
}

struct FlightState {
    left: usize,
    failure: Option<OutletError>,
    done: Option<oneshot::Sender<Result<(), OutletError>>>,
}

/// What the client tells of deliveries, shared with the outlet.
#[derive(Clone, Default)]
struct Deliveries {
    shared: Arc<Mutex<Flying>>,
}

#[derive(Default)]
struct Flying {
    bytes: usize,
    flights: usize,
    /// The first failure: what was sent after it may have overtaken it, so this client is given up.
    broken: Option<String>,
}

impl Deliveries {
    /// Gives the client up; the reason is that of the first failure, which all later ones follow from.
    fn break_down(&self, detail: &str) -> String {
        self.shared.lock().broken.get_or_insert_with(|| detail.to_owned()).clone()
    }

    /// `count` records of a flight came to an end.
    fn land(&self, flight: &Flight, count: usize, failure: Option<&str>) {
        let reason = failure.map(|detail| self.break_down(detail));
        let mut state = flight.state.lock();
        if let Some(reason) = reason {
            state.failure.get_or_insert(OutletError::Failed(reason));
        }
        state.left = state.left.saturating_sub(count);
        if state.left > 0 {
            return;
        }
        let Some(done) = state.done.take() else { return };
        let outcome = state.failure.take().map_or(Ok(()), Err);
        drop(state);
        {
            let mut flying = self.shared.lock();
            flying.bytes = flying.bytes.saturating_sub(flight.bytes);
            flying.flights = flying.flights.saturating_sub(1);
        }
        // A dropped receipt changes nothing.
        drop(done.send(outcome));
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        context::log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka");
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.break_down(&format!("the producer cannot go on: {reason}"));
        }
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Arc<Flight>;

    fn delivery(&self, result: &DeliveryResult<'_>, flight: Arc<Flight>) {
        match result {
            Ok(_) => self.land(&flight, 1, None),
            Err((error, message)) => {
                self.land(&flight, 1, Some(&format!("{}: {}", message.topic(), describe(error))));
            }
        }
    }
}

struct Client {
    producer: ThreadedProducer<Deliveries>,
    deliveries: Deliveries,
}

impl Client {
    fn new(settings: &KafkaSettings) -> Result<Self, KafkaError> {
        let deliveries = Deliveries::default();
        let producer = ThreadedProducer::from_config_and_context(&settings.producer(), deliveries.clone())?;
        Ok(Self { producer, deliveries })
    }
}

/// The outlet over Kafka.
///
/// Records are never given up for time: a receipt resolves when all in-sync replicas have the records, however
/// long that takes. Whatever does fail (a record that the broker refuses, a permission taken away) gives the
/// whole client up: all that was on its way fails, and the next append starts a new one. Records that were sent
/// after the failed one may be in the journal by then, and come again when they are appended again.
pub struct KafkaOutlet {
    settings: KafkaSettings,
    names: HashMap<Topic, String>,
    client: Mutex<Option<Client>>,
}

impl std::fmt::Debug for KafkaOutlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaOutlet").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl KafkaOutlet {
    /// An outlet; connects in the background, so that it can be made while Kafka is away.
    ///
    /// # Errors
    /// When the client refuses its settings.
    pub fn new(settings: &KafkaSettings) -> Result<Self, KafkaSetupError> {
        let client = Client::new(settings).map_err(|error| KafkaSetupError::Client(describe(&error)))?;
        let names = all_topics().map(|topic| (topic, settings.topic(topic))).collect();
        Ok(Self { settings: settings.clone(), names, client: Mutex::new(Some(client)) })
    }

    /// Takes nothing more and waits for what is on its way. Blocks.
    ///
    /// # Errors
    /// When something was still on its way at the end; its receipts fail.
    pub fn close(&self, patience: Duration) -> Result<(), OutletError> {
        let Some(client) = self.client.lock().take() else { return Ok(()) };
        let flushed = client.producer.flush(patience);
        let failed = |error: KafkaError| OutletError::Failed(describe(&error));
        flushed.map_err(failed)
    }

    fn check(&self, entries: &[Entry]) -> Result<usize, OutletError> {
        let longest = self.settings.max_message_bytes.saturating_sub(FRAMING);
        if let Some(entry) = entries.iter().find(|entry| entry.value.len() > longest) {
            return Err(OutletError::Failed(format!(
                "a record of {} bytes is longer than {longest}",
                entry.value.len()
            )));
        }
        Ok(entries.iter().map(|entry| entry.value.len() + OVERHEAD).sum())
    }
}

impl Outlet for KafkaOutlet {
    fn append(&self, mut entries: Vec<Entry>) -> Result<Receipt, OutletError> {
        let bytes = self.check(&entries)?;
        // Lane by lane, each in its own order: the client begins to send with the first record that it gets, and what comes
        // to a lane later waits for that batch's answer.
        entries.sort_by_key(|entry| entry.lane);
        // Held over the sends: the order of appends is the order of the lane.
        let mut slot = self.client.lock();
        let Some(client) = slot.as_mut() else {
            return Err(OutletError::Closed("the outlet was closed".to_owned()));
        };
        give_up_if_broken(client, &self.settings)?;
        if entries.is_empty() {
            return Ok(Box::pin(std::future::ready(Ok(()))));
        }
        {
            let mut flying = client.deliveries.shared.lock();
            if flying.bytes.saturating_add(bytes) > self.settings.in_flight_bytes {
                let on_their_way = flying.bytes;
                return Err(OutletError::Full(format!("{on_their_way} bytes are on their way to Kafka")));
            }
            flying.bytes += bytes;
            flying.flights += 1;
        }
        let (done, acknowledged) = oneshot::channel();
        let state = FlightState { left: entries.len(), failure: None, done: Some(done) };
        let flight = Arc::new(Flight { state: Mutex::new(state), bytes });
        let mut unsent = entries.len();
        for entry in &entries {
            let topic = self.names.get(&entry.lane.topic).map_or("", String::as_str);
            let record = BaseRecord::<(), [u8], _>::with_opaque_to(topic, Arc::clone(&flight))
                .partition(i32::try_from(entry.lane.partition).unwrap_or(i32::MAX))
                .payload(&entry.value[..])
                .timestamp(entry.at.0.div_euclid(1000));
            if let Err((error, _)) = client.producer.send(record) {
                // Those before it are sent: the append as a whole fails, and the client with it.
                client.deliveries.land(&flight, unsent, Some(&format!("{topic}: {}", describe(&error))));
                break;
            }
            unsent -= 1;
        }
        let ended = || Err(OutletError::Closed("the outlet was closed".to_owned()));
        Ok(Box::pin(async move { acknowledged.await.unwrap_or_else(|_| ended()) }))
    }
}

/// A broken client takes nothing; once nothing is on its way any more, a new one takes its place.
fn give_up_if_broken(client: &mut Client, settings: &KafkaSettings) -> Result<(), OutletError> {
    let (broken, flights) = {
        let flying = client.deliveries.shared.lock();
        (flying.broken.clone(), flying.flights)
    };
    let Some(detail) = broken else { return Ok(()) };
    if flights > 0 {
        client.producer.purge(PurgeConfig::default().queue().inflight());
        return Err(OutletError::Failed(detail));
    }
    let fresh = Client::new(settings).map_err(|error| OutletError::Failed(describe(&error)))?;
    let old = std::mem::replace(client, fresh);
    tracing::warn!(detail, "the Kafka producer failed and was started anew");
    // Its end waits for its threads.
    let ended = std::thread::Builder::new().name("kafka-producer-end".to_owned()).spawn(move || drop(old));
    if let Err(error) = ended {
        tracing::warn!(%error, "a Kafka producer was closed in place");
    }
    Ok(())
}
