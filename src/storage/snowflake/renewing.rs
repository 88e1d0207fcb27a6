//! A stage's store: the cloud's own client, and once more with other credentials when it refuses them.
//!
//! Credentials may end before their time: the stage's keys are rotated, or a machine sleeps. A request that is refused
//! was not carried out, so repeating it is safe, also a put that must not replace anything. A stage that the role may
//! only read refuses writes here, with what to grant, before the cloud does so without.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::lease::{Lease, store_error};
use crate::storage::diagnosis::{Diagnosis, Worth};

/// The store of a stage. Listings go page by page.
#[derive(Debug)]
pub(super) struct StageStore<S> {
    inner: Arc<S>,
    lease: Arc<Lease>,
    /// Why nothing may be written, if so.
    read_only: Option<&'static str>,
}

impl<S> Clone for StageStore<S> {
    fn clone(&self) -> Self {
        StageStore {
            inner: self.inner.clone(),
            lease: self.lease.clone(),
            read_only: self.read_only,
        }
    }
}

impl<S: ObjectStore + PaginatedListStore> StageStore<S> {
    pub(super) fn new(inner: S, lease: Arc<Lease>, read_only: Option<&'static str>) -> StageStore<S> {
        StageStore {
            inner: Arc::new(inner),
            lease,
            read_only,
        }
    }

    /// Does `action`; if the credentials are refused, once more with others.
    async fn twice<T, F: Future<Output = Result<T>>>(&self, action: impl Fn() -> F) -> Result<T> {
        let asked = Instant::now();
        let error = match action().await {
            Err(error) if Diagnosis::of(&error).worth(&error) == Worth::FreshCredentials => error,
            outcome => {
                if outcome.is_ok() {
                    self.lease.works();
                }
                return outcome;
            }
        };
        match self.lease.renew_refused(asked).await.map_err(store_error)? {
            true => action().await,
            false => Err(error),
        }
    }

    fn check_writable(&self, path: &Path) -> Result<()> {
        match self.read_only {
            None => Ok(()),
            Some(why) => Err(Error::Generic {
                store: "Snowflake",
                source: Box::new(crate::error::Error::storage(why).with("key", path)),
            }),
        }
    }
}

impl<S: fmt::Display> fmt::Display for StageStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snowflake stage on {}", self.inner)
    }
}

#[async_trait]
impl<S: ObjectStore + PaginatedListStore> PaginatedListStore for StageStore<S> {
    async fn list_paginated(
        &self,
        prefix: Option<&str>,
        options: PaginatedListOptions,
    ) -> Result<PaginatedListResult> {
        self.twice(|| self.inner.list_paginated(prefix, options.clone()))
            .await
    }
}

#[async_trait]
impl<S: ObjectStore + PaginatedListStore> ObjectStore for StageStore<S> {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.check_writable(location)?;
        self.twice(|| self.inner.put_opts(location, payload.clone(), options.clone()))
            .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.check_writable(location)?;
        self.twice(|| self.inner.put_multipart_opts(location, options.clone()))
            .await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.twice(|| self.inner.get_opts(location, options.clone()))
            .await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.twice(|| self.inner.get_ranges(location, ranges)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .then(move |location| {
                let store = store.clone();
                async move {
                    let location = location?;
                    store.check_writable(&location)?;
                    // One at a time, so that it is known what was refused.
                    store.twice(|| store.inner.delete(&location)).await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.twice(|| self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.check_writable(to)?;
        self.twice(|| self.inner.copy_opts(from, to, options.clone()))
            .await
    }
}
