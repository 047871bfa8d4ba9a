//! How lanes share memory and turns, decided from what was seen: no IO, no clock.
//!
//! Invariant: lanes that take in only where [`has_room`] says so, and seal where [`is_full`] does, hold at most five
//! fourths of the bound together, beside the last batch of each.
//! Invariant: while the bound is reached there is always a lane that is full, so that room comes back.

/// Records behind the journal's end from which on a lane catches up in its turn: those with which a cursor fetches far ahead.
pub const BEHIND: u64 = crate::kafka::MUCH;

/// How many lanes catch up at a time unless set otherwise: one reads while another's segment is built.
pub const TURNS: usize = 2;

/// Part of the bound that lanes with little may take in although it is reached, divided among all of them.
const FOR_SMALL: u64 = 4;

/// What one lane holds, and all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Bytes buffered by this lane.
    pub bytes: u64,
    /// Bytes buffered by all lanes.
    pub bytes_of_all: u64,
    /// Bytes buffered by the lane that holds most.
    pub largest: u64,
    /// How many lanes there are.
    pub lanes: u64,
}

/// Whether lanes hold as much as they may together.
#[must_use]
pub const fn is_crowded(memory_bytes: u64, bytes_of_all: u64) -> bool {
    bytes_of_all >= memory_bytes
}

/// Whether a lane may take in more. One with next to nothing always may, so that no other can silence it.
#[must_use]
pub fn has_room(memory_bytes: u64, load: &Load) -> bool {
    !is_crowded(memory_bytes, load.bytes_of_all) || load.bytes < memory_bytes / FOR_SMALL / load.lanes.max(1)
}

/// Whether what a lane holds makes a segment: as much as one takes, or more than any other once there is no room.
#[must_use]
pub const fn is_full(seal_bytes: u64, memory_bytes: u64, load: &Load) -> bool {
    let crowded = is_crowded(memory_bytes, load.bytes_of_all);
    load.bytes >= seal_bytes || (crowded && load.bytes > 0 && load.bytes >= load.largest)
}

/// Whether a lane is so far behind the journal's end that it has to catch up in its turn.
#[must_use]
pub const fn is_behind(next: u64, end: u64) -> bool {
    end.saturating_sub(next) > BEHIND
}

/// Whether a lane's turn is over: it has caught up with the end that it saw, or others wait and it has sealed a segment.
#[must_use]
pub const fn turn_is_over(next: u64, seen_end: u64, has_sealed: bool, others_wait: bool) -> bool {
    next >= seen_end || (has_sealed && others_wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_shared_by_need_and_no_lane_is_silenced() {
        let load = |bytes, bytes_of_all, largest| Load { bytes, bytes_of_all, largest, lanes: 10 };
        // 400 bytes for ten lanes: each may always have 10.
        for (seen, room, full) in [
            (load(0, 399, 100), true, false),
            (load(399, 399, 399), true, true),
            (load(99, 399, 99), true, false),
            (load(9, 400, 99), true, false),
            (load(10, 400, 99), false, false),
            (load(99, 400, 99), false, true),
            (load(0, 400, 0), true, false),
        ] {
            assert_eq!((has_room(400, &seen), is_full(100, 400, &seen)), (room, full), "{seen:?}");
        }
    }

    #[test]
    fn a_turn_ends_with_the_backlog_or_for_others() {
        assert!(!is_behind(5, 5 + BEHIND) && is_behind(5, 6 + BEHIND) && !is_behind(9, 5));
        for (next, sealed, others, over) in [
            (99, false, false, false),
            (99, true, false, false),
            (99, false, true, false),
            (99, true, true, true),
            (100, false, false, true),
        ] {
            assert_eq!(turn_is_over(next, 100, sealed, others), over, "{next} {sealed} {others}");
        }
    }

    /// Lanes take in, seal and finish in any order, sealing for as long as it likes: the bound holds after every step,
    /// and whatever is stuck comes free by sealing.
    #[test]
    fn any_number_of_lanes_stays_within_the_bound() {
        const MEMORY: u64 = 4000;
        const SEAL: u64 = 1000;
        const BATCH: u64 = 40;
        for lanes in [1, 2, 16, 64] {
            let mut held = vec![0_u64; lanes];
            let mut sealing = vec![0_u64; lanes];
            let (mut seed, mut sealed, mut most) = (lanes as u64, 0, 0);
            for step in 0..200_000 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let lane = usize::try_from(seed >> 33).unwrap_or(0) % lanes;
                let all: u64 = held.iter().sum();
                let largest = held.iter().copied().max().unwrap_or(0);
                let load = Load { bytes: held[lane], bytes_of_all: all, largest, lanes: lanes as u64 };
                if sealing[lane] > 0 && seed.is_multiple_of(7) {
                    held[lane] -= sealing[lane];
                    sealing[lane] = 0;
                    sealed += 1;
                } else if sealing[lane] == 0 && is_full(SEAL, MEMORY, &load) {
                    sealing[lane] = held[lane];
                } else if has_room(MEMORY, &load) && held[lane] < sealing[lane] + SEAL {
                    held[lane] += BATCH;
                }
                let all: u64 = held.iter().sum();
                most = most.max(all);
                let bound = MEMORY + MEMORY / FOR_SMALL + BATCH * lanes as u64;
                assert!(all <= bound, "{lanes} lanes hold {all} at step {step}");
                let stuck = (0..lanes).all(|lane| {
                    let load = Load {
                        bytes: held[lane],
                        bytes_of_all: all,
                        largest: held.iter().copied().max().unwrap_or(0),
                        lanes: lanes as u64,
                    };
                    sealing[lane] == 0 && !has_room(MEMORY, &load) && !is_full(SEAL, MEMORY, &load)
                });
                assert!(!stuck, "{lanes} lanes wait for each other at step {step}");
            }
            assert!(sealed > 1000 && most >= SEAL, "{lanes} lanes: {sealed} segments, {most} bytes at most");
        }
    }
}
