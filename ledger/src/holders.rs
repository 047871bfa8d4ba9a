//! How a shim incarnation stands that holds leases, for people.

use bursar_schemas::avro::Micros;
use bursar_schemas::ids::ProducerId;
use bursar_schemas::money::Money;
use serde::Serialize;

/// A shim incarnation in one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HolderState {
    /// The partition.
    pub partition: u32,
    /// The incarnation.
    pub incarnation: ProducerId,
    /// When it wrote its last fact, by its own clock; none when it never wrote one here.
    pub seen_at: Option<Micros>,
    /// True when its end is in the log: it is granted nothing any more.
    pub ended: bool,
    /// True when an operator attested that it can never run again.
    pub retired: bool,
    /// Leases that are not over.
    pub leases: u64,
    /// What was granted under them and did not come back.
    pub leased: Money,
    /// Of that, what lies above their marks: it comes back once the incarnation has ended.
    pub recoverable: Money,
}
