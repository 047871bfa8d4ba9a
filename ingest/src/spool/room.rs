//! What a spool still takes, and how it comes to take more again.

use bursar_schemas::ports::{Entry, OutletError};
use bursar_schemas::wire;
use parking_lot::MutexGuard;

use super::shared::{Shared, State, warn_of};
use super::track::{OPENED, REFUSED};

/// A segment of so many bytes is ended when the spool is full, though it is not as long as segments usually are.
const LEAST_SEGMENT: u64 = 64 << 10;

/// How many bytes the spool may hold with these entries in it. The last part is kept for what ends requests that were
/// let in, so that each of them can be closed: openings stop first, then refusals.
pub(super) fn room_for(entries: &[Entry], max_bytes: u64) -> u64 {
    let kinds = entries.iter().filter_map(|entry| wire::schema_id(&entry.value).ok());
    match kinds.min() {
        Some(OPENED) => max_bytes - max_bytes / 8,
        Some(REFUSED) => max_bytes - max_bytes / 16,
        _ => max_bytes,
    }
}

impl Shared {
    /// The spool takes no more. Its open segment ends here, so that it can be deleted once it is acknowledged: it may
    /// never grow to the length at which it would have ended by itself.
    pub(super) fn make_room(&self, mut state: MutexGuard<'_, State>, error: OutletError) -> OutletError {
        state.counters.refused_appends += 1;
        warn_of(state.log.end_segment(LEAST_SEGMENT));
        drop(state);
        warn_of(self.tidy(true));
        error
    }
}
