//! A cloud store that is asked again: what `object_store` does not repeat itself.
//!
//! The crate repeats a request that was refused (5xx, 429) or got lost, within its time budget, and goes on with a
//! reading that broke off. It does not repeat a page of a listing whose body breaks, a deletion that timed out, a reading
//! that breaks off after the budget that was counted from its beginning, or anything that was refused because the
//! credentials had just expired. [`Patient`] does: listings page by page, readings from the byte they came to. It never
//! repeats putting if absent: whether that was stored is found out by reading back (docs/commit-protocol.md).

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::client::{HttpError, HttpErrorKind};
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};
use tokio::time::Instant;

use crate::storage::diagnosis::{Diagnosis, Worth};

/// The first pause is shorter than this, the next shorter than twice as much, and so on.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Tries after which an answer that makes no sense, or a refusal, is final.
const FEW: u32 = 3;

/// Deletions of one stream that are under way at the same time.
const DELETIONS: usize = 8;

/// A store that repeats. Cheap to clone.
pub(in crate::storage) struct Patient<S> {
    store: Arc<S>,
    budget: Duration,
}

/// How much patience is left for one operation.
struct Patience {
    budget: Duration,
    since: Instant,
    tries: u32,
}

impl<S: ObjectStore + PaginatedListStore> Patient<S> {
    /// Repeats for at most `budget`.
    pub(in crate::storage) fn new(store: S, budget: Duration) -> Patient<S> {
        Patient {
            store: Arc::new(store),
            budget,
        }
    }

    async fn repeat<T, F, A>(&self, action: &str, attempt: F) -> Result<T>
    where
        F: Fn() -> A,
        A: Future<Output = Result<T>>,
    {
        let mut patience = Patience::new(self.budget);
        loop {
            match attempt().await {
                Ok(done) => return Ok(done),
                Err(error) => patience.wait(action, error).await?,
            }
        }
    }

    async fn page(
        &self,
        prefix: Option<&str>,
        delimiter: bool,
        page_token: Option<String>,
    ) -> Result<PaginatedListResult> {
        self.repeat("list", || {
            let options = PaginatedListOptions {
                delimiter: delimiter.then_some("/".into()),
                page_token: page_token.clone(),
                ..PaginatedListOptions::default()
            };
            self.store.list_paginated(prefix, options)
        })
        .await
    }

    /// Page after page of a listing.
    fn pages(&self, folder: Option<&Path>, delimiter: bool) -> BoxStream<'static, Result<ListResult>> {
        let (store, folder) = (self.clone(), folder.cloned().unwrap_or_default());
        let prefix = (!folder.as_ref().is_empty()).then(|| format!("{folder}/"));
        // The first page has no token; after the last there is none either.
        stream::try_unfold(Some(None), move |token| {
            let (store, folder, prefix) = (store.clone(), folder.clone(), prefix.clone());
            async move {
                let Some(token) = token else { return Ok(None) };
                let mut page = store.page(prefix.as_deref(), delimiter, token).await?;
                // Some tools mark a folder with an empty object of its name and a slash, which comes without it.
                page.result.objects.retain(|object| object.location != folder);
                Ok(Some((page.result, page.page_token.map(Some))))
            }
        })
        .boxed()
    }
}

impl Patience {
    fn new(budget: Duration) -> Patience {
        Patience {
            budget,
            since: Instant::now(),
            tries: 0,
        }
    }

    /// Something came.
    fn renew(&mut self) {
        self.since = Instant::now();
        self.tries = 0;
    }

    /// Pauses before the next try, or answers with the error when there is to be none.
    async fn wait(&mut self, action: &str, error: Error) -> Result<()> {
        let diagnosis = Diagnosis::of(&error);
        let is_worth_it = match diagnosis.worth(&error) {
            Worth::Nothing => false,
            Worth::FreshCredentials | Worth::FewTries => self.tries + 1 < FEW,
            Worth::Patience => true,
        };
        if !is_worth_it || self.since.elapsed() >= self.budget {
            return Err(error);
        }
        let pause = full_jitter(
            FIRST_PAUSE
                .saturating_mul(1 << self.tries.min(16))
                .min(LONGEST_PAUSE),
        );
        self.tries += 1;
        tracing::debug!(action, cause = %diagnosis, pause_ms = pause.as_millis() as u64, "asking the store again");
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// Anything up to `longest`, so that those who failed together do not come back together.
fn full_jitter(longest: Duration) -> Duration {
    let random = uuid::Uuid::new_v4().as_u64_pair().0;
    longest.mul_f64(random as f64 / u64::MAX as f64)
}

/// A reading that goes on where it broke off.
struct Reading<S> {
    store: Patient<S>,
    location: Path,
    options: GetOptions,
    /// What is still to come.
    left: Range<u64>,
    body: BoxStream<'static, Result<Bytes>>,
    patience: Patience,
}

impl<S: ObjectStore + PaginatedListStore> Reading<S> {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>> {
        loop {
            let error = match self.body.next().await {
                Some(Ok(bytes)) => {
                    self.left.start += bytes.len() as u64;
                    self.patience.renew();
                    return Ok(Some((bytes, self)));
                }
                None if self.left.start >= self.left.end => return Ok(None),
                None => Error::Generic {
                    store: "cloud",
                    source: Box::new(HttpError::new(HttpErrorKind::Interrupted, EndedEarly)),
                },
                Some(Err(error)) => error,
            };
            self.patience.wait("read", error).await?;
            let options = GetOptions {
                range: Some(GetRange::Bounded(self.left.clone())),
                ..self.options.clone()
            };
            // Asked once: what fails now counts against the same patience.
            self.body = match self.store.store.get_opts(&self.location, options).await {
                Ok(result) => result.into_stream(),
                Err(error) => stream::once(async { Err(error) }).boxed(),
            };
        }
    }
}

/// Every store tags its objects. An answer without a tag is none of an object, whatever its status says: a gateway's
/// page, or an error's text sent as success.
fn tagged(result: GetResult) -> Result<GetResult> {
    if result.meta.e_tag.is_some() {
        return Ok(result);
    }
    Err(Error::Generic {
        store: "cloud",
        source: Box::new(HttpError::new(HttpErrorKind::Unknown, Untagged)),
    })
}

#[derive(Debug)]
struct Untagged;

impl fmt::Display for Untagged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer has no ETag, so it is not the object")
    }
}

impl std::error::Error for Untagged {}

#[derive(Debug)]
struct EndedEarly;

impl fmt::Display for EndedEarly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer ended before all of it was there")
    }
}

impl std::error::Error for EndedEarly {}

#[async_trait]
impl<S: ObjectStore + PaginatedListStore> ObjectStore for Patient<S> {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if options.mode != PutMode::Overwrite {
            return self.store.put_opts(location, payload, options).await;
        }
        self.repeat("write", || {
            self.store.put_opts(location, payload.clone(), options.clone())
        })
        .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mut result = self
            .repeat("read", || async {
                tagged(self.store.get_opts(location, options.clone()).await?)
            })
            .await?;
        let Some(etag) = result.meta.e_tag.clone().filter(|_| !options.head) else {
            return Ok(result);
        };
        if let GetResultPayload::Stream(body) = result.payload {
            let reading = Reading {
                store: self.clone(),
                location: location.clone(),
                options: GetOptions {
                    if_match: Some(etag),
                    ..options
                },
                left: result.range.clone(),
                body,
                patience: Patience::new(self.budget),
            };
            result.payload = GetResultPayload::Stream(stream::try_unfold(reading, Reading::next).boxed());
        }
        Ok(result)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .map(move |location| {
                let store = store.clone();
                async move {
                    let location = location?;
                    store.repeat("delete", || store.store.delete(&location)).await?;
                    Ok(location)
                }
            })
            .buffered(DELETIONS)
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        objects(self.pages(prefix, false))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut pages = self.pages(prefix, true);
        let mut all = ListResult {
            common_prefixes: Vec::new(),
            objects: Vec::new(),
            extensions: Default::default(),
        };
        while let Some(page) = pages.next().await {
            let page = page?;
            all.common_prefixes.extend(page.common_prefixes);
            all.objects.extend(page.objects);
        }
        all.common_prefixes.sort();
        all.common_prefixes.dedup();
        Ok(all)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}

fn objects(pages: BoxStream<'static, Result<ListResult>>) -> BoxStream<'static, Result<ObjectMeta>> {
    pages
        .map(|page| match page {
            Ok(page) => stream::iter(page.objects.into_iter().map(Ok).collect::<Vec<_>>()),
            Err(error) => stream::iter(vec![Err(error)]),
        })
        .flatten()
        .boxed()
}

impl<S> Clone for Patient<S> {
    fn clone(&self) -> Self {
        Patient {
            store: self.store.clone(),
            budget: self.budget,
        }
    }
}

impl<S: fmt::Display> fmt::Display for Patient<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

impl<S: fmt::Debug> fmt::Debug for Patient<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Patient").field(&self.store).finish()
    }
}
