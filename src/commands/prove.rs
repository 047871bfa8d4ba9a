//! `bursar prove`: writes the evidence of one request into a file.

use std::path::PathBuf;

use anyhow::Context as _;
use bursar_query::evidence::{self, VerifyOptions};
use bursar_schemas::ids::RequestId;

use super::verify::{keys, open};
use crate::cli::{Place, Prove};
use crate::exit::{Failure, Outcome};
use crate::print;

pub(crate) async fn run(place: &Place, prove: Prove) -> Outcome {
    let request: RequestId = prove.request.replace('-', "").parse().map_err(Failure::usage)?;
    let keys = keys(place, &prove.key)?;
    let store = open(place, prove.archive.as_deref())?;
    let options = VerifyOptions { keys, ..VerifyOptions::default() };
    let bundle = evidence::prove(store, &options, request).await?;
    let file = prove.out.unwrap_or_else(|| PathBuf::from(format!("request-{request}.evidence.json")));
    std::fs::write(&file, serde_json::to_string_pretty(&bundle)? + "\n")
        .with_context(|| format!("failed to write {}", file.display()))?;
    print::out(&format!(
        "Wrote {}: {} facts in {} segments, under a checkpoint of {} leaves.\nCheck it with: bursar verify --bundle {} --key KEY\n",
        file.display(),
        bundle.facts.len(),
        bundle.segments.len(),
        bundle.scanned.leaves,
        file.display()
    ))
}
