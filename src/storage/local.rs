//! What only a local file system can be asked: canonical paths, free space, leftovers of killed writers.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::Location;
use crate::error::{Error, ErrorKind, Result, ResultExt};

/// How two locations lie to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// Neither contains the other.
    None,
    /// They are the same.
    Same,
    /// The first contains the second.
    Contains,
    /// The first lies within the second.
    Within,
}

/// Compares two locations: paths after following symbolic links as far as they exist, others by store and name.
pub fn overlap(first: &Location, second: &Location) -> Overlap {
    if let (Some(first), Some(second)) = (first.local_path(), second.local_path()) {
        let (first, second) = (canonical(first), canonical(second));
        let names = |path: &Path| path.iter().map(OsStr::to_os_string).collect::<Vec<_>>();
        return compare(&names(&first), &names(&second));
    }
    match (first.address(), second.address()) {
        ((one, first), (other, second)) if one == other => compare(&first, &second),
        _ => Overlap::None,
    }
}

/// The path of `inner` relative to `outer`, with `/` between segments, if it lies there.
pub fn path_within(inner: &Location, outer: &Location) -> Option<String> {
    if overlap(inner, outer) != Overlap::Within {
        return None;
    }
    let (Some(inner), Some(outer)) = (inner.local_path(), outer.local_path()) else {
        let depth = outer.address().1.len();
        return Some(inner.address().1[depth..].join("/"));
    };
    let relative = |inner: &Path, outer: &Path| {
        let path = inner.strip_prefix(outer).ok()?;
        let segments: Option<Vec<&str>> = path.iter().map(|segment| segment.to_str()).collect();
        Some(segments?.join("/"))
    };
    relative(inner, outer).or_else(|| relative(inner, &outer.canonicalize().ok()?))
}

fn compare<T: PartialEq>(first: &[T], second: &[T]) -> Overlap {
    match (second.starts_with(first), first.starts_with(second)) {
        (true, true) => Overlap::Same,
        (true, false) => Overlap::Contains,
        (false, true) => Overlap::Within,
        (false, false) => Overlap::None,
    }
}

/// The canonical path of the part that exists, with the rest appended.
fn canonical(path: &Path) -> PathBuf {
    let mut rest = Vec::new();
    let mut existing = path;
    loop {
        if let Ok(found) = existing.canonicalize() {
            return rest.iter().rev().fold(found, |path, name| path.join(name));
        }
        match (existing.parent(), existing.file_name()) {
            (Some(parent), Some(name)) => {
                rest.push(name.to_os_string());
                existing = parent;
            }
            _ => return path.to_path_buf(),
        }
    }
}

/// Bytes free for this process at the location, if it is local and its file system says so.
pub fn available_bytes(location: &Location) -> Option<u64> {
    let path = location.local_path()?;
    let existing = path.ancestors().find(|ancestor| ancestor.exists())?;
    let name = std::ffi::CString::new(existing.to_str()?).ok()?;
    let mut stats = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `name` is a NUL-terminated string and `stats` is large enough for the answer.
    let answered = unsafe { libc::statvfs(name.as_ptr(), stats.as_mut_ptr()) };
    if answered != 0 {
        return None;
    }
    // SAFETY: statvfs filled it, since it returned 0.
    let stats = unsafe { stats.assume_init() };
    // A mount without a size of its own says that it has none, not that it is full.
    if stats.f_blocks == 0 {
        return None;
    }
    #[allow(clippy::unnecessary_cast)] // the field widths differ between platforms
    Some(stats.f_bavail as u64 * stats.f_frsize as u64)
}

/// Removes `name#<digits>` files whose path before the `#`, relative to `root`, is ours.
pub(super) fn sweep_leftovers(root: &Path, is_ours: &dyn Fn(&str) -> bool) -> Result<usize> {
    let mut swept = 0;
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(Error::storage("can't list the folder")
                    .with("location", folder.display())
                    .with_source(error));
            }
        };
        for entry in entries {
            let entry = entry.context(ErrorKind::Storage, "can't list the output folder")?;
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
                continue;
            }
            let relative = path.strip_prefix(root).ok().and_then(Path::to_str);
            if relative.and_then(staged_name).is_some_and(is_ours) {
                // Another process may have swept it first, or still be about to publish it and then finds it gone,
                // which its own create survives by reading back.
                swept += usize::from(std::fs::remove_file(&path).is_ok());
            }
        }
    }
    Ok(swept)
}

/// The final path a staging file was meant for.
fn staged_name(name: &str) -> Option<&str> {
    let (target, number) = name.rsplit_once('#')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Failure matrix: 70.
    #[test]
    fn overlap_sees_through_links_and_paths_that_do_not_exist_yet() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().join("real");
        std::fs::create_dir(&real).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let open = |path: PathBuf| Location::local(path.to_str().unwrap()).unwrap();
        let cases = [
            (real.clone(), link.clone(), Overlap::Same),
            (real.clone(), link.join("new/deep"), Overlap::Contains),
            (link.join("new"), real.clone(), Overlap::Within),
            (real.join("a"), real.join("ab"), Overlap::None),
        ];
        for (first, second, expected) in cases {
            assert_eq!(overlap(&open(first), &open(second)), expected);
        }
    }

    #[test]
    fn free_space_is_known_even_for_a_folder_that_does_not_exist() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::local(folder.path().join("x/y").to_str().unwrap()).unwrap();
        assert!(available_bytes(&location).is_some_and(|bytes| bytes > 0));
    }
}
