//! Calendar windows: from an instant and an IANA time zone to the window that holds it.

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{RoundMode, Timestamp, ToSpan as _, Unit, Zoned, ZonedRound};

use crate::avro::{Micros, avro_enum};

avro_enum! {
    /// How long a budget's money has to last.
    pub enum Window {
        /// From full hour to full hour of local time.
        Hour = "hour",
        /// From midnight to midnight.
        Day = "day",
        /// From Monday to Monday, as ISO 8601 has it.
        Week = "week",
        /// From the first to the first.
        Month = "month",
        /// For ever.
        Total = "total",
    }
}

/// One window: first instant, and the first instant after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Span {
    /// First instant.
    pub starts_at: Micros,
    /// First instant after it; none for `total`.
    pub ends_at: Option<Micros>,
}

impl Span {
    /// The window's id: its first second as Unix time, 0 for `total`. Ids rise with time.
    #[must_use]
    pub const fn id(self) -> i64 {
        self.starts_at.0.div_euclid(1_000_000)
    }

    /// True when the instant lies within.
    #[must_use]
    pub fn holds(self, at: Micros) -> bool {
        at >= self.starts_at && self.ends_at.is_none_or(|end| at < end)
    }
}

/// A time that no calendar holds, or a zone that is not in the IANA database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// The zone's name is unknown.
    #[error("unknown time zone {0:?}: expected an IANA name such as \"Europe/Berlin\"")]
    Zone(String),
    /// The instant is beyond the calendar (years −9999 to 9999).
    #[error("time {0} is beyond the calendar")]
    Time(i64),
}

/// The zone of that IANA name.
///
/// # Errors
/// When there is no such zone.
pub fn zone(name: &str) -> Result<TimeZone, WindowError> {
    TimeZone::get(name).map_err(|_| WindowError::Zone(name.chars().take(64).collect()))
}

impl Window {
    /// The window that holds an instant, in a zone.
    ///
    /// Local hours that a change of clocks repeats are two windows; one that it skips does not exist.
    ///
    /// # Errors
    /// When the instant is beyond the calendar.
    pub fn span(self, at: Micros, zone: &TimeZone) -> Result<Span, WindowError> {
        let beyond = |_| WindowError::Time(at.0);
        if self == Self::Total {
            return Ok(Span { starts_at: Micros(0), ends_at: None });
        }
        let local = Timestamp::from_microsecond(at.0).map_err(beyond)?.to_zoned(zone.clone());
        let (start, end) = self.edges(&local).map_err(beyond)?;
        Ok(Span {
            starts_at: Micros(start.timestamp().as_microsecond()),
            ends_at: Some(Micros(end.timestamp().as_microsecond())),
        })
    }

    fn edges(self, local: &Zoned) -> Result<(Zoned, Zoned), jiff::Error> {
        match self {
            Self::Hour => {
                let start = local.round(ZonedRound::new().smallest(Unit::Hour).mode(RoundMode::Trunc))?;
                let end = start.checked_add(1.hour())?;
                Ok((start, end))
            }
            Self::Day | Self::Total => {
                let start = local.start_of_day()?;
                let end = start.date().tomorrow()?.to_zoned(local.time_zone().clone())?;
                Ok((start, end))
            }
            Self::Week => {
                let date = local.date();
                let since = date.weekday().since(Weekday::Monday);
                let monday = date.checked_sub(i64::from(since).days())?;
                let next = monday.checked_add(7.days())?;
                Ok((monday.to_zoned(local.time_zone().clone())?, next.to_zoned(local.time_zone().clone())?))
            }
            Self::Month => {
                let first = local.date().first_of_month();
                let next = first.checked_add(1.month())?;
                Ok((first.to_zoned(local.time_zone().clone())?, next.to_zoned(local.time_zone().clone())?))
            }
        }
    }
}

/// First instant of a calendar month such as `2026-11` in a zone, and of the month after it.
///
/// # Errors
/// When the text is not a month, or lies beyond the calendar.
pub fn month(text: &str, zone: &TimeZone) -> Result<Span, WindowError> {
    let unreadable = || WindowError::Time(0);
    let (year, month) = text.split_once('-').ok_or_else(unreadable)?;
    let year: i16 = year.parse().map_err(|_| unreadable())?;
    let month: i8 = month.parse().map_err(|_| unreadable())?;
    let first = jiff::civil::Date::new(year, month, 1).map_err(|_| unreadable())?;
    let noon = first.at(12, 0, 0, 0).to_zoned(zone.clone()).map_err(|_| unreadable())?;
    Window::Month.span(Micros(noon.timestamp().as_microsecond()), zone)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn span(window: Window, zone_name: &str, at: &str) -> (String, String) {
        let zone = zone(zone_name).unwrap();
        let at = Micros(at.parse::<Timestamp>().unwrap().as_microsecond());
        let span = window.span(at, &zone).unwrap();
        assert!(span.holds(at));
        let show = |at: Micros| Timestamp::from_microsecond(at.0).unwrap().to_string();
        (show(span.starts_at), show(span.ends_at.unwrap()))
    }

    #[test]
    fn windows_follow_local_midnights_across_clock_changes() {
        let cases = [
            // Spring: 2026-03-29 has 23 hours in Berlin; autumn: 2026-10-25 has 25.
            (Window::Day, "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
            (Window::Day, "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
            (Window::Hour, "2026-10-25T00:30:00Z", "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"),
            (Window::Hour, "2026-10-25T01:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"),
            (Window::Month, "2026-10-31T23:30:00Z", "2026-10-31T23:00:00Z", "2026-11-30T23:00:00Z"),
            (Window::Week, "2026-03-29T21:59:59Z", "2026-03-22T23:00:00Z", "2026-03-29T22:00:00Z"),
        ];
        for (window, at, starts, ends) in cases {
            assert_eq!(
                span(window, "Europe/Berlin", at),
                (starts.to_owned(), ends.to_owned()),
                "{window} {at}"
            );
        }
    }

    #[test]
    fn windows_tile_time_without_hole_or_overlap() {
        for window in [Window::Hour, Window::Day, Window::Week, Window::Month] {
            for name in ["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Pacific/Apia"] {
                let zone = zone(name).unwrap();
                let mut at = Micros(1_767_225_600_000_000);
                for _ in 0..400 {
                    let span = window.span(at, &zone).unwrap();
                    let next = window.span(span.ends_at.unwrap(), &zone).unwrap();
                    assert_eq!(span.ends_at.unwrap(), next.starts_at, "{window} {name}");
                    assert!(next.id() > span.id());
                    at = next.starts_at;
                }
            }
        }
    }

    #[test]
    fn months_are_read() {
        let berlin = zone("Europe/Berlin").unwrap();
        assert_eq!(month("2026-11", &berlin).unwrap().id(), 1_793_487_600);
        assert!(month("2026-13", &berlin).is_err());
        assert!(month("november", &berlin).is_err());
        assert!(zone("Europe/Atlantis").is_err());
    }
}
