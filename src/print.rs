//! Tables for people, CSV for spreadsheets, JSON for programs.

use std::io::Write as _;

use serde_json::Value;

use crate::cli::Output;
use crate::exit::Outcome;

/// Writes to standard output; a reader that has gone away is no error.
pub(crate) fn out(text: &str) -> Outcome {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Prints the rows' named fields; numbers and amounts to the right.
pub(crate) fn rows(rows: &[Value], columns: &[&str], format: Output) -> Outcome {
    let cell = |row: &Value, column: &str| match row.get(column) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| columns.iter().map(|column| cell(row, column)).collect()).collect();
    match format {
        Output::Json => out(&format!("{}\n", serde_json::to_string_pretty(rows)?)),
        Output::Csv => {
            let quote = |text: &String| {
                if text.contains([',', '"', '\n', '\r']) {
                    format!("\"{}\"", text.replace('"', "\"\""))
                } else {
                    text.clone()
                }
            };
            let mut text = format!("{}\n", columns.join(","));
            for row in &cells {
                text.push_str(&row.iter().map(quote).collect::<Vec<_>>().join(","));
                text.push('\n');
            }
            out(&text)
        }
        Output::Table => out(&table(columns, &cells)),
    }
}

/// Aligned columns under their names.
pub(crate) fn table(columns: &[&str], cells: &[Vec<String>]) -> String {
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(index, name)| {
            cells.iter().map(|row| row[index].chars().count()).chain([name.len()]).max().unwrap_or(0)
        })
        .collect();
    let is_number =
        |text: &String| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.' || c == '-');
    let mut text = String::new();
    let names: Vec<String> = columns.iter().map(|name| name.replace('_', " ")).collect();
    for row in std::iter::once(&names).chain(cells) {
        let mut line = String::new();
        for (index, cell) in row.iter().enumerate() {
            let gap = " ".repeat(widths[index].saturating_sub(cell.chars().count()));
            if is_number(cell) {
                line.push_str(&gap);
                line.push_str(cell);
            } else {
                line.push_str(cell);
                line.push_str(&gap);
            }
            line.push_str("  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
