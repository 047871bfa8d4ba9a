//! What a request takes in the bucket, broken down by column; and how fast an archive is verified.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::RowAccessor as _;
use parquet::schema::types::Type;

use crate::{Fault, Outcome};

/// Columns that are listed by themselves; the rest is one line.
const LISTED: usize = 12;

/// Every file below a folder, with its size.
pub(crate) fn files(folder: &Path, found: &mut Vec<(PathBuf, u64)>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            files(&entry.path(), found)?;
        } else {
            found.push((entry.path(), metadata.len()));
        }
    }
    Ok(())
}

/// Sizes of one archive.
#[derive(Debug, Default)]
struct Sizes {
    /// By part of the archive.
    parts: BTreeMap<String, (u64, u64)>,
    /// Compressed bytes by topic and column.
    columns: BTreeMap<(String, String), u64>,
    /// Bytes of records as they were written.
    records: u64,
    requests: u64,
}

impl Sizes {
    fn take(&mut self, archive: &Path, file: &Path, bytes: u64) -> Outcome {
        let name = file.strip_prefix(archive)?.to_string_lossy().into_owned();
        let parts: Vec<&str> = name.split('/').collect();
        let part = match parts.as_slice() {
            ["segments", _, _, "_delta_log", ..] => "Delta logs",
            ["segments", ..] => "segments",
            ["log", "leaf", ..] => "log: leaves",
            ["log", "checkpoints", ..] => "log: checkpoints",
            ["log", ..] => "log: tiles and bundles",
            _ => "other",
        };
        let sum = self.parts.entry(part.to_owned()).or_default();
        *sum = (sum.0 + 1, sum.1 + bytes);
        let ("segments", Some(topic)) = (part, parts.get(2)) else { return Ok(()) };
        let reader = SerializedFileReader::new(std::fs::File::open(file)?)?;
        let mut within = 0;
        for group in reader.metadata().row_groups() {
            for column in group.columns() {
                let size = u64::try_from(column.compressed_size())?;
                let name = column.column_path().parts().first().cloned().unwrap_or_default();
                *self.columns.entry(((*topic).to_owned(), name)).or_default() += size;
                within += size;
            }
        }
        let rest = bytes.saturating_sub(within);
        *self.columns.entry(((*topic).to_owned(), "(footer, indexes, filters)".to_owned())).or_default() +=
            rest;
        self.rows(&reader)
    }

    /// Bytes of records, and closed or refused requests.
    fn rows(&mut self, reader: &SerializedFileReader<std::fs::File>) -> Outcome {
        let schema = reader.metadata().file_metadata().schema();
        let all = schema.get_fields();
        let kept = all.iter().filter(|field| matches!(field.name(), "value" | "kind")).cloned().collect();
        let projected = Type::group_type_builder(schema.name()).with_fields(kept).build()?;
        for row in reader.get_row_iter(Some(projected))? {
            let row = row?;
            // In the file's own order: the record's bytes come before its kind.
            self.records += u64::try_from(row.get_bytes(0)?.len())?;
            if let Ok(kind) = row.get_string(1) {
                self.requests += u64::from(matches!(kind.as_str(), "RequestClosed" | "RequestRefused"));
            }
        }
        Ok(())
    }

    fn print(&self) {
        let requests = self.requests.max(1);
        println!(
            "{} requests, {} bytes of records ({} a request)",
            requests,
            self.records,
            self.records / requests
        );
        let total: u64 = self.parts.values().map(|(_, bytes)| bytes).sum();
        for (part, (objects, bytes)) in &self.parts {
            println!("{part:<24} {objects:>8} objects {bytes:>12} bytes {:>8} a request", bytes / requests);
        }
        println!("{:<24} {:>16} {total:>12} bytes {:>8} a request", "everything", "", total / requests);
        let mut columns: Vec<_> = self.columns.iter().collect();
        columns.sort_by_key(|(_, bytes)| std::cmp::Reverse(**bytes));
        for ((topic, column), bytes) in columns.iter().take(LISTED) {
            println!(
                "  {:<42} {bytes:>12} bytes {:>8} a request",
                format!("{topic}.{column}"),
                **bytes / requests
            );
        }
        let rest: u64 = columns.iter().skip(LISTED).map(|(_, bytes)| **bytes).sum();
        println!("  {:<42} {rest:>12} bytes {:>8} a request", "all other columns", rest / requests);
    }
}

/// Prints what an archive's folder takes for each request.
///
/// # Errors
/// When it cannot be read.
pub fn sizes(archive: &Path) -> Outcome {
    let mut found = Vec::new();
    files(archive, &mut found)?;
    let mut sizes = Sizes::default();
    for (file, bytes) in found {
        sizes.take(archive, &file, bytes)?;
    }
    sizes.print();
    Ok(())
}

/// Times `bursar verify` beside `sha256sum` over the same records' bytes, in turns.
///
/// # Errors
/// When either fails.
pub fn verify(bursar: &Path, archive: &Path, key: &Path, rounds: usize) -> Outcome {
    let folder = tempfile::tempdir()?;
    let canonical = folder.path().join("records");
    let mut found = Vec::new();
    files(&archive.join("segments"), &mut found)?;
    let mut out = std::io::BufWriter::new(std::fs::File::create(&canonical)?);
    let mut bytes = 0;
    for (file, _) in found.iter().filter(|(file, _)| file.extension().is_some_and(|it| it == "parquet")) {
        let reader = SerializedFileReader::new(std::fs::File::open(file)?)?;
        let schema = reader.metadata().file_metadata().schema();
        let all = schema.get_fields();
        let kept = all.iter().filter(|field| field.name() == "value").cloned().collect();
        let projected = Type::group_type_builder(schema.name()).with_fields(kept).build()?;
        for row in reader.get_row_iter(Some(projected))? {
            let row = row?;
            let value = row.get_bytes(0)?;
            out.write_all(value.data())?;
            bytes += value.len();
        }
    }
    out.flush()?;
    println!("{bytes} bytes of records");
    let mut ratios = Vec::new();
    for _ in 0..rounds.max(1) {
        let mut sha256sum = Command::new("sha256sum");
        let plain = timed(sha256sum.arg(&canonical))?;
        let mut own = Command::new(bursar);
        let ours = timed(own.arg("verify").arg(archive).arg("--key").arg(key))?;
        println!("sha256sum {plain} µs, verify {ours} µs");
        ratios.push(plain * 1000 / ours.max(1));
    }
    ratios.sort_unstable();
    println!(
        "verify runs at {} thousandths of sha256sum (median of {})",
        ratios[ratios.len() / 2],
        ratios.len()
    );
    Ok(())
}

/// Microseconds that a command takes.
fn timed(command: &mut Command) -> Outcome<u128> {
    let started = Instant::now();
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    if !status.success() {
        return Err(Fault::from(format!("{command:?} ended with {status}")));
    }
    Ok(started.elapsed().as_micros())
}
