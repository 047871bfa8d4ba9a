//! Integer money: a count of pico-dollars, never a float.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Pico-dollars in one dollar.
pub const PICO_PER_DOLLAR: i128 = 1_000_000_000_000;

/// The largest absolute amount, in pico-dollars: 38 decimal digits, as Decimal128(38, 12) holds.
pub const LARGEST: i128 = 99_999_999_999_999_999_999_999_999_999_999_999_999;

/// An amount of US dollars as an integer count of pico-dollars (10⁻¹² dollars).
///
/// Sums saturate at ±[`LARGEST`] (10²⁶ dollars), which no ledger reaches; saturating keeps a hostile record
/// from stopping a reader, and an amount that large refuses every further reservation.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(i128);

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// An amount in pico-dollars, held within ±[`LARGEST`].
    #[must_use]
    pub const fn from_pico(pico: i128) -> Self {
        if pico > LARGEST {
            Self(LARGEST)
        } else if pico < -LARGEST {
            Self(-LARGEST)
        } else {
            Self(pico)
        }
    }

    /// The amount in pico-dollars.
    #[must_use]
    pub const fn pico(self) -> i128 {
        self.0
    }

    /// The sum.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self::from_pico(self.0.saturating_add(other.0))
    }

    /// The difference.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self::from_pico(self.0.saturating_sub(other.0))
    }

    /// The difference, but never below nothing.
    #[must_use]
    pub fn minus_or_zero(self, other: Self) -> Self {
        self.minus(other).max(Self::ZERO)
    }

    /// True above zero.
    #[must_use]
    pub const fn is_positive(self) -> bool {
        self.0 > 0
    }

    /// The amount as dollars with at least two and at most twelve decimals, such as `0.000123` or `12.00`.
    #[must_use]
    pub fn dollars(self) -> String {
        let sign = if self.0 < 0 { "-" } else { "" };
        let absolute = self.0.unsigned_abs();
        let pico = PICO_PER_DOLLAR.unsigned_abs();
        let fraction = format!("{:012}", absolute % pico);
        let kept = fraction.trim_end_matches('0').len().max(2);
        format!("{sign}{}.{}", absolute / pico, &fraction[..kept])
    }
}

impl std::iter::Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::plus)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.dollars())
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}", self.dollars())
    }
}

/// An amount was not written as a decimal number of dollars.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Not a plain decimal number.
    #[error("failed to read an amount: {0:?} is not a decimal number such as \"12.50\"")]
    NotDecimal(String),
    /// More than twelve decimals would be cut.
    #[error("failed to read an amount: {0:?} has more than 12 decimals")]
    TooFine(String),
    /// Beyond 10²⁶ dollars.
    #[error("failed to read an amount: {0:?} is too large")]
    TooLarge(String),
}

impl FromStr for Money {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let not_decimal = || MoneyError::NotDecimal(text.chars().take(64).collect());
        let too_large = || MoneyError::TooLarge(text.chars().take(64).collect());
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !plain(whole) || !plain(fraction) || digits.ends_with('.') {
            return Err(not_decimal());
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > 12 {
            return Err(MoneyError::TooFine(text.chars().take(64).collect()));
        }
        let whole: i128 = whole.parse().map_err(|_| too_large())?;
        let fraction: i128 = format!("{fraction:0<12}").parse().map_err(|_| not_decimal())?;
        let pico = whole
            .checked_mul(PICO_PER_DOLLAR)
            .and_then(|pico| pico.checked_add(fraction))
            .filter(|pico| *pico <= LARGEST)
            .ok_or_else(too_large)?;
        Ok(Self(if negative { -pico } else { pico }))
    }
}

impl Serialize for Money {
    /// As a decimal string of dollars: JSON numbers are floats to most readers.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.dollars())
    }
}

impl<'de> Deserialize<'de> for Money {
    /// From a decimal string of dollars, or a whole number; a float is refused.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Money;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount of dollars as a string such as \"12.50\" or as a whole number")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Money, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, dollars: i64) -> Result<Money, E> {
                Ok(Money::from_pico(i128::from(dollars) * PICO_PER_DOLLAR))
            }
            fn visit_u64<E: serde::de::Error>(self, dollars: u64) -> Result<Money, E> {
                Ok(Money::from_pico(i128::from(dollars) * PICO_PER_DOLLAR))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Quantity × price per million units, rounded half up to the pico-dollar, once.
///
/// This is the contract's only rounding: one call per line item.
#[must_use]
pub fn line_amount(quantity: u64, price_per_million: Money) -> Money {
    const MILLION: i128 = 1_000_000;
    let product = i128::from(quantity).saturating_mul(price_per_million.pico());
    // Half up, also below zero: floor((2p + m) / 2m).
    Money::from_pico(product.saturating_add(MILLION / 2).div_euclid(MILLION))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_and_printed_exactly() {
        for (text, pico, printed) in [
            ("0", 0, "0.00"),
            ("12.5", 12_500_000_000_000, "12.50"),
            ("-0.000000000001", -1, "-0.000000000001"),
            ("18446744.073709551616", 18_446_744_073_709_551_616, "18446744.073709551616"),
        ] {
            let money: Money = text.parse().unwrap();
            assert_eq!((money.pico(), money.dollars().as_str()), (pico, printed), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_plain_decimal_is_refused() {
        for text in ["", ".", "1.", ".5", "1e3", "0x10", "1,000", "+1", " 1", "--1", "0.0000000000001", "1١"]
        {
            assert!(text.parse::<Money>().is_err(), "{text:?} was read");
        }
        assert!("9".repeat(40).parse::<Money>().is_err());
        assert!(serde_json::from_str::<Money>("12.5").is_err(), "a float was read as money");
    }

    #[test]
    fn a_line_is_rounded_half_up_once() {
        let price = Money::from_pico(500_000);
        assert_eq!(line_amount(1, price).pico(), 1, "half goes up");
        assert_eq!(line_amount(3, Money::from_pico(100_000)).pico(), 0);
        assert!(line_amount(u64::MAX, Money::from_pico(LARGEST)).is_positive(), "saturates, never wraps");
    }

    proptest::proptest! {
        #[test]
        fn printing_and_reading_are_inverse(pico in -LARGEST..=LARGEST) {
            let money = Money::from_pico(pico);
            proptest::prop_assert_eq!(money.dollars().parse::<Money>().unwrap(), money);
        }
    }
}
