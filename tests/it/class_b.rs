//! Jobs over a store without put-if-absent: the weaker protocol, as the program goes about it.
//!
//! A fail point makes a local folder such a store: it answers the probe that it has no put-if-absent.

use crate::support::{Run, Scenario, finish, floe};
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
    let mut check = scenario.command(&["--run-id", "r"]);
    check.env("SNOWFLAKE_JOB_INDEX", "0");
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
