//! The newest frames, as they were written: while the forwarder keeps up it need not read them back from disk.

use std::collections::VecDeque;

use bursar_schemas::ports::Entry;

use super::frame::Kind;
use super::log::Spot;

/// Bytes of frames that are held; what is older is read from disk.
const BOUND: usize = 512 << 10;

/// A frame, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) spot: Spot,
    pub(super) kind: Kind,
    pub(super) number: u64,
    pub(super) entry: Entry,
}

impl Written {
    const fn place(&self) -> (u64, u64) {
        (self.spot.segment, self.spot.at)
    }
}

/// Frames without a hole, up to the log's end.
#[derive(Debug, Default)]
pub(super) struct Newest {
    frames: VecDeque<Written>,
    bytes: usize,
}

impl Newest {
    /// Takes the frame that follows.
    pub(super) fn push(&mut self, written: Written) {
        self.bytes += written.spot.size;
        self.frames.push_back(written);
        while self.bytes > BOUND {
            let Some(oldest) = self.frames.pop_front() else { break };
            self.bytes -= oldest.spot.size;
        }
    }

    /// Frames of one segment from that place on; none when there are none, or when memory does not go back so far.
    pub(super) fn from(&self, segment: u64, at: u64) -> Vec<Written> {
        let first = self.frames.partition_point(|frame| frame.place() < (segment, at));
        let Some(next) = self.frames.get(first) else { return Vec::new() };
        // With a frame before it in memory nothing can lie between; a segment's end and the next one's beginning
        // are the same place then.
        if first == 0 && next.place() != (segment, at) {
            return Vec::new();
        }
        let of_segment = self.frames.range(first..).take_while(|it| it.spot.segment == next.spot.segment);
        of_segment.cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use bursar_schemas::avro::Micros;
    use bursar_schemas::position::{Lane, Topic};
    use bytes::Bytes;

    use super::*;

    fn frame(segment: u64, at: u64, number: u64, size: usize) -> Written {
        let entry = Entry { lane: Lane::new(Topic::Spend, 0), value: Bytes::new(), at: Micros(0) };
        Written { spot: Spot { segment, at, size }, kind: Kind::Fact, number, entry }
    }

    fn numbers(newest: &Newest, segment: u64, at: u64) -> Vec<u64> {
        newest.from(segment, at).iter().map(|frame| frame.number).collect()
    }

    #[test]
    fn frames_are_found_from_any_place_and_never_across_a_hole() {
        let mut newest = Newest::default();
        assert!(numbers(&newest, 0, 0).is_empty());
        for (segment, at, number) in [(0, 50, 1), (0, 60, 2), (1, 0, 3), (1, 10, 4)] {
            newest.push(frame(segment, at, number, 10));
        }
        assert_eq!(numbers(&newest, 0, 50), [1, 2], "a segment at a time");
        assert_eq!(numbers(&newest, 0, 60), [2]);
        assert_eq!(numbers(&newest, 0, 70), [3, 4], "the end of one segment is the beginning of the next");
        assert_eq!(numbers(&newest, 1, 0), [3, 4]);
        assert!(numbers(&newest, 1, 20).is_empty());
        assert!(numbers(&newest, 0, 40).is_empty(), "what stood there is not in memory");
    }

    #[test]
    fn memory_is_bounded() {
        let mut newest = Newest::default();
        for number in 0..4 {
            newest.push(frame(0, number * 200_000, number, 200_000));
        }
        assert_eq!(numbers(&newest, 0, 400_000), [2, 3]);
        assert!(numbers(&newest, 0, 200_000).is_empty());
    }
}
