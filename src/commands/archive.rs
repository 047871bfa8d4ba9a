//! `bursar archive rebuild-delta`.

use bursar_ingest::archive::{Delta, Segments};
use object_store::path::Path;
use std::sync::Arc;

use super::verify::open;
use crate::cli::{Archive, Place};
use crate::clock;
use crate::exit::Outcome;
use crate::print;

pub(crate) async fn run(place: &Place, archive: Archive) -> Outcome {
    let Archive::RebuildDelta { archive } = archive;
    let store = open(place, archive.as_deref())?;
    let clock = clock::system()?;
    let mut delta = Delta::new(Segments::new(store, Path::default()), Arc::new(move || clock().0));
    let tables = delta.rebuild_all().await?;
    for (generation, topic, files) in &tables {
        print::out(&format!("segments/{generation}/{topic}: {files} files\n"))?;
    }
    if tables.is_empty() { print::out("the archive holds no segments\n") } else { Ok(()) }
}
