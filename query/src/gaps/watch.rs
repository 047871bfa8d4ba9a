//! Looks at completeness again and again, for metrics and their alerts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use bursar_schemas::avro::Micros;
use bursar_schemas::facts::FindingKind;
use bursar_schemas::position::Topic;
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::{GapsRequest, sql};
use crate::error::QueryError;
use crate::service::QueryService;

/// Findings that no reader records.
const OWN: [&str; 3] = ["late", "open_end", "broken"];

/// Facts, and producers or places, by topic and finding.
type Sums = BTreeMap<(String, String), (i64, i64)>;

#[derive(Debug, Default)]
struct State {
    sums: Sums,
    /// When the last look that succeeded was taken.
    at: Option<Micros>,
    failed: u64,
}

/// A look at the newest part of the record, taken every few minutes.
#[derive(Debug)]
pub struct Watch {
    state: Arc<Mutex<State>>,
    task: AbortHandle,
    window: Duration,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    /// Looks at what was taken in within the window before each look. Must be called within a Tokio runtime.
    #[must_use]
    pub fn start(service: &Arc<QueryService>, window: Duration, every: Duration) -> Self {
        let state = Arc::<Mutex<State>>::default();
        let task = tokio::spawn(look_on(Arc::downgrade(service), Arc::clone(&state), window, every));
        Self { state, task: task.abort_handle(), window }
    }

    /// The last look as Prometheus text.
    #[must_use]
    pub fn metrics(&self) -> String {
        let state = self.state.lock();
        let mut out = String::new();
        let recorded = FindingKind::ALL.iter().map(|kind| kind.word());
        let findings: Vec<&str> = recorded.chain(OWN).collect();
        let hours = self.window.as_secs() / 3600;
        type Pick = fn(&(i64, i64)) -> i64;
        let gauges: [(&str, &str, Pick); 2] = [
            ("bursar_gap_facts", "Facts that did not come as they should", |sums| sums.0),
            (
                "bursar_gap_places",
                "Producers and partitions where facts did not come as they should",
                |sums| sums.1,
            ),
        ];
        for (name, help, pick) in gauges {
            // Writing to a text cannot fail.
            let _ = writeln!(out, "# HELP {name} {help}, over the last {hours} hours.\n# TYPE {name} gauge");
            for topic in Topic::ALL {
                for finding in &findings {
                    let key = (topic.name().to_owned(), (*finding).to_owned());
                    let value = state.sums.get(&key).map_or(0, pick);
                    let _ = writeln!(out, "{name}{{topic=\"{topic}\",finding=\"{finding}\"}} {value}");
                }
            }
        }
        let looked = state.at.map_or(0, |at| at.0.div_euclid(1_000_000));
        let _ = write!(
            out,
            "# HELP bursar_gap_looked_at_seconds When completeness was last looked at, in seconds since 1970; 0 for never.\n\
             # TYPE bursar_gap_looked_at_seconds gauge\nbursar_gap_looked_at_seconds {looked}\n\
             # HELP bursar_gap_looks_failed_total Looks at completeness that failed.\n\
             # TYPE bursar_gap_looks_failed_total counter\nbursar_gap_looks_failed_total {}\n",
            state.failed
        );
        out
    }
}

async fn look_on(service: Weak<QueryService>, state: Arc<Mutex<State>>, window: Duration, every: Duration) {
    loop {
        let Some(service) = service.upgrade() else { return };
        match service.look(window).await {
            Ok((sums, at)) => {
                let mut state = state.lock();
                state.sums = sums;
                state.at = Some(at);
            }
            Err(error) => {
                state.lock().failed += 1;
                tracing::warn!(%error, "completeness could not be looked at; trying again");
            }
        }
        drop(service);
        tokio::time::sleep(every).await;
    }
}

impl QueryService {
    /// Sums of findings over what was taken in within a window. Not recorded: nobody asked, and no row leaves.
    async fn look(&self, window: Duration) -> Result<(Sums, Micros), QueryError> {
        let limits = self.config.http;
        let deadline = Instant::now() + limits.time;
        let work = async {
            let _turn = self.turn().await?;
            let (session, status) = self.completeness(deadline).await?;
            let window = i64::try_from(window.as_micros()).unwrap_or(i64::MAX);
            let since = Some(Micros(status.as_of.0.saturating_sub(window)));
            let request = GapsRequest { since, brief: false };
            let mut sums = Sums::new();
            for batch in session.run_own(&sql::sums(&request, &status)).await? {
                let unlike = || QueryError::Engine("a look at completeness has other columns".to_owned());
                let topics = batch.column(0).as_string_opt::<i32>().ok_or_else(unlike)?;
                let findings = batch.column(1).as_string_opt::<i32>().ok_or_else(unlike)?;
                let facts = batch.column(2).as_primitive_opt::<Int64Type>().ok_or_else(unlike)?;
                let places = batch.column(3).as_primitive_opt::<Int64Type>().ok_or_else(unlike)?;
                for row in 0..batch.num_rows() {
                    let key = (topics.value(row).to_owned(), findings.value(row).to_owned());
                    sums.insert(key, (facts.value(row), places.value(row)));
                }
            }
            Ok((sums, status.as_of))
        };
        match tokio::time::timeout_at(deadline, work).await {
            Ok(looked) => looked,
            Err(_) => Err(QueryError::TooLong(limits.time.as_secs())),
        }
    }
}
