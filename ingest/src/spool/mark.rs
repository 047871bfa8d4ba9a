//! The mark of how far a spool was acknowledged: it only limits what a successor sends again.

use std::collections::BTreeMap;
use std::path::Path;

use bursar_schemas::position::{Lane, Topic};
use serde::{Deserialize, Serialize};

const NAME: &str = "acknowledged.json";

/// How far a spool was acknowledged, and how far its producer had come on each lane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// Number of the first frame that is not acknowledged.
    pub(super) acknowledged: u64,
    /// The last number on each lane.
    pub(super) last: BTreeMap<Lane, u64>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    acknowledged: u64,
    last: Vec<(Topic, u32, u64)>,
}

impl Mark {
    /// Replaces the mark in a spool's folder.
    pub(super) fn write(&self, dir: &Path) -> std::io::Result<()> {
        let last = self.last.iter().map(|(lane, number)| (lane.topic, lane.partition, *number)).collect();
        let text = serde_json::to_vec(&Stored { acknowledged: self.acknowledged, last })?;
        let fresh = dir.join(format!("{NAME}.new"));
        std::fs::write(&fresh, text)?;
        std::fs::rename(fresh, dir.join(NAME))
    }

    /// Reads the mark; a missing or torn one says nothing, so that all is sent again.
    pub(super) fn read(dir: &Path) -> Self {
        let Ok(text) = std::fs::read(dir.join(NAME)) else { return Self::default() };
        let Ok(stored) = serde_json::from_slice::<Stored>(&text) else { return Self::default() };
        let last = stored
            .last
            .into_iter()
            .map(|(topic, partition, number)| (Lane::new(topic, partition), number))
            .collect();
        Self { acknowledged: stored.acknowledged, last }
    }
}
