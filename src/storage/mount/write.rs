//! One file from beginning to end under its own name: all that a mounted stage allows.
//!
//! Such a mount uploads what was written when the file is synced or closed, so both are asked what came of it, and it
//! may show the object only after a while, so the file is looked at until it has its size.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::IntoRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;

/// How long a closed file may take to show its size.
const VISIBLE_WITHIN: Duration = Duration::from_secs(10);

/// The first pause between two looks; each is twice as long as the one before, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Writes `pieces`, one after the other, as the whole of the file at `path`: it replaces what is there.
///
/// What is there after an error is unknown: the old file, none, or the beginning of the new one.
pub async fn write(path: PathBuf, pieces: Vec<Bytes>) -> io::Result<()> {
    let size: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
    let (target, body) = (path.clone(), pieces.clone());
    let size_before = blocking(move || write_and_close(&target, &body)).await?;
    // Only by its bytes can it be told from an old file of the same size.
    let told_by_bytes = (size_before == Some(size)).then_some(pieces);
    until_visible(path, size, told_by_bytes).await
}

/// Answers with the size of the file that was there before.
fn write_and_close(path: &Path, pieces: &[Bytes]) -> io::Result<Option<u64>> {
    let size_before = std::fs::metadata(path).ok().map(|metadata| metadata.len());
    let open = || {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
    };
    let mut file = with_folder(path, open)?;
    let written = pieces.iter().try_for_each(|piece| file.write_all(piece));
    let synced = written.and_then(|()| sync(&file));
    let closed = close(file);
    synced.and(closed).map(|()| size_before)
}

/// Syncs a file. A mount that doesn't know how uploads it at the close.
fn sync(file: &File) -> io::Result<()> {
    // An empty file it may upload even later, with nobody to tell of an error: Floe stores none.
    file.sync_all().or_else(|error| match error.raw_os_error() {
        Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP) => Ok(()),
        _ => Err(error),
    })
}

/// Looks at the file until it has `size` bytes, and those of `body` if that is given.
async fn until_visible(path: PathBuf, size: u64, body: Option<Vec<Bytes>>) -> io::Result<()> {
    let (mut waited, mut pause) = (Duration::ZERO, FIRST_PAUSE);
    loop {
        let (target, body) = (path.clone(), body.clone());
        let Some(seen) = blocking(move || look(&target, size, body.as_deref())).await? else {
            return Ok(());
        };
        if waited >= VISIBLE_WITHIN {
            return Err(io::Error::other(format!(
                "{size} bytes were written and closed without an error, but {waited:?} later the file system shows \
                 {seen} there: does another process write the same file, or is the mount out of order?"
            )));
        }
        tokio::time::sleep(pause).await;
        waited += pause;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// What is seen instead of the file that was written; `None` when that is seen.
fn look(path: &Path, size: u64, body: Option<&[Bytes]>) -> io::Result<Option<String>> {
    let seen = std::fs::metadata(path).and_then(|metadata| match body {
        Some(body) if metadata.len() == size && !holds(path, body)? => Ok(Some("the old file".to_string())),
        _ if metadata.len() == size => Ok(None),
        _ => Ok(Some(format!("{} bytes", metadata.len()))),
    });
    match seen {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Some("nothing".to_string())),
        seen => seen,
    }
}

/// Whether the file begins with these bytes.
fn holds(path: &Path, body: &[Bytes]) -> io::Result<bool> {
    const BLOCK_BYTES: usize = 1 << 20;
    let mut file = File::open(path)?;
    let mut read = vec![0; BLOCK_BYTES];
    for block in body.iter().flat_map(|piece| piece.chunks(BLOCK_BYTES)) {
        match file.read_exact(&mut read[..block.len()]) {
            Ok(()) if read[..block.len()] == *block => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Runs `open`; where the file's folder is missing, makes it and runs `open` again. More than once, since on a mount a
/// folder may be gone as soon as another process takes the last object out of it.
pub fn with_folder(path: &Path, open: impl Fn() -> io::Result<File>) -> io::Result<File> {
    const TRIES: usize = 8;
    for _ in 1..TRIES {
        match (open(), path.parent()) {
            (Err(error), Some(folder)) if error.kind() == ErrorKind::NotFound => {
                std::fs::create_dir_all(folder)?
            }
            (opened, _) => return opened,
        }
    }
    open()
}

/// Closes a file and says what came of it, which dropping it would not.
pub fn close(file: File) -> io::Result<()> {
    // SAFETY: the descriptor was the file's own and is used no more. It is closed even when there is an error.
    match unsafe { libc::close(file.into_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Runs file I/O where it holds up nothing.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_written_whole_and_replaced_whole_and_folders_are_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b c/file");
        let pieces = vec![
            Bytes::from(vec![7; 3 << 20]),
            Bytes::new(),
            Bytes::from_static(b"end"),
        ];
        write(path.clone(), pieces.clone()).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), pieces.concat());
        write(path.clone(), vec![Bytes::from_static(b"short")])
            .await
            .unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"short");
        write(path.clone(), Vec::new()).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_shows_something_else_for_ever_is_an_error_that_says_what() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let body = || Some(vec![Bytes::from_static(b"ne"), Bytes::from_static(b"w")]);
        let shown = async |body| match until_visible(path.clone(), 3, body).await {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        };
        let absent = shown(None).await;
        assert!(
            absent.contains("3 bytes") && absent.contains("shows nothing"),
            "{absent}"
        );
        std::fs::write(&path, "longer").unwrap();
        assert!(shown(None).await.contains("shows 6 bytes"));
        std::fs::write(&path, "old").unwrap();
        assert_eq!(shown(None).await, "");
        assert!(shown(body()).await.contains("shows the old file"));
        std::fs::write(&path, "new").unwrap();
        assert_eq!(shown(body()).await, "");
    }

    #[tokio::test]
    async fn a_write_or_close_that_fails_is_an_error() {
        // The device takes nothing.
        let full = write("/dev/full".into(), vec![Bytes::from_static(b"x")])
            .await
            .unwrap_err();
        assert_eq!(full.kind(), ErrorKind::StorageFull);
        // SAFETY: a number that no open file has; closing it is the error that is wanted, and touches nothing.
        let unknown = unsafe { <File as std::os::fd::FromRawFd>::from_raw_fd(1 << 20) };
        assert_eq!(close(unknown).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }
}
