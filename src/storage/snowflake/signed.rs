//! A stage without credentials: each file by a URL that Snowflake signs for it.
//!
//! Some stages on Google give no token. Then a statement stands behind everything: `GET` and `PUT` answer with a signed
//! URL for one file, `LIST` with the files, `REMOVE` removes. Nothing here can put only if absent, so an output gets
//! the weaker protocol; and each file costs a statement, so such a stage is slow.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, RANGE};
use reqwest::{Method, Response, StatusCode};

use super::lease::store_error;
use super::name::{StagePath, literal};
use super::rows::{self, Row};
use super::secret::Secret;
use super::session::Session;
use super::stage::Transfer;
use crate::error::Error as FloeError;

/// The store of such a stage. Its paths begin with `prefix`, where the cloud keeps the stage.
#[derive(Clone, Debug)]
pub(super) struct SignedStore {
    session: Arc<Session>,
    stage: StagePath,
    prefix: Vec<String>,
}

impl SignedStore {
    pub(super) fn new(session: Arc<Session>, stage: &StagePath, prefix: Vec<String>) -> SignedStore {
        SignedStore {
            session,
            stage: stage.at(Vec::new()),
            prefix,
        }
    }

    /// The place in the stage that a path of this store names.
    fn file(&self, path: &Path) -> Result<StagePath> {
        let names: Vec<String> = path.as_ref().split('/').map(str::to_string).collect();
        let names: Vec<String> = names.into_iter().filter(|name| !name.is_empty()).collect();
        match names.strip_prefix(self.prefix.as_slice()) {
            Some(within) => Ok(self.stage.at(within.to_vec())),
            None => Err(Error::NotFound {
                path: path.to_string(),
                source: "outside the stage".into(),
            }),
        }
    }

    async fn transfer(&self, statement: &str) -> Result<Transfer> {
        let answer = self
            .session
            .run(statement)
            .await
            .map_err(|error| store_error(error.into()))?;
        Transfer::read(&answer, &self.stage, self.session.connection().is_loopback()).map_err(store_error)
    }

    /// A URL to read a file, or `None` when there is no such file.
    async fn url_to_read(&self, file: &StagePath) -> Result<Option<Secret>> {
        let statement = format!("GET {} {}", file.to_sql(false), literal("file:///tmp/"));
        let transfer = self.transfer(&statement).await?;
        // What begins alike is meant as well.
        let key = file.key();
        let is_it = |source: &String| {
            *source == key || source.ends_with(&format!("/{key}")) || key.ends_with(&format!("/{source}"))
        };
        let index = transfer.sources.iter().position(is_it);
        Ok(index.and_then(|index| transfer.urls.get(index).cloned().flatten()))
    }

    async fn rows(&self, file: &StagePath, is_folder: bool) -> Result<Vec<Row>> {
        rows::list(&self.session, file, is_folder)
            .await
            .map_err(store_error)
    }

    fn meta(&self, row: Row) -> Result<ObjectMeta> {
        let key = self.prefix.iter().map(String::as_str).chain([row.path.as_str()]);
        Ok(ObjectMeta {
            location: Path::parse(key.collect::<Vec<_>>().join("/"))?,
            last_modified: (UNIX_EPOCH + row.modified).into(),
            size: row.size,
            e_tag: Some(row.md5),
            version: None,
        })
    }

    async fn head(&self, path: &Path) -> Result<ObjectMeta> {
        let file = self.file(path)?;
        let key = file.key();
        let rows = self.rows(&file, false).await?;
        match rows.into_iter().find(|row| row.path == key) {
            Some(row) => self.meta(row),
            None => Err(not_found(path)),
        }
    }

    /// Reads through a signed URL; one that ends too early is asked for anew.
    async fn read(&self, path: &Path, range: Option<&GetRange>) -> Result<Response> {
        let file = self.file(path)?;
        let headers: Vec<_> = range
            .map(|range| (RANGE, range.to_string()))
            .into_iter()
            .collect();
        let mut is_last = false;
        loop {
            let url = self.url_to_read(&file).await?.ok_or_else(|| not_found(path))?;
            let wire = self.session.wire();
            let response = wire
                .follow(&Method::GET, &url, &headers, None)
                .await
                .map_err(store_error)?;
            match response.status() {
                status if status.is_success() => return Ok(response),
                StatusCode::NOT_FOUND => return Err(not_found(path)),
                status if is_last => return Err(refused(status, "read", path)),
                _ => is_last = true,
            }
        }
    }

    async fn write(&self, path: &Path, payload: PutPayload) -> Result<PutResult> {
        let file = self.file(path)?;
        let (name, folder) = file.path.split_last().ok_or_else(|| not_found(path))?;
        let statement = format!(
            "PUT {} {} AUTO_COMPRESS=FALSE OVERWRITE=TRUE",
            literal(&format!("file:///{name}")),
            self.stage.at(folder.to_vec()).to_sql(true),
        );
        let body: bytes::Bytes = payload.into();
        let mut is_last = false;
        loop {
            let transfer = self.transfer(&statement).await?;
            let url = transfer.urls.into_iter().flatten().next();
            let url = url.ok_or_else(|| {
                store_error(FloeError::storage(
                    "Snowflake gave neither credentials nor a signed URL for the stage",
                ))
            })?;
            let wire = self.session.wire();
            let response = wire
                .follow(&Method::PUT, &url, &[], Some(body.clone()))
                .await
                .map_err(store_error)?;
            match response.status() {
                status if status.is_success() => {
                    return Ok(PutResult {
                        e_tag: text(&response, ETAG).map(unquoted),
                        version: None,
                        extensions: Default::default(),
                    });
                }
                status if is_last => return Err(refused(status, "write", path)),
                _ => is_last = true,
            }
        }
    }

    async fn remove(&self, path: Path) -> Result<Path> {
        let file = self.file(&path)?;
        let key = file.key();
        // REMOVE takes all files whose names begin so.
        let rows = self.rows(&file, false).await?;
        if let Some(other) = rows.iter().find(|row| row.path != key) {
            let error =
                FloeError::storage("removing the file would also remove another whose name begins alike")
                    .with("key", &key)
                    .with("file", &other.path);
            return Err(store_error(error));
        }
        if !rows.is_empty() {
            let statement = format!("REMOVE {}", file.to_sql(false));
            self.session
                .run(&statement)
                .await
                .map_err(|error| store_error(error.into()))?;
        }
        Ok(path)
    }

    async fn all(&self, prefix: Option<Path>) -> Result<Vec<ObjectMeta>> {
        let folder = match &prefix {
            Some(prefix) => self.file(prefix)?,
            None => self.stage.clone(),
        };
        let rows = self.rows(&folder, true).await?;
        rows.into_iter().map(|row| self.meta(row)).collect()
    }
}

fn not_found(path: &Path) -> Error {
    Error::NotFound {
        path: path.to_string(),
        source: "there is no such file on the stage".into(),
    }
}

fn refused(status: StatusCode, what: &str, path: &Path) -> Error {
    let error = FloeError::storage(format!(
        "the store refuses to {what} by a signed URL: it answers {status}"
    ));
    store_error(error.with("key", path))
}

fn not_implemented(operation: &str) -> Error {
    Error::NotImplemented {
        operation: operation.to_string(),
        implementer: "a Snowflake stage of signed URLs".to_string(),
    }
}

fn text(response: &Response, name: reqwest::header::HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}

fn unquoted(etag: &str) -> String {
    etag.trim_matches('"').to_string()
}

/// What a response holds of the file, and how large the file is.
fn extent(response: &Response) -> Option<(Range<u64>, u64)> {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        let size = text(response, CONTENT_LENGTH)?.parse().ok()?;
        return Some((0..size, size));
    }
    let (range, size) = text(response, CONTENT_RANGE)?
        .strip_prefix("bytes ")?
        .split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let last: u64 = last.parse().ok()?;
    Some((first.parse().ok()?..last.checked_add(1)?, size.parse().ok()?))
}

impl fmt::Display for SignedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snowflake stage {} by signed URLs", self.stage)
    }
}

#[async_trait]
impl ObjectStore for SignedStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        match opts.mode {
            PutMode::Overwrite => self.write(location, payload).await,
            _ => Err(not_implemented("put only if absent")),
        }
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(not_implemented("upload in parts"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let wanted = options.if_match.as_deref();
        if options.head || wanted.is_some() {
            // Content by the listing's checksum: a signed URL pins nothing.
            let meta = self.head(location).await?;
            if wanted.is_some_and(|wanted| meta.e_tag.as_deref() != Some(wanted)) {
                return Err(Error::Precondition {
                    path: location.to_string(),
                    source: "the file is another one than it was".into(),
                });
            }
            if options.head {
                return Ok(GetResult {
                    range: 0..meta.size,
                    meta,
                    payload: GetResultPayload::Stream(futures::stream::empty().boxed()),
                    attributes: Default::default(),
                    extensions: Default::default(),
                });
            }
        }
        let response = self.read(location, options.range.as_ref()).await?;
        let lost = || {
            store_error(
                FloeError::storage("the store does not say how large the file is").with("key", location),
            )
        };
        let (held, size) = extent(&response).ok_or_else(lost)?;
        let meta = ObjectMeta {
            location: location.clone(),
            last_modified: UNIX_EPOCH.into(),
            size,
            e_tag: wanted
                .map(str::to_string)
                .or_else(|| text(&response, ETAG).map(unquoted)),
            version: None,
        };
        let body = response.bytes_stream().map_err(|error| {
            store_error(
                FloeError::storage("the file breaks off while it is read").with_source(error.without_url()),
            )
        });
        if options.range.is_none() || held != (0..size) {
            return Ok(GetResult {
                payload: GetResultPayload::Stream(body.boxed()),
                meta,
                range: held,
                attributes: Default::default(),
                extensions: Default::default(),
            });
        }
        // The range was not heard: the whole file came, of which a part is wanted.
        let range = match options.range {
            Some(GetRange::Bounded(range)) => range.start.min(size)..range.end.min(size),
            Some(GetRange::Offset(start)) => start.min(size)..size,
            Some(GetRange::Suffix(length)) => size.saturating_sub(length)..size,
            None => 0..size,
        };
        let chunks: Vec<bytes::Bytes> = body.try_collect().await?;
        let whole = bytes::Bytes::from(chunks.concat());
        let part =
            whole.slice((range.start as usize).min(whole.len())..(range.end as usize).min(whole.len()));
        Ok(GetResult {
            payload: GetResultPayload::Stream(futures::stream::iter([Ok(part)]).boxed()),
            meta,
            range,
            attributes: Default::default(),
            extensions: Default::default(),
        })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .then(move |location| {
                let store = store.clone();
                async move { store.remove(location?).await }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned());
        let objects = async move { store.all(prefix).await };
        futures::stream::once(objects)
            .map_ok(|objects| futures::stream::iter(objects.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(not_implemented("list one folder"))
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(not_implemented("copy"))
    }
}
