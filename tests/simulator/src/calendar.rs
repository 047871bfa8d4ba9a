//! Windows in UTC by plain arithmetic: a second opinion on the production calendar.

/// One second in microseconds.
pub const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400;

/// What a simulated budget's window is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A month.
    Month,
    /// For ever.
    Total,
}

/// Year and month of a day since 1970-01-01, by the era arithmetic of the proleptic Gregorian calendar.
const fn month_of(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted - era * 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + if month <= 2 { 1 } else { 0 }, month, day)
}

impl Kind {
    /// The id of the window that holds an instant: its first second.
    #[must_use]
    pub const fn window(self, at: i64) -> i64 {
        let seconds = at.div_euclid(SECOND);
        match self {
            Self::Hour => seconds.div_euclid(3600) * 3600,
            Self::Day => seconds.div_euclid(DAY) * DAY,
            Self::Month => {
                let days = seconds.div_euclid(DAY);
                let (_, _, day) = month_of(days);
                (days - day + 1) * DAY
            }
            Self::Total => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_begin_on_their_first_day() {
        // 2026-11-30T23:59:59Z and the second after it; 2028-02-29T00:00:00Z.
        assert_eq!(Kind::Month.window(1_796_083_199 * SECOND), 1_793_491_200);
        assert_eq!(Kind::Month.window(1_796_083_200 * SECOND), 1_796_083_200);
        assert_eq!(Kind::Month.window(1_835_395_200 * SECOND), 1_832_976_000);
    }
}
