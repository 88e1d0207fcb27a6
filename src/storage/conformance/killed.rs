//! A process that is killed while it writes a file: the one thing that can't be tried within one's own.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What the file would have had.
pub const WHOLE_BYTES: usize = 2 * HALF_BYTES;

const HALF_BYTES: usize = 1 << 20;

/// Lets a process write half of the file at `path` and kills it. False if there can be no process.
pub fn write_and_die(path: &Path) -> io::Result<bool> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let half = vec![b'x'; HALF_BYTES];
    let mut told = [0; 2];
    // SAFETY: between fork and its end the child calls only what is async-signal-safe (open, write, close, pause, _exit,
    // see signal-safety(7)), on memory that was there before; it allocates nothing and never returns from here.
    unsafe {
        if libc::pipe2(told.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
            return Err(io::Error::last_os_error());
        }
        match libc::fork() {
            -1 => {
                libc::close(told[0]);
                libc::close(told[1]);
                Ok(false)
            }
            0 => child(path.as_ptr(), &half, told),
            pid => {
                libc::close(told[1]);
                let begun = wait_for_word(told[0]);
                libc::close(told[0]);
                libc::kill(pid, libc::SIGKILL);
                libc::waitpid(pid, std::ptr::null_mut(), 0);
                begun.map(|()| true)
            }
        }
    }
}

/// Writes half of the file, says so, and waits for its end.
unsafe fn child(path: *const libc::c_char, half: &[u8], told: [libc::c_int; 2]) -> ! {
    // SAFETY: as the caller says.
    unsafe {
        libc::close(told[0]);
        let file = libc::open(path, libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC, 0o644);
        let mut written = 0;
        while file >= 0 && written < half.len() {
            match libc::write(file, half.as_ptr().add(written).cast(), half.len() - written) {
                count if count > 0 => written += count as usize,
                _ => break,
            }
        }
        let word = u8::from(written == half.len());
        libc::write(told[1], (&raw const word).cast(), 1);
        loop {
            libc::pause();
        }
    }
}

/// Waits until the child has written its half.
fn wait_for_word(from: libc::c_int) -> io::Result<()> {
    let mut word = 0u8;
    // SAFETY: reads one byte into one.
    let count = unsafe { libc::read(from, (&raw mut word).cast(), 1) };
    match (count, word) {
        (1, 1) => Ok(()),
        (1, _) => Err(io::Error::other(
            "the process that was to be killed could not write its file",
        )),
        _ => Err(io::Error::other(
            "the process that was to be killed ended by itself",
        )),
    }
}
