//! `bursar verify`: checks an archive, or the evidence of one request, offline.

use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bursar_ingest::archive::open_suspect;
use bursar_query::evidence::{self, OnProgress, VerifyOptions};
use bursar_schemas::evidence::{Kind, VerifierKey};
use object_store::ObjectStore;
use object_store::prefix::PrefixStore;

use crate::cli::{Place, Verify};
use crate::config::Config;
use crate::exit::{Failure, Outcome};
use crate::print;
use crate::roles::archive;

/// How often progress is told.
const EVERY: Duration = Duration::from_secs(2);

pub(crate) async fn run(place: &Place, verify: Verify) -> Outcome {
    let mut keys = keys(place, &verify.key)?;
    keys.extend(witnesses(&verify.witness)?);
    if let Some(file) = &verify.bundle {
        return bundle(file, &keys, verify.json);
    }
    let store = open(place, verify.archive.as_deref())?;
    let trusted = verify.trusted_checkpoint.as_deref().map(read).transpose()?;
    let since_us = verify.since.as_deref().map(instant).transpose()?;
    let (sample, columns) = (verify.sample, verify.columns);
    let options = VerifyOptions { keys, trusted, since_us, sample, columns, progress: Some(progress()) };
    let report = evidence::verify(store, &options).await?;
    if verify.json {
        print::out(&format!("{}\n", serde_json::to_string_pretty(&report)?))?;
    } else {
        print::out(&report.to_text())?;
    }
    if report.holds() {
        return Ok(());
    }
    let counts: Vec<String> = report.counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    Err(anyhow::anyhow!("the archive does not hold: {}", counts.join(", ")).into())
}

fn bundle(file: &Path, keys: &[VerifierKey], json: bool) -> Outcome {
    let report = evidence::verify_bundle(&read(file)?, keys)?;
    if json {
        print::out(&format!("{}\n", serde_json::to_string_pretty(&report)?))?;
    } else {
        print::out(&report.to_text())?;
    }
    if report.holds { Ok(()) } else { Err(anyhow::anyhow!("the bundle does not hold").into()) }
}

fn read(file: &Path) -> Outcome<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("failed to read {}", file.display())).map_err(Failure::usage)
}

/// The archive that is named, or the data folder's own.
pub(crate) fn open(place: &Place, named: Option<&str>) -> Outcome<Arc<dyn ObjectStore>> {
    let (store, prefix) = if let Some(url) = named {
        let folder = url.strip_prefix("file://").unwrap_or(url);
        if !folder.contains("://") && !Path::new(folder).is_dir() {
            return Err(Failure::usage(anyhow::anyhow!("there is no folder {folder}")));
        }
        open_suspect(url).map_err(Failure::usage)?
    } else {
        let config = Config::load(&place.data, place.config.as_deref())?;
        if !config.data.is_dir() {
            let data = config.data.display();
            return Err(Failure::usage(anyhow::anyhow!(
                "there is no data folder {data}: name the archive to verify"
            )));
        }
        open_suspect(&archive::address(&config, &config.archive.url))?
    };
    Ok(Arc::new(PrefixStore::new(store, prefix)))
}

/// The keys that are named, word for word or in files; without any, those that the data folder has written down.
pub(crate) fn keys(place: &Place, named: &[String]) -> Outcome<Vec<VerifierKey>> {
    let own;
    let named = if named.is_empty() {
        let config = Config::load(&place.data, place.config.as_deref())?;
        let file = archive::public_key_file(&config);
        if !file.exists() {
            return Err(Failure::usage(anyhow::anyhow!(
                "no key: name the log's public key with --key (the text or the file log.pub); it must not come from the archive"
            )));
        }
        own = [file.display().to_string()];
        &own[..]
    } else {
        named
    };
    read_keys(named)
}

/// Keys of witnesses alone, so that no other is believed to be one.
fn witnesses(named: &[String]) -> Outcome<Vec<VerifierKey>> {
    let keys = read_keys(named)?;
    match keys.iter().find(|key| key.kind() != Kind::Cosignature) {
        Some(key) => {
            Err(Failure::usage(anyhow::anyhow!("--witness {key}: that key signs notes, not cosignatures")))
        }
        None => Ok(keys),
    }
}

/// Keys word for word or in files, a line for each.
fn read_keys(named: &[String]) -> Outcome<Vec<VerifierKey>> {
    let mut keys = Vec::new();
    for name in named {
        let text = if Path::new(name).is_file() {
            String::from_utf8(read(Path::new(name))?).map_err(Failure::usage)?
        } else {
            name.clone()
        };
        let before = keys.len();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let key = line.parse().with_context(|| format!("{name} is neither a key nor a file of keys"));
            keys.push(key.map_err(Failure::usage)?);
        }
        if keys.len() == before {
            return Err(Failure::usage(anyhow::anyhow!("no key is in {name}")));
        }
    }
    Ok(keys)
}

/// An instant, or the beginning of a day in UTC, in microseconds since 1970.
fn instant(text: &str) -> Outcome<i64> {
    let whole = if text.contains('T') { text.to_owned() } else { format!("{text}T00:00:00Z") };
    let instant: jiff::Timestamp = whole
        .parse()
        .with_context(|| format!("--since {text}: expected 2026-11-03 or 2026-11-03T14:00:00Z"))
        .map_err(Failure::usage)?;
    Ok(instant.as_microsecond())
}

fn progress() -> OnProgress {
    let told = Mutex::new(Instant::now());
    Arc::new(move |progress| {
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.elapsed() < EVERY {
            return;
        }
        *told = Instant::now();
        let (done, all) = (progress.bytes >> 20, progress.of_bytes >> 20);
        // Whoever closed standard error does not want to know.
        writeln!(
            std::io::stderr(),
            "verified {} of {} segments, {done} of {all} MiB",
            progress.segments,
            progress.of_segments
        )
        .ok();
    })
}
