//! What the commits of a Delta table say, as lines of JSON (protocol of reader version 1, writer version 2).

use std::collections::BTreeMap;

use bursar_schemas::archive::{Footer, segment_key};
use bursar_schemas::ids::Generation;
use bursar_schemas::position::{Lane, Topic};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::archive::parquet::WRITER;

/// A segment as a table's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    /// Below the table's root.
    path: String,
    pub(super) lane: Lane,
    first: u64,
    /// The lane's next offset after it.
    pub(super) next: u64,
    rows: u64,
    bytes: u64,
    times_us: Option<(i64, i64)>,
}

/// Folder of a table: one for each topic in each of its lives.
pub(super) fn root(generation: Generation, topic: Topic) -> String {
    format!("{}/{generation}/{topic}", bursar_schemas::archive::SEGMENTS)
}

/// Name of a commit.
pub(super) fn commit_key(generation: Generation, topic: Topic, version: u64) -> String {
    format!("{}/{version:020}.json", bursar_schemas::archive::delta_log(generation, topic))
}

/// Milliseconds of a time, as Delta's statistics have it, rounded down or up.
fn instant(us: i64, up: bool) -> Option<String> {
    let ms = if up { us.checked_add(999)?.div_euclid(1000) } else { us.div_euclid(1000) };
    let (days, of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // Days to a civil date, after Howard Hinnant's algorithm: no clock and no calendar library in this crate.
    let shifted = days.checked_add(719_468)?;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    if !(1..=9999).contains(&year) {
        return None;
    }
    let (seconds, millis) = (of_day / 1000, of_day % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"))
}

impl File {
    pub(super) fn new(footer: &Footer, bytes: u64) -> Self {
        let (lane, root) = (footer.lane(), root(footer.generation, footer.topic));
        let key = segment_key(footer.generation, lane, footer.start);
        Self {
            path: key
                .strip_prefix(&root)
                .map_or(key.as_str(), |rest| rest.trim_start_matches('/'))
                .to_owned(),
            lane,
            first: footer.start,
            next: footer.end.saturating_add(1),
            rows: footer.rows,
            bytes,
            times_us: footer.times_us,
        }
    }

    fn stats(&self) -> String {
        let last = self.next.saturating_sub(1);
        let (mut least, mut most) = (json!({"offset": self.first}), json!({"offset": last}));
        let ends = self.times_us.and_then(|(first, last)| instant(first, false).zip(instant(last, true)));
        if let Some((first, last)) = ends {
            least["at"] = json!(first);
            most["at"] = json!(last);
        }
        let counts = json!({"offset": 0});
        json!({"numRecords": self.rows, "minValues": least, "maxValues": most, "nullCount": counts})
            .to_string()
    }

    /// A file of no rows is none; its offsets count all the same.
    pub(super) fn add(&self, at_ms: i64) -> Option<Value> {
        (self.rows > 0).then(|| {
            json!({"add": {
                "path": self.path,
                "partitionValues": {},
                "size": self.bytes,
                "modificationTime": at_ms,
                "dataChange": true,
                "stats": self.stats(),
            }})
        })
    }

    pub(super) fn remove(&self, at_ms: i64) -> Option<Value> {
        (self.rows > 0)
            .then(|| json!({"remove": {"path": self.path, "deletionTimestamp": at_ms, "dataChange": true}}))
    }
}

/// What a writer needs to know of the commits before; each commit's `commitInfo` repeats it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Standing {
    /// Next offset of each partition.
    pub(super) next: BTreeMap<u32, u64>,
    /// The schema in force.
    pub(super) schema: String,
}

impl Standing {
    pub(super) fn of(&self, lane: Lane) -> u64 {
        self.next.get(&lane.partition).copied().unwrap_or(0)
    }

    /// Reads a commit's own words back; none when it is somebody else's.
    pub(super) fn read(commit: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(commit).ok()?;
        let line = text.lines().find(|line| line.starts_with("{\"commitInfo\""))?;
        let info: Value = serde_json::from_str(line).ok()?;
        serde_json::from_value(info["commitInfo"]["bursar"].clone()).ok()
    }
}

fn application(lane: Lane) -> String {
    format!("bursar/{lane}")
}

/// The lines of a commit after which a table stands so.
pub(super) fn commit(
    standing: &Standing,
    lanes: &[Lane],
    actions: impl IntoIterator<Item = Value>,
    operation: &str,
    at_ms: i64,
) -> String {
    let info = json!({"commitInfo": {
        "timestamp": at_ms,
        "operation": operation,
        "engineInfo": WRITER,
        "bursar": standing,
    }});
    let transactions = lanes.iter().filter_map(|lane| {
        // The transaction's version is the last offset that the table holds of the lane.
        let last = standing.of(*lane).checked_sub(1)?;
        Some(json!({"txn": {"appId": application(*lane), "version": last, "lastUpdated": at_ms}}))
    });
    let mut text = String::new();
    for line in std::iter::once(info).chain(transactions).chain(actions) {
        text.push_str(&line.to_string());
        text.push('\n');
    }
    text
}

/// The first actions of a table.
pub(super) fn protocol() -> Value {
    json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}})
}

/// A table's name and columns.
pub(super) fn metadata(generation: Generation, topic: Topic, schema: &str, at_ms: i64) -> Value {
    // A table keeps its id for ever; the topic's life makes one, in the shape of a UUID.
    let life = generation.to_string();
    let part = |from: usize, to: usize| life.get(from..to).unwrap_or("0");
    let tail = format!("{:02x}", Topic::ALL.iter().position(|it| *it == topic).unwrap_or(0));
    let id =
        format!("{}-{}-{}-{}-{}{tail}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 30));
    json!({"metaData": {
        "id": id,
        "name": topic.name(),
        "description": columns_doc(topic),
        "format": {"provider": "parquet", "options": {}},
        "schemaString": schema,
        "partitionColumns": [],
        "configuration": {},
        "createdTime": at_ms,
    }})
}

const fn columns_doc(topic: Topic) -> &'static str {
    bursar_schemas::columns::table_doc(topic)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn instants_are_rounded_outwards_and_follow_the_calendar() {
        for (us, up, text) in [
            (0, false, "1970-01-01T00:00:00.000Z"),
            (1_793_714_706_789_012, false, "2026-11-03T14:05:06.789Z"),
            (1_793_714_706_789_012, true, "2026-11-03T14:05:06.790Z"),
            (951_782_400_000_000, true, "2000-02-29T00:00:00.000Z"),
            (-1, false, "1969-12-31T23:59:59.999Z"),
            (-1, true, "1970-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(instant(us, up).unwrap(), text, "{us}");
        }
        assert_eq!(instant(i64::MAX, true), None);
        assert_eq!(instant(i64::MIN, false), None);
    }
}
