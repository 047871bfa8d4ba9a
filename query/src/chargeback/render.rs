//! A statement of account as text, CSV or JSON.

use bursar_schemas::money::Money;

use super::{NotInTotal, Statement};
use crate::error::QueryError;
use crate::render::{Format, TextTable, csv_field};

const NUMBERS: [&str; 5] = ["amount_usd", "requests", "attempts", "input_tokens", "output_tokens"];

impl Statement {
    /// The statement in a format. What the total does not hold is below it in every one: as lines of text, as
    /// further records of CSV whose first field names them, as a member of JSON.
    ///
    /// # Errors
    /// For Arrow, which a statement does not come in: ask the view `chargeback` with SQL instead.
    pub fn render(&self, format: Format) -> Result<String, QueryError> {
        match format {
            Format::Table => Ok(self.table()),
            Format::Csv => Ok(self.csv()),
            Format::Json => serde_json::to_string_pretty(self)
                .map(|text| text + "\n")
                .map_err(|error| QueryError::Write(error.to_string())),
            Format::Arrow => Err(QueryError::Parameter("a statement comes as table, csv or json".to_owned())),
        }
    }

    fn header(&self) -> Vec<String> {
        let keys = std::iter::once("organisation").chain(self.by.iter().map(String::as_str));
        keys.chain(NUMBERS).map(str::to_owned).collect()
    }

    fn records(&self) -> impl Iterator<Item = Vec<String>> {
        self.rows.iter().map(|row| {
            let keys = row.keys.iter().map(|key| key.clone().unwrap_or_default());
            let numbers = [row.requests, row.attempts, row.input_tokens, row.output_tokens];
            std::iter::once(row.organisation.clone())
                .chain(keys)
                .chain([row.amount.dollars()])
                .chain(numbers.iter().map(i64::to_string))
                .collect()
        })
    }

    fn table(&self) -> String {
        let header = self.header();
        let keys = header.len() - NUMBERS.len();
        let right = (0..header.len()).map(|index| index >= keys).collect();
        let mut table = TextTable::new(header.clone(), right);
        for record in self.records() {
            table.push(record.iter().map(|cell| plain(cell)).collect());
        }
        let mut total = vec![String::new(); header.len()];
        "total".clone_into(&mut total[0]);
        total[keys] = self.total.dollars();
        table.push(total);
        let mut out = format!("Chargeback for {} ({})\n\n{}", self.month, self.currency, table.flush(true));
        out.push_str("\nNot in the total:\n");
        for (name, value) in self.below.lines() {
            out.push_str(&format!("  {name}: {value}\n"));
        }
        for note in &self.below.notes {
            out.push_str(&format!("  note: {}\n", plain(note)));
        }
        out
    }

    fn csv(&self) -> String {
        let mut out = String::new();
        let mut line = |fields: Vec<String>| {
            let fields: Vec<String> = fields.iter().map(|field| csv_field(field)).collect();
            out.push_str(&fields.join(","));
            out.push_str("\r\n");
        };
        let header = self.header();
        let (width, keys) = (header.len(), header.len() - NUMBERS.len());
        let below = |name: String, value: String| {
            let mut fields = vec![String::new(); width];
            fields[0] = name;
            fields[keys] = value;
            fields
        };
        line(header);
        self.records().for_each(&mut line);
        line(below("#total".to_owned(), self.total.dollars()));
        for (name, value) in self.below.lines() {
            line(below(format!("#not in total: {name}"), value));
        }
        for note in &self.below.notes {
            line(below(format!("#note: {note}"), String::new()));
        }
        out
    }
}

impl NotInTotal {
    fn lines(&self) -> Vec<(&'static str, String)> {
        let as_of =
            jiff::Timestamp::from_microsecond(self.as_of.0).map(|at| at.to_string()).unwrap_or_default();
        let positions =
            self.positions.iter().map(|lane| format!("{}/{}@{}", lane.topic, lane.partition, lane.next));
        let mut lines: Vec<(&'static str, String)> = vec![
            ("attempts of unknown price", self.unpriced_attempts.to_string()),
            ("open requests", self.open_requests.to_string()),
            ("open attempts", self.open_attempts.to_string()),
            ("facts that never came", self.missing_facts.to_string()),
            ("unreadable records", self.unreadable_records.to_string()),
            ("lost offsets", self.lost_offsets.to_string()),
            ("records not seen in time", self.records_behind.to_string()),
            ("estimated attempts (in the total)", self.estimated_attempts.to_string()),
        ];
        if self.estimated_amount != Money::ZERO {
            lines.push(("estimated amount (in the total)", self.estimated_amount.dollars()));
        }
        lines.push(("as of", as_of));
        lines.push(("seen up to", positions.collect::<Vec<_>>().join(" ")));
        lines
    }
}

/// Without anything that could drive a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
