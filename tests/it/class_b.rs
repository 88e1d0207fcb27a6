//! Jobs over a store without put-if-absent: the weaker protocol, as the program goes about it.
//!
//! A fail point makes a local folder such a store: it answers the probe that it has no put-if-absent.

use crate::support::{Run, Scenario, finish, floe};
use floe::job::failpoint::{names, names_of_class_b};
use std::process::Command;

/// The probe finds a store of class B; `more` are further fail points.
fn weaken(command: &mut Command, more: &str) {
    command.env("FLOE_FAIL_POINT", format!("before:create:probe=lack{more}"));
}

/// Replica `index` of `count`.
fn replica(scenario: &Scenario, index: usize, count: usize, more: &str) -> Command {
    let mut command = scenario.command(&["--run-id", "r", "--json", "--num-workers", "1"]);
    command
        .env("SNOWFLAKE_JOB_INDEX", index.to_string())
        .env("SNOWFLAKE_JOBS_COUNT", count.to_string());
    weaken(&mut command, more);
    command
}

/// A job of one replica.
fn alone(scenario: &Scenario, more: &str) -> Command {
    let mut command = scenario.command(&["--run-id", "r", "--json", "--num-workers", "1"]);
    weaken(&mut command, more);
    command
}

fn input() -> Scenario {
    Scenario::with_files(&[60_000, 60_000, 60_000], 20_000)
}

/// One input, many outputs.
fn sharing_input(other: &Scenario) -> Scenario {
    let scenario = Scenario::new();
    std::fs::remove_dir(scenario.input()).unwrap();
    std::os::unix::fs::symlink(other.input(), scenario.input()).unwrap();
    scenario
}

fn is_sound(scenario: &Scenario) {
    finish(floe(["verify".as_ref(), scenario.output().as_os_str()])).ok();
}

fn outcome(run: &Run) -> serde_json::Value {
    run.json()["outcome"].clone()
}

/// Failure matrix: 69.
#[test]
fn the_job_completes_and_says_what_it_can_not_promise() {
    let scenario = Scenario::with_files(&[60_000, 60_000, 0], 20_000);
    let first = finish(replica(&scenario, 0, 2, "")).ok();
    assert!(first.stderr.contains("store class B"), "{}", first.stderr);
    assert_eq!(outcome(&first)["complete"], false);
    let last = finish(replica(&scenario, 1, 2, "")).ok();
    assert_eq!(outcome(&last)["complete"], true);
    assert_eq!(outcome(&last)["units_helped"], 0, "nobody helps here");
    assert_eq!(scenario.rows().len(), 120_000);
    assert_eq!(scenario.marker().unwrap()["store_class"], "B");
    is_sound(&scenario);
}

/// Failure matrix: 69.
#[test]
fn replicas_that_see_the_output_through_different_kinds_of_store_are_refused() {
    let scenario = Scenario::with_files(&[60_000, 60_000], 20_000);
    finish(replica(&scenario, 0, 2, "")).ok();
    let mut stronger = replica(&scenario, 1, 2, "");
    stronger.env_remove("FLOE_FAIL_POINT");
    finish(stronger).fails(2, &["class B", "class A", "in the same way"]);
    assert!(scenario.marker().is_none());
}

/// Failure matrix: 1, 2, 3, 4, 5, 6, 7, 8.
#[test]
fn a_process_killed_before_or_after_any_step_of_the_weaker_protocol_is_made_good_by_its_restart() {
    let undisturbed = input();
    finish(alone(&undisturbed, "")).ok();
    let expected = undisturbed.contents();
    let points = [names_of_class_b(), names()].concat();
    let mut passed = Vec::new();
    for point in &points {
        let scenario = sharing_input(&undisturbed);
        if point.ends_with("head:data") {
            // Nobody asks for a data object that the listing shows as it should be.
            finish(alone(&scenario, ",before:put:marker=kill"));
            std::fs::remove_file(first_part(&scenario)).unwrap();
        }
        let killed = finish(alone(&scenario, &format!(",{point}#1=kill")));
        if killed.code.is_none() {
            passed.push(point.clone());
        }
        finish(alone(&scenario, "")).ok();
        assert!(scenario.marker().is_some(), "{point}");
        assert_eq!(scenario.contents(), expected, "{point}");
        is_sound(&scenario);
    }
    println!("killed at {} points: {passed:?}", passed.len());
    let missed: Vec<_> = names_of_class_b()
        .into_iter()
        .filter(|point| !passed.contains(point))
        .collect();
    assert!(missed.is_empty(), "no process came past {missed:?}");
    assert!(passed.len() >= 24, "{passed:?}");
}

/// Failure matrix: 9.
#[test]
fn a_committed_file_that_a_twin_tore_is_computed_again_before_the_marker() {
    let undisturbed = input();
    finish(alone(&undisturbed, "")).ok();
    let scenario = sharing_input(&undisturbed);
    assert_eq!(finish(alone(&scenario, ",before:put:marker=kill")).code, None);
    assert!(scenario.marker().is_none());
    let torn = first_part(&scenario);
    let whole = std::fs::read(&torn).unwrap();
    std::fs::write(&torn, &whole[..whole.len() / 2]).unwrap();
    let mended = finish(alone(&scenario, "")).ok();
    assert!(
        mended.stderr.contains("computing them again"),
        "{}",
        mended.stderr
    );
    assert_eq!(outcome(&mended)["complete"], true);
    assert_eq!(scenario.contents(), undisturbed.contents());
    is_sound(&scenario);
}

#[test]
fn check_says_what_the_store_can_not_promise() {
    let scenario = Scenario::with_files(&[1000], 1000);
    let mut command = floe(["check", "--json", "--model", "echo"]);
    command
        .arg("--input")
        .arg(scenario.input())
        .arg("--output")
        .arg(scenario.output());
    weaken(&mut command, "");
    let notes = finish(command).ok().json()["notes"].to_string();
    assert!(notes.contains("store class B"), "{notes}");
}

fn first_part(scenario: &Scenario) -> std::path::PathBuf {
    let name = scenario
        .files()
        .into_iter()
        .find(|name| name.starts_with("part-000000"));
    scenario
        .output()
        .join(name.expect("a data file of the first unit"))
}
