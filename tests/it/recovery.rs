//! Replicas are killed at random and started again: nothing twice, nothing missing, the same bytes.

use crate::dice::Dice;
use crate::support::{Scenario, check_with, finish, floe, start};
use std::process::Child;
use std::time::Duration;

/// Small enough to be quick, with enough units that a kill usually falls between two commits.
fn input() -> Scenario {
    let scenario = Scenario::new();
    for file in 0..24 {
        // Above the size of grouping, so that each file is a unit of its own.
        let path = scenario.input().join(format!("part-{file:02}.parquet"));
        crate::support::write_parquet(&path, &crate::support::table(file * 60_000, 60_000), 20_000);
    }
    scenario
}

fn replica(scenario: &Scenario, index: usize, run_id: &str) -> Child {
    let index = index.to_string();
    let mut command = scenario.command(&["--run-id", run_id, "--num-workers", "1"]);
    command
        .env("SNOWFLAKE_JOB_INDEX", index)
        .env("SNOWFLAKE_JOBS_COUNT", "3");
    start(command)
}

/// Failure matrix: 4, 5, 6.
#[test]
fn a_killed_replica_that_is_started_again_leaves_the_output_of_an_undisturbed_run() {
    let undisturbed = input();
    undisturbed.run(&["--run-id", "run"]).ok();
    let expected = undisturbed.contents();
    let mut killed_midway = 0;
    for seed in 0..20u64 {
        let mut dice = Dice::new(seed);
        // One input, many outputs.
        let scenario = Scenario::new();
        std::fs::remove_dir(scenario.input()).unwrap();
        std::os::unix::fs::symlink(undisturbed.input(), scenario.input()).unwrap();
        let mut replicas: Vec<Child> = (0..3).map(|index| replica(&scenario, index, "run")).collect();
        let victim = dice.below(3);
        // A moment counted in units, not in seconds, so that it is one of the run's whatever the machine is doing.
        let moment = dice.below(16);
        while scenario.records() < moment && replicas[victim].try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(dice.millis(20));
        let was_running = replicas[victim].try_wait().unwrap().is_none();
        replicas[victim].kill().unwrap();
        replicas[victim].wait().unwrap();
        killed_midway += usize::from(was_running);
        replicas[victim] = replica(&scenario, victim, "run");
        for (index, replica) in replicas.iter_mut().enumerate() {
            let status = replica.wait().unwrap();
            assert!(
                status.success(),
                "seed {seed}: replica {index} ended with {status}"
            );
        }
        assert_eq!(scenario.contents(), expected, "seed {seed}");
        let files = |scenario: &Scenario| scenario.marker().map(|marker| marker["files"].clone());
        assert_eq!(files(&scenario), files(&undisturbed), "seed {seed}");
        finish(floe(["verify".as_ref(), scenario.output().as_os_str()])).ok();
    }
    assert!(
        killed_midway >= 10,
        "only {killed_midway} of 20 kills met a running replica"
    );
    let report = check_with(
        "check_passthrough.py",
        &[
            "--input".as_ref(),
            undisturbed.input().as_os_str(),
            "--output".as_ref(),
            undisturbed.output().as_os_str(),
            "--key".as_ref(),
            "id".as_ref(),
        ],
    );
    assert_eq!(report["rows"], 24 * 60_000);
}

/// Failure matrix: 9.
#[test]
fn two_processes_with_the_same_index_are_harmless() {
    let scenario = Scenario::with_files(&[100_000; 8], 20_000);
    let mut twins: Vec<Child> = [0, 0, 1, 2, 2]
        .map(|index| replica(&scenario, index, "twins"))
        .into();
    for twin in &mut twins {
        assert!(twin.wait().unwrap().success());
    }
    assert_eq!(scenario.rows().len(), 800_000);
    finish(floe(["verify".as_ref(), scenario.output().as_os_str()])).ok();
}

/// Failure matrix: 7, 14.
#[test]
fn a_restart_does_only_what_has_no_record() {
    let scenario = input();
    let run = |index: &str| {
        let mut command = scenario.command(&["--run-id", "r", "--json", "--num-workers", "1", "--no-help"]);
        command
            .env("SNOWFLAKE_JOB_INDEX", index)
            .env("SNOWFLAKE_JOBS_COUNT", "2");
        finish(command).ok().json()
    };
    let first = run("0");
    assert_eq!(first["outcome"]["complete"], false);
    assert!(scenario.marker().is_none());
    let again = run("0");
    assert_eq!(again["summary"]["metrics"]["units_committed"], 0);
    assert_eq!(
        again["summary"]["metrics"]["units_skipped"],
        first["outcome"]["units"]
    );
    let last = run("1");
    assert_eq!(last["outcome"]["complete"], true);
    assert_eq!(scenario.rows().len(), 24 * 60_000);
}

/// Failure matrix: 13.
#[test]
fn a_restart_with_another_number_of_replicas_goes_on_with_the_same_units() {
    let scenario = input();
    let run = |index: &str, count: &str| {
        let mut command = scenario.command(&["--run-id", "r", "--json", "--no-help"]);
        command
            .env("SNOWFLAKE_JOB_INDEX", index)
            .env("SNOWFLAKE_JOBS_COUNT", count);
        finish(command).ok().json()
    };
    run("2", "5");
    for index in ["0", "1"] {
        run(index, "2");
    }
    assert_eq!(scenario.rows().len(), 24 * 60_000);
    assert_eq!(scenario.marker().unwrap()["units"], 24);
}

/// Failure matrix: 10.
#[test]
fn files_that_come_later_are_not_in_the_plan() {
    let scenario = Scenario::with_files(&[60_000, 60_000], 20_000);
    let run = |index: &str| {
        let mut command = scenario.command(&["--run-id", "r", "--no-help"]);
        command
            .env("SNOWFLAKE_JOB_INDEX", index)
            .env("SNOWFLAKE_JOBS_COUNT", "2");
        finish(command).ok();
    };
    run("0");
    let late = scenario.input().join("late.parquet");
    crate::support::write_parquet(&late, &crate::support::table(1_000_000, 10), 10);
    run("1");
    assert_eq!(scenario.rows().len(), 120_000);
}

/// Failure matrix: 43.
#[test]
fn an_input_that_changes_after_the_plan_ends_the_job() {
    let scenario = Scenario::with_files(&[60_000, 60_000], 20_000);
    let command = |index: &str| {
        let mut command = scenario.command(&["--run-id", "r", "--no-help"]);
        command
            .env("SNOWFLAKE_JOB_INDEX", index)
            .env("SNOWFLAKE_JOBS_COUNT", "2");
        command
    };
    finish(command("0")).ok();
    for file in ["part-0000.parquet", "part-0001.parquet"] {
        crate::support::write_parquet(
            &scenario.input().join(file),
            &crate::support::table(7, 60_000),
            20_000,
        );
    }
    finish(command("1")).fails(5, &["changed or vanished", ".parquet", "start a new run"]);
    assert!(scenario.marker().is_none());
}

/// Failure matrix: 18.
#[test]
fn the_same_run_id_with_another_job_is_refused() {
    let scenario = Scenario::with_files(&[1000], 1000);
    scenario.run(&["--run-id", "r"]).ok();
    scenario
        .run(&["--run-id", "r", "--compression", "gzip"])
        .fails(2, &["r"]);
}
