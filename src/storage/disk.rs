//! The store of a disk of this machine, with little processor time for large objects.
//!
//! Objects are written aside, synced and linked to their names, as [`LocalFileSystem`] does it, which also does all the
//! rest. Large ones are gathered in blocks and written past the page cache (open(2), `O_DIRECT`): they are synced at once
//! and nobody reads them soon, so a copy of them in the cache costs more than all other work on columns that only pass
//! through. A file system that can't do that is written to as ever. Large ranges are read into [buffers](Buffers) that
//! are used again.

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path as StorePath;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Semaphore;

use super::buffers::{Buffer, Buffers};
use super::mount::{blocking, close};

/// From this size on it pays to go another way than the crate's.
const LARGE_BYTES: usize = 1 << 20;

/// What places in memory and file are multiples of when the cache is left out: pages, and sectors of any disk.
const ALIGNMENT: usize = 4096;

/// Bytes that are written at once: with what aligns them a buffer of a MiB.
const BLOCK_BYTES: usize = (1 << 20) - ALIGNMENT;

/// Large ranges that are read at once. Others wait in line: what was asked for first is there first, and can be worked on,
/// instead of everything being there late.
const PARALLEL_READS: usize = 4;

/// A disk of this machine.
#[derive(Debug)]
pub(super) struct DiskStore {
    local: LocalFileSystem,
    buffers: Arc<Buffers>,
    reads: Arc<Semaphore>,
}

impl DiskStore {
    pub fn new(local: LocalFileSystem) -> DiskStore {
        DiskStore {
            local,
            buffers: Arc::default(),
            reads: Arc::new(Semaphore::new(PARALLEL_READS)),
        }
    }
}

impl fmt::Display for DiskStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DiskStore({})", self.local)
    }
}

fn fault(error: io::Error) -> Error {
    Error::Generic {
        store: "DiskStore",
        source: Box::new(error),
    }
}

#[async_trait]
impl ObjectStore for DiskStore {
    async fn put_opts(
        &self,
        location: &StorePath,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let replaces = match options.mode {
            PutMode::Create => false,
            PutMode::Overwrite => true,
            PutMode::Update(_) => return self.local.put_opts(location, payload, options).await,
        };
        if payload.content_length() < LARGE_BYTES || !options.attributes.is_empty() {
            return self.local.put_opts(location, payload, options).await;
        }
        let path = self.local.path_to_filesystem(location)?;
        let (body, buffers) = (payload.clone(), self.buffers.clone());
        let stored = blocking(move || match stage(&path) {
            Ok(staged) => Ok(Some(store(staged, &path, body.iter(), replaces, &buffers))),
            // The first object of a folder.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        });
        match stored.await.map_err(fault)? {
            Some(outcome) => outcome,
            None => self.local.put_opts(location, payload, options).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &StorePath,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.local.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &StorePath, options: GetOptions) -> Result<GetResult> {
        let wants_bytes = !options.head;
        let found = self.local.get_opts(location, options).await?;
        let start = found.range.start;
        let bytes = usize::try_from(found.range.end - start).unwrap_or(usize::MAX);
        let payload = match found.payload {
            GetResultPayload::File(file, _) if wants_bytes && bytes >= LARGE_BYTES => {
                let (buffers, reads) = (self.buffers.clone(), self.reads.clone());
                let read = async move {
                    // It is never closed.
                    let _turn = reads.acquire().await;
                    let read = blocking(move || read(&file, start, buffers.take(bytes)));
                    read.await.map_err(fault)
                };
                GetResultPayload::Stream(futures::stream::once(read).boxed())
            }
            payload => payload,
        };
        Ok(GetResult { payload, ..found })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<StorePath>>,
    ) -> BoxStream<'static, Result<StorePath>> {
        self.local.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&StorePath>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.local.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&StorePath>) -> Result<ListResult> {
        self.local.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &StorePath, to: &StorePath, options: CopyOptions) -> Result<()> {
        self.local.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &StorePath, to: &StorePath, options: RenameOptions) -> Result<()> {
        self.local.rename_opts(from, to, options).await
    }
}

/// Fills the buffer with what begins at `start`.
fn read(file: &File, start: u64, mut buffer: Buffer) -> io::Result<Bytes> {
    // At the end of the file there is an error: it is shorter than it was when its size was looked at.
    file.read_exact_at(buffer.bytes_mut(), start)?;
    Ok(Bytes::from_owner(buffer))
}

/// A file beside `target`, under a name that no listing shows and that is swept if it is left.
fn stage(target: &Path) -> io::Result<(File, PathBuf)> {
    let mut number = 1;
    loop {
        let mut name = target.as_os_str().to_owned();
        name.push(format!("#{number}"));
        match OpenOptions::new().write(true).create_new(true).open(&name) {
            Ok(file) => return Ok((file, name.into())),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Writes the staged file and gives it its name, durably.
fn store<'a>(
    (file, staged): (File, PathBuf),
    target: &Path,
    pieces: impl Iterator<Item = &'a Bytes>,
    replaces: bool,
    buffers: &Arc<Buffers>,
) -> Result<PutResult> {
    let written = write(&file, &staged, pieces, buffers)
        .and_then(|()| file.sync_all())
        .and_then(|()| close(file));
    let named = written.and_then(|()| match replaces {
        true => std::fs::rename(&staged, target),
        false => std::fs::hard_link(&staged, target),
    });
    let stored = named.and_then(|()| {
        target
            .parent()
            .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    });
    // Renamed it is gone already.
    let _ = std::fs::remove_file(&staged);
    match stored {
        Ok(()) => Ok(PutResult {
            e_tag: None,
            version: None,
            extensions: Default::default(),
        }),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Error::AlreadyExists {
            path: target.display().to_string(),
            source: Box::new(error),
        }),
        Err(error) => Err(fault(error)),
    }
}

/// Writes `pieces`, one after the other, as the whole of the empty `file` at `path`.
fn write<'a>(
    file: &File,
    path: &Path,
    pieces: impl Iterator<Item = &'a Bytes>,
    buffers: &Arc<Buffers>,
) -> io::Result<()> {
    let mut blocks = Blocks::new(file, open_direct(path), buffers);
    for piece in pieces {
        blocks.push(piece)?;
    }
    blocks.write()
}

/// The file once more, without the cache, if its file system can do that.
fn open_direct(path: &Path) -> Option<File> {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(libc::O_DIRECT).open(path).ok()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = path;
        None
    }
}

/// Gathers bytes and writes them in blocks.
struct Blocks<'a> {
    file: &'a File,
    /// The same file, as long as it takes blocks past the cache.
    direct: Option<File>,
    /// Bytes written.
    at: u64,
    /// What comes next, from `start` on, whose place in memory is a multiple of [`ALIGNMENT`].
    block: Buffer,
    start: usize,
    gathered: usize,
}

impl<'a> Blocks<'a> {
    fn new(file: &'a File, direct: Option<File>, buffers: &Arc<Buffers>) -> Blocks<'a> {
        let block = buffers.take(ALIGNMENT + BLOCK_BYTES);
        Blocks {
            file,
            direct,
            at: 0,
            start: block.as_ref().as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT),
            block,
            gathered: 0,
        }
    }

    fn push(&mut self, mut piece: &[u8]) -> io::Result<()> {
        while !piece.is_empty() {
            let (fits, rest) = piece.split_at(piece.len().min(BLOCK_BYTES - self.gathered));
            let place = self.start + self.gathered;
            self.block.bytes_mut()[place..place + fits.len()].copy_from_slice(fits);
            self.gathered += fits.len();
            piece = rest;
            if self.gathered == BLOCK_BYTES {
                self.write()?;
            }
        }
        Ok(())
    }

    /// Writes what was gathered: a block, or the end of the file.
    fn write(&mut self) -> io::Result<()> {
        let bytes = &self.block.as_ref()[self.start..self.start + self.gathered];
        let whole = bytes.len() - bytes.len() % ALIGNMENT;
        let mut written = 0;
        if let Some(direct) = self.direct.as_ref().filter(|_| whole > 0) {
            // What it does not take is written as ever, and that tells what is wrong, if something is.
            written = direct.write_at(&bytes[..whole], self.at).unwrap_or(0);
            if written < whole {
                self.direct = None;
            }
        }
        self.file
            .write_all_at(&bytes[written..], self.at + written as u64)?;
        self.at += bytes.len() as u64;
        self.gathered = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::ObjectStoreExt;
    use proptest::prelude::*;

    fn disk() -> (DiskStore, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let local = LocalFileSystem::new()
            .with_fsync(true)
            .with_automatic_cleanup(false);
        (DiskStore::new(local), folder)
    }

    fn within(folder: &tempfile::TempDir, name: &str) -> StorePath {
        StorePath::from_absolute_path(folder.path().join(name)).unwrap()
    }

    fn names(folder: &tempfile::TempDir) -> Vec<String> {
        let entries = std::fs::read_dir(folder.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn bytes(len: usize, seed: usize) -> Bytes {
        (0..len)
            .map(|at| (at.wrapping_mul(31) ^ (at >> 11) ^ seed) as u8)
            .collect::<Vec<u8>>()
            .into()
    }

    /// Failure matrix: 9.
    #[tokio::test]
    async fn a_large_object_is_created_once_and_nothing_is_left_beside_it() {
        let (store, folder) = disk();
        let at = within(&folder, "new/large");
        let (first, second) = (bytes(3 << 20, 1), bytes((2 << 20) + 5, 2));
        for (name, folder_is_new) in [("new/large", true), ("large", false)] {
            let at = within(&folder, name);
            assert_eq!(
                folder_is_new,
                !folder.path().join(name).parent().unwrap().exists()
            );
            let create = |body: &Bytes| store.put_opts(&at, body.clone().into(), PutMode::Create.into());
            create(&first).await.unwrap();
            let again = create(&second).await;
            assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
            assert_eq!(store.get(&at).await.unwrap().bytes().await.unwrap(), first);
        }
        store.put(&at, second.clone().into()).await.unwrap();
        assert_eq!(store.get(&at).await.unwrap().bytes().await.unwrap(), second);
        assert_eq!(names(&folder), ["large", "new"]);
        assert_eq!(std::fs::read_dir(folder.path().join("new")).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn of_many_creators_of_a_large_object_one_wins_whole() {
        let (store, folder) = disk();
        let at = within(&folder, "large");
        let bodies: Vec<Bytes> = (0..6).map(|seed| bytes(LARGE_BYTES + seed, seed)).collect();
        let create = |body: &Bytes| store.put_opts(&at, body.clone().into(), PutMode::Create.into());
        let outcomes = futures::future::join_all(bodies.iter().map(create)).await;
        let winners: Vec<usize> = (0..6).filter(|index| outcomes[*index].is_ok()).collect();
        assert_eq!(winners.len(), 1);
        let stored = store.get(&at).await.unwrap().bytes().await.unwrap();
        assert!(stored == bodies[winners[0]]);
        assert_eq!(names(&folder), ["large"]);
    }

    #[tokio::test]
    async fn a_large_object_that_can_not_be_stored_is_an_error_and_leaves_nothing() {
        let (store, folder) = disk();
        std::fs::create_dir(folder.path().join("taken")).unwrap();
        let at = within(&folder, "taken");
        let refused = store.put(&at, bytes(LARGE_BYTES, 0).into()).await;
        assert!(refused.is_err());
        assert_eq!(names(&folder), ["taken"]);
    }

    #[tokio::test]
    async fn large_ranges_are_read_as_small_ones_are_and_in_place_of_old_ones() {
        let (store, folder) = disk();
        let (at, body) = (within(&folder, "file"), bytes(5 << 20, 3));
        std::fs::write(folder.path().join("file"), &body).unwrap();
        let size = body.len() as u64;
        for range in [
            0..size,
            7..size,
            1..(3 << 20),
            3..4,
            size - (2 << 20)..size,
            0..size,
        ] {
            let read = store.get_range(&at, range.clone()).await.unwrap();
            assert!(read == body[range.start as usize..range.end as usize]);
        }
        assert_eq!(store.head(&at).await.unwrap().size, size);
        let stale = GetOptions::new().with_if_match(Some("\"another\""));
        let refused = store.get_opts(&at, stale).await;
        assert!(matches!(refused, Err(Error::Precondition { .. })));
        let found = store.get(&at).await.unwrap();
        std::fs::write(folder.path().join("file"), &body[..LARGE_BYTES]).unwrap();
        assert!(found.bytes().await.is_err(), "the file has become shorter");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn blocks_hold_the_pieces_whether_or_not_the_cache_is_left_out(
            lens in proptest::collection::vec(prop_oneof![
                0usize..3, 0usize..300_000, Just(ALIGNMENT), Just(BLOCK_BYTES), Just(BLOCK_BYTES - 1)
            ], 0..12),
            goes_direct in any::<bool>(),
            gives_up in any::<bool>(),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("file");
            let file = File::create_new(&path).unwrap();
            let pieces: Vec<Bytes> = lens.iter().enumerate().map(|(seed, len)| bytes(*len, seed)).collect();
            let direct = open_direct(&path).filter(|_| goes_direct);
            // A file that can only be read takes nothing.
            let direct = if gives_up { Some(File::open(&path).unwrap()) } else { direct };
            let mut blocks = Blocks::new(&file, direct, &Arc::default());
            for piece in &pieces {
                blocks.push(piece).unwrap();
            }
            blocks.write().unwrap();
            prop_assert!(std::fs::read(&path).unwrap() == pieces.concat());
        }
    }
}
