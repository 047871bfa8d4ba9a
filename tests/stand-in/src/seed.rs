//! Repeatable choices: pure functions of a seed, so that a run can be had again.

/// Spreads a number over all 64 bits (the finalizer of SplitMix64).
pub(crate) const fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number for a text under a seed (FNV-1a, then spread).
pub(crate) fn of_text(seed: u64, text: &str) -> u64 {
    let hash = text.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    mix(hash ^ mix(seed))
}

/// A run of choices.
#[derive(Debug, Clone)]
pub(crate) struct Choices(u64);

impl Choices {
    /// The choices for one numbered thing under a seed.
    pub(crate) const fn new(seed: u64, number: u64) -> Self {
        Self(mix(mix(seed) ^ number))
    }

    /// The next number.
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0)
    }

    /// True in so many cases of a thousand.
    pub(crate) const fn per_mille(&mut self, rate: u64) -> bool {
        self.next() % 1000 < rate
    }

    /// One of them; none of none.
    pub(crate) fn one_of<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let count = u64::try_from(items.len()).ok().filter(|count| *count > 0)?;
        items.get(usize::try_from(self.next() % count).ok()?)
    }
}
