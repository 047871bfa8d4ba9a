//! Which life of a topic this is.
//!
//! Kafka has a topic id, but the client library does not hand it out. So a topic is created with a random
//! generation in two of its own settings, `delete.retention.ms` and `min.compaction.lag.ms`: both act on
//! compacted topics only, which ours never are. They are set atomically with the creation, end with the topic,
//! and survive whatever retention takes, which no record in the topic would. A topic made anew by this product
//! has another generation; one made by anything else has none and stops the start.
//!
//! What this cannot see: somebody who deletes a topic and makes it anew with the very same two settings.

use std::collections::HashMap;

use bursar_schemas::ids::Generation;

use super::KafkaSetupError;

/// The two settings.
pub(super) const NAMES: [&str; 2] = ["delete.retention.ms", "min.compaction.lag.ms"];
/// Set in both values, above any value that anybody would choose: 146 million years.
const TAG: u64 = 1 << 62;
const RANDOM: u64 = TAG - 1;

fn halves(generation: Generation) -> [u64; 2] {
    let value = u128::from_be_bytes(generation.0);
    let low = u64::try_from(value & u128::from(u64::MAX)).unwrap_or(0);
    [u64::try_from(value >> 64).unwrap_or(0), low]
}

fn join(halves: [u64; 2]) -> Generation {
    Generation(((u128::from(halves[0]) << 64) | u128::from(halves[1])).to_be_bytes())
}

/// A fresh generation.
pub(super) fn draw() -> Result<Generation, KafkaSetupError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| KafkaSetupError::Random(error.to_string()))?;
    Ok(join(halves(Generation(random)).map(|half| (half & RANDOM) | TAG)))
}

/// The topic settings that carry a generation, for whoever creates topics by other means.
#[must_use]
pub fn generation_settings(generation: Generation) -> [(&'static str, String); 2] {
    let [high, low] = halves(generation).map(|half| ((half & RANDOM) | TAG).to_string());
    [(NAMES[0], high), (NAMES[1], low)]
}

/// The generation that a topic's settings carry.
pub(super) fn of(settings: &HashMap<String, String>) -> Option<Generation> {
    let half = |name: &str| settings.get(name)?.parse::<u64>().ok().filter(|half| half & TAG != 0);
    Some(join([half(NAMES[0])?, half(NAMES[1])?]))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_generation_reads_back_from_its_settings() {
        let generation = draw().unwrap();
        let settings: HashMap<String, String> = generation_settings(generation)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        assert_eq!(of(&settings), Some(generation));
        assert!(settings.values().all(|value| value.parse::<i64>().unwrap() > 0));
        assert_ne!(draw().unwrap(), generation);
    }

    #[test]
    fn the_defaults_carry_none() {
        let defaults = [("delete.retention.ms", "86400000"), ("min.compaction.lag.ms", "0")];
        let settings = defaults.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(of(&settings), None);
    }
}
