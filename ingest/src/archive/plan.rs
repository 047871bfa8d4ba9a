//! What an archiver does next, decided from what it has seen: no IO, no clock.

use std::time::Duration;

use bursar_schemas::archive::Footer;
use bursar_schemas::ids::Generation;
use bursar_schemas::ports::JournalError;
use bursar_schemas::position::Lane;

use super::share::{Load, is_full};

/// When a segment is full, or old enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of record values after which a segment is sealed.
    pub seal_bytes: u64,
    /// How long a record may wait to be sealed.
    pub seal_age: Duration,
    /// Bytes that all lanes may buffer before the largest is sealed.
    pub memory_bytes: u64,
}

/// What a lane's archiver has before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// Records buffered.
    pub records: usize,
    /// What this lane holds, and all of them.
    pub load: Load,
    /// How long ago the first buffered record was taken in.
    pub age: Duration,
    /// Set when the archiver is to end; true once everything that was there at that time is buffered or sealed.
    pub ending: Option<bool>,
}

/// The next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Take in more records; look again after that time at the latest.
    Wait(Option<Duration>),
    /// Seal what is buffered.
    Seal,
    /// Nothing is left to do.
    Done,
}

/// Decides the next step.
#[must_use]
pub fn next_step(limits: &Limits, seen: &Observed) -> Step {
    let full = is_full(limits.seal_bytes, limits.memory_bytes, &seen.load);
    match (seen.records > 0, seen.ending) {
        (true, _) if full => Step::Seal,
        (true, Some(true)) => Step::Seal,
        (false, Some(true)) => Step::Done,
        (_, Some(false)) | (false, None) => Step::Wait(None),
        (true, None) if seen.age >= limits.seal_age => Step::Seal,
        (true, None) => Step::Wait(Some(limits.seal_age.saturating_sub(seen.age))),
    }
}

/// What a failed read means for the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setback {
    /// Try again later.
    Retry,
    /// The topic was made anew: seal what is buffered, then begin that life's chain.
    MadeAnew(Generation),
    /// Offsets up to and including this one are gone: seal what is buffered, then state the loss.
    Lost {
        /// The last offset that is gone.
        through: u64,
    },
}

/// Reads a journal's error; `known` is the generation read so far, `current` the one that is there now.
#[must_use]
pub fn setback(error: &JournalError, known: Generation, current: Option<Generation>) -> Setback {
    match (error, current) {
        (_, Some(current)) if current != known => Setback::MadeAnew(current),
        // Without knowing that it is the same life of the topic, nothing may be declared lost.
        (JournalError::OutOfRange { start, wanted, .. }, Some(_)) if wanted < start => {
            Setback::Lost { through: start - 1 }
        }
        _ => Setback::Retry,
    }
}

/// A segment's footer does not belong at its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotOfChain {
    /// Written by a later version.
    #[error("footer version {0} is unknown")]
    Version(u32),
    /// The footer names another lane, generation or start than the object's name.
    #[error("the footer is that of {generation}/{lane} from offset {start}")]
    Misplaced {
        /// The footer's generation.
        generation: Generation,
        /// The footer's lane.
        lane: Lane,
        /// The footer's start.
        start: u64,
    },
    /// The range ends before it starts.
    #[error("the range from {start} to {end} is empty")]
    Empty {
        /// First offset.
        start: u64,
        /// Last offset.
        end: u64,
    },
    /// A producer id cannot be read.
    #[error("a producer id cannot be read")]
    Producer,
}

/// True to its name, so that the chain goes on after its end.
///
/// # Errors
/// Why it is not.
pub fn check_footer(
    footer: &Footer,
    generation: Generation,
    lane: Lane,
    start: u64,
) -> Result<(), NotOfChain> {
    if footer.version != 1 {
        return Err(NotOfChain::Version(footer.version));
    }
    if (footer.generation, footer.lane(), footer.start) != (generation, lane, start) {
        return Err(NotOfChain::Misplaced {
            generation: footer.generation,
            lane: footer.lane(),
            start: footer.start,
        });
    }
    if footer.end < footer.start {
        return Err(NotOfChain::Empty { start: footer.start, end: footer.end });
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use std::collections::BTreeMap;

    use bursar_schemas::merkle::RootBuilder;
    use bursar_schemas::position::Topic;

    use super::*;

    const LIMITS: Limits = Limits { seal_bytes: 100, seal_age: Duration::from_secs(60), memory_bytes: 400 };

    fn seen(records: usize, bytes: u64, seconds: u64, ending: Option<bool>) -> Observed {
        let load = Load { bytes, bytes_of_all: bytes, largest: bytes, lanes: 8 };
        Observed { records, load, age: Duration::from_secs(seconds), ending }
    }

    fn beside(bytes: u64, bytes_of_all: u64, largest: u64) -> Observed {
        Observed { load: Load { bytes, bytes_of_all, largest, lanes: 8 }, ..seen(1, bytes, 0, None) }
    }

    #[test]
    fn segments_are_sealed_by_size_by_age_and_at_the_end() {
        let wait = |seconds| Step::Wait(Some(Duration::from_secs(seconds)));
        for (observed, step) in [
            (seen(0, 0, 0, None), Step::Wait(None)),
            (seen(1, 99, 0, None), wait(60)),
            (seen(1, 99, 59, None), wait(1)),
            (seen(1, 1, 60, None), Step::Seal),
            (seen(1, 100, 0, None), Step::Seal),
            (seen(1, 1, 99, Some(false)), Step::Wait(None)),
            (seen(1, 100, 0, Some(false)), Step::Seal),
            (seen(0, 0, 0, Some(false)), Step::Wait(None)),
            (seen(1, 1, 0, Some(true)), Step::Seal),
            (seen(0, 0, 0, Some(true)), Step::Done),
            // 400 bytes for all lanes: the largest goes once they are reached.
            (beside(50, 400, 50), Step::Seal),
            (beside(50, 399, 50), wait(60)),
            (beside(49, 400, 50), wait(60)),
            // Skipped offsets alone make no segment.
            (seen(0, 1000, 99, None), Step::Wait(None)),
        ] {
            assert_eq!(next_step(&LIMITS, &observed), step, "{observed:?}");
        }
    }

    #[test]
    fn a_setback_loses_nothing_that_is_there() {
        let (old, new) = (Generation([1; 16]), Generation([2; 16]));
        let lane = Lane::new(Topic::Spend, 0);
        let range = |wanted| JournalError::OutOfRange { lane, start: 10, end: 20, wanted };
        let away = JournalError::Unavailable("x".to_owned());
        for (error, current, expected) in [
            (range(4), Some(old), Setback::Lost { through: 9 }),
            (range(21), Some(old), Setback::Retry),
            (range(4), Some(new), Setback::MadeAnew(new)),
            (range(4), None, Setback::Retry),
            (away.clone(), Some(old), Setback::Retry),
            (away, Some(new), Setback::MadeAnew(new)),
            (JournalError::NoLane(lane), None, Setback::Retry),
        ] {
            assert_eq!(setback(&error, old, current), expected, "{error} {current:?}");
        }
    }

    #[test]
    fn only_a_footer_true_to_its_name_is_of_the_chain() {
        let (generation, lane) = (Generation([1; 16]), Lane::new(Topic::Spend, 3));
        let footer = Footer {
            version: 1,
            generation,
            topic: Topic::Spend,
            partition: 3,
            start: 5,
            end: 9,
            rows: 5,
            skipped: Vec::new(),
            lost: Vec::new(),
            rows_root: RootBuilder::default().root(),
            producers: BTreeMap::new(),
            times_us: None,
        };
        let check = |footer: &Footer| check_footer(footer, generation, lane, 5);
        assert_eq!(check(&footer), Ok(()));
        for wrong in [
            Footer { version: 2, ..footer.clone() },
            Footer { generation: Generation([2; 16]), ..footer.clone() },
            Footer { topic: Topic::Limits, ..footer.clone() },
            Footer { partition: 4, ..footer.clone() },
            Footer { start: 6, ..footer.clone() },
            Footer { end: 4, ..footer.clone() },
        ] {
            assert!(check(&wrong).is_err(), "{wrong:?}");
        }
    }
}
