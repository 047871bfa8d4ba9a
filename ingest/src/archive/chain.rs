//! The chain of a lane's segments: each starts one above the end of the one before it.

use bursar_schemas::ids::Generation;
use bursar_schemas::position::Lane;

use super::buffer::Head;
use super::plan::NotOfChain;
use super::store::{Segments, StoreError};

/// How far back from the journal's end a listing looks for the chain's newest segments, in offsets; then
/// everywhere.
const WINDOWS: [u64; 4] = [1 << 16, 1 << 20, 1 << 24, 1 << 28];

fn head_after(
    footer: &bursar_schemas::archive::Footer,
    generation: Generation,
    lane: Lane,
) -> Result<Head, StoreError> {
    Head::after(footer).map_err(|error: NotOfChain| StoreError::NotOfChain {
        key: bursar_schemas::archive::segment_key(generation, lane, footer.start),
        error,
    })
}

/// Follows the chain from a link on to its end.
///
/// # Errors
/// When the store fails, or an object in the chain's way is not a segment.
pub async fn follow(
    segments: &Segments,
    generation: Generation,
    lane: Lane,
    from: Head,
) -> Result<Head, StoreError> {
    let mut head = from;
    while let Some(footer) = segments.footer(generation, lane, head.next).await? {
        head = head_after(&footer, generation, lane)?;
    }
    Ok(head)
}

/// The link that a listing hints at: the newest listed segment, if the one listed before it leads to it. A
/// segment that none leads to is foreign; the chain is then followed from its start.
async fn hinted(
    segments: &Segments,
    generation: Generation,
    lane: Lane,
    journal_end: u64,
) -> Result<Option<Head>, StoreError> {
    let windows = WINDOWS.iter().map(|width| journal_end.saturating_sub(*width)).filter(|from| *from > 0);
    for from in windows.chain([0]) {
        let (Some(last), Some(before)) = segments.last_listed(generation, lane, from).await? else {
            continue;
        };
        let leads = match segments.footer(generation, lane, before).await {
            Ok(footer) => footer.is_some_and(|footer| footer.end.checked_add(1) == Some(last)),
            // What is foreign may be anything; the chain itself decides.
            Err(StoreError::Unreadable { .. } | StoreError::NotOfChain { .. }) => false,
            Err(error) => return Err(error),
        };
        if !leads {
            return Ok(None);
        }
        let footer = match segments.footer(generation, lane, last).await {
            Err(StoreError::Unreadable { .. } | StoreError::NotOfChain { .. }) => None,
            found => found?,
        };
        return footer.map(|footer| head_after(&footer, generation, lane)).transpose();
    }
    Ok(None)
}

/// The chain's end: where the next segment goes. `journal_end` is the journal's end, which only tells where to
/// look first.
///
/// # Errors
/// When the store fails, or an object in the chain's way is not a segment.
pub async fn find_head(
    segments: &Segments,
    generation: Generation,
    lane: Lane,
    journal_end: u64,
) -> Result<Head, StoreError> {
    let from = hinted(segments, generation, lane, journal_end).await?.unwrap_or_default();
    follow(segments, generation, lane, from).await
}
