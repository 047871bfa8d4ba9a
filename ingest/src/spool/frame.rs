//! Frames: what the spool's files are made of. All integers are big-endian.
//!
//! | Bytes | Field |
//! |---|---|
//! | 4 | mark, by which the next frame is found again after a damaged place |
//! | 4 | CRC-32 of everything after it |
//! | 4 | length of the value |
//! | 1 | kind: 0 a fact to be forwarded, 1 a copy carried over from a deleted segment |
//! | 1 | topic, as an index into [`Topic::ALL`] |
//! | 4 | partition |
//! | 8 | event time in microseconds |
//! | 8 | number of the frame in the spool, from 0 |
//! | n | the record bytes |

use bursar_schemas::avro::Micros;
use bursar_schemas::position::{Lane, Topic};
use bursar_schemas::wire;
use bytes::Bytes;

const MARK: [u8; 4] = [0xB5, 0x5A, 0xF7, 0x1E];
/// Bytes before the value.
pub(super) const HEADER: usize = 34;

/// What a frame is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A fact to be forwarded.
    Fact,
    /// A copy of a fact that was forwarded long ago and speaks of a request that is still open.
    Carried,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) lane: Lane,
    pub(super) at: Micros,
    pub(super) number: u64,
    pub(super) value: Bytes,
}

impl Frame {
    /// Bytes on disk.
    pub(super) fn size(&self) -> usize {
        HEADER + self.value.len()
    }
}

/// What stands at a place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A whole frame.
    Whole(Frame),
    /// The beginning of a frame whose end is not there.
    Cut,
    /// No frame.
    Bad,
}

/// Appends a frame.
pub(super) fn put(kind: Kind, lane: Lane, at: Micros, number: u64, value: &[u8], out: &mut Vec<u8>) {
    let begin = out.len();
    out.extend_from_slice(&MARK);
    out.extend_from_slice(&[0; 4]);
    // Longer values are refused before they come here.
    out.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.push(u8::from(kind == Kind::Carried));
    let topic = Topic::ALL.iter().position(|topic| *topic == lane.topic).unwrap_or(0);
    out.push(u8::try_from(topic).unwrap_or(0));
    out.extend_from_slice(&lane.partition.to_be_bytes());
    out.extend_from_slice(&at.0.to_be_bytes());
    out.extend_from_slice(&number.to_be_bytes());
    out.extend_from_slice(value);
    let sum = crc32fast::hash(&out[begin + 8..]);
    out[begin + 4..begin + 8].copy_from_slice(&sum.to_be_bytes());
}

fn array<const N: usize>(input: &[u8], at: usize) -> Option<[u8; N]> {
    input.get(at..at + N)?.try_into().ok()
}

/// Reads what stands at the beginning of `input`.
pub(super) fn take(input: &[u8]) -> Place {
    if !input.starts_with(&MARK) {
        return if MARK.starts_with(input) { Place::Cut } else { Place::Bad };
    }
    let (Some(sum), Some(length)) = (array(input, 4), array(input, 8)) else { return Place::Cut };
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > wire::LONGEST {
        return Place::Bad;
    }
    let Some(body) = input.get(8..HEADER + length) else { return Place::Cut };
    if crc32fast::hash(body) != u32::from_be_bytes(sum) {
        return Place::Bad;
    }
    read(input, length).map_or(Place::Bad, Place::Whole)
}

fn read(input: &[u8], length: usize) -> Option<Frame> {
    let kind = match input.get(12)? {
        0 => Kind::Fact,
        1 => Kind::Carried,
        _ => return None,
    };
    let topic = *Topic::ALL.get(usize::from(*input.get(13)?))?;
    let partition = u32::from_be_bytes(array(input, 14)?);
    let at = Micros(i64::from_be_bytes(array(input, 18)?));
    let number = u64::from_be_bytes(array(input, 26)?);
    let value = Bytes::copy_from_slice(input.get(HEADER..HEADER + length)?);
    Some(Frame { kind, lane: Lane::new(topic, partition), at, number, value })
}

/// Distance to the next whole frame behind a damaged place.
pub(super) fn next_whole(input: &[u8]) -> Option<usize> {
    (1..input.len()).find(|at| {
        let rest = &input[*at..];
        rest.starts_with(&MARK) && matches!(take(rest), Place::Whole(_))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn example(value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put(Kind::Fact, Lane::new(Topic::Spend, 3), Micros(-7), 9, value, &mut out);
        out
    }

    #[test]
    fn a_frame_reads_back_and_every_cut_is_seen() {
        let bytes = example(b"hello");
        let Place::Whole(frame) = take(&bytes) else { panic!("not whole") };
        assert_eq!((frame.number, frame.at, &frame.value[..]), (9, Micros(-7), &b"hello"[..]));
        assert_eq!((frame.lane, frame.size()), (Lane::new(Topic::Spend, 3), bytes.len()));
        for cut in 0..bytes.len() {
            assert_eq!(take(&bytes[..cut]), Place::Cut, "cut at {cut}");
        }
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let bytes = example(b"a value");
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(take(&changed), Place::Whole(_)), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_nor_pass(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(!matches!(take(&bytes), Place::Whole(_)));
            prop_assert_eq!(next_whole(&bytes), None);
        }
    }
}
