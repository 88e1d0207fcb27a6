//! All replicas on this machine: `--replicas N` without an index.

use crate::support::{Scenario, finish, floe};

#[test]
fn all_replicas_run_as_children_and_end_in_one_result() {
    let scenario = Scenario::with_files(&[60_000; 6], 20_000);
    // On a slow machine helpers may compute a unit twice.
    let run = scenario.run(&["--replicas", "3", "--no-help", "--json"]).ok();
    let result = run.json();
    assert_eq!(result["outcome"]["complete"], true);
    assert_eq!(result["outcome"]["total_rows"], 360_000);
    assert_eq!(result["summary"]["replicas"], 3);
    assert_eq!(result["summary"]["metrics"]["rows_inferred"], 360_000);
    assert_eq!(scenario.rows().len(), 360_000);
}

#[test]
fn overwriting_with_several_replicas_works_twice() {
    let scenario = Scenario::with_files(&[60_000; 3], 20_000);
    for _ in 0..2 {
        scenario.run(&["--replicas", "2", "--mode", "overwrite"]).ok();
        assert_eq!(scenario.rows().len(), 180_000);
    }
}

/// Failure matrix: 20.
#[test]
fn a_failing_replica_ends_the_job_with_its_error_and_code() {
    let scenario = Scenario::with_files(&[60_000; 3], 20_000);
    std::fs::write(scenario.input().join("zz.parquet"), b"this is no parquet file").unwrap();
    scenario
        .run(&["--replicas", "2"])
        .fails(6, &["not a Parquet file", "zz.parquet"]);
    assert!(scenario.marker().is_none());
}

#[test]
fn overwriting_with_an_index_needs_a_run_id() {
    let scenario = Scenario::with_files(&[10], 10);
    let run = scenario.run(&["--replicas", "2", "--replica-index", "0", "--mode", "overwrite"]);
    run.fails(2, &["run_id"]);
}

#[test]
fn the_job_file_asks_for_replicas_too() {
    let scenario = Scenario::with_files(&[1000; 3], 1000);
    let job = scenario.path().join("job.yaml");
    let text = format!(
        "job_name: two\nmodel: {{location: echo}}\ninput: {{stage_location: {:?}}}\noutput: {{stage_location: {:?}}}\nreplicas: 2\n",
        scenario.input(),
        scenario.output()
    );
    std::fs::write(&job, text).unwrap();
    let result = finish(floe(["run".as_ref(), job.as_os_str(), "--json".as_ref()]))
        .ok()
        .json();
    assert_eq!(result["summary"]["replicas"], 2);
    assert_eq!(scenario.rows().len(), 3000);
}
