//! Replicas that never start, dawdle or die: the others do their units, and little is done twice.

use crate::support::{Run, Scenario, finish, floe};
use serde_json::Value;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const FILES: usize = 40;
/// Above the size of grouping, so that each file is a unit of its own.
const ROWS: usize = 60_000;

/// The input of all tests, with the output of an undisturbed run.
fn undisturbed() -> &'static Scenario {
    static UNDISTURBED: OnceLock<Scenario> = OnceLock::new();
    UNDISTURBED.get_or_init(|| {
        let scenario = Scenario::with_files(&[ROWS; FILES], 20_000);
        scenario.run(&["--run-id", "r"]).ok();
        scenario
    })
}

fn scenario() -> Scenario {
    let scenario = Scenario::new();
    std::fs::remove_dir(scenario.input()).unwrap();
    std::os::unix::fs::symlink(undisturbed().input(), scenario.input()).unwrap();
    scenario
}

fn replica(scenario: &Scenario, index: usize) -> Command {
    let mut command = scenario.command(&["--run-id", "r", "--json", "--num-workers", "1"]);
    command
        .env("SNOWFLAKE_JOB_INDEX", index.to_string())
        .env("SNOWFLAKE_JOBS_COUNT", "4")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn wait(replica: Child) -> Value {
    Run::from(replica.wait_with_output().unwrap()).ok().json()
}

fn sum(results: &[Value], metric: &str) -> u64 {
    let values = results
        .iter()
        .map(|result| result["summary"]["metrics"][metric].as_u64().unwrap());
    values.sum()
}

/// The output is that of an undisturbed run, and the marker vouches for it.
fn check(scenario: &Scenario) {
    assert!(
        scenario.contents() == undisturbed().contents(),
        "{:?}",
        scenario.files()
    );
    assert_eq!(scenario.marker().unwrap()["rows"], FILES * ROWS);
    finish(floe(["verify".as_ref(), scenario.output().as_os_str()])).ok();
}

fn report(what: &str, began: Instant, results: &[Value]) -> u64 {
    let twice = sum(results, "lost_races");
    println!(
        "{what}: {:.2} s, {} units taken from others, {twice} of {FILES} computed twice",
        began.elapsed().as_secs_f64(),
        sum(results, "units_helped"),
    );
    twice
}

/// Failure matrix: 14.
#[test]
fn a_job_whose_replica_never_starts_is_completed_by_the_others() {
    let scenario = scenario();
    let began = Instant::now();
    let replicas: Vec<Child> = [0, 2, 3]
        .map(|index| replica(&scenario, index).spawn().unwrap())
        .into();
    let results: Vec<Value> = replicas.into_iter().map(wait).collect();
    let twice = report("one of four never starts", began, &results);
    for result in &results {
        assert_eq!(result["outcome"]["complete"], true);
    }
    assert!(sum(&results, "units_helped") >= 10 - twice);
    // A busy machine makes helpers impatient with each other, but never more than the missing share is done twice.
    assert!(twice <= 10, "{twice} units were computed twice");
    check(&scenario);
}

/// Failure matrix: 14.
#[test]
fn a_replica_that_dawdles_is_helped_and_ends_with_the_others() {
    let scenario = scenario();
    let began = Instant::now();
    let slow = replica(&scenario, 2).spawn().unwrap();
    let others: Vec<Child> = [0, 1, 3]
        .map(|index| replica(&scenario, index).spawn().unwrap())
        .into();
    let over = AtomicBool::new(false);
    let results = std::thread::scope(|scope| {
        let pid = slow.id() as libc::pid_t;
        let throttle = scope.spawn({
            let over = &over;
            move || {
                // At work for a tenth of the time.
                while !over.load(Ordering::Relaxed) {
                    for (signal, millis) in [(libc::SIGSTOP, 45), (libc::SIGCONT, 5)] {
                        // SAFETY: kill has no memory effects; the child is not reaped before the loop has ended.
                        unsafe { libc::kill(pid, signal) };
                        std::thread::sleep(Duration::from_millis(millis));
                    }
                }
            }
        });
        let mut results: Vec<Value> = others.into_iter().map(wait).collect();
        report("one of four ten times slower", began, &results);
        over.store(true, Ordering::Relaxed);
        throttle.join().unwrap();
        results.push(wait(slow));
        results
    });
    assert!(
        results[..3]
            .iter()
            .all(|result| result["outcome"]["complete"] == true)
    );
    assert_eq!(results[3]["outcome"]["complete"], true);
    check(&scenario);
}

/// Failure matrix: 14.
#[test]
fn one_replica_alone_completes_the_job_of_four_whose_others_died() {
    let scenario = scenario();
    let mut dying: Vec<Child> = (1..4)
        .map(|index| replica(&scenario, index).spawn().unwrap())
        .collect();
    while scenario.records() < 3 {
        std::thread::sleep(Duration::from_millis(1));
    }
    for child in &mut dying {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let result = finish(replica(&scenario, 0)).ok().json();
    assert_eq!(result["outcome"]["complete"], true);
    check(&scenario);
}

#[test]
fn a_replica_that_is_not_to_help_ends_when_its_own_units_are_done() {
    let scenario = scenario();
    let mut command = replica(&scenario, 1);
    command.arg("--no-help");
    let result = finish(command).ok().json();
    assert_eq!(result["outcome"]["complete"], false);
    assert_eq!(result["outcome"]["units_helped"], 0);
    assert_eq!(result["outcome"]["units_missing"], 30);
}
