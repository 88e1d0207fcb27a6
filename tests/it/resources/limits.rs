//! Limits of the process: size of files, number of descriptors, memory.

use std::io::Error;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{completes_undisturbed, input};
use crate::support::{Run, Scenario, finish, floe};

/// The command under a limit, which it can't raise again.
fn limited(mut command: Command, resource: libc::__rlimit_resource_t, limit: libc::rlim_t) -> Run {
    let set = move || {
        let limit = libc::rlimit {
            rlim_cur: limit,
            rlim_max: limit,
        };
        // SAFETY: setrlimit is async-signal-safe and reads the struct only.
        match unsafe { libc::setrlimit(resource, &limit) } {
            0 => Ok(()),
            _ => Err(Error::last_os_error()),
        }
    };
    // SAFETY: `set` does nothing but one system call.
    unsafe { command.pre_exec(set) };
    finish(command)
}

/// Failure matrix: 44.
#[test]
fn a_file_that_may_not_grow_so_large_is_an_error_and_not_a_signal() {
    let scenario = input();
    let command = scenario.command(&["--run-id", "r"]);
    limited(command, libc::RLIMIT_FSIZE, 200_000).fails(
        8,
        &["File too large", "part-0000", "raise the limit", "ulimit -f"],
    );
    assert_eq!(scenario.contents().len(), 0, "nothing is half-written");
    completes_undisturbed(&scenario);
}

#[test]
fn too_few_descriptors_are_an_error_that_names_the_limit_or_no_matter_at_all() {
    let (mut failed, mut passed) = (0, 0);
    for limit in [9, 10, 11, 12, 14, 17, 20, 64] {
        let scenario = input();
        let run = limited(scenario.command(&["--run-id", "r"]), libc::RLIMIT_NOFILE, limit);
        if run.code == Some(0) {
            passed += 1;
            continue;
        }
        run.fails(8, &["Too many open files", "ulimit -n", "location"]);
        failed += 1;
        completes_undisturbed(&scenario);
    }
    assert!(failed > 2 && passed > 0, "{failed} failed, {passed} passed");
}

/// A memory cgroup, of either version; removed when it is dropped.
struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// `None` where this process may not make one.
    fn new(bytes: u64) -> Option<MemoryGroup> {
        let name = format!("floe-test-{}-{bytes}", std::process::id());
        for (root, limit) in [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max"),
        ] {
            let group = MemoryGroup(Path::new(root).join(&name));
            // A folder in which the kernel puts nothing is no group.
            let made = std::fs::create_dir(&group.0).is_ok() && group.0.join(limit).exists();
            if made && std::fs::write(group.0.join(limit), bytes.to_string()).is_ok() {
                // Where there is swap, it must not help.
                for (swap, bytes) in [("memory.memsw.limit_in_bytes", bytes), ("memory.swap.max", 0)] {
                    let _ = std::fs::write(group.0.join(swap), bytes.to_string());
                }
                return Some(group);
            }
        }
        eprintln!("left out: no memory cgroup can be made here");
        None
    }

    /// The command within the group.
    fn command(&self, inner: &Command) -> Command {
        // A shell of its own enters first, so that not a byte is spent outside.
        let mut command = Command::new("sh");
        command
            .args(["-c", r#"echo $$ > "$0" && exec "$@""#])
            .arg(self.0.join("cgroup.procs"))
            .arg(inner.get_program())
            .args(inner.get_args());
        command
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Several times as much as the process may have in memory, when it is decoded.
fn large_input() -> Scenario {
    Scenario::with_files(&[1_000_000; 4], 250_000)
}

/// Failure matrix: 57.
#[test]
fn a_process_that_is_killed_for_memory_loses_nothing_and_completes_with_more() {
    let Some(group) = MemoryGroup::new(16 << 20) else {
        return;
    };
    let scenario = large_input();
    let killed = group
        .command(&scenario.command(&["--run-id", "r"]))
        .output()
        .unwrap();
    assert_eq!(killed.status.signal(), Some(libc::SIGKILL), "{killed:?}");
    assert!(scenario.marker().is_none());
    scenario.run(&["--run-id", "r"]).ok();
    assert_eq!(scenario.marker().unwrap()["rows"], 4_000_000);
    finish(floe(["verify".as_ref(), scenario.output().as_os_str()])).ok();
}

/// Failure matrix: 57.
#[test]
fn a_process_that_is_told_its_memory_stays_within_it() {
    const BYTES: u64 = 160 << 20;
    let Some(group) = MemoryGroup::new(BYTES) else {
        return;
    };
    let scenario = large_input();
    let arguments = [
        "--run-id",
        "r",
        "--memory",
        &BYTES.to_string(),
        "--num-workers",
        "2",
    ];
    finish(group.command(&scenario.command(&arguments))).ok();
    assert_eq!(scenario.marker().unwrap()["rows"], 4_000_000);
}
