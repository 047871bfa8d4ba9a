//! The archiver's state as Prometheus text.

use std::fmt::Write as _;

use bursar_ingest::archive::{ArchiverHandle, LaneStatus, WitnessStatus};

use crate::prometheus;

/// One value of each lane: its name, its meaning, its kind, and where it is taken from.
type Series = (&'static str, &'static str, &'static str, fn(&LaneStatus) -> u64);

const SERIES: [Series; 7] = [
    ("bursar_archive_sealed_records", "Offsets that are sealed.", "gauge", |lane| {
        lane.sealed.map_or(0, |sealed| sealed.saturating_add(1))
    }),
    ("bursar_archive_unsealed_records", "Records taken in and not sealed.", "gauge", |lane| {
        u64::try_from(lane.buffered_records).unwrap_or(u64::MAX)
    }),
    ("bursar_archive_unsealed_bytes", "Bytes taken in and not sealed.", "gauge", |lane| lane.buffered_bytes),
    ("bursar_archive_unsealed_seconds", "Age of the oldest record that is not sealed.", "gauge", |lane| {
        lane.since.map_or(0, |since| since.elapsed().as_secs())
    }),
    ("bursar_archive_segments_total", "Segments put by this process.", "counter", |lane| lane.put),
    (
        "bursar_archive_lost_offsets_total",
        "Offsets that were gone before this process could seal them.",
        "counter",
        |lane| lane.lost,
    ),
    ("bursar_archive_fault", "1 while something keeps the lane from going on.", "gauge", |lane| {
        u64::from(lane.fault.is_some())
    }),
];

/// The archiver's metrics.
pub(crate) fn of_archiver(archiver: &ArchiverHandle) -> String {
    let mut out = String::new();
    let lanes = archiver.status();
    for (name, help, kind, value) in SERIES {
        prometheus::head(&mut out, name, help, kind);
        for (lane, status) in &lanes {
            // Writing to a text cannot fail.
            let _ = writeln!(
                out,
                "{name}{{topic=\"{}\",partition=\"{}\"}} {}",
                lane.topic,
                lane.partition,
                value(status)
            );
        }
    }
    if let Some(log) = archiver.log_status() {
        for (name, help, value) in [
            ("bursar_log_leaves", "Leaves of the signed log.", log.size),
            ("bursar_log_signed_leaves", "Leaves under a published checkpoint.", log.published),
            (
                "bursar_log_fault",
                "1 while something keeps the log from being written.",
                u64::from(log.fault.is_some()),
            ),
        ] {
            prometheus::single(&mut out, name, help, "gauge", value);
        }
    }
    of_witnesses(&mut out, &archiver.witnesses());
    out
}

/// One value of each witness: its name, its meaning, and where it is taken from.
type WitnessSeries = (&'static str, &'static str, fn(&WitnessStatus) -> u64);

const WITNESSES: [WitnessSeries; 3] = [
    ("bursar_witness_cosigned_leaves", "Leaves that the witness last cosigned for this process.", |it| {
        it.cosigned.unwrap_or(0)
    }),
    ("bursar_witness_cosigned_at_seconds", "When that was by the witness's clock, since 1970.", |it| {
        it.cosigned_at.unwrap_or(0)
    }),
    ("bursar_witness_fault", "1 while the newest checkpoint cannot be cosigned.", |it| {
        u64::from(it.fault.is_some())
    }),
];

fn of_witnesses(out: &mut String, witnesses: &[WitnessStatus]) {
    for (name, help, value) in WITNESSES {
        prometheus::head(out, name, help, "gauge");
        for status in witnesses {
            // What would end the label is left out of it. Writing to a text cannot fail.
            let witness = status.name.replace(['"', '\\'], "_");
            let _ = writeln!(out, "{name}{{witness=\"{witness}\"}} {}", value(status));
        }
    }
}
