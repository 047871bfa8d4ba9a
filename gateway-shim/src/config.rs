//! What an operator can set, and the handles that the binary passes in.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bursar_schemas::avro::Micros;
use bursar_schemas::facts::Durability;

use crate::content::Capturing;
use crate::tls::Authorities;

/// What happens to a request without a hard budget when the spool takes no more facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnSpoolFull {
    /// It is refused with 503 `spool_full`.
    Refuse,
    /// It passes without facts and is counted; one under a hard budget is refused all the same.
    Pass,
}

/// Settings of one shim.
#[derive(Clone)]
pub struct ShimConfig {
    /// Where it listens; port 0 for any free one.
    pub listen: SocketAddr,
    /// What the loss of a whole machine may cost.
    pub durability: Durability,
    /// Partitions of every topic but `policy`; must be what the journal has.
    pub partitions: u32,
    /// Largest body of a request, in bytes.
    pub max_body_bytes: usize,
    /// Bytes of request bodies held at once, over all requests.
    pub max_buffered_bytes: usize,
    /// Requests open at once.
    pub max_open_requests: usize,
    /// Connections open at once; further ones wait in the listener's queue.
    pub max_connections: usize,
    /// Requests that may wait for a lease at once, per partition.
    pub max_waiting: usize,
    /// How long a request waits for a lease.
    pub lease_wait: Duration,
    /// A ledger that answers nothing for that long is held to be silent.
    pub ledger_silence: Duration,
    /// How long an acknowledgement of facts may take.
    pub ack_timeout: Duration,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// How long a connection to a provider may take.
    pub connect_timeout: Duration,
    /// Whose certificates providers may show.
    pub authorities: Authorities,
    /// How long a provider may take to its first byte where policy names no time.
    pub answer_timeout: Duration,
    /// How long a provider's answer may pause.
    pub idle_timeout: Duration,
    /// How long an answer is read on after its client has left, to learn what it cost: providers bill what they
    /// generate. Zero drops it at once; the attempt is then settled at its reservation, as an estimate.
    pub read_on: Duration,
    /// What happens when the spool is full.
    pub on_spool_full: OnSpoolFull,
    /// Header that names the end user, in lower case.
    pub end_user_header: String,
    /// Key of the end users' pseudonyms.
    pub pseudonym_key: [u8; 32],
    /// Key of the bodies' digests.
    pub digest_key: [u8; 32],
    /// How leases are sized.
    pub leases: LeaseSizing,
    /// Where contents go that policy has captured; none is captured without.
    pub capture: Option<Capturing>,
}

/// How leases are sized and given back.
#[derive(Debug, Clone, Copy)]
pub struct LeaseSizing {
    /// Seconds at the recent rate of spending that a lease should last in any case: from one refill to the next.
    pub horizon_seconds: u32,
    /// So much longer it should last, to outlive a ledger that is silent; at the price of more money in leases.
    pub outage_reserve: Duration,
    /// A lease without admissions for that long is given back.
    pub idle_after: Duration,
    /// A request for a lease without answer for that long is asked anew.
    pub ask_again_after: Duration,
}

impl ShimConfig {
    /// The defaults, with all that has none.
    #[must_use]
    pub fn new(listen: SocketAddr, partitions: u32, pseudonym_key: [u8; 32], digest_key: [u8; 32]) -> Self {
        Self {
            listen,
            durability: Durability::Overlapped,
            partitions,
            max_body_bytes: 32 << 20,
            max_buffered_bytes: 1 << 30,
            max_open_requests: 8192,
            max_connections: 16_384,
            max_waiting: 1024,
            lease_wait: Duration::from_secs(2),
            ledger_silence: Duration::from_secs(10),
            ack_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(10),
            authorities: Authorities::default(),
            answer_timeout: Duration::from_secs(600),
            idle_timeout: Duration::from_secs(300),
            read_on: Duration::from_secs(120),
            on_spool_full: OnSpoolFull::Refuse,
            end_user_header: "x-bursar-end-user".to_owned(),
            pseudonym_key,
            digest_key,
            leases: LeaseSizing {
                horizon_seconds: 3,
                outage_reserve: Duration::ZERO,
                idle_after: Duration::from_secs(15),
                ask_again_after: Duration::from_secs(30),
            },
            capture: None,
        }
    }
}

impl fmt::Debug for ShimConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShimConfig")
            .field("listen", &self.listen)
            .field("durability", &self.durability)
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}

/// A provider's key; never printed.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps a key.
    #[must_use]
    pub const fn new(value: String) -> Self {
        Self(value)
    }

    /// The key itself, for the one header that carries it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A secret's reference leads to nothing usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to resolve the secret reference {reference}: {reason}")]
pub struct SecretError {
    /// The reference, such as `env:OPENAI_API_KEY`.
    pub reference: String,
    /// Why, without any value.
    pub reason: String,
}

/// Resolves `env:NAME` or `file:PATH`. May read a file; results are kept for some seconds.
pub type Secrets = Arc<dyn Fn(&str) -> Result<Secret, SecretError> + Send + Sync>;
/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Micros + Send + Sync>;
/// Fills a buffer with random bytes.
pub type Random = Arc<dyn Fn(&mut [u8]) + Send + Sync>;
