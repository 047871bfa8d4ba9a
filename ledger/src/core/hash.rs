//! A hasher without a random seed, so that the state machine has none. Maps under it are looked up, never walked.
//! Their keys come only from certified producers.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map that is looked up, never walked.
pub(super) type Table<K, V> = HashMap<K, V, BuildHasherDefault<Mix>>;

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Multiply and rotate over eight bytes at a time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mix(u64);

impl Mix {
    const fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(FACTOR);
    }
}

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.word(u64::from_le_bytes(last));
        }
    }
    fn write_u8(&mut self, value: u8) {
        self.word(u64::from(value));
    }
    fn write_u32(&mut self, value: u32) {
        self.word(u64::from(value));
    }
    fn write_usize(&mut self, value: usize) {
        self.write(&value.to_le_bytes());
    }
    fn write_u64(&mut self, value: u64) {
        self.word(value);
    }
    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(FACTOR);
        mixed ^ (mixed >> 29)
    }
}
