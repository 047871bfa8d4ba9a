//! Medians, percentiles and ratios, in integers.

use std::fmt;

/// Measured durations in nanoseconds.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<u64>);

impl Samples {
    /// Adds one.
    pub fn add(&mut self, value: std::time::Duration) {
        self.0.push(u64::try_from(value.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Adds all of another.
    pub fn append(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// True when there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value below which so many per mille lie, in nanoseconds; 0 when there are none.
    #[must_use]
    pub fn per_mille(&self, share: usize) -> u64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        sorted.get(last * share / 1000).copied().unwrap_or(0)
    }

    /// Median and 99th percentile as microseconds with one decimal.
    #[must_use]
    pub fn summary(&self) -> String {
        format!("p50 {} us, p99 {} us", Tenths(self.per_mille(500) / 100), Tenths(self.per_mille(990) / 100))
    }
}

/// The middle one of some values; 0 when there are none.
#[must_use]
pub fn median(values: &[i64]) -> i64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

/// As [`median`], for counts.
#[must_use]
pub fn middle(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

/// A number of tenths, shown with its decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tenths(pub u64);

impl fmt::Display for Tenths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}", self.0 / 10, self.0 % 10))
    }
}

/// A ratio in per cent, shown as a decimal number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ratio(u64);

impl Ratio {
    /// `value` to `base`; nothing when the base is 0.
    #[must_use]
    pub fn of(value: u64, base: u64) -> Self {
        Self(value.saturating_mul(100).checked_div(base).unwrap_or(0))
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{:02}", self.0 / 100, self.0 % 100))
    }
}

/// Microseconds, with sign and one decimal, of nanoseconds.
#[must_use]
pub fn signed_us(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { '-' } else { '+' };
    format!("{sign}{} us", Tenths(nanoseconds.unsigned_abs() / 100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_ratios_are_those_of_the_book() {
        let mut samples = Samples::default();
        for us in 1..=1000 {
            samples.add(std::time::Duration::from_micros(us));
        }
        assert_eq!(samples.summary(), "p50 500.0 us, p99 990.0 us");
        assert_eq!(Ratio::of(230, 100).to_string(), "2.30");
        assert_eq!(signed_us(-1_250), "-1.2 us");
        assert_eq!((median(&[3, -1, 2]), middle(&[])), (2, 0));
    }
}
