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
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::lease::{Lease, store_error};

/// The store of a stage.
#[derive(Clone, Debug)]
pub(super) struct StageStore {
    inner: Arc<dyn ObjectStore>,
    lease: Arc<Lease>,
    /// Why nothing may be written, if so.
    read_only: Option<&'static str>,
}

impl StageStore {
    pub(super) fn new(
        inner: Arc<dyn ObjectStore>,
        lease: Arc<Lease>,
        read_only: Option<&'static str>,
    ) -> StageStore {
        StageStore {
            inner,
            lease,
            read_only,
        }
    }

    /// Does `action`; if the credentials are refused, once more with others.
    async fn twice<T, F: Future<Output = Result<T>>>(&self, action: impl Fn() -> F) -> Result<T> {
        let asked = Instant::now();
        match action().await {
            Err(error) if is_refusal(&error) && self.renewed(asked).await? => action().await,
            outcome => {
                if outcome.is_ok() {
                    self.lease.works();
                }
                outcome
            }
        }
    }

    async fn renewed(&self, asked: Instant) -> Result<bool> {
        self.lease.renew_refused(asked).await.map_err(store_error)
    }

    fn check_writable(&self, path: &Path) -> Result<()> {
        match self.read_only {
            None => Ok(()),
            Some(why) => Err(Error::PermissionDenied {
                path: path.to_string(),
                source: why.into(),
            }),
        }
    }
}

/// Whether the store did not like the credentials. Of listings only the text says so, and Amazon answers an expired
/// token with a status that says nothing.
fn is_refusal(error: &Error) -> bool {
    const SIGNS: [&str; 5] = [
        "status code: 401",
        "status code: 403",
        "ExpiredToken",
        "TokenRefreshRequired",
        "InvalidToken",
    ];
    match error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => true,
        Error::Generic { source, .. } => {
            let text = source.to_string();
            SIGNS.iter().any(|sign| text.contains(sign))
        }
        _ => false,
    }
}

impl fmt::Display for StageStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snowflake stage on {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for StageStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.check_writable(location)?;
        self.twice(|| self.inner.put_opts(location, payload.clone(), opts.clone()))
            .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.check_writable(location)?;
        self.twice(|| self.inner.put_multipart_opts(location, opts.clone()))
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
                    let delete = || async {
                        let one = futures::stream::iter([Ok(location.clone())]).boxed();
                        match store.inner.delete_stream(one).next().await {
                            Some(deleted) => deleted,
                            None => Ok(location.clone()),
                        }
                    };
                    store.twice(delete).await
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix.cloned(), None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix.cloned(), Some(offset.clone()))
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

/// How far a listing has come.
struct Listing {
    store: StageStore,
    prefix: Option<Path>,
    /// The last name that was passed on: after a refusal the listing goes on behind it.
    behind: Option<Path>,
    stream: BoxStream<'static, Result<ObjectMeta>>,
    asked: Instant,
    is_over: bool,
}

impl StageStore {
    fn open(&self, prefix: Option<&Path>, behind: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match behind {
            Some(behind) => self.inner.list_with_offset(prefix, behind),
            None => self.inner.list(prefix),
        }
    }

    /// A listing that survives one refusal between any two objects.
    fn listing(&self, prefix: Option<Path>, behind: Option<Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let listing = Listing {
            stream: self.open(prefix.as_ref(), behind.as_ref()),
            store: self.clone(),
            prefix,
            behind,
            asked: Instant::now(),
            is_over: false,
        };
        futures::stream::unfold(listing, |mut listing| async move {
            if listing.is_over {
                return None;
            }
            let mut next = listing.stream.next().await?;
            if let Err(error) = &next
                && is_refusal(error)
            {
                match listing.store.renewed(listing.asked).await {
                    Ok(true) => {
                        listing.asked = Instant::now();
                        listing.stream = listing
                            .store
                            .open(listing.prefix.as_ref(), listing.behind.as_ref());
                        next = listing.stream.next().await?;
                    }
                    Ok(false) => {}
                    Err(error) => next = Err(error),
                }
            }
            match &next {
                Ok(object) => {
                    listing.store.lease.works();
                    listing.behind = Some(object.location.clone());
                }
                Err(_) => listing.is_over = true,
            }
            Some((next, listing))
        })
        .boxed()
    }
}
