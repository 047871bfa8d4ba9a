//! The two things that are forwarded: a predecessor's spool, then the own one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bursar_schemas::ports::{Entry, OutletError};
use bursar_schemas::wire;

use super::forward::{Feed, Parcel, Position};
use super::frame::{self, Frame, HEADER, Kind, Place};
use super::log::damaged;
use super::newest::Written;
use super::recover::Replay;
use super::shared::{Shared, warn_of};

/// Bytes read at once: more than the longest frame.
const CHUNK: u64 = 1 << 20;
const _: () = assert!(CHUNK >= (wire::LONGEST + HEADER) as u64, "a chunk must hold the longest frame");

/// Whole frames from `at` on, below `limit`, and where they end.
fn read(file: &File, segment: u64, at: u64, limit: u64) -> io::Result<(Vec<Frame>, u64)> {
    let size = usize::try_from(limit.saturating_sub(at).min(CHUNK)).unwrap_or(0);
    let mut bytes = vec![0; size];
    file.read_exact_at(&mut bytes, at)?;
    let mut frames = Vec::new();
    let mut read = 0;
    while let Some(rest) = bytes.get(read..).filter(|rest| !rest.is_empty()) {
        match frame::take(rest) {
            Place::Whole(frame) => {
                read += frame.size();
                frames.push(frame);
            }
            // The chunk ends within a frame, which the next one begins with.
            Place::Cut if read > 0 => break,
            Place::Cut | Place::Bad => {
                return Err(damaged(segment, at + u64::try_from(read).unwrap_or(0)));
            }
        }
    }
    Ok((frames, at + u64::try_from(read).unwrap_or(0)))
}

fn parcel(frames: Vec<Frame>, begin: Position, acknowledged: u64) -> Parcel {
    let end = frames.last().map_or(0, |last| last.number + 1);
    let entries = frames
        .into_iter()
        .filter(|frame| frame.kind == Kind::Fact && frame.number >= acknowledged)
        .map(|frame| Entry { lane: frame.lane, value: frame.value, at: frame.at })
        .collect();
    Parcel { entries, begin, end }
}

/// Frames that memory holds, and where they end.
fn written(frames: Vec<Written>) -> Option<(Parcel, Position)> {
    let (first, last) = (frames.first()?, frames.last()?);
    let begin = Position { segment: first.spot.segment, at: first.spot.at };
    let size = u64::try_from(last.spot.size).unwrap_or(0);
    let after = Position { segment: last.spot.segment, at: last.spot.at + size };
    let end = last.number + 1;
    let facts = frames.into_iter().filter(|frame| frame.kind == Kind::Fact);
    Some((Parcel { entries: facts.map(|frame| frame.entry).collect(), begin, end }, after))
}

/// The spool of this incarnation, as far as it is written.
pub(super) struct Own {
    shared: Arc<Shared>,
    position: Position,
}

impl Own {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared, position: Position { segment: 0, at: 0 } }
    }
}

impl Feed for Own {
    fn parcel(&mut self) -> io::Result<Option<Parcel>> {
        loop {
            let found = {
                let state = self.shared.state.lock();
                let newest = state.log.newest(self.position.segment, self.position.at);
                if let Some((parcel, after)) = written(newest) {
                    self.position = after;
                    return Ok(Some(parcel));
                }
                // A segment that is gone was acknowledged whole, so nothing is passed over.
                let mut segments = state.log.segments().iter();
                let segment = segments.find(|segment| segment.index >= self.position.segment).cloned();
                segment.map(|segment| (segment, segments.next().map(|next| next.index)))
            };
            let Some((segment, following)) = found else {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the segments of the spool are gone"));
            };
            if segment.index > self.position.segment {
                self.position = Position { segment: segment.index, at: 0 };
            }
            let begin = self.position;
            if begin.at < segment.bytes {
                let (frames, end) = read(&segment.file, begin.segment, begin.at, segment.bytes)?;
                self.position.at = end;
                return Ok(Some(parcel(frames, begin, 0)));
            }
            let Some(following) = following else { return Ok(None) };
            self.position = Position { segment: following, at: 0 };
        }
    }

    fn rewind(&mut self, to: Position) {
        self.position = to;
    }

    fn acknowledged(&mut self, end: u64) {
        self.shared.acknowledge(end);
    }

    fn refused(&mut self, error: &OutletError) {
        self.shared.note_refusal(error);
    }
}

/// A predecessor's spool, read where it lies; it does not grow.
pub(super) struct Predecessors {
    shared: Arc<Shared>,
    replay: Replay,
    position: Position,
}

impl Predecessors {
    pub(super) const fn new(shared: Arc<Shared>, replay: Replay) -> Self {
        Self { shared, replay, position: Position { segment: 0, at: 0 } }
    }

    /// Gives it back to be removed.
    pub(super) fn into_replay(self) -> Replay {
        self.replay
    }
}

impl Feed for Predecessors {
    fn parcel(&mut self) -> io::Result<Option<Parcel>> {
        loop {
            let index = usize::try_from(self.position.segment).unwrap_or(usize::MAX);
            let Some(piece) = self.replay.pieces.get(index) else { return Ok(None) };
            let Some((from, to)) = piece.spans.iter().find(|(_, to)| *to > self.position.at) else {
                self.position = Position { segment: self.position.segment + 1, at: 0 };
                continue;
            };
            let begin = Position { segment: self.position.segment, at: self.position.at.max(*from) };
            let file = File::open(&piece.path)?;
            let (frames, end) = read(&file, begin.segment, begin.at, *to)?;
            self.position.at = end;
            return Ok(Some(parcel(frames, begin, self.replay.mark.acknowledged)));
        }
    }

    fn rewind(&mut self, to: Position) {
        self.position = to;
    }

    fn acknowledged(&mut self, end: u64) {
        self.replay.mark.acknowledged = self.replay.mark.acknowledged.max(end);
        warn_of(self.replay.mark.write(&self.replay.dir));
    }

    fn refused(&mut self, error: &OutletError) {
        self.shared.note_refusal(error);
    }
}
