//! The views, and the documentation of every table, view and column.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use bursar_schemas::columns;
use bursar_schemas::position::Topic;

/// A view: its definition begins with its own documentation as SQL comments.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
}

macro_rules! view {
    ($name:literal) => {
        View { name: $name, sql: include_str!(concat!("views/", $name, ".sql")) }
    };
}

/// All views, each after those it reads from.
pub(crate) const VIEWS: &[View] = &[
    view!("settlements"),
    view!("costs"),
    view!("chargeback"),
    view!("refusals"),
    view!("budget_history"),
    view!("alerts"),
    view!("findings"),
    view!("producers"),
    view!("gaps"),
];

/// The views that a text can mention, and those that they read from, in order of definition.
///
/// Planning a view costs about a millisecond, so those that nobody mentions are left out.
pub(crate) fn mentioned(sql: &str) -> Vec<&'static View> {
    let mut text = sql.to_lowercase();
    let mut found = Vec::new();
    for view in VIEWS.iter().rev() {
        if text.contains(view.name) {
            text.push_str(view.sql);
            found.push(view);
        }
    }
    found.reverse();
    found
}

/// Documentation of a table or view.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TableDoc {
    /// Its name in SQL.
    pub name: String,
    /// `table` or `view`.
    pub kind: &'static str,
    /// What its rows are.
    pub doc: String,
    /// Its columns in order, each with its documentation.
    pub columns: Vec<(String, String)>,
}

impl View {
    /// Comment lines `-- name: doc` are columns, those before them the view's own.
    fn doc(&self) -> TableDoc {
        let mut doc = String::new();
        let mut columns: Vec<(String, String)> = Vec::new();
        let comments = self.sql.lines().map_while(|line| line.strip_prefix("--"));
        for line in comments {
            if let Some((name, text)) = line.strip_prefix("   ").and_then(|line| line.split_once(": ")) {
                columns.push((name.to_owned(), text.to_owned()));
            } else if !line.trim().is_empty() {
                let space = if doc.is_empty() { "" } else { " " };
                doc.push_str(space);
                doc.push_str(line.trim());
            }
        }
        TableDoc { name: self.name.to_owned(), kind: "view", doc, columns }
    }
}

/// Documentation of all tables and views.
#[must_use]
pub fn tables() -> Vec<TableDoc> {
    let topics = Topic::ALL.into_iter().map(|topic| TableDoc {
        name: topic.name().to_owned(),
        kind: "table",
        doc: columns::table_doc(topic).to_owned(),
        columns: columns::docs(topic).to_vec(),
    });
    VIEWS.iter().map(View::doc).chain(topics).collect()
}

/// Names of all tables and views.
pub(crate) fn names() -> BTreeSet<&'static str> {
    VIEWS.iter().map(|view| view.name).chain(Topic::ALL.into_iter().map(Topic::name)).collect()
}

/// A page in Markdown on all tables, views and their columns.
#[must_use]
pub fn reference() -> String {
    let mut page = String::from(
        "# Tables\n\nFive tables hold one row for each record of the five topics; the views over them answer \
         what is asked most. Amounts are US dollars as Decimal128(38, 12), times are in UTC, and \
         `month_of(organisation, time)` gives the calendar month in the organisation's own time zone.\n",
    );
    for table in tables() {
        // Writing to a string cannot fail.
        let _ = write!(page, "\n## {} ({})\n\n{}\n\n", table.name, table.kind, table.doc);
        page.push_str("| Column | Holds |\n|---|---|\n");
        for (name, doc) in &table.columns {
            let _ = writeln!(page, "| `{name}` | {} |", doc.replace('|', "\\|"));
        }
    }
    page
}
