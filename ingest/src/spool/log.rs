//! The spool's own files: numbered segments, appended to with one write each.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bursar_schemas::ports::{Entry, OutletError};
use bursar_schemas::wire;

use super::frame::{self, Frame, HEADER, Kind};
use super::newest::{Newest, Written};

/// Where a frame stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) segment: u64,
    pub(super) at: u64,
    pub(super) size: usize,
}

/// One file.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) index: u64,
    pub(super) file: Arc<File>,
    /// One above the number of its last frame.
    pub(super) end: u64,
    pub(super) bytes: u64,
}

/// The segments of one incarnation, the last of them open.
#[derive(Debug)]
pub(super) struct Log {
    dir: PathBuf,
    segment_bytes: u64,
    segments: VecDeque<Segment>,
    bytes: u64,
    buffer: Vec<u8>,
    newest: Newest,
}

/// The file of a segment.
pub(super) fn path_of(dir: &Path, index: u64) -> PathBuf {
    dir.join(format!("{index:08}.log"))
}

fn create(dir: &Path, index: u64, end: u64) -> io::Result<Segment> {
    let file = OpenOptions::new().read(true).append(true).create_new(true).open(path_of(dir, index))?;
    Ok(Segment { index, file: Arc::new(file), end, bytes: 0 })
}

impl Log {
    pub(super) fn create(dir: &Path, segment_bytes: u64) -> io::Result<Self> {
        let segments = VecDeque::from([create(dir, 0, 0)?]);
        Ok(Self {
            dir: dir.to_path_buf(),
            segment_bytes,
            segments,
            bytes: 0,
            buffer: Vec::new(),
            newest: Newest::default(),
        })
    }

    /// Frames from that place on, as far as memory holds them without a hole.
    pub(super) fn newest(&self, segment: u64, at: u64) -> Vec<Written> {
        self.newest.from(segment, at)
    }

    /// Bytes on disk.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Number that the next frame will get.
    pub(super) fn next(&self) -> u64 {
        self.segments.back().map_or(0, |open| open.end)
    }

    pub(super) const fn segments(&self) -> &VecDeque<Segment> {
        &self.segments
    }

    /// Bytes that the entries take.
    pub(super) fn size_of(entries: &[Entry]) -> Result<u64, OutletError> {
        let mut size = 0_usize;
        for entry in entries {
            if entry.value.len() > wire::LONGEST {
                return Err(OutletError::Failed(format!("a record is longer than {} bytes", wire::LONGEST)));
            }
            size += HEADER + entry.value.len();
        }
        Ok(u64::try_from(size).unwrap_or(u64::MAX))
    }

    /// Writes all entries, or none, with one write; says where each stands.
    ///
    /// The outer error means that the file is in an unknown state.
    pub(super) fn append(
        &mut self,
        kind: Kind,
        entries: &[Entry],
    ) -> Result<Result<Vec<Spot>, OutletError>, String> {
        if let Err(error) = self.rotate() {
            return Ok(Err(refusal(&error)));
        }
        let Some(open) = self.segments.back_mut() else { return Err("the spool has no segment".to_owned()) };
        self.buffer.clear();
        let mut spots = Vec::with_capacity(entries.len());
        let mut number = open.end;
        for entry in entries {
            let at = open.bytes + u64::try_from(self.buffer.len()).unwrap_or(u64::MAX);
            let before = self.buffer.len();
            frame::put(kind, entry.lane, entry.at, number, &entry.value, &mut self.buffer);
            spots.push(Spot { segment: open.index, at, size: self.buffer.len() - before });
            number += 1;
        }
        let written = (&*open.file).write_all(&self.buffer);
        // A large value must not hold its memory for good.
        self.buffer.shrink_to(1 << 20);
        if let Err(error) = written {
            // What was written of it must not stand there as if it had been taken.
            open.file
                .set_len(open.bytes)
                .map_err(|again| format!("failed to take back a failed write ({error}): {again}"))?;
            return Ok(Err(refusal(&error)));
        }
        for ((entry, spot), number) in entries.iter().zip(&spots).zip(open.end..) {
            self.newest.push(Written { spot: *spot, kind, number, entry: entry.clone() });
        }
        let size: usize = spots.iter().map(|spot| spot.size).sum();
        let size = u64::try_from(size).unwrap_or(u64::MAX);
        open.bytes += size;
        open.end = number;
        self.bytes += size;
        Ok(Ok(spots))
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.end_segment(self.segment_bytes)
    }

    /// Ends the open segment and begins another, if it has so many bytes.
    pub(super) fn end_segment(&mut self, bytes: u64) -> io::Result<()> {
        let Some(open) = self.segments.back() else { return Ok(()) };
        if open.bytes >= bytes {
            let fresh = create(&self.dir, open.index + 1, open.end)?;
            self.segments.push_back(fresh);
        }
        Ok(())
    }

    /// Deletes the oldest segment.
    pub(super) fn delete_oldest(&mut self) -> io::Result<()> {
        if self.segments.len() < 2 {
            return Ok(());
        }
        if let Some(oldest) = self.segments.front() {
            std::fs::remove_file(path_of(&self.dir, oldest.index))?;
            self.bytes -= oldest.bytes;
            self.segments.pop_front();
        }
        Ok(())
    }

    /// Reads one frame back.
    pub(super) fn read(&self, spot: Spot) -> io::Result<Frame> {
        let segment = self
            .segments
            .iter()
            .find(|segment| segment.index == spot.segment)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the segment is gone"))?;
        let mut bytes = vec![0; spot.size];
        segment.file.read_exact_at(&mut bytes, spot.at)?;
        match frame::take(&bytes) {
            frame::Place::Whole(frame) => Ok(frame),
            frame::Place::Cut | frame::Place::Bad => Err(damaged(spot.segment, spot.at)),
        }
    }
}

/// The error for a frame of our own that does not read back.
pub(super) fn damaged(segment: u64, at: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("segment {segment} is damaged at byte {at}"))
}

fn refusal(error: &io::Error) -> OutletError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            OutletError::Full(format!("the spool's disk is full: {error}"))
        }
        _ => OutletError::Failed(format!("failed to write to the spool: {error}")),
    }
}
