//! Columns of text for people.

/// The widest that a column is padded to; longer values stand out rather than pushing the others away.
const WIDEST: usize = 60;

/// Rows in the making.
pub(crate) struct TextTable {
    names: Vec<String>,
    right: Vec<bool>,
    widths: Vec<usize>,
    rows: Vec<Vec<String>>,
}

impl TextTable {
    /// A table of these columns; those marked are aligned to the right.
    pub(crate) fn new(names: Vec<String>, right: Vec<bool>) -> Self {
        let widths = names.iter().map(|name| name.chars().count()).collect();
        Self { names, right, widths, rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, row: Vec<String>) {
        for (width, cell) in self.widths.iter_mut().zip(&row) {
            *width = (*width).max(cell.chars().count().min(WIDEST));
        }
        self.rows.push(row);
    }

    /// The rows that were added since, laid out; with the head before them if asked for.
    pub(crate) fn flush(&mut self, head: bool) -> String {
        let mut out = String::new();
        if head {
            self.line(&self.names, &mut out);
            let rule: Vec<String> = self.widths.iter().map(|width| "─".repeat(*width)).collect();
            out.push_str(&rule.join("  "));
            out.push('\n');
        }
        for row in std::mem::take(&mut self.rows) {
            self.line(&row, &mut out);
        }
        out
    }

    fn line(&self, cells: &[String], out: &mut String) {
        let mut line = String::new();
        for (index, ((cell, width), right)) in cells.iter().zip(&self.widths).zip(&self.right).enumerate() {
            if index > 0 {
                line.push_str("  ");
            }
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
            let (before, after) = if *right { (padding.as_str(), "") } else { ("", padding.as_str()) };
            line.push_str(before);
            line.push_str(cell);
            line.push_str(after);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}
