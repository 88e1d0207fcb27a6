//! Can files be linked and renamed beside `target`? Tried once, by doing it, before the first write: no table of file
//! systems says it for all of them.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::write::{close, with_folder};

/// Whether a hard link and a rename work where `target` is to be written. Leaves nothing behind.
///
/// The names are those of files on their way to `target` (`target#7`): no listing shows them, and whatever a killed
/// process leaves of them is swept with the others.
///
/// # Errors
/// When not even a file can be written there, or the file system says that it is full or read-only.
pub fn can_link(target: &Path) -> io::Result<bool> {
    let (first, second) = (aside(target), aside(target));
    let outcome = try_it(&first, &second);
    // One of them is there, both or none.
    let _ = (std::fs::remove_file(&first), std::fs::remove_file(&second));
    outcome
}

fn try_it(first: &Path, second: &Path) -> io::Result<bool> {
    let mut file = with_folder(first, || {
        OpenOptions::new().write(true).create_new(true).open(first)
    })?;
    file.write_all(b"may this file be linked?")?;
    close(file)?;
    let moved = std::fs::hard_link(first, second)
        .and_then(|()| std::fs::remove_file(first))
        .and_then(|()| std::fs::rename(second, first));
    match moved {
        Ok(()) => Ok(true),
        Err(error) if is_trouble(&error) => Err(error),
        // Whatever the words: on a mount that shows files late it is even "no such file".
        Err(_) => Ok(false),
    }
}

/// Errors that say nothing about what the file system can do.
fn is_trouble(error: &io::Error) -> bool {
    use ErrorKind as Io;
    let of_its_own = [
        Io::StorageFull,
        Io::QuotaExceeded,
        Io::ReadOnlyFilesystem,
        Io::Interrupted,
        Io::TimedOut,
    ];
    of_its_own.contains(&error.kind()) || matches!(error.raw_os_error(), Some(libc::EIO | libc::ESTALE))
}

/// A name beside `target` that neither another process nor another try uses.
fn aside(target: &Path) -> PathBuf {
    static TRIES: AtomicU32 = AtomicU32::new(0);
    let number = u64::from(std::process::id()) << 32 | u64::from(TRIES.fetch_add(1, Ordering::Relaxed));
    // Processes on other machines may have the same number.
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), number);
    let mut name = target.as_os_str().to_owned();
    name.push(format!("#{random}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_disk_can_link_and_nothing_is_left_of_the_trial() {
        let folder = tempfile::tempdir().unwrap();
        assert!(can_link(&folder.path().join("a/b/target")).unwrap());
        let left = std::fs::read_dir(folder.path().join("a/b")).unwrap();
        assert_eq!(left.count(), 0);
    }

    #[test]
    fn where_nothing_can_be_written_nothing_is_said_about_links() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        assert_eq!(
            can_link(&file.join("target")).unwrap_err().kind(),
            ErrorKind::NotADirectory
        );
    }
}
