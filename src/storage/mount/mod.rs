//! Folders of file systems that are no local disk: mounted stage volumes, network and FUSE mounts.
//!
//! [`MountStore`] differs from a local disk's store in two ways. An object's identity is its size and time alone, since
//! such mounts may give a file another inode number at each look, or on each machine. And it writes as the mount can:
//! by link and rename where those work (put only if absent); else each file under its own name from beginning to end
//! ([`write`](mod@write)), which can't be told to spare what is there, so that the weaker protocol must be used.
//!
//! What Snowflake's stage volumes refuse and allow: docs.snowflake.com, "Using Snowflake stage volumes with services".

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path as StorePath;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::OnceCell;

use super::disk::DiskStore;
use crate::config::LocalWriter;

mod kind;
mod trial;
mod write;

pub use kind::file_system;
pub use write::{blocking, close};

/// The store of the local file system that suits `path`, which the user may have said how to write; and whether it is a
/// disk of this machine, whose reads take no time worth waiting for.
pub fn store(path: &Path, writer: LocalWriter) -> (Arc<dyn ObjectStore>, bool) {
    let file_system = kind::file_system(path);
    let is_disk = file_system
        .as_deref()
        .map_or(!cfg!(target_os = "linux"), kind::is_disk);
    if is_disk && writer != LocalWriter::Sequential {
        return (Arc::new(DiskStore::new(linking())), is_disk);
    }
    let store = MountStore::new(file_system.as_deref().unwrap_or("unknown"), writer);
    (Arc::new(store), is_disk)
}

/// The store of a local disk: objects are written aside, synced and linked to their names.
fn linking() -> LocalFileSystem {
    LocalFileSystem::new()
        .with_fsync(true)
        .with_automatic_cleanup(false)
}

/// How objects get their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    Link,
    Sequential,
}

/// The store of a mount.
#[derive(Debug)]
struct MountStore {
    /// The type, for the log.
    file_system: String,
    linking: LocalFileSystem,
    wanted: LocalWriter,
    /// What the first write found out.
    writer: OnceCell<Writer>,
}

impl MountStore {
    fn new(file_system: &str, wanted: LocalWriter) -> MountStore {
        MountStore {
            file_system: file_system.to_string(),
            linking: linking(),
            wanted,
            writer: OnceCell::new(),
        }
    }

    /// How to write, found out by a trial beside the first object that is written: a folder that is only read is never
    /// written to.
    async fn writer(&self, target: &Path) -> Result<Writer> {
        let decide = || async {
            let writer = match self.wanted {
                LocalWriter::Link => Writer::Link,
                LocalWriter::Sequential => Writer::Sequential,
                LocalWriter::Auto => {
                    let target = target.to_path_buf();
                    match write::blocking(move || trial::can_link(&target))
                        .await
                        .map_err(fault)?
                    {
                        true => Writer::Link,
                        false => Writer::Sequential,
                    }
                }
            };
            let file_system = &self.file_system;
            match (writer, self.wanted) {
                (Writer::Link, _) => {
                    tracing::info!(file_system, "files are written aside, then linked to their names")
                }
                (Writer::Sequential, LocalWriter::Auto) => tracing::info!(
                    file_system,
                    "the mount can't link and rename files: each is written under its own name from beginning to end"
                ),
                (Writer::Sequential, _) => tracing::info!(
                    file_system,
                    "as the job says, each file is written under its own name from beginning to end"
                ),
            }
            Ok(writer)
        };
        self.writer.get_or_try_init(decide).await.copied()
    }

    /// An operation that the store doesn't have.
    fn lacks(&self, operation: &str) -> Error {
        Error::NotImplemented {
            operation: operation.to_string(),
            implementer: self.to_string(),
        }
    }
}

impl fmt::Display for MountStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MountStore({})", self.file_system)
    }
}

fn fault(error: io::Error) -> Error {
    Error::Generic {
        store: "MountStore",
        source: Box::new(error),
    }
}

/// An object's identity without its inode number.
fn identified(object: ObjectMeta) -> ObjectMeta {
    let modified = object.last_modified;
    let (seconds, nanoseconds) = (modified.timestamp(), modified.timestamp_subsec_nanos());
    ObjectMeta {
        e_tag: Some(format!("\"{seconds:x}.{nanoseconds:x}-{:x}\"", object.size)),
        ..object
    }
}

#[async_trait]
impl ObjectStore for MountStore {
    async fn put_opts(
        &self,
        location: &StorePath,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let path = self.linking.path_to_filesystem(location)?;
        match (self.writer(&path).await?, &options.mode) {
            (Writer::Link, _) => {
                self.linking.put_opts(location, payload, options).await?;
            }
            (Writer::Sequential, PutMode::Overwrite) if options.attributes.is_empty() => {
                write::write(path, payload.into_iter().collect())
                    .await
                    .map_err(fault)?;
            }
            (Writer::Sequential, PutMode::Create) => return Err(self.lacks("put only if the name is free")),
            (Writer::Sequential, _) => return Err(self.lacks("put only if unchanged, or with attributes")),
        }
        // Neither writer knows the identity that others will see.
        Ok(PutResult {
            e_tag: None,
            version: None,
            extensions: Default::default(),
        })
    }

    async fn put_multipart_opts(
        &self,
        _: &StorePath,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(self.lacks("upload in parts"))
    }

    async fn get_opts(&self, location: &StorePath, options: GetOptions) -> Result<GetResult> {
        let unconditional = GetOptions {
            if_match: None,
            if_none_match: None,
            if_modified_since: None,
            if_unmodified_since: None,
            ..options.clone()
        };
        let mut found = self.linking.get_opts(location, unconditional).await?;
        found.meta = identified(found.meta);
        options.check_preconditions(&found.meta)?;
        Ok(found)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<StorePath>>,
    ) -> BoxStream<'static, Result<StorePath>> {
        // Without the sync of the folder, which a mount may not know.
        LocalFileSystem::new().delete_stream(locations)
    }

    fn list(&self, prefix: Option<&StorePath>) -> BoxStream<'static, Result<ObjectMeta>> {
        let objects = self.linking.list(prefix);
        objects.map(|object| object.map(identified)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&StorePath>) -> Result<ListResult> {
        let mut listed = self.linking.list_with_delimiter(prefix).await?;
        listed.objects = listed.objects.into_iter().map(identified).collect();
        Ok(listed)
    }

    async fn copy_opts(&self, _: &StorePath, _: &StorePath, _: CopyOptions) -> Result<()> {
        Err(self.lacks("copy"))
    }

    async fn rename_opts(&self, _: &StorePath, _: &StorePath, _: RenameOptions) -> Result<()> {
        Err(self.lacks("rename"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::ObjectStoreExt;

    fn within(folder: &tempfile::TempDir, name: &str) -> StorePath {
        StorePath::from_absolute_path(folder.path()).unwrap().join(name)
    }

    async fn create(store: &MountStore, at: &StorePath, body: &'static [u8]) -> Result<PutResult> {
        store.put_opts(at, body.into(), PutMode::Create.into()).await
    }

    #[tokio::test]
    async fn a_mount_that_can_link_does_put_if_absent() {
        let folder = tempfile::tempdir().unwrap();
        let store = MountStore::new("fuse.good", LocalWriter::Auto);
        let at = within(&folder, "a");
        create(&store, &at, b"one").await.unwrap();
        let again = create(&store, &at, b"two").await;
        assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
        assert_eq!(store.writer.get(), Some(&Writer::Link));
        assert_eq!(store.get(&at).await.unwrap().bytes().await.unwrap(), "one");
    }

    #[tokio::test]
    async fn the_sequential_writer_replaces_and_says_that_it_cannot_create() {
        let folder = tempfile::tempdir().unwrap();
        let store = MountStore::new("ext4", LocalWriter::Sequential);
        let at = within(&folder, "sub/a");
        let refused = create(&store, &at, b"one").await;
        assert!(
            matches!(refused, Err(Error::NotImplemented { .. })),
            "{refused:?}"
        );
        for body in ["first", "2nd", ""] {
            store.put(&at, body.into()).await.unwrap();
            assert_eq!(store.get(&at).await.unwrap().bytes().await.unwrap(), body);
        }
        let names: Vec<_> = store.list(Some(&within(&folder, ""))).collect().await;
        assert_eq!(names.len(), 1, "{names:?}");
        assert!(store.put_multipart(&at).await.is_err());
        assert!(store.rename(&at, &within(&folder, "b")).await.is_err());
        assert!(store.copy(&at, &within(&folder, "b")).await.is_err());
        store.delete(&at).await.unwrap();
        assert!(matches!(store.delete(&at).await, Err(Error::NotFound { .. })));
    }

    /// Failure matrix: 43.
    #[tokio::test]
    async fn an_object_is_the_same_with_another_inode_and_another_with_another_size_or_time() {
        let folder = tempfile::tempdir().unwrap();
        let (path, copy) = (folder.path().join("a"), folder.path().join("copy"));
        std::fs::write(&path, "same").unwrap();
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        let store = MountStore::new("fuse.test", LocalWriter::Auto);
        let at = within(&folder, "a");
        let listed: Vec<_> = store.list(Some(&within(&folder, ""))).collect().await;
        let etag = listed[0].as_ref().unwrap().e_tag.clone();
        assert_eq!(store.head(&at).await.unwrap().e_tag, etag);
        let read = || store.get_opts(&at, GetOptions::new().with_if_match(etag.clone()));

        std::fs::write(&copy, "same").unwrap();
        std::fs::File::open(&copy)
            .unwrap()
            .set_modified(modified)
            .unwrap();
        std::fs::rename(&copy, &path).unwrap();
        assert_eq!(read().await.unwrap().bytes().await.unwrap(), "same");

        std::fs::write(&path, "some").unwrap();
        assert!(matches!(read().await, Err(Error::Precondition { .. })));
        std::fs::write(&path, "longer").unwrap();
        std::fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(modified)
            .unwrap();
        assert!(matches!(read().await, Err(Error::Precondition { .. })));
    }

    #[test]
    fn a_local_disk_has_the_store_of_a_local_disk() {
        let folder = tempfile::tempdir().unwrap();
        let name = |writer| store(folder.path(), writer).0.to_string();
        if kind::file_system(folder.path()).is_some_and(|kind| kind::is_disk(&kind)) {
            assert!(name(LocalWriter::Auto).starts_with("DiskStore"));
            assert!(name(LocalWriter::Link).starts_with("DiskStore"));
        }
        assert!(name(LocalWriter::Sequential).starts_with("MountStore"));
        #[cfg(target_os = "linux")]
        assert!(
            store(Path::new("/proc/self"), LocalWriter::Auto)
                .0
                .to_string()
                .contains("(proc)")
        );
    }
}
