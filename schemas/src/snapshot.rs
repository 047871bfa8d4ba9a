//! Snapshots: state that topics rebuild, kept aside so that a start is faster. Losing one costs nothing but time.
//!
//! A snapshot is the whole state at its places, never a decision under way. It names the topics' lives: a topic
//! that was made anew, or that has become shorter, contradicts it, and its reader must stop.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::ids::Generation;
use crate::ports::{Bounds, Journal, JournalError};
use crate::position::Lane;

/// First bytes of every snapshot; the last one is the version of the form.
const MAGIC: &[u8; 8] = b"bursars\x03";

/// Keeps snapshots by name. What fails is told by its keeper: the state itself is in the topics.
pub trait Shelf: Send + Sync {
    /// The snapshot kept last.
    fn take(&self, name: &str) -> Option<Vec<u8>>;
    /// Keeps a snapshot in place of the one before. May block for a local write.
    fn keep(&self, name: &str, snapshot: &[u8]);
}

/// A shelf that keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoShelf;

impl Shelf for NoShelf {
    fn take(&self, _: &str) -> Option<Vec<u8>> {
        None
    }
    fn keep(&self, _: &str, _: &[u8]) {}
}

/// How far a lane was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The lane.
    pub lane: Lane,
    /// The life of its topic.
    pub generation: Generation,
    /// The offset that comes next.
    pub next: u64,
}

/// A snapshot and the journal contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// The topic was made anew.
    #[error("{0} was made anew since it was last read: what it held before is gone from it")]
    MadeAnew(Lane),
    /// The lane ends before what was read of it.
    #[error("{lane} ends at offset {end}, though it was read up to {next}: its end was lost")]
    Shorter {
        /// The lane.
        lane: Lane,
        /// One above its last offset.
        end: u64,
        /// One above the last offset read.
        next: u64,
    },
    /// The journal could not be asked.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl Place {
    /// The place of a lane now.
    ///
    /// # Errors
    /// When the journal cannot be asked.
    pub async fn of(journal: &dyn Journal, lane: Lane, next: u64) -> Result<Self, JournalError> {
        Ok(Self { lane, generation: journal.generation(lane.topic).await?, next })
    }

    /// Holds the place against the journal; returns what the lane holds now.
    ///
    /// # Errors
    /// When they contradict each other, or the journal cannot be asked.
    pub async fn check(&self, journal: &dyn Journal) -> Result<Bounds, Contradiction> {
        if journal.generation(self.lane.topic).await? != self.generation {
            return Err(Contradiction::MadeAnew(self.lane));
        }
        let bounds = journal.bounds(self.lane).await?;
        if bounds.end < self.next {
            return Err(Contradiction::Shorter { lane: self.lane, end: bounds.end, next: self.next });
        }
        Ok(bounds)
    }
}

/// Bytes are not a snapshot of this state: another version's, torn, or of something else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a snapshot that can be used: {0}")]
pub struct NotASnapshot(String);

impl NotASnapshot {
    /// With the reason.
    #[must_use]
    pub fn new(reason: &str) -> Self {
        Self(reason.to_owned())
    }
}

/// Maps whose keys are no text, as lists of pairs.
pub mod pairs {
    use serde::de::Deserializer;
    use serde::ser::Serializer;
    use serde::{Deserialize, Serialize};

    /// Writes a map as a list of pairs.
    ///
    /// # Errors
    /// When a key or value cannot be written.
    pub fn serialize<'a, M, K, V, S>(map: &'a M, serializer: S) -> Result<S::Ok, S::Error>
    where
        &'a M: IntoIterator<Item = (&'a K, &'a V)>,
        K: Serialize + 'a,
        V: Serialize + 'a,
        S: Serializer,
    {
        serializer.collect_seq(map)
    }

    /// Reads a list of pairs as a map.
    ///
    /// # Errors
    /// When it is none.
    pub fn deserialize<'de, M, K, V, D>(deserializer: D) -> Result<M, D::Error>
    where
        M: FromIterator<(K, V)>,
        K: Deserialize<'de>,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}

/// A state as bytes, with a checksum.
///
/// # Errors
/// When the state cannot be written, which none of this workspace's does.
pub fn write<T: Serialize>(state: &T) -> Result<Vec<u8>, NotASnapshot> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&[0; 32]);
    serde_json::to_writer(&mut bytes, state).map_err(|error| NotASnapshot(error.to_string()))?;
    let sum = Sha256::digest(&bytes[40..]);
    bytes[8..40].copy_from_slice(&sum);
    Ok(bytes)
}

/// Reads a state back.
///
/// # Errors
/// When the bytes are damaged, or of another version or state.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, NotASnapshot> {
    let wrong = |reason: &str| NotASnapshot(reason.to_owned());
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| wrong("it is of another version"))?;
    let (sum, state) = rest.split_at_checked(32).ok_or_else(|| wrong("it is cut off"))?;
    if Sha256::digest(state)[..] != *sum {
        return Err(wrong("its checksum does not fit"));
    }
    serde_json::from_slice(state).map_err(|error| NotASnapshot(error.to_string()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::position::Topic;

    fn place() -> Place {
        Place { lane: Lane::new(Topic::Limits, 3), generation: Generation([7; 16]), next: 42 }
    }

    #[test]
    fn a_snapshot_reads_back_and_a_damaged_one_does_not() {
        let bytes = write(&place()).unwrap();
        assert_eq!(read::<Place>(&bytes).unwrap(), place());
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(read::<Place>(&damaged).is_err(), "byte {at}");
            assert!(read::<Place>(&bytes[..at]).is_err(), "cut at {at}");
        }
        assert!(read::<Vec<Place>>(&bytes).is_err(), "another state");
    }
}
