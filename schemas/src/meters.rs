//! What a provider counts: disjoint meters, each with its own price.

use std::collections::BTreeMap;

use crate::avro::avro_enum;

avro_enum! {
    /// One disjoint kind of usage; no unit is ever counted on two meters.
    pub enum Meter {
        /// Input tokens that are neither cached nor audio.
        Input = "input",
        /// Input tokens read from the provider's cache.
        CacheRead = "cache_read",
        /// Input tokens written to a cache kept for five minutes.
        CacheWrite5m = "cache_write_5m",
        /// Input tokens written to a cache kept for an hour.
        CacheWrite1h = "cache_write_1h",
        /// Output tokens that are neither reasoning nor audio.
        Output = "output",
        /// Output tokens spent on reasoning; billed as output unless the price says otherwise.
        Reasoning = "reasoning",
        /// Audio tokens of the input.
        InputAudio = "input_audio",
        /// Audio tokens of the output.
        OutputAudio = "output_audio",
        /// Requests, for prices per call.
        Requests = "requests",
    }
}

/// Quantities by meter; a meter that is absent counted nothing.
pub type Usage = BTreeMap<Meter, u64>;

impl Meter {
    /// True for what the model produces, false for what it is given.
    #[must_use]
    pub const fn is_output(self) -> bool {
        matches!(self, Self::Output | Self::Reasoning | Self::OutputAudio)
    }
}
