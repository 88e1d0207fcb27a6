//! What kind of file system a folder lies on, as the kernel's table of mounts says (proc_pid_mountinfo(5)).

use std::path::{Path, PathBuf};

/// Where the kernel lists what this thread sees mounted, which only tests make another thing than what its process sees.
const MOUNTS: &str = "/proc/thread-self/mountinfo";

/// File systems of this machine alone: they do hard links, and a file keeps its inode number for life.
const DISKS: [&str; 13] = [
    "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "reiserfs", "tmpfs", "ramfs",
    "overlay",
];

/// The file system at `path`, or where the first of its folders that exists lies: its type, such as `ext4` or
/// `fuse.mountpoint-s3`. `None` where the kernel doesn't tell.
pub fn file_system(path: &Path) -> Option<String> {
    let existing = path
        .ancestors()
        .find_map(|ancestor| ancestor.canonicalize().ok())?;
    type_at(&std::fs::read(MOUNTS).ok()?, &existing)
}

/// Whether a file system of this type is known to be one of a local disk.
pub fn is_disk(file_system: &str) -> bool {
    DISKS.contains(&file_system)
}

/// The type of the mount with the longest path that contains `path`; of two at one place, the later hides the earlier.
fn type_at(table: &[u8], path: &Path) -> Option<String> {
    let mounts = table.split(|&byte| byte == b'\n').filter_map(parse);
    mounts
        .filter(|(point, _)| path.starts_with(point))
        .max_by_key(|(point, _)| point.components().count())
        .map(|(_, kind)| kind)
}

/// Mount point and type of a line: `36 35 98:0 /root /point options [optional…] - type source options`.
fn parse(line: &[u8]) -> Option<(PathBuf, String)> {
    let mut fields = line.split(|&byte| byte == b' ');
    let point = unescape(fields.nth(4)?);
    let kind = fields.skip_while(|field| field != b"-").nth(1)?;
    Some((point, String::from_utf8_lossy(kind).into_owned()))
}

/// Spaces, tabs, line ends and backslashes are written as a backslash and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let code = (first == b'\\').then(|| after.get(..3)).flatten();
        let code = code.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        rest = if code.is_some() { &after[3..] } else { after };
        bytes.push(code.unwrap_or(first));
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
22 27 0:21 / /proc rw,relatime - proc proc rw\n\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n\
40 27 0:50 / /data rw shared:7 master:1 - nfs4 server:/x rw\n\
41 40 0:51 / /data/stage\\040one rw - fuse.stage-v2 stage rw,user_id=0\n\
42 41 0:52 / /data/stage\\040one rw - tmpfs none rw\n\
broken line\n";

    #[test]
    fn the_innermost_and_latest_mount_counts() {
        let kind = |path: &str| type_at(TABLE, Path::new(path)).unwrap();
        assert_eq!(kind("/"), "ext4");
        assert_eq!(kind("/database/x"), "ext4");
        assert_eq!(kind("/data"), "nfs4");
        assert_eq!(kind("/data/other"), "nfs4");
        assert_eq!(kind("/data/stage one/x/y"), "tmpfs");
        let lines: Vec<_> = TABLE.split_inclusive(|&byte| byte == b'\n').collect();
        let without_the_last = type_at(&lines[..4].concat(), Path::new("/data/stage one"));
        assert_eq!(without_the_last.unwrap(), "fuse.stage-v2");
        assert_eq!(type_at(b"", Path::new("/")), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_folder_that_does_not_exist_yet_lies_where_its_first_existing_parent_does() {
        let folder = tempfile::tempdir().unwrap();
        let here = file_system(folder.path()).unwrap();
        assert_eq!(file_system(&folder.path().join("not/yet/there")).unwrap(), here);
        assert_eq!(file_system(Path::new("/proc/self")).unwrap(), "proc");
        assert!(!is_disk("proc"));
    }
}
