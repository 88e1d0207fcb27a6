//! A process that is killed while it writes a file: the one thing that can't be tried within one's own.

use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What the file would have had.
pub const WHOLE_BYTES: usize = 2 * HALF_BYTES;

const HALF_BYTES: usize = 1 << 20;

/// What the process says when its half is written, and when it can't be.
const WRITTEN: u8 = 1;
const FAILED: u8 = 0;

/// Lets a process write half of the file at `path` and kills it. False if there can be no process.
pub fn write_and_die(path: &Path) -> io::Result<bool> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let half = vec![b'x'; HALF_BYTES];
    let (mut said, says) = io::pipe()?;
    // SAFETY: the child calls only what is async-signal-safe (see `child`), on memory that was there before, and never
    // returns from here.
    let pid = unsafe {
        match libc::fork() {
            0 => child(path.as_ptr(), &half, says.as_raw_fd()),
            pid => pid,
        }
    };
    if pid < 0 {
        return Ok(false);
    }
    // Else its end would not be heard of.
    drop(says);
    let mut word = [FAILED];
    let heard = said.read_exact(&mut word);
    // SAFETY: the child has not been waited for, so its id is its own.
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        libc::waitpid(pid, std::ptr::null_mut(), 0);
    }
    match heard.is_ok() && word == [WRITTEN] {
        true => Ok(true),
        false => Err(io::Error::other(
            "the process that was to be killed could not write its file",
        )),
    }
}

/// Writes half of the file, says so, and waits for its end.
///
/// # Safety
/// For a process just forked: calls open, write and pause alone (signal-safety(7)), and allocates nothing. `path` ends
/// with NUL.
unsafe fn child(path: *const libc::c_char, half: &[u8], says: libc::c_int) -> ! {
    // SAFETY: as the caller says; `half` is as long as it says, and so is what is left of it.
    unsafe {
        let file = libc::open(path, libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC, 0o644);
        let mut written = 0;
        while file >= 0 && written < half.len() {
            match libc::write(file, half.as_ptr().add(written).cast(), half.len() - written) {
                count if count > 0 => written += count as usize,
                _ => break,
            }
        }
        let word = if written == half.len() { WRITTEN } else { FAILED };
        libc::write(says, (&raw const word).cast(), 1);
        loop {
            libc::pause();
        }
    }
}
