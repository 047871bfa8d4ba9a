//! Every setting of the Kafka client, said in one place.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bursar_schemas::position::{Lane, Topic};
use rdkafka::ClientConfig;

/// How to be let in to the cluster.
#[derive(Clone, Default)]
pub enum Security {
    /// No encryption and no name: for a test, or a network that is trusted.
    #[default]
    Plaintext,
    /// TLS, with the authorities that may have signed the brokers' certificates (the system's when none).
    Tls {
        /// PEM file of the authorities.
        ca_file: Option<PathBuf>,
    },
    /// TLS, and a name with a password.
    SaslTls {
        /// PEM file of the authorities.
        ca_file: Option<PathBuf>,
        /// `SCRAM-SHA-256`, `SCRAM-SHA-512` or `PLAIN`.
        mechanism: String,
        /// The user.
        username: String,
        /// The password itself: whoever reads the configuration has resolved its reference.
        password: String,
    },
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plaintext => f.write_str("Plaintext"),
            Self::Tls { ca_file } => f.debug_struct("Tls").field("ca_file", ca_file).finish(),
            Self::SaslTls { ca_file, mechanism, username, .. } => f
                .debug_struct("SaslTls")
                .field("ca_file", ca_file)
                .field("mechanism", mechanism)
                .field("username", username)
                .finish_non_exhaustive(),
        }
    }
}

/// How batches are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Least processor time.
    #[default]
    Lz4,
    /// Least bytes.
    Zstd,
}

/// How much a cursor fetches ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ahead {
    /// As much as the settings allow: for a cursor that has much to read.
    Far,
    /// A few batches: for one near the topic's end, of which a process may have very many.
    Near,
}

/// Records from which on a cursor has much to read. The archiver lets few such cursors be open at a time.
pub const MUCH: u64 = 10_000;

impl Ahead {
    /// For a cursor with so many records before it.
    pub(super) const fn of(records: u64) -> Self {
        if records > MUCH { Self::Far } else { Self::Near }
    }
}

/// How Kafka is used.
#[derive(Debug, Clone)]
pub struct KafkaSettings {
    /// `host:port` of some brokers, separated by commas.
    pub bootstrap: String,
    /// What the topics' names begin with: `PREFIX.requests` and so on.
    pub prefix: String,
    /// What the client calls itself in the brokers' logs and quotas.
    pub client_id: String,
    /// How to be let in.
    pub security: Security,
    /// How batches are compressed.
    pub compression: Compression,
    /// How long a producer waits for more records before it sends, at most 2 ms.
    pub linger: Duration,
    /// How long a broker may hold a fetch back while there is nothing new.
    pub fetch_wait: Duration,
    /// How long a single request to a broker may take.
    pub request_timeout: Duration,
    /// Bytes of records that a producer holds unacknowledged; beyond it an append is refused as full.
    pub in_flight_bytes: usize,
    /// Bytes of records that one cursor fetches ahead.
    pub fetch_ahead_bytes: usize,
    /// Longest record in bytes.
    pub max_message_bytes: usize,
}

impl KafkaSettings {
    /// The usual settings for a cluster.
    #[must_use]
    pub fn new(bootstrap: &str, prefix: &str) -> Self {
        Self {
            bootstrap: bootstrap.to_owned(),
            prefix: prefix.to_owned(),
            client_id: "bursar".to_owned(),
            security: Security::default(),
            compression: Compression::default(),
            // The spool hands over in batches already; waiting longer would only lengthen every hop.
            linger: Duration::ZERO,
            // A broker answers as soon as there is something: this only bounds how often it says that there is nothing.
            fetch_wait: Duration::from_millis(250),
            request_timeout: Duration::from_secs(10),
            in_flight_bytes: 32 << 20,
            fetch_ahead_bytes: 4 << 20,
            max_message_bytes: 1 << 20,
        }
    }

    /// The name of a topic in the cluster.
    #[must_use]
    pub fn topic(&self, topic: Topic) -> String {
        format!("{}.{}", self.prefix, topic.name())
    }

    pub(super) fn place(&self, lane: Lane) -> (String, Option<i32>) {
        (self.topic(lane.topic), i32::try_from(lane.partition).ok())
    }

    /// What all clients have in common.
    pub(super) fn common(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("client.id", &self.client_id)
            .set("socket.timeout.ms", millis(self.request_timeout.max(self.fetch_wait * 2)))
            // The client takes no shorter one.
            .set(
                "socket.connection.setup.timeout.ms",
                millis(self.request_timeout.max(Duration::from_secs(1))),
            )
            .set("socket.nagle.disable", "true")
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "2000")
            .set("retry.backoff.ms", "50")
            .set("retry.backoff.max.ms", "1000")
            .set("allow.auto.create.topics", "false")
            .set("log.connection.close", "false")
            .set("message.max.bytes", self.max_message_bytes.to_string());
        self.secure(&mut config);
        config
    }

    fn secure(&self, config: &mut ClientConfig) {
        let authorities = match &self.security {
            Security::Plaintext => {
                config.set("security.protocol", "plaintext");
                return;
            }
            Security::Tls { ca_file } => {
                config.set("security.protocol", "ssl");
                ca_file
            }
            Security::SaslTls { ca_file, mechanism, username, password } => {
                config
                    .set("security.protocol", "sasl_ssl")
                    .set("sasl.mechanism", mechanism)
                    .set("sasl.username", username)
                    .set("sasl.password", password);
                ca_file
            }
        };
        config.set("enable.ssl.certificate.verification", "true");
        config.set("ssl.endpoint.identification.algorithm", "https");
        // "probe" finds the system's authorities wherever this system keeps them.
        let location = authorities.as_ref().map_or("probe".into(), |file| file.to_string_lossy());
        config.set("ssl.ca.location", location);
    }

    /// A producer: idempotent, every record acknowledged by all in-sync replicas, and no time after which a
    /// record would be given up while later ones go through. Whoever appends decides how long to wait.
    pub(super) fn producer(&self) -> ClientConfig {
        let mut config = self.common();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("max.in.flight.requests.per.connection", "5")
            .set("message.send.max.retries", "2147483647")
            .set("delivery.timeout.ms", "0")
            .set("request.timeout.ms", millis(self.request_timeout))
            .set("linger.ms", millis(self.linger.min(Duration::from_millis(2))))
            .set(
                "compression.codec",
                match self.compression {
                    Compression::Lz4 => "lz4",
                    Compression::Zstd => "zstd",
                },
            )
            .set("batch.num.messages", "10000")
            .set("batch.size", "1000000")
            // Above our own bound, which is the one that refuses.
            .set("queue.buffering.max.messages", "0")
            .set("queue.buffering.max.kbytes", (self.in_flight_bytes / 512 + 8192).to_string());
        config
    }

    /// A consumer of one lane at offsets that we keep ourselves.
    pub(super) fn consumer(&self, ahead: Ahead) -> ClientConfig {
        let mut config = self.common();
        // A record that waits takes twice its bytes, and what is fetched at once is compressed: what is in memory in the
        // end is about five times what is said here.
        // Where little waits, the next fetch must come soon, or a burst would be read no faster than the pauses allow.
        let (bytes, at_once, records, pause_ms) = match ahead {
            Ahead::Far => (self.fetch_ahead_bytes, self.max_message_bytes, 10_000, "10"),
            Ahead::Near => (self.fetch_ahead_bytes / 16, self.max_message_bytes / 8, 1000, "1"),
        };
        config
            // Manual assignment needs a name here, but no group is ever joined and nothing is committed.
            .set("group.id", format!("{}.readers", self.prefix))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            .set("check.crcs", "true")
            .set("enable.partition.eof", "false")
            .set("fetch.wait.max.ms", millis(self.fetch_wait))
            .set("fetch.min.bytes", "1")
            .set("fetch.error.backoff.ms", "50")
            .set("fetch.queue.backoff.ms", pause_ms)
            .set("fetch.max.bytes", (self.fetch_ahead_bytes.max(self.max_message_bytes)).to_string())
            .set("fetch.message.max.bytes", at_once.max(1).to_string())
            .set("queued.min.messages", records.to_string())
            .set("queued.max.messages.kbytes", (bytes / 1024).max(1).to_string());
        config
    }
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use rdkafka::consumer::BaseConsumer;
    use rdkafka::producer::BaseProducer;

    use super::*;

    fn secret() -> KafkaSettings {
        let mut settings = KafkaSettings::new("127.0.0.1:1", "test");
        settings.security = Security::SaslTls {
            ca_file: None,
            mechanism: "SCRAM-SHA-256".to_owned(),
            username: "shim".to_owned(),
            password: "canary-5533".to_owned(),
        };
        settings
    }

    #[test]
    fn a_password_is_never_printed() {
        assert!(!format!("{:?}", secret()).contains("canary-5533"));
    }

    #[test]
    fn the_client_takes_every_setting() {
        let plain = KafkaSettings::new("127.0.0.1:1", "test");
        for settings in [plain, secret()] {
            for ahead in [Ahead::Far, Ahead::Near] {
                let _: BaseConsumer = settings.consumer(ahead).create().unwrap();
            }
            let _: BaseProducer = settings.producer().create().unwrap();
        }
    }
}
