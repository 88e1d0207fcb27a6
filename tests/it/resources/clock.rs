//! Wall clocks that are hours apart, or are set back and forth in the middle of a run: nothing may depend on them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{ROWS, input};
use crate::support::{Run, Scenario, finish, floe, project};

/// Compiles the library that makes a clock wrong.
fn shim(scenario: &Scenario) -> PathBuf {
    let library = scenario.path().join("clock.so");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
        .arg(&library)
        .arg(project().join("tests/peers/clock.c"))
        .output()
        .expect("a C compiler, which the linker of this very test is part of");
    assert!(
        compiled.status.success(),
        "{}",
        String::from_utf8_lossy(&compiled.stderr)
    );
    library
}

/// A replica whose clock is wrong.
fn start(scenario: &Scenario, shim: &Path, index: usize, clock: &str) -> Child {
    scenario
        .command(&["--run-id", "r", "--num-workers", "1"])
        .env("SNOWFLAKE_JOB_INDEX", index.to_string())
        .env("SNOWFLAKE_JOBS_COUNT", "3")
        .env("LD_PRELOAD", shim)
        .env("FLOE_TEST_CLOCK", clock)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// The lines of a log whose time stamps are `hours` off, to the hour.
fn stamped(log: &str, hours: i64) -> usize {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let hour = |seconds_ago| {
        let stamp = OffsetDateTime::from_unix_timestamp(now - seconds_ago + hours * 3600).unwrap();
        stamp.format(&Rfc3339).unwrap()[..13].to_string()
    };
    // The log may be from before the hour struck.
    let hours = [hour(0), hour(600)];
    let is_stamped = |line: &&str| {
        hours
            .iter()
            .any(|hour| line.contains(&format!("\"timestamp\":\"{hour}")))
    };
    log.lines().filter(is_stamped).count()
}

/// Failure matrix: 52.
#[test]
fn replicas_whose_clocks_are_days_apart_or_jump_complete_the_job_as_if_they_agreed() {
    let undisturbed = input();
    undisturbed.run(&["--run-id", "r"]).ok();
    let mut seen_to_jump = 0;
    for clocks in [
        ["-30", "40", "0"],
        ["30~", "-30~", "5000~"],
        ["-400000", "0", "12~"],
    ] {
        let scenario = input();
        let shim = shim(&scenario);
        let replicas: Vec<Child> = (0..3)
            .map(|index| start(&scenario, &shim, index, clocks[index]))
            .collect();
        for (replica, clock) in replicas.into_iter().zip(clocks) {
            let run = Run::from(replica.wait_with_output().unwrap()).ok();
            let (lines, hours) = (
                run.stderr.lines().count(),
                clock.trim_end_matches('~').parse().unwrap(),
            );
            let (wrong, right) = (stamped(&run.stderr, hours), stamped(&run.stderr, 0));
            match clock {
                "0" => assert_eq!(right, lines, "{}", run.stderr),
                jumps if jumps.ends_with('~') => {
                    // Who finds all done says too little for a jump to show.
                    let jumped = wrong > 0 && right > 0;
                    assert!(jumped || lines < 4, "{clock}: it did not jump: {}", run.stderr);
                    seen_to_jump += usize::from(jumped);
                    assert_eq!(wrong + right, lines, "{clock}: {}", run.stderr);
                }
                _ => assert_eq!(wrong, lines, "{clock}: it was not wrong: {}", run.stderr),
            }
        }
        assert_eq!(scenario.contents(), undisturbed.contents(), "{clocks:?}");
        assert_eq!(scenario.rows().len(), ROWS);
        finish(floe(["verify".as_ref(), scenario.output().as_os_str()])).ok();
        // Started again a day earlier, it still knows its work.
        let again = start(&scenario, &shim, 1, "-54").wait_with_output().unwrap();
        Run::from(again).ok();
    }
    assert!(seen_to_jump > 0, "no clock jumped");
}
