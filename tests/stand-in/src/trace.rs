//! A real trace of requests to a language model: when each came, how many tokens it read and generated.

use std::time::Duration;

use jiff::civil::DateTime;

/// AzureLLMInferenceTrace_conv 2023 of the Azure Public Dataset (CC-BY 4.0), see `tests/data/README.md`.
const BUILTIN: &str = include_str!("../../data/azure-llm-inference-2023-conv.csv");

const HEADER: &str = "TIMESTAMP,ContextTokens,GeneratedTokens";

/// One request of the trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// When it came, since the first row.
    pub at: Duration,
    /// Input tokens.
    pub context_tokens: u64,
    /// Output tokens.
    pub generated_tokens: u64,
}

/// A text is not such a trace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// The first line names other columns.
    #[error("failed to read the trace: the first line is not {HEADER:?}")]
    Header,
    /// A line has other fields, or they do not read.
    #[error("failed to read the trace: line {line}: {reason}")]
    Line {
        /// Counted from one, the header included.
        line: usize,
        /// What is wrong.
        reason: &'static str,
    },
}

/// The trace that ships with this crate: 19,366 requests of one hour.
///
/// # Errors
/// Never with the file that is checked in, which a test reads.
pub fn builtin() -> Result<Vec<Row>, TraceError> {
    read(BUILTIN)
}

/// Reads a trace in the form of the Azure LLM inference traces: `TIMESTAMP,ContextTokens,GeneratedTokens`.
///
/// # Errors
/// When a line does not read, or lies before the first.
pub fn read(text: &str) -> Result<Vec<Row>, TraceError> {
    let mut lines = text.lines();
    if lines.next() != Some(HEADER) {
        return Err(TraceError::Header);
    }
    let mut first = None;
    lines
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
        .map(|(index, line)| {
            row(line, &mut first).map_err(|reason| TraceError::Line { line: index.saturating_add(2), reason })
        })
        .collect()
}

fn row(line: &str, first: &mut Option<DateTime>) -> Result<Row, &'static str> {
    let mut fields = line.split(',');
    let (Some(time), Some(context), Some(generated), None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err("there are not three fields");
    };
    let time: DateTime = time.parse().map_err(|_| "the time does not read")?;
    let since = time.duration_since(*first.get_or_insert(time));
    let at = Duration::try_from(since).map_err(|_| "the time lies before the first row's")?;
    Ok(Row {
        at,
        context_tokens: context.parse().map_err(|_| "the context tokens do not read")?,
        generated_tokens: generated.parse().map_err(|_| "the generated tokens do not read")?,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_trace_is_read_whole() {
        let rows = builtin().unwrap();
        assert_eq!(rows.len(), 19_366);
        assert_eq!(rows[0], Row { at: Duration::ZERO, context_tokens: 374, generated_tokens: 44 });
        assert_eq!(
            rows[1],
            Row { at: Duration::from_nanos(4_314_579_000), context_tokens: 396, generated_tokens: 109 }
        );
        let last = rows.last().unwrap();
        assert_eq!((last.context_tokens, last.generated_tokens), (197, 183));
        assert!(rows.is_sorted_by_key(|row| row.at), "the rows are not in the order of time");
    }

    #[test]
    fn what_is_not_a_trace_is_refused() {
        let line = |text: &str| read(&format!("{HEADER}\n2023-11-16 18:15:46.68,1,2\n{text}\n"));
        assert_eq!(line("2023-11-16 18:15:47,3,4").unwrap().len(), 2);
        for text in
            ["2023-11-16 18:15:47,3", "soon,3,4", "2023-11-16 18:15:47,-3,4", "2023-11-16 18:15:46,3,4"]
        {
            assert!(matches!(line(text), Err(TraceError::Line { line: 3, .. })), "{text:?} was read");
        }
        assert_eq!(read("TIMESTAMP,Tokens\n"), Err(TraceError::Header));
    }
}
