//! The statements that a statement of account is made of. Pure: text from a request and the zones.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bursar_schemas::window::{self, Span};

use super::{ChargebackRequest, Dimension};
use crate::error::QueryError;
use crate::statement::literal;

/// Facts about a month's requests still come for a while after it: gaps and unreadable records are counted up to
/// this long after its end, in microseconds.
const AFTERMATH_US: i64 = 7 * 86_400 * 1_000_000;

/// Clocks of two processes may differ: closings are looked for from this long before the month on.
const CLOCKS_APART_US: i64 = 86_400 * 1_000_000;

/// The month in every organisation's own time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Period {
    /// Condition on `organisation` and `accounting_at`.
    holds: String,
    starts_us: i64,
    ends_us: i64,
}

fn time(at_us: i64) -> String {
    format!("arrow_cast({at_us}, 'Timestamp(Microsecond, Some(\"UTC\"))')")
}

fn edges(span: Span) -> (i64, i64) {
    (span.starts_at.0, span.ends_at.map_or(i64::MAX, |end| end.0))
}

impl Period {
    pub(super) fn of(
        request: &ChargebackRequest,
        zones: &BTreeMap<String, String>,
    ) -> Result<Self, QueryError> {
        let month = request.month.as_str();
        let shaped = month.len() == 7 && month.as_bytes()[4] == b'-' && month.is_ascii();
        let unread = || QueryError::Parameter("a month is written as 2026-11".to_owned());
        if !shaped {
            return Err(unread());
        }
        let span_in = |zone: &str| {
            let zone = window::zone(zone).map_err(|error| QueryError::Parameter(error.to_string()))?;
            window::month(month, &zone).map(edges).map_err(|_| unread())
        };
        let mut by_zone: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (organisation, zone) in zones {
            by_zone.entry(zone).or_default().push(literal(organisation));
        }
        let (mut least, mut most) = span_in("UTC")?;
        let named: Vec<String> = zones.keys().map(|organisation| literal(organisation)).collect();
        let within = |(starts, ends): (i64, i64)| {
            format!("accounting_at >= {} AND accounting_at < {}", time(starts), time(ends))
        };
        // An organisation that policy does not name has the default zone.
        let others = if named.is_empty() {
            "organisation IS NOT NULL".to_owned()
        } else {
            format!("organisation NOT IN ({})", named.join(", "))
        };
        let mut parts = vec![format!("({others} AND {})", within((least, most)))];
        for (zone, organisations) in by_zone {
            let span = span_in(zone)?;
            (least, most) = (least.min(span.0), most.max(span.1));
            parts.push(format!("(organisation IN ({}) AND {})", organisations.join(", "), within(span)));
        }
        // The outer edges are what segments are left out by.
        let mut holds = format!("{} AND ({})", within((least, most)), parts.join(" OR "));
        if let Some(organisation) = &request.organisation {
            let _ = write!(holds, " AND organisation = {}", literal(organisation));
        }
        Ok(Self { holds, starts_us: least, ends_us: most })
    }
}

fn column(dimension: &Dimension) -> String {
    match dimension {
        Dimension::Tag(tag) => format!("tags[{}]", literal(tag)),
        other => format!("\"{}\"", other.name()),
    }
}

/// The rows of the statement; one more than allowed shows that there are too many.
pub(super) fn rows(request: &ChargebackRequest, period: &Period, most: u64) -> String {
    let mut keys = vec!["organisation".to_owned()];
    keys.extend((0..request.by.len()).map(|index| format!("key_{index}")));
    let columns: String = request
        .by
        .iter()
        .enumerate()
        .map(|(index, dimension)| format!(", {} AS key_{index}", column(dimension)))
        .collect();
    let keys = keys.join(", ");
    format!(
        "SELECT {keys}, sum(amount), count(DISTINCT request), count(DISTINCT request || '/' || attempt), \
         sum(quantity) FILTER (WHERE meter IN ('input', 'cache_read', 'cache_write_5m', 'cache_write_1h', \
         'input_audio')), \
         sum(quantity) FILTER (WHERE meter IN ('output', 'reasoning', 'output_audio')) \
         FROM (SELECT organisation, request, attempt, amount, meter, quantity{columns} FROM costs WHERE {}) AS paid \
         GROUP BY {keys} ORDER BY {keys} LIMIT {}",
        period.holds,
        most.saturating_add(1)
    )
}

/// Unpriced attempts; estimated attempts, and their amount.
pub(super) fn sureness(period: &Period) -> String {
    format!(
        "SELECT count(*) FILTER (WHERE basis = 'unpriced'), count(*) FILTER (WHERE confidence = 'estimated'), \
         sum(amount) FILTER (WHERE confidence = 'estimated') FROM settlements WHERE {}",
        period.holds
    )
}

/// Requests opened and neither closed nor refused.
pub(super) fn open_requests(period: &Period) -> String {
    format!(
        "SELECT count(*) FROM (SELECT DISTINCT request FROM requests \
         WHERE kind = 'RequestOpened' AND NOT duplicate AND {}) AS opened \
         LEFT ANTI JOIN (SELECT request FROM requests WHERE kind IN ('RequestClosed', 'RequestRefused') \
         AND NOT duplicate AND \"at\" >= {}) AS closed ON opened.request = closed.request",
        period.holds,
        time(period.starts_us.saturating_sub(CLOCKS_APART_US))
    )
}

/// Attempts reserved for and neither settled nor given back.
pub(super) fn open_attempts(period: &Period) -> String {
    format!(
        "SELECT count(*) FROM (SELECT DISTINCT request, attempt FROM spend \
         WHERE kind = 'Reserved' AND NOT duplicate AND {holds}) AS reserved \
         LEFT ANTI JOIN (SELECT request, attempt FROM spend WHERE kind IN ('Settled', 'Voided') \
         AND NOT duplicate AND {holds}) AS ended \
         ON reserved.request = ended.request AND reserved.attempt = ended.attempt",
        holds = period.holds
    )
}

/// Facts that never came, and records that cannot be read, around the month.
pub(super) fn faults(period: &Period) -> String {
    let around = format!(
        "recorded_at >= {} AND recorded_at < {}",
        time(period.starts_us),
        time(period.ends_us.saturating_add(AFTERMATH_US))
    );
    let of = |topic: &str| {
        format!(
            "SELECT least(missing_before, 1000000000000) AS missing, unreadable FROM {topic} \
             WHERE (missing_before > 0 OR unreadable IS NOT NULL) AND {around}"
        )
    };
    format!(
        "SELECT sum(missing), count(unreadable) FROM ({} UNION ALL {}) AS faults",
        of("requests"),
        of("spend")
    )
}

/// What is recorded of the request.
pub(super) fn describe(request: &ChargebackRequest) -> String {
    let by: Vec<String> = request.by.iter().map(Dimension::name).collect();
    let organisation =
        request.organisation.as_ref().map_or_else(String::new, |id| format!(" organisation={id}"));
    format!("chargeback month={} by={}{organisation}", request.month, by.join(","))
}
