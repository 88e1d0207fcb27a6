//! The program as a child that may not take more than its share: of time, and of memory.
//!
//! Hostile input is tried on real processes, since what it must not do (hang, take all memory, crash) would take the
//! test along. Memory is capped with `RLIMIT_DATA`, so that a bomb ends its own process and not the machine's others.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a child may take, in a build without optimisation on a busy machine.
const TIME: Duration = Duration::from_secs(60);

/// Most memory that a child may write to: ten times what a small model takes.
const DATA_BYTES: u64 = 1 << 30;

/// How a child ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// It was still running after [`TIME`], and was killed.
    pub was_stuck: bool,
    /// What it wrote.
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// Its peak of resident memory, as last seen while it ran.
    pub peak_bytes: u64,
}

impl Ended {
    /// Everything it said.
    pub fn said(&self) -> String {
        let both = [&self.stdout[..], &self.stderr[..]].concat();
        String::from_utf8_lossy(&both).into_owned()
    }

    /// Fails the test unless it ended by itself with `code` and said all of `words`.
    #[track_caller]
    pub fn fails(&self, name: &str, code: i32, words: &[&str]) {
        let said = self.said();
        let end = (self.code, self.signal, self.was_stuck);
        assert_eq!(end, (Some(code), None, false), "{name}: {said}");
        for word in words {
            assert!(said.contains(word), "{name}: no {word:?} in\n{said}");
        }
        assert!(!said.contains("panicked"), "{name}: {said}");
    }
}

/// Runs `command` to its end, or to the end of its time.
pub fn run(mut command: Command) -> Ended {
    let (stdout, stderr) = (
        tempfile::NamedTempFile::new().unwrap(),
        tempfile::NamedTempFile::new().unwrap(),
    );
    // Files, not pipes: nobody has to read along.
    command
        .stdin(Stdio::null())
        .stdout(stdout.reopen().unwrap())
        .stderr(stderr.reopen().unwrap());
    let mut child = command.spawn().unwrap();
    let limit = libc::rlimit {
        rlim_cur: DATA_BYTES,
        rlim_max: DATA_BYTES,
    };
    // SAFETY: sets a limit of a child that has not been reaped; the old one is not asked for.
    let limited = unsafe {
        libc::prlimit(
            child.id() as libc::pid_t,
            libc::RLIMIT_DATA,
            &limit,
            std::ptr::null_mut(),
        )
    };
    assert_eq!(limited, 0, "{}", std::io::Error::last_os_error());
    let began = Instant::now();
    let status_page = format!("/proc/{}/status", child.id());
    let (mut peak_bytes, mut was_stuck) = (0, false);
    let status = loop {
        peak_bytes = peak_bytes.max(high_water_mark(&status_page));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > TIME && !was_stuck {
            was_stuck = true;
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    Ended {
        code: status.code(),
        signal: status.signal(),
        was_stuck,
        stdout: std::fs::read(stdout.path()).unwrap(),
        stderr: std::fs::read(stderr.path()).unwrap(),
        peak_bytes,
    }
}

/// `VmHWM` of a process. `getrusage` would say no less than this test's own peak: a child begins as its copy.
fn high_water_mark(status_page: &str) -> u64 {
    let page = std::fs::read_to_string(status_page).unwrap_or_default();
    let line = page.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kibibytes.map_or(0, |number| number.trim().parse::<u64>().unwrap() << 10)
}
