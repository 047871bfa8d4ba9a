//! An object store that fails, or falls silent, at one chosen call.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::Notify;

/// What happens at the chosen call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing is done, and an error is answered.
    ErrorBefore,
    /// It is done, but an error is answered: the response was lost.
    ErrorAfter,
    /// Nothing is done and nothing answered, ever: the process dies here.
    DeathBefore,
    /// It is done and nothing answered: the process dies here.
    DeathAfter,
}

/// A store with one fault.
#[derive(Debug)]
pub(super) struct Faulty {
    pub(super) inner: Arc<dyn ObjectStore>,
    pub(super) fault: Fault,
    pub(super) at: usize,
    pub(super) calls: AtomicUsize,
    pub(super) dead: Notify,
}

impl std::fmt::Display for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Faulty({})", self.inner)
    }
}

fn error() -> Error {
    Error::Generic { store: "faulty", source: "a fault".into() }
}

impl Faulty {
    pub(super) fn new(inner: Arc<dyn ObjectStore>, fault: Fault, at: usize) -> Self {
        Self { inner, fault, at, calls: AtomicUsize::new(0), dead: Notify::new() }
    }

    pub(super) fn fired(&self) -> bool {
        self.calls.load(Ordering::SeqCst) > self.at
    }

    async fn call<T: Send>(&self, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        if self.calls.fetch_add(1, Ordering::SeqCst) != self.at {
            return work.await;
        }
        match self.fault {
            Fault::ErrorBefore => return Err(error()),
            Fault::ErrorAfter => {
                work.await?;
                return Err(error());
            }
            Fault::DeathBefore => {}
            Fault::DeathAfter => drop(work.await),
        }
        self.dead.notify_one();
        std::future::pending().await
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.call(self.inner.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.call(self.inner.get_opts(location, options)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if self.calls.fetch_add(1, Ordering::SeqCst) != self.at {
            return self.inner.list(prefix);
        }
        if matches!(self.fault, Fault::ErrorBefore | Fault::ErrorAfter) {
            return futures::stream::once(async { Err(error()) }).boxed();
        }
        self.dead.notify_one();
        futures::stream::pending().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// A store that overwrites whatever it is told.
#[derive(Debug)]
pub(super) struct Careless(pub(super) Arc<dyn ObjectStore>);

impl std::fmt::Display for Careless {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Careless({})", self.0)
    }
}

#[async_trait]
impl ObjectStore for Careless {
    async fn put_opts(&self, location: &Path, payload: PutPayload, _: PutOptions) -> Result<PutResult> {
        self.0.put_opts(location, payload, PutOptions::default()).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}
