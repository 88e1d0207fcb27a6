//! A location as the user wrote it, opened: the store behind it and the path within the store.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as StorePath;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::OnceCell;

use super::diagnosis::Diagnosis;
use super::fault::{explain, is_not_found};
use super::mount;
use crate::config::LocalWriter;
use crate::error::{Error, ErrorKind, Result};

/// Ranges closer than this are fetched in one request: a request costs more than reading the gap.
const COALESCE_BYTES: u64 = 1024 * 1024;

/// Requests in flight for one list of ranges.
const PARALLEL_RANGES: usize = 8;

/// Bytes of a disk that ranges which lie together are read in at once: a further read costs nothing, and buffers of
/// like sizes can be used again.
const DISK_REQUEST_BYTES: u64 = 4 * 1024 * 1024;

/// Reads of a disk in flight for one list of ranges: they keep processors busy, not the disk.
const PARALLEL_DISK_RANGES: usize = 2;

/// An object found in a listing, with the identity that pins it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Path relative to the location; for a location that is one file, its name.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// The store's entity tag.
    pub etag: Option<String>,
    /// Last modification, RFC 3339.
    pub modified: String,
}

/// A folder or file in a store.
#[derive(Clone, Debug)]
pub struct Location {
    store: Arc<dyn ObjectStore>,
    prefix: StorePath,
    /// What tells its store from others: scheme, account and bucket.
    root: String,
    display: String,
    local: Option<PathBuf>,
    /// Whether it is on a disk of this machine.
    on_disk: bool,
    /// Whether a place that is not local is one object, once somebody looked.
    object: Arc<OnceCell<bool>>,
}

impl Location {
    /// A path of the local file system, relative to the working directory or absolute.
    ///
    /// # Errors
    /// `Config` for a path that can't be one.
    pub fn local(path: &str) -> Result<Location> {
        Location::at_path(Path::new(path), path, LocalWriter::default())
    }

    /// A path of the local file system that the user wrote as `display`.
    pub(super) fn at_path(path: &Path, display: &str, writer: LocalWriter) -> Result<Location> {
        let absolute = std::path::absolute(path).map_err(|error| {
            Error::config("not a usable path")
                .with("location", display)
                .with_source(error)
        })?;
        let prefix = store_path(&absolute)?;
        let (store, on_disk) = mount::store(&absolute, writer);
        Ok(Location {
            store,
            prefix,
            root: "file://".to_string(),
            display: display.to_string(),
            local: Some(absolute),
            on_disk,
            object: Arc::default(),
        })
    }

    /// A location inside any store, e.g. one in memory.
    pub fn within(store: Arc<dyn ObjectStore>, prefix: &str, display: &str) -> Result<Location> {
        // Stores that are handed over have no name; no two of them are taken for the same.
        let root = format!("{:p}", Arc::as_ptr(&store));
        Ok(Location::in_store(store, parse(prefix)?, root, display))
    }

    /// The place `prefix` in the store that is known as `root`.
    pub(super) fn in_store(
        store: Arc<dyn ObjectStore>,
        prefix: StorePath,
        root: String,
        display: &str,
    ) -> Location {
        Location {
            store,
            prefix,
            root,
            display: display.to_string(),
            local: None,
            on_disk: false,
            object: Arc::default(),
        }
    }

    /// A folder below this one, in the same store.
    pub(super) fn below(&self, folder: &str) -> Result<Location> {
        let prefix = match self.prefix.as_ref() {
            "" => parse(folder)?,
            prefix => parse(&format!("{prefix}/{folder}"))?,
        };
        let display = format!("{}/{folder}", self.display.trim_end_matches('/'));
        let below = Location::in_store(self.store.clone(), prefix, self.root.clone(), &display);
        Ok(Location {
            local: self.local.as_ref().map(|path| path.join(folder)),
            on_disk: self.on_disk,
            ..below
        })
    }

    /// As the user wrote it.
    pub fn display(&self) -> &str {
        &self.display
    }

    /// The absolute path, when the location is on a local file system.
    pub fn local_path(&self) -> Option<&Path> {
        self.local.as_deref()
    }

    /// Whether the location is on a disk of this machine: reading there costs processor time rather than patience, so it is
    /// done best where the bytes are used, and not by a request of its own for each file.
    pub fn is_on_disk(&self) -> bool {
        self.on_disk
    }

    /// What tells the location's store from others, and the names of its path there.
    pub(super) fn address(&self) -> (&str, Vec<&str>) {
        let names = self.prefix.as_ref().split('/').filter(|name| !name.is_empty());
        (&self.root, names.collect())
    }

    /// The object store and the path of the location in it.
    pub(super) fn parts(&self) -> (Arc<dyn ObjectStore>, StorePath) {
        (self.store.clone(), self.prefix.clone())
    }

    /// Every object below the location, in no particular order; the object itself if the location is one.
    ///
    /// # Errors
    /// `Config` when nothing is there: no file or folder, or no object whose name begins so.
    pub async fn list(&self) -> Result<Vec<Listed>> {
        if let Some(local) = &self.local {
            if !local.exists() {
                return Err(self.nothing_there());
            }
            if local.is_file() {
                return self
                    .as_object()
                    .await?
                    .map(|file| vec![file])
                    .ok_or_else(|| self.nothing_there());
            }
        }
        let objects: Vec<ObjectMeta> = self
            .store
            .list(Some(&self.prefix))
            .try_collect()
            .await
            .map_err(|error| explain(error, "list", "", &self.display))?;
        if self.local.is_none() && objects.is_empty() {
            // A store has no empty folders: this is one object, or nothing. A bucket may be empty.
            let object = self.as_object().await?;
            let _ = self.object.set(object.is_some());
            return match object {
                Some(object) => Ok(vec![object]),
                None if self.prefix.as_ref().is_empty() => Ok(Vec::new()),
                None => Err(self.nothing_there()),
            };
        }
        let _ = self.object.set(false);
        let depth = self.prefix.parts().count();
        let mut listed = Vec::with_capacity(objects.len());
        for object in objects {
            let segments: Vec<_> = object.location.as_ref().split('/').skip(depth).collect();
            listed.push(describe(segments.join("/"), &object));
        }
        Ok(listed)
    }

    /// Whether the location is one object, and not a folder.
    ///
    /// # Errors
    /// `Storage` when the store can't be asked.
    pub async fn is_object(&self) -> Result<bool> {
        if let Some(local) = &self.local {
            return Ok(local.is_file());
        }
        let look = || async {
            let first = self.store.list(Some(&self.prefix)).next().await.transpose();
            let first = first.map_err(|error| explain(error, "list", "", &self.display))?;
            Ok(first.is_none() && self.as_object().await?.is_some())
        };
        self.object.get_or_try_init(look).await.copied()
    }

    fn nothing_there(&self) -> Error {
        Error::config("there is no such folder or file")
            .with("location", &self.display)
            .with_hint("check the path")
    }

    /// The object that has the location's own name, if there is one.
    async fn as_object(&self) -> Result<Option<Listed>> {
        if self.prefix.as_ref().is_empty() {
            return Ok(None);
        }
        match self.store.head(&self.prefix).await {
            Ok(object) => {
                let name = self.prefix.filename().unwrap_or_default().to_string();
                Ok(Some(describe(name, &object)))
            }
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(explain(error, "look at", "", &self.display)),
        }
    }

    /// Where the object listed as `path` lies in the store.
    async fn resolve(&self, path: &str) -> Result<StorePath> {
        // A location that is one object lists itself under its own name.
        if self.prefix.filename() == Some(path) && self.is_object().await? {
            return Ok(self.prefix.clone());
        }
        match self.prefix.as_ref() {
            "" => parse(path),
            prefix => parse(&format!("{prefix}/{path}")),
        }
    }

    /// Reads `ranges` of an object whose identity is pinned by `etag`, each as one buffer, in their order.
    /// Ranges that lie close together share a request.
    ///
    /// # Errors
    /// `InputChanged` when the object is gone or is another one than `etag` names; else `Storage`.
    pub async fn read_ranges(
        &self,
        path: &str,
        etag: Option<&str>,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>> {
        let object = self.resolve(path).await?;
        let fetch = |range: Range<u64>| {
            let options = GetOptions {
                if_match: etag.map(str::to_string),
                range: Some(GetRange::Bounded(range)),
                ..Default::default()
            };
            let object = &object;
            async move { self.store.get_opts(object, options).await?.bytes().await }
        };
        let (most, at_once) = match self.on_disk {
            true => (DISK_REQUEST_BYTES, PARALLEL_DISK_RANGES),
            false => (u64::MAX, PARALLEL_RANGES),
        };
        let merged = merge(ranges, COALESCE_BYTES, most);
        let fetched: Vec<Bytes> = futures::stream::iter(merged.iter().cloned())
            .map(fetch)
            .buffered(at_once)
            .try_collect()
            .await
            .map_err(|error| self.read_error(error, path))?;
        let mut slices = Vec::with_capacity(ranges.len());
        for range in ranges {
            let index = merged.partition_point(|whole| whole.end < range.end);
            let (whole, bytes) = (&merged[index], &fetched[index]);
            let (start, end) = (range.start - whole.start, range.end - whole.start);
            if end as usize > bytes.len() {
                return Err(
                    Error::new(ErrorKind::InputChanged, "the object is shorter than it was")
                        .with("file", path)
                        .with("location", &self.display),
                );
            }
            slices.push(bytes.slice(start as usize..end as usize));
        }
        Ok(slices)
    }

    /// Reads a whole object.
    ///
    /// # Errors
    /// `Storage` when it is larger than `limit` bytes or cannot be read.
    pub async fn read_all(&self, listed: &Listed, limit: u64) -> Result<Bytes> {
        if listed.size > limit {
            return Err(Error::storage(format!(
                "the file has {} bytes, more than the limit of {limit}",
                listed.size
            ))
            .with("file", &listed.path)
            .with("location", &self.display));
        }
        if listed.size == 0 {
            return Ok(Bytes::new());
        }
        let whole = 0..listed.size;
        let mut buffers = self
            .read_ranges(&listed.path, listed.etag.as_deref(), &[whole])
            .await?;
        Ok(buffers.remove(0))
    }

    fn read_error(&self, error: object_store::Error, path: &str) -> Error {
        // When a reading is taken up again in the middle, the store's answer is one of the causes.
        let is_another = matches!(Diagnosis::of(&error).status, Some(404 | 412));
        if is_another || is_not_found(&error) || matches!(error, object_store::Error::Precondition { .. }) {
            return Error::new(
                ErrorKind::InputChanged,
                "the object changed or vanished after the plan was made",
            )
            .with("file", path)
            .with("location", &self.display)
            .with_hint("start a new run (another run_id) over the input as it is now");
        }
        explain(error, "read", path, &self.display)
    }
}

/// Joins ranges that lie within `gap` bytes of each other, as long as they make not more than `most` bytes; sorted by
/// beginnings and by ends.
fn merge(ranges: &[Range<u64>], gap: u64, most: u64) -> Vec<Range<u64>> {
    let mut sorted: Vec<Range<u64>> = ranges.to_vec();
    sorted.sort_by_key(|range| (range.start, range.end));
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match merged.last_mut() {
            Some(last) if range.end <= last.end => {}
            Some(last)
                if range.start <= last.end.saturating_add(gap)
                    && range.end.saturating_sub(last.start) <= most =>
            {
                last.end = range.end;
            }
            _ => merged.push(range),
        }
    }
    merged
}

fn describe(path: String, object: &ObjectMeta) -> Listed {
    Listed {
        path,
        size: object.size,
        etag: object.e_tag.clone(),
        modified: object.last_modified.to_rfc3339(),
    }
}

/// Parses a key without encoding anything: what a key says is what the object is called.
pub(super) fn parse(key: &str) -> Result<StorePath> {
    StorePath::parse(key).map_err(|error| {
        Error::storage("not a usable object name")
            .with("key", key)
            .with_source(error)
    })
}

fn store_path(absolute: &Path) -> Result<StorePath> {
    let mut segments = Vec::new();
    for component in absolute.components() {
        match component {
            std::path::Component::RootDir | std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                segments.pop();
            }
            other => segments.push(other.as_os_str().to_str().map(str::to_string).ok_or_else(|| {
                Error::config("the path is not valid UTF-8").with("location", absolute.display())
            })?),
        }
    }
    parse(&segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;
    use proptest::prelude::*;

    #[test]
    fn close_ranges_share_a_request_and_far_ones_do_not() {
        let all = u64::MAX;
        assert_eq!(
            merge(&[10..20, 0..5, 22..30, 100..101], 5, all),
            [0..30, 100..101]
        );
        assert_eq!(
            merge(&[0..9, 2..4, 3..12], 0, all),
            std::slice::from_ref(&(0..12))
        );
        assert_eq!(merge(&[], 5, all), []);
    }

    proptest! {
        #[test]
        fn each_range_lies_in_one_request_and_requests_are_no_longer_than_they_may_be(
            ranges in proptest::collection::vec((0u64..200, 0u64..30), 0..20),
            gap in 0u64..10,
            most in 1u64..60,
        ) {
            let ranges: Vec<_> = ranges.into_iter().map(|(start, len)| start..start + len).collect();
            let merged = merge(&ranges, gap, most);
            let longest = ranges.iter().map(|range| range.end - range.start).max().unwrap_or(0);
            prop_assert!(merged.iter().all(|whole| whole.end - whole.start <= most.max(longest)));
            for range in ranges {
                // As `read_ranges` finds it.
                let whole = &merged[merged.partition_point(|whole| whole.end < range.end)];
                prop_assert!(whole.start <= range.start && range.end <= whole.end);
            }
        }
    }

    #[tokio::test]
    async fn ranges_come_back_in_the_order_asked_for() {
        let store = Arc::new(InMemory::new());
        let body: Vec<u8> = (0..100).collect();
        store.put(&"in/a".into(), body.into()).await.unwrap();
        let location = Location::within(store, "in", "memory").unwrap();
        let listed = location.list().await.unwrap();
        assert_eq!((listed[0].path.as_str(), listed[0].size), ("a", 100));
        let read = location
            .read_ranges("a", listed[0].etag.as_deref(), &[50..52, 0..1, 51..53])
            .await
            .unwrap();
        assert_eq!(read, [vec![50, 51], vec![0], vec![51, 52]]);
    }

    /// Failure matrix: 43.
    #[tokio::test]
    async fn a_replaced_object_is_input_changed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.bin");
        std::fs::write(&file, b"one").unwrap();
        let location = Location::local(folder.path().to_str().unwrap()).unwrap();
        let listed = location.list().await.unwrap().remove(0);
        std::fs::write(&file, b"other").unwrap();
        let error = location.read_all(&listed, 100).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InputChanged);
        std::fs::remove_file(&file).unwrap();
        let error = location.read_all(&listed, 100).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InputChanged);
    }

    #[tokio::test]
    async fn a_location_may_be_one_file_and_names_may_hold_anything() {
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("a b%2F#=é");
        std::fs::create_dir(&odd).unwrap();
        std::fs::write(odd.join("x y.parquet"), b"data").unwrap();
        let location = Location::local(folder.path().to_str().unwrap()).unwrap();
        let listed = location.list().await.unwrap();
        assert_eq!(listed[0].path, "a b%2F#=é/x y.parquet");
        assert_eq!(location.read_all(&listed[0], 10).await.unwrap(), "data");
        let file = odd.join("x y.parquet");
        let location = Location::local(file.to_str().unwrap()).unwrap();
        let listed = location.list().await.unwrap();
        assert_eq!(listed[0].path, "x y.parquet");
        assert_eq!(location.read_all(&listed[0], 10).await.unwrap(), "data");
    }
}
