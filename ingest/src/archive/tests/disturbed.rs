//! An object store whose calls pass through something that may slow them down, change them or fail them.

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What happens to the calls of a store; nothing, unless it says otherwise.
pub(super) trait Disturbance: std::fmt::Debug + Send + Sync + 'static {
    /// Does the work of a call or leaves it, and answers the call or does not.
    fn call<T: Send>(
        &self,
        work: impl Future<Output = Result<T>> + Send,
    ) -> impl Future<Output = Result<T>> + Send {
        work
    }

    /// What a listing shows.
    fn listing(
        &self,
        listing: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        listing
    }

    /// What a put asks for.
    fn asked(&self, options: PutOptions) -> PutOptions {
        options
    }
}

/// A store with a disturbance before it.
#[derive(Debug)]
pub(super) struct Disturbed<D> {
    inner: Arc<dyn ObjectStore>,
    pub(super) by: D,
}

impl<D: Disturbance> Disturbed<D> {
    pub(super) fn new(inner: &Arc<dyn ObjectStore>, by: D) -> Arc<Self> {
        Arc::new(Self { inner: Arc::clone(inner), by })
    }
}

impl<D: Disturbance> std::fmt::Display for Disturbed<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Disturbed({})", self.inner)
    }
}

#[async_trait]
impl<D: Disturbance> ObjectStore for Disturbed<D> {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let options = self.by.asked(options);
        self.by.call(self.inner.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.by.call(self.inner.get_opts(location, options)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.by.listing(self.inner.list(prefix))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.by.call(self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
