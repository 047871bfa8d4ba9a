//! Which statements may be run: exactly one, reading only, from the known tables. Pure.
//!
//! Invariant: what passes names no file, no schema, no external source and changes nothing.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::parser::{DFParserBuilder, Statement as Parsed};
use datafusion::sql::sqlparser::ast::{
    ObjectName, Query, Select, SetExpr, Statement as Sql, TableFactor, Visit as _, Visitor,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::error::QueryError;

/// The longest statement, in bytes; also the most of it that is recorded.
pub const LONGEST_STATEMENT: usize = 64 * 1024;

/// A text as a statement writes it.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Operators and joining words of one statement: each can nest the parsed tree one deeper.
const MOST_OPERATORS: usize = 500;

/// Calls of functions in one statement: bounds what a single row can be blown up to.
const MOST_CALLS: usize = 256;

/// Brackets within brackets.
const DEEPEST: usize = 48;

/// Functions that make rows out of nothing and read nothing.
const TABLE_FUNCTIONS: [&str; 3] = ["generate_series", "range", "unnest"];

/// A statement that may be run.
#[derive(Debug, Clone)]
pub enum Checked {
    /// A query, or the plan of one.
    Query(Box<Parsed>),
    /// `SHOW TABLES`.
    ShowTables,
    /// `DESCRIBE table`.
    Describe(String),
}

fn refused<T>(reason: impl Into<String>) -> Result<T, QueryError> {
    Err(QueryError::Refused(reason.into()))
}

/// Reads a statement and checks that it may be run over the named tables.
///
/// # Errors
/// Why it is refused, or that it is not SQL.
pub fn check(sql: &str, tables: &BTreeSet<&str>) -> Result<Checked, QueryError> {
    check_size(sql)?;
    let dialect = GenericDialect {};
    let mut parser = DFParserBuilder::new(sql)
        .with_dialect(&dialect)
        .with_recursion_limit(DEEPEST)
        .build()
        .map_err(|error| QueryError::Statement(error.strip_backtrace()))?;
    let mut statements =
        parser.parse_statements().map_err(|error| QueryError::Statement(error.strip_backtrace()))?;
    let Some(statement) = statements.pop_front() else { return refused("there is no statement") };
    if !statements.is_empty() {
        return refused("only one statement can be run at a time");
    }
    match &statement {
        Parsed::Statement(sql) => match sql.as_ref() {
            Sql::Query(_) => check_names(sql, tables)?,
            Sql::ShowTables { .. } => return Ok(Checked::ShowTables),
            Sql::ExplainTable { table_name, .. } => {
                let name = table(table_name, tables)?;
                return Ok(Checked::Describe(name));
            }
            other => return refused(reading_only(&first_word(&other.to_string()))),
        },
        Parsed::Explain(explain) => match explain.statement.as_ref() {
            Parsed::Statement(sql) if matches!(sql.as_ref(), Sql::Query(_)) => check_names(sql, tables)?,
            _ => return refused("only a query can be explained"),
        },
        Parsed::CreateExternalTable(_) => return refused(reading_only("CREATE EXTERNAL TABLE")),
        Parsed::CopyTo(_) => return refused(reading_only("COPY")),
        Parsed::Reset(_) => return refused(reading_only("RESET")),
    }
    Ok(Checked::Query(Box::new(statement)))
}

fn reading_only(what: &str) -> String {
    format!(
        "{what} is not available: only SELECT, WITH, EXPLAIN, SHOW TABLES and DESCRIBE are, as the archive is only read"
    )
}

fn first_word(text: &str) -> String {
    text.split_whitespace().next().unwrap_or("this").chars().take(32).collect()
}

/// Bounds of the text itself, before anything recursive looks at it.
fn check_size(sql: &str) -> Result<(), QueryError> {
    if sql.len() > LONGEST_STATEMENT {
        return refused(format!("it is longer than {LONGEST_STATEMENT} bytes"));
    }
    let tokens = Tokenizer::new(&GenericDialect {}, sql)
        .tokenize()
        .map_err(|error| QueryError::Statement(error.to_string()))?;
    let mut operators = 0;
    let mut calls = 0;
    let mut depth = 0_usize;
    let mut name_before = false;
    for token in tokens {
        match &token {
            Token::Whitespace(_) => continue,
            Token::LParen | Token::LBracket | Token::LBrace => {
                depth += 1;
                calls += usize::from(name_before || token != Token::LParen);
            }
            Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
            Token::Word(word) => operators += usize::from(joins(word.keyword)),
            // What separates or holds a value does not nest; everything else is an operator of some kind.
            Token::Comma
            | Token::SemiColon
            | Token::EOF
            | Token::Period
            | Token::Number(..)
            | Token::SingleQuotedString(_) => {}
            Token::StringConcat => {
                operators += 1;
                calls += 1;
            }
            _ => operators += 1,
        }
        name_before = matches!(&token, Token::Word(word) if !joins(word.keyword));
        if depth > DEEPEST {
            return refused(format!("its brackets are nested deeper than {DEEPEST}"));
        }
        if operators > MOST_OPERATORS {
            return refused(format!("it has more than {MOST_OPERATORS} operators"));
        }
        if calls > MOST_CALLS {
            return refused(format!("it calls more than {MOST_CALLS} functions"));
        }
    }
    Ok(())
}

/// Words that nest the tree like an operator does.
const fn joins(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::AND
            | Keyword::OR
            | Keyword::NOT
            | Keyword::UNION
            | Keyword::EXCEPT
            | Keyword::INTERSECT
            | Keyword::JOIN
            | Keyword::IS
            | Keyword::IN
            | Keyword::LIKE
            | Keyword::ILIKE
            | Keyword::BETWEEN
            | Keyword::CASE
            | Keyword::CAST
            | Keyword::COLLATE
            | Keyword::AT
            | Keyword::EXPLAIN
    )
}

fn table(name: &ObjectName, tables: &BTreeSet<&str>) -> Result<String, QueryError> {
    let shown = || name.to_string().chars().take(64).collect::<String>();
    let [part] = name.0.as_slice() else {
        return refused(format!("{} is not a table: table names have no schema before them here", shown()));
    };
    let Some(ident) = part.as_ident() else { return refused(format!("{} is not a table", shown())) };
    let plain = if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() };
    if tables.contains(plain.as_str()) {
        return Ok(plain);
    }
    let known: Vec<&str> = tables.iter().copied().collect();
    refused(format!("there is no table {}; the tables are {}", shown(), known.join(", ")))
}

fn check_names(statement: &Sql, tables: &BTreeSet<&str>) -> Result<(), QueryError> {
    let mut named = WithNames::default();
    if let ControlFlow::Break(reason) = statement.visit(&mut named) {
        return refused(reason);
    }
    let mut known = tables.clone();
    known.extend(named.names.iter().map(String::as_str));
    match statement.visit(&mut Names { known }) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// Collects the names that `WITH` introduces, and refuses what no query needs.
#[derive(Default)]
struct WithNames {
    names: BTreeSet<String>,
}

impl Visitor for WithNames {
    type Break = String;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<String> {
        if let Some(with) = &query.with {
            if with.recursive {
                return ControlFlow::Break("WITH RECURSIVE is not available".to_owned());
            }
            for table in &with.cte_tables {
                let ident = &table.alias.name;
                let plain = if ident.quote_style.is_some() {
                    ident.value.clone()
                } else {
                    ident.value.to_lowercase()
                };
                self.names.insert(plain);
            }
        }
        if !query.locks.is_empty() {
            return ControlFlow::Break(reading_only("FOR UPDATE"));
        }
        if !matches!(
            query.body.as_ref(),
            SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::SetOperation { .. } | SetExpr::Values(_)
        ) {
            return ControlFlow::Break(reading_only(&first_word(&query.body.to_string())));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<String> {
        if select.into.is_some() {
            return ControlFlow::Break(reading_only("SELECT INTO"));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_statement(&mut self, statement: &Sql) -> ControlFlow<String> {
        match statement {
            Sql::Query(_) => ControlFlow::Continue(()),
            other => ControlFlow::Break(reading_only(&first_word(&other.to_string()))),
        }
    }
}

/// Checks every source of rows.
struct Names<'a> {
    known: BTreeSet<&'a str>,
}

impl Visitor for Names<'_> {
    type Break = QueryError;

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<QueryError> {
        let function = |name: &ObjectName| {
            let word = name.to_string().to_lowercase();
            if TABLE_FUNCTIONS.contains(&word.as_str()) {
                ControlFlow::Continue(())
            } else {
                let shown: String = word.chars().take(64).collect();
                ControlFlow::Break(QueryError::Refused(format!(
                    "there is no table function {shown}; there are {}",
                    TABLE_FUNCTIONS.join(", ")
                )))
            }
        };
        match factor {
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => {
                function(name)
            }
            TableFactor::Table { name, .. } => match table(name, &self.known) {
                Ok(_) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(error),
            },
            TableFactor::Derived { .. } | TableFactor::NestedJoin { .. } | TableFactor::UNNEST { .. } => {
                ControlFlow::Continue(())
            }
            other => {
                let word = first_word(&other.to_string());
                ControlFlow::Break(QueryError::Refused(format!(
                    "{word} is not available as a source of rows"
                )))
            }
        }
    }
}
