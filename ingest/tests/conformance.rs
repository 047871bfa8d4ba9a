//! One suite for every journal, and what each of them promises beyond it.
//!
//! Kafka's part needs a broker in `BURSAR_TEST_KAFKA=host:port`; without one it is left out, or fails when
//! `BURSAR_TEST_COMPONENTS=required`. `tests/components/kafka start DIR --sasl-tls` starts one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking, and is its own documentation"
)]

#[path = "conformance/checks.rs"]
mod checks;
#[path = "conformance/crash.rs"]
mod crash;
#[path = "conformance/embedded.rs"]
mod embedded;
#[path = "conformance/facts.rs"]
mod facts;
#[path = "conformance/kafka.rs"]
mod kafka;
#[path = "conformance/spool.rs"]
mod spool;
#[path = "conformance/spool_behind.rs"]
mod spool_behind;
#[path = "conformance/spool_damage.rs"]
mod spool_damage;
#[path = "conformance/spool_takeover.rs"]
mod spool_takeover;
#[path = "conformance/support.rs"]
mod support;

use std::sync::Arc;

use bursar_schemas::memory::MemoryJournal;

/// The journal under test.
pub struct Subject {
    pub journal: Arc<dyn bursar_schemas::ports::Journal>,
    pub outlet: Arc<dyn bursar_schemas::ports::Outlet>,
    /// What must live as long as the journal.
    pub keep: Box<dyn std::any::Any + Send>,
}

/// Partitions of every journal under test.
pub const PARTITIONS: u32 = 3;

async fn memory() -> Option<Subject> {
    let journal = Arc::new(MemoryJournal::new(PARTITIONS));
    Some(Subject { outlet: journal.clone(), journal, keep: Box::new(()) })
}

macro_rules! conformance {
    ($name:ident, $make:path) => {
        mod $name {
            conformance!(@each $make,
                order_holds_per_lane, a_reader_wakes_on_append, bounds_follow_acknowledgement,
                reading_begins_anywhere, an_offset_beyond_the_end_is_an_error, an_unknown_lane_is_an_error,
                concurrent_appends_arrive_once_and_in_order, a_dropped_next_has_taken_nothing,
                big_records_pass, generations_are_stable_and_unique, an_empty_append_is_acknowledged,
                a_dropped_receipt_changes_nothing, many_readers_see_the_same,
            );
        }
    };
    (@each $make:path, $($check:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                if let Some(subject) = $make().await {
                    crate::checks::$check(&subject).await;
                }
            }
        )+
    };
}

conformance!(memory_conforms, crate::memory);
conformance!(embedded_conforms, crate::embedded::subject);
conformance!(kafka_conforms, crate::kafka::subject);
