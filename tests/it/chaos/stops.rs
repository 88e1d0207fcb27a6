//! Orderly and disorderly ends: SIGTERM within and beyond the grace period, twice, Ctrl-C, and the death of a launcher.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{LONG_ROWS, Run, Scenario, finish, floe, signal};

const UNITS: usize = 24;
/// What takes longer than this hangs; the pauses that the tests set are far longer.
const PATIENCE: Duration = Duration::from_secs(60);
const MILLIS_FOR_EVER: &str = "1000000";

/// A run of one worker that takes so many milliseconds to store the records that `which` names (`#2`: the second).
fn start(
    scenario: &Scenario,
    grace_secs: &str,
    which: &str,
    millis: &str,
) -> (Child, BufReader<ChildStderr>) {
    let mut child = scenario
        .command(&["--run-id", "r", "--num-workers", "1", "--grace-secs", grace_secs])
        .env(
            "FLOE_FAIL_POINT",
            format!("before:create:record{which}=delay={millis}"),
        )
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    (child, log)
}

/// Reads the log up to the line with `text`.
#[track_caller]
fn read_until(log: &mut impl BufRead, text: &str) {
    let mut read = String::new();
    while !read.contains(text) {
        let bytes = log.read_line(&mut read).unwrap();
        assert!(bytes > 0, "the log ends without {text:?}: {read}");
    }
}

/// The exit code, and the rest of the log.
#[track_caller]
fn end(mut child: Child, mut log: impl BufRead) -> Run {
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("it goes on in spite of the signal");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut stderr = String::new();
    log.read_to_string(&mut stderr).unwrap();
    Run {
        code: status.code(),
        stdout: String::new(),
        stderr,
    }
}

#[track_caller]
fn completes(scenario: &Scenario, units_before: usize) {
    assert!(scenario.marker().is_none());
    let again = scenario.run(&["--run-id", "r", "--json"]).ok().json();
    assert_eq!(again["summary"]["metrics"]["units_skipped"], units_before);
    assert_eq!(scenario.rows().len(), UNITS * LONG_ROWS);
    finish(floe(["verify".as_ref(), scenario.output().as_os_str()])).ok();
}

/// Failure matrix: 59.
#[test]
fn a_unit_in_hand_is_finished_within_the_grace_period() {
    let scenario = Scenario::with_long_rows(UNITS);
    let (child, mut log) = start(&scenario, "3000", "", "300");
    read_until(&mut log, "fail point before:create:record#2");
    signal(&child, libc::SIGTERM);
    end(child, log).fails(143, &["stopping", "goes on from its records"]);
    let before = scenario.records();
    assert!((2..UNITS).contains(&before), "{before} units have records");
    completes(&scenario, before);
}

/// Failure matrix: 59.
#[test]
fn a_unit_that_takes_longer_than_the_grace_period_is_dropped() {
    for (number, code) in [(libc::SIGTERM, 143), (libc::SIGINT, 130)] {
        let scenario = Scenario::with_long_rows(UNITS);
        let (child, mut log) = start(&scenario, "0.3", "#2", MILLIS_FOR_EVER);
        read_until(&mut log, "fail point before:create:record#2");
        signal(&child, number);
        end(child, log).fails(code, &["grace period of 0.3 s", "goes on from its records"]);
        let before = scenario.records();
        assert!((1..UNITS).contains(&before), "{before} units have records");
        completes(&scenario, before);
    }
}

/// Failure matrix: 59.
#[test]
fn a_process_that_has_nothing_left_to_do_but_to_store_is_stopped_as_well() {
    let scenario = Scenario::with_long_rows(2);
    let (child, mut log) = start(&scenario, "0.3", "#2", MILLIS_FOR_EVER);
    read_until(&mut log, "fail point before:create:record#2");
    // Time for the worker to end. Should it take longer, the test is just an easier one.
    std::thread::sleep(Duration::from_millis(300));
    signal(&child, libc::SIGTERM);
    end(child, log).fails(143, &["grace period of 0.3 s"]);
    assert_eq!(scenario.records(), 1);
    scenario.run(&["--run-id", "r"]).ok();
    assert_eq!(scenario.rows().len(), 2 * LONG_ROWS);
}

/// Failure matrix: 59.
#[test]
fn a_second_signal_ends_the_process_at_once() {
    for (number, code) in [(libc::SIGTERM, 143), (libc::SIGINT, 130)] {
        let scenario = Scenario::with_long_rows(UNITS);
        let (child, mut log) = start(&scenario, "3000", "#2", MILLIS_FOR_EVER);
        read_until(&mut log, "fail point before:create:record#2");
        signal(&child, number);
        read_until(&mut log, "a second signal stops at once");
        signal(&child, number);
        assert_eq!(end(child, log).code, Some(code));
        completes(&scenario, scenario.records());
    }
}

/// The processes whose parent is `parent`.
fn children_of(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let mut fields = status.lines().filter_map(|line| line.strip_prefix("PPid:"));
        fields
            .next()
            .is_some_and(|ppid| ppid.trim() == parent.to_string())
    };
    let entries = std::fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    pids.filter(is_child).collect()
}

fn is_running(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .any(|line| line.starts_with("State:") && !line.contains('Z'))
}

/// Failure matrix: 59.
#[test]
fn a_launcher_that_is_killed_takes_its_replicas_with_it_and_completes_when_it_is_started_again() {
    let scenario = Scenario::with_long_rows(12);
    let launcher = |point: Option<&str>| -> Command {
        let mut command = scenario.command(&["--replicas", "3", "--grace-secs", "0.3"]);
        command.envs(point.map(|point| ("FLOE_FAIL_POINT", point)));
        command
    };
    let mut killed = launcher(Some("before:create:record#2=delay=1000000"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let wait_for = |what: &dyn Fn() -> bool, why: &str| {
        while !what() {
            assert!(started.elapsed() < PATIENCE, "{why}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    wait_for(&|| scenario.records() >= 3, "nothing is committed");
    let replicas = children_of(killed.id());
    assert_eq!(replicas.len(), 3);
    assert!(replicas.iter().all(|&pid| is_running(pid)));
    killed.kill().unwrap();
    killed.wait().unwrap();
    wait_for(
        &|| !replicas.iter().any(|&pid| is_running(pid)),
        "replicas outlive their launcher",
    );
    assert!(scenario.marker().is_none());
    let before = scenario.records();
    finish(launcher(None)).ok();
    assert!(before < 12 && scenario.records() == 12);
    assert_eq!(scenario.rows().len(), 12 * LONG_ROWS);
    finish(floe(["verify".as_ref(), scenario.output().as_os_str()])).ok();
}
