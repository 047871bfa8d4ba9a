//! A local folder as an object store whose puts survive a power cut.
//!
//! The plain local store links a file into place before its bytes have reached the disk: after a power cut a
//! name could be taken by an empty file, and the chain's slot be lost. Here the file is synced, then linked,
//! then its folder is synced.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// Counts staged files, so that two puts of this process never share one.
static STAGED: AtomicU64 = AtomicU64::new(0);

/// A folder.
#[derive(Debug, Clone)]
pub struct Folder {
    root: Arc<PathBuf>,
    inner: Arc<LocalFileSystem>,
    /// Somebody else may have put into it what is no file.
    wary: bool,
}

impl std::fmt::Display for Folder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Folder({})", self.root.display())
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::Generic { store: "folder", source: Box::new(error) }
}

fn sync_folder(folder: &FilePath) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes a folder and those above it, each durable in the one that holds it.
fn make_folder(folder: &FilePath) -> std::io::Result<()> {
    match fs::create_dir(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let above = folder.parent().filter(|above| !above.as_os_str().is_empty()).ok_or(error)?;
            make_folder(above)?;
            match fs::create_dir(folder) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Err(error) => return Err(error),
    }
    match folder.parent() {
        Some(above) if !above.as_os_str().is_empty() => sync_folder(above),
        _ => sync_folder(FilePath::new(".")),
    }
}

/// Writes the staged file and brings it to its name; false when the name is taken.
fn place(path: &FilePath, staged: &FilePath, payload: &PutPayload, create: bool) -> std::io::Result<bool> {
    let folder = path.parent().ok_or(ErrorKind::InvalidInput)?;
    make_folder(folder)?;
    let mut file = OpenOptions::new().write(true).create_new(true).open(staged)?;
    payload.iter().try_for_each(|part| file.write_all(part))?;
    file.sync_all()?;
    drop(file);
    let placed = if create {
        match fs::hard_link(staged, path) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error),
        }
    } else {
        fs::rename(staged, path)?;
        true
    };
    // Also when it is taken: whoever took it may have died before its name was durable.
    sync_folder(folder)?;
    Ok(placed)
}

/// What is neither a file nor a folder: pipes, sockets, devices.
fn specials(root: &FilePath, folder: &FilePath, found: &mut Vec<ObjectMeta>) -> std::io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            specials(root, &path, found)?;
        } else if !kind.is_file() && fs::metadata(&path).is_ok_and(|it| !it.is_file() && !it.is_dir()) {
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy();
            found.push(ObjectMeta {
                location: Path::from(name.as_ref()),
                last_modified: std::time::SystemTime::UNIX_EPOCH.into(),
                size: 0,
                e_tag: None,
                version: None,
            });
        }
    }
    Ok(())
}

impl Folder {
    /// Opens a folder, making it if need be.
    ///
    /// # Errors
    /// When it cannot be made or read.
    pub fn open(folder: impl AsRef<FilePath>) -> Result<Self> {
        let folder = folder.as_ref();
        make_folder(folder).map_err(failed)?;
        let root = folder.canonicalize().map_err(failed)?;
        let inner = LocalFileSystem::new_with_prefix(&root)?;
        Ok(Self { root: Arc::new(root), inner: Arc::new(inner), wary: false })
    }

    /// Opens a folder that others may have written to: pipes, sockets and devices in it are listed and never opened,
    /// at the price of a look at each file's kind.
    ///
    /// # Errors
    /// When it cannot be made or read.
    pub fn open_wary(folder: impl AsRef<FilePath>) -> Result<Self> {
        Ok(Self { wary: true, ..Self::open(folder)? })
    }

    /// Whoever opens a pipe or a device waits for its other end, for ever perhaps: only files are opened.
    async fn refuse_special(&self, location: &Path) -> Result<()> {
        if !self.wary {
            return Ok(());
        }
        let path = self.inner.path_to_filesystem(location)?;
        let found = tokio::task::spawn_blocking(move || fs::metadata(path)).await?;
        // What cannot be asked about is for the store to tell.
        if found.is_ok_and(|found| !found.is_file() && !found.is_dir()) {
            let source = format!("{location} is neither a file nor a folder").into();
            return Err(Error::NotSupported { source });
        }
        Ok(())
    }
}

#[async_trait]
impl ObjectStore for Folder {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let create = match options.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => return self.inner.put_opts(location, payload, options).await,
        };
        let path = self.inner.path_to_filesystem(location)?;
        let name = location.to_string();
        let work = move || {
            // The local store keeps names that end in # and digits out of its listings.
            let count = STAGED.fetch_add(1, Ordering::Relaxed);
            let mut staged = path.clone().into_os_string();
            staged.push(format!("#{}{count:06}", std::process::id()));
            let staged = PathBuf::from(staged);
            let placed = place(&path, &staged, &payload, create);
            match fs::remove_file(&staged) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    tracing::warn!(%error, file = %staged.display(), "failed to remove a staged file");
                }
                _ => {}
            }
            placed
        };
        let placed = tokio::task::spawn_blocking(work).await?.map_err(failed)?;
        if placed {
            return Ok(PutResult { e_tag: None, version: None });
        }
        Err(Error::AlreadyExists { path: name, source: ErrorKind::AlreadyExists.to_string().into() })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.refuse_special(location).await?;
        let head = options.head;
        let found = self.inner.get_opts(location, options).await?;
        if head {
            // Who finds an object builds upon it, and whoever put it may have died before its name was durable.
            let path = self.inner.path_to_filesystem(location)?;
            let work = move || path.parent().map_or(Ok(()), sync_folder);
            tokio::task::spawn_blocking(work).await?.map_err(failed)?;
        }
        Ok(found)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.refuse_special(location).await?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if !self.wary {
            return self.inner.list(prefix);
        }
        let root = Arc::clone(&self.root);
        let below = prefix.map_or_else(|| root.to_path_buf(), |prefix| root.join(prefix.as_ref()));
        let work = move || {
            let mut found = Vec::new();
            specials(&root, &below, &mut found).map_err(failed)?;
            Ok::<_, Error>(stream::iter(found.into_iter().map(Ok)))
        };
        // The local store passes over them, and whoever checks a folder has to name all that is in it.
        let rest = stream::once(async move { tokio::task::spawn_blocking(work).await.map_err(Error::from)? })
            .try_flatten();
        self.inner.list(prefix).chain(rest).boxed()
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
