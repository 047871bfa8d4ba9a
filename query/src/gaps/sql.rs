//! The report's statement: the text of the views, narrowed to a period, with what has no record. Pure.

use std::fmt::Write as _;

use bursar_schemas::avro::Micros;

use super::GapsRequest;
use crate::statement::literal;
use crate::status::{LaneStatus, Status};
use crate::views::VIEWS;

/// Where the views' text takes a period, and the time that silence is counted from.
const SINCE: &str = "/* since */ true";
const NOW: &str = "/* now */ max(last_at) OVER ()";

const TIME: &str = "'Timestamp(Microsecond, Some(\"UTC\"))'";

/// What the report is called where queries are recorded.
pub(super) fn describe(request: &GapsRequest) -> String {
    let since = request.since.map(|since| format!(" since {}", instant(since)));
    format!("gaps{}", since.unwrap_or_default())
}

fn instant(at: Micros) -> String {
    jiff::Timestamp::from_microsecond(at.0).map_or_else(|_| format!("{} µs", at.0), |at| at.to_string())
}

fn time(at: Micros) -> String {
    format!("arrow_cast({}, {TIME})", at.0)
}

fn view(name: &str) -> &'static str {
    VIEWS.iter().find(|view| view.name == name).map_or("", |view| view.sql)
}

/// All findings within a period, as a query in brackets.
fn findings(request: &GapsRequest, status: &Status) -> String {
    let since = match request.since {
        Some(since) => format!("recorded_at >= {}", time(since)),
        None => "true".to_owned(),
    };
    let now = time(status.as_of);
    let producers = view("producers").replace(SINCE, &since);
    let gaps = view("gaps").replace(SINCE, &since).replace(NOW, &now);
    let mut sql = format!("WITH producers AS (\n{producers}\n), found AS (\n{gaps}\n");
    for lane in &status.lanes {
        of_lane(lane, &mut sql);
    }
    sql.push_str("\n)\n");
    sql
}

/// What a lane lost, and why it breaks off.
fn of_lane(lane: &LaneStatus, sql: &mut String) {
    let mut add = |finding: &str, count: u64, detail: &str| {
        // Writing to a text cannot fail.
        let _ = write!(
            sql,
            "\nUNION ALL SELECT {}, {}, CAST({} AS INT), NULL, NULL, {}, CAST({count} AS BIGINT), \
             arrow_cast(NULL, {TIME}), arrow_cast(NULL, {TIME}), 'archive', {}",
            literal(lane.topic.name()),
            literal(&lane.generation.to_string()),
            lane.partition,
            literal(finding),
            literal(detail)
        );
    };
    for (first, last) in &lane.lost {
        let detail = format!("offsets {first} to {last} were gone before they could be sealed");
        add("lost", last.saturating_sub(*first).saturating_add(1).min(1 << 62), &detail);
    }
    if let Some(reason) = &lane.broken {
        add("broken", 1, &format!("the chain of segments breaks off: {reason}"));
    }
}

/// The report: one row for each finding of each producer and partition.
pub(super) fn report(request: &GapsRequest, status: &Status) -> String {
    let columns = if request.brief {
        "topic, \"partition\", producer, role, finding, \"count\", since, until, detail"
    } else {
        "topic, generation, \"partition\", producer, role, finding, \"count\", since, until, found_by, detail"
    };
    format!(
        "{}SELECT {columns} FROM found ORDER BY topic, \"partition\", finding, since, generation, producer",
        findings(request, status)
    )
}

/// Sums by topic and finding.
pub(super) fn sums(request: &GapsRequest, status: &Status) -> String {
    format!(
        "{}SELECT topic, finding, sum(least(\"count\", 1000000000000)) AS facts, count(*) AS places \
         FROM found GROUP BY topic, finding",
        findings(request, status)
    )
}
