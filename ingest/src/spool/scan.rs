//! Reading a whole segment file, past damaged places: pure.

use super::frame::{self, Frame, Place};

/// A damaged place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) segment: u64,
    /// True for a last write that was cut short.
    pub(super) torn: bool,
    pub(super) at: u64,
    pub(super) bytes: u64,
    /// Number of the first frame that can be missing.
    pub(super) first: u64,
    /// Number of the last missing frame; none when no later frame tells.
    pub(super) last: Option<u64>,
}

/// Reads one incarnation's segments, oldest first.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    /// Number of the next frame, once one was seen.
    expected: Option<u64>,
    pub(super) faults: Vec<Fault>,
}

fn wide(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

impl Scanner {
    /// Hands every whole frame of a segment over, and gives the spans that hold them.
    pub(super) fn scan(
        &mut self,
        segment: u64,
        bytes: &[u8],
        newest: bool,
        mut each: impl FnMut(&Frame),
    ) -> Vec<(u64, u64)> {
        let mut spans: Vec<(u64, u64)> = Vec::new();
        let mut at = 0_usize;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match frame::take(rest) {
                Place::Whole(frame) => {
                    self.note_gap(segment, frame.number, at);
                    self.expected = Some(frame.number + 1);
                    each(&frame);
                    let end = wide(at + frame.size());
                    match spans.last_mut() {
                        Some(span) if span.1 == wide(at) => span.1 = end,
                        _ => spans.push((wide(at), end)),
                    }
                    at += frame.size();
                }
                place @ (Place::Cut | Place::Bad) => {
                    let skipped = frame::next_whole(rest);
                    let length = skipped.unwrap_or(rest.len());
                    // Zeros are what a file system leaves of a write that grew the file but did not reach the disk.
                    let unwritten = place == Place::Cut || rest.iter().all(|byte| *byte == 0);
                    let torn = newest && skipped.is_none() && unwritten;
                    let first = self.expected.unwrap_or(0);
                    let (at_byte, bytes) = (wide(at), wide(length));
                    self.faults.push(Fault { segment, torn, at: at_byte, bytes, first, last: None });
                    at += length;
                }
            }
        }
        spans
    }

    /// Tells which numbers damaged places took, or that a file between is gone.
    fn note_gap(&mut self, segment: u64, number: u64, at: usize) {
        // Before the first frame nothing is missing but what a damaged place may have held.
        let expected = self.expected.unwrap_or(if self.faults.is_empty() { number } else { 0 });
        let last = number.checked_sub(1);
        let mut told = false;
        for fault in self.faults.iter_mut().filter(|fault| fault.last.is_none()) {
            fault.last = last;
            told = true;
        }
        if expected < number && !told {
            self.faults.push(Fault { segment, torn: false, at: wide(at), bytes: 0, first: expected, last });
        }
    }
}
