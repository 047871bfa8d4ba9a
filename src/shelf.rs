//! Snapshots as files of the data folder: written aside, made durable, then put in place of the one before.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bursar_schemas::snapshot::Shelf;

/// A folder of snapshots. Only their keeper reads them, since budgets' names stand in them.
#[derive(Debug, Clone)]
pub(crate) struct FolderShelf {
    folder: PathBuf,
}

impl FolderShelf {
    pub(crate) fn open(data: &Path) -> anyhow::Result<Self> {
        let folder = data.join("snapshots");
        std::fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
        Ok(Self { folder })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.snapshot"))
    }

    fn write(&self, name: &str, snapshot: &[u8]) -> std::io::Result<()> {
        let aside = self.folder.join(format!("{name}.new"));
        let mut file = std::fs::File::create(&aside)?;
        file.write_all(snapshot)?;
        file.sync_all()?;
        std::fs::rename(aside, self.file(name))
    }
}

impl Shelf for FolderShelf {
    fn take(&self, name: &str) -> Option<Vec<u8>> {
        match std::fs::read(self.file(name)) {
            Ok(snapshot) => Some(snapshot),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(name, %error, "a snapshot cannot be read; its state is rebuilt from the topics");
                None
            }
        }
    }

    fn keep(&self, name: &str, snapshot: &[u8]) {
        if let Err(error) = self.write(name, snapshot) {
            tracing::warn!(name, %error, "a snapshot cannot be kept; the next start takes longer");
        }
    }
}
