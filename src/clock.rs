//! The one place that reads the wall clock.

use std::sync::Arc;

use anyhow::Context as _;
use bursar_schemas::avro::Micros;

/// A source of the current time.
pub(crate) type Clock = Arc<dyn Fn() -> Micros + Send + Sync>;

/// Microseconds since 1970 by the system's clock; `BURSAR_CLOCK_OFFSET_SECONDS` shifts it, for rehearsals of
/// month ends and clock changes.
pub(crate) fn system() -> anyhow::Result<Clock> {
    let offset: i64 = match std::env::var("BURSAR_CLOCK_OFFSET_SECONDS") {
        Ok(text) => text.parse().context("BURSAR_CLOCK_OFFSET_SECONDS is not a whole number")?,
        Err(_) => 0,
    };
    Ok(Arc::new(move || Micros(now().0.saturating_add(offset.saturating_mul(1_000_000)))))
}

fn now() -> Micros {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
