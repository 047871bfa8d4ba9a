//! A small file beside the store that says how far each lane was acknowledged.
//!
//! A store's own log can be cut at a damaged place when it is opened, and looks whole afterwards. The marks
//! are written after each group, without a flush, by plain writes in place: a killed process loses none, and a
//! machine that goes down loses at most the newest, so a mark is never above what was acknowledged.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use bursar_schemas::position::Lane;

/// Bytes of a mark: the end, and its checksum.
const SLOT: usize = 12;

/// The marks of all lanes.
#[derive(Debug)]
pub(super) struct Watermarks {
    file: File,
    slots: BTreeMap<Lane, u64>,
}

impl Watermarks {
    /// Opens the file; lanes in their fixed order.
    pub(super) fn open(path: &Path, lanes: impl Iterator<Item = Lane>) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let slots = lanes.zip((0_u64..).step_by(SLOT)).collect();
        Ok(Self { file, slots })
    }

    /// How far the lane was acknowledged at least; 0 where the mark itself was torn.
    pub(super) fn acknowledged(&self, lane: Lane) -> io::Result<u64> {
        let Some(at) = self.slots.get(&lane) else { return Ok(0) };
        let mut slot = [0; SLOT];
        match self.file.read_exact_at(&mut slot, *at) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
            Err(error) => return Err(error),
        }
        let (end, sum) = slot.split_at(8);
        let whole = crc32fast::hash(end).to_be_bytes() == sum;
        Ok(if whole { end.try_into().map_or(0, u64::from_be_bytes) } else { 0 })
    }

    /// Notes how far a lane is acknowledged.
    pub(super) fn note(&self, lane: Lane, end: u64) -> io::Result<()> {
        let Some(at) = self.slots.get(&lane) else { return Ok(()) };
        let mut slot = [0; SLOT];
        slot[..8].copy_from_slice(&end.to_be_bytes());
        let sum = crc32fast::hash(&slot[..8]);
        slot[8..].copy_from_slice(&sum.to_be_bytes());
        self.file.write_all_at(&slot, *at)
    }
}
