//! Segments in an object store: put if absent, footers read with two small requests.

use std::collections::BTreeSet;
use std::sync::Arc;

use bursar_schemas::archive::{Footer, REMOVED_KEY, SEGMENTS, lane_prefix, parse_segment_key, segment_key};
use bursar_schemas::causes::with_causes;
use bursar_schemas::ids::Generation;
use bursar_schemas::position::Lane;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::aws::{AmazonS3Builder, Checksum};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};
use parquet::file::metadata::ParquetMetaDataReader;

use super::folder::Folder;
use super::parquet::{ParquetError, entry_of, footer_of};
use super::plan::{NotOfChain, check_footer};

/// An object that is put once and for all to see whether the store refuses to put it again.
pub const PROBE: &str = "probe/put-if-absent";

/// Bytes read off an object's end at first: enough for the metadata of nearly every segment.
const TAIL: u64 = 64 * 1024;

/// What went wrong at the archive's store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The address is not one that can be opened.
    #[error("failed to open the archive at {url:?}: {reason}")]
    Open {
        /// The address as given.
        url: String,
        /// Why.
        reason: String,
    },
    /// The store failed, or cannot be reached.
    #[error("failed to use the archive's store: {}", with_causes(.0))]
    Store(object_store::Error),
    /// The store overwrites what it was told to put only if absent.
    #[error("the archive's store does not support conditional puts, without which two archivers could clash")]
    Unconditional,
    /// An object at a segment's name is not a segment.
    #[error("failed to read {key}: {error}")]
    Unreadable {
        /// The object.
        key: String,
        /// Why.
        error: ParquetError,
    },
    /// A segment contradicts its name.
    #[error("{key} is not of the chain: {error}")]
    NotOfChain {
        /// The object.
        key: String,
        /// Why.
        error: NotOfChain,
    },
    /// Building the segment failed.
    #[error("failed to build a segment: {0}")]
    Build(ParquetError),
    /// Work was broken off within the process, or an object is not what it should be.
    #[error("failed to go on: {0}")]
    Broken(String),
    /// The segment is there, but the log could not be written.
    #[error("failed to log a segment: {0}")]
    Log(Box<super::log::LogError>),
}

// Their texts are in its own, so they are no sources: a chain of causes would say them twice.
impl From<object_store::Error> for StoreError {
    fn from(error: object_store::Error) -> Self {
        Self::Store(error)
    }
}

impl From<ParquetError> for StoreError {
    fn from(error: ParquetError) -> Self {
        Self::Build(error)
    }
}

/// What came of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The object is there, by this put.
    Created,
    /// The name was taken before: whoever took it defines the range.
    Taken,
}

/// Opens an archive: a folder, `file:///…`, `s3://bucket/prefix`, `gs://bucket/prefix` or
/// `az://container/prefix`; the second part is the prefix within it.
///
/// Credentials and endpoints come from the environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
/// `AWS_REGION`, `AWS_ENDPOINT_URL`, `AWS_ALLOW_HTTP`; `GOOGLE_*`; `AZURE_*`), or from the machine's identity.
/// S3-compatible servers are addressed by path unless `AWS_VIRTUAL_HOSTED_STYLE_REQUEST` says otherwise.
/// A folder is made if it is not there, and every put into it is made durable before it counts.
///
/// # Errors
/// When the address is unknown or the settings do not suffice.
pub fn open_store(url: &str) -> Result<(Arc<dyn ObjectStore>, Path), StoreError> {
    open_with(url, |folder| Folder::open(folder))
}

/// As [`open_store`], for an archive that others may have tampered with: what is no file in a folder is listed and never
/// opened.
///
/// # Errors
/// When the address is unknown or the settings do not suffice.
pub fn open_suspect(url: &str) -> Result<(Arc<dyn ObjectStore>, Path), StoreError> {
    open_with(url, |folder| Folder::open_wary(folder))
}

fn open_with(
    url: &str,
    open_folder: fn(&str) -> object_store::Result<Folder>,
) -> Result<(Arc<dyn ObjectStore>, Path), StoreError> {
    let open =
        |error: object_store::Error| StoreError::Open { url: url.to_owned(), reason: error.to_string() };
    let Some((scheme, rest)) = url.split_once("://") else {
        return Ok((Arc::new(open_folder(url)?), Path::default()));
    };
    if scheme == "file" {
        return Ok((Arc::new(open_folder(rest)?), Path::default()));
    }
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        let reason = "no bucket or container is named".to_owned();
        return Err(StoreError::Open { url: url.to_owned(), reason });
    }
    let prefix = Path::parse(prefix).map_err(|error| open(error.into()))?;
    let store: Arc<dyn ObjectStore> = match scheme {
        "s3" => {
            // A bucket with Object Lock takes no object without a checksum.
            let builder = AmazonS3Builder::from_env().with_checksum_algorithm(Checksum::SHA256);
            Arc::new(builder.with_bucket_name(bucket).build().map_err(open)?)
        }
        "gs" => {
            Arc::new(GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket).build().map_err(open)?)
        }
        "az" => {
            Arc::new(MicrosoftAzureBuilder::from_env().with_container_name(bucket).build().map_err(open)?)
        }
        _ => {
            let reason = "expected a folder, file://, s3://, gs:// or az://".to_owned();
            return Err(StoreError::Open { url: url.to_owned(), reason });
        }
    };
    Ok((store, prefix))
}

/// The segments of an archive.
#[derive(Debug, Clone)]
pub struct Segments {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl Segments {
    /// The segments below a prefix.
    #[must_use]
    pub const fn new(store: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        Self { store, prefix }
    }

    fn path(&self, key: &str) -> Path {
        self.prefix.parts().chain(Path::from(key).parts()).collect()
    }

    /// Puts an object unless its name is taken.
    ///
    /// # Errors
    /// When the store fails; the object may be there all the same.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<Put, StoreError> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&self.path(key), PutPayload::from(bytes), options).await {
            Ok(_) => Ok(Put::Created),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Put::Taken),
            Err(error) => Err(error.into()),
        }
    }

    /// Puts an object whether or not its name is taken: for hints alone.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn replace(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.store.put(&self.path(key), PutPayload::from(bytes)).await?;
        Ok(())
    }

    /// An object's bytes; none when there is no such object.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn read(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        match self.store.get(&self.path(key)).await {
            Ok(found) => Ok(Some(found.bytes().await?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes the objects below a folder: for what follows from other objects alone.
    pub(super) async fn delete_below(&self, folder: &str) -> Result<(), StoreError> {
        let names = self.store.list(Some(&self.path(folder))).map_ok(|meta| meta.location);
        self.store.delete_stream(names.boxed()).try_for_each(|_| async { Ok(()) }).await?;
        Ok(())
    }

    /// Every lane that has a segment, in each of its lives.
    pub(super) async fn lanes(&self) -> Result<BTreeSet<(Generation, Lane)>, StoreError> {
        let mut lanes = BTreeSet::new();
        let mut names = self.store.list(Some(&self.path(SEGMENTS)));
        while let Some(meta) = names.try_next().await? {
            let key: Path = meta.location.prefix_match(&self.prefix).into_iter().flatten().collect();
            lanes.extend(parse_segment_key(key.as_ref()).map(|(generation, lane, _)| (generation, lane)));
        }
        Ok(lanes)
    }

    /// How many objects below a folder have names that end so.
    pub(super) async fn count_below(&self, folder: &str, suffix: &str) -> Result<u64, StoreError> {
        let names = self.store.list(Some(&self.path(folder)));
        let counted = names.try_fold(0, |count: u64, meta| async move {
            Ok(count + u64::from(meta.location.as_ref().ends_with(suffix)))
        });
        Ok(counted.await?)
    }

    /// The segment that starts at an offset, with all its bytes; none when there is no such segment.
    ///
    /// # Errors
    /// When the store fails, or the object there is not that segment.
    pub async fn whole(
        &self,
        generation: Generation,
        lane: Lane,
        start: u64,
    ) -> Result<Option<(Footer, Bytes)>, StoreError> {
        let key = segment_key(generation, lane, start);
        let Some(bytes) = self.read(&key).await? else { return Ok(None) };
        let read = ParquetMetaDataReader::new().parse_and_finish(&bytes).map_err(ParquetError::Read);
        let footer = read.and_then(|metadata| footer_of(&metadata));
        let footer = footer.map_err(|error| StoreError::Unreadable { key: key.clone(), error })?;
        check_footer(&footer, generation, lane, start)
            .map_err(|error| StoreError::NotOfChain { key, error })?;
        Ok(Some((footer, bytes)))
    }

    /// Makes sure that the store refuses to put what is there already.
    ///
    /// # Errors
    /// When it does not, or fails.
    pub async fn probe(&self) -> Result<(), StoreError> {
        for _ in 0..2 {
            if self.put(PROBE, Bytes::from_static(b"put-if-absent\n")).await? == Put::Taken {
                return Ok(());
            }
        }
        Err(StoreError::Unconditional)
    }

    /// An object's size; none when there is no such object.
    pub(super) async fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        match self.store.head(&self.path(key)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The footer of the segment that starts at an offset; none when there is no such segment.
    ///
    /// # Errors
    /// When the store fails, or the object there is not that segment.
    pub async fn footer(
        &self,
        generation: Generation,
        lane: Lane,
        start: u64,
    ) -> Result<Option<Footer>, StoreError> {
        Ok(self.statement(generation, lane, start).await?.map(|(footer, _)| footer))
    }

    /// As [`Segments::footer`], and whether its records were removed under retention.
    pub(super) async fn statement(
        &self,
        generation: Generation,
        lane: Lane,
        start: u64,
    ) -> Result<Option<(Footer, bool)>, StoreError> {
        let key = segment_key(generation, lane, start);
        let path = self.path(&key);
        let size = match self.store.head(&path).await {
            Ok(meta) => meta.size,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let unreadable = |error| StoreError::Unreadable { key: key.clone(), error };
        let mut reader = ParquetMetaDataReader::new();
        let mut tail = TAIL.min(size);
        loop {
            let bytes = self.store.get_range(&path, size - tail..size).await?;
            match reader.try_parse_sized(&bytes, size) {
                Ok(()) => break,
                Err(parquet::errors::ParquetError::NeedMoreData(needed)) => {
                    let needed = u64::try_from(needed).unwrap_or(u64::MAX);
                    if needed <= tail || needed > size {
                        return Err(unreadable(ParquetError::NoFooter("the object is cut off".to_owned())));
                    }
                    tail = needed;
                }
                Err(error) => return Err(unreadable(ParquetError::Read(error))),
            }
        }
        let metadata = reader.finish().map_err(|error| unreadable(ParquetError::Read(error)))?;
        let footer = footer_of(&metadata).map_err(unreadable)?;
        check_footer(&footer, generation, lane, start)
            .map_err(|error| StoreError::NotOfChain { key: key.clone(), error })?;
        let removed = entry_of(&metadata, REMOVED_KEY).is_some();
        Ok(Some((footer, removed)))
    }

    /// The bytes of the segment that starts at an offset.
    ///
    /// # Errors
    /// When the store fails, or there is no such segment.
    pub async fn object(&self, generation: Generation, lane: Lane, start: u64) -> Result<Bytes, StoreError> {
        let path = self.path(&segment_key(generation, lane, start));
        Ok(self.store.get(&path).await?.bytes().await?)
    }

    /// The last two starts that a listing shows among segments from an offset on; a hint, nothing more.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn last_listed(
        &self,
        generation: Generation,
        lane: Lane,
        from: u64,
    ) -> Result<(Option<u64>, Option<u64>), StoreError> {
        let folder = self.path(&lane_prefix(generation, lane));
        let mut listing = match from.checked_sub(1) {
            Some(before) => {
                let after = self.path(&segment_key(generation, lane, before));
                self.store.list_with_offset(Some(&folder), &after)
            }
            None => self.store.list(Some(&folder)),
        };
        let (mut last, mut before) = (None, None);
        while let Some(meta) = listing.try_next().await? {
            let key: Path = meta.location.prefix_match(&self.prefix).into_iter().flatten().collect();
            let Some((_, _, start)) = parse_segment_key(key.as_ref()) else { continue };
            // Not every store lists in order.
            if last.is_none_or(|last| start > last) {
                before = last.replace(start);
            } else if before.is_none_or(|before| start > before) {
                before = Some(start);
            }
        }
        Ok((last, before))
    }
}
