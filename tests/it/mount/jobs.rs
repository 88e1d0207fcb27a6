//! Whole jobs on a stage volume: the output of a local run, and nothing tried that a stage refuses.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::stage::{Rules, Stage};
use crate::support::{Run, Scenario, contents_of, finish, floe, project};

/// A job file: input, model and output on the stage, and how files are written.
fn job(stage: &Stage, scenario: &Scenario, model: &Path, writer: &str) -> Command {
    let document = serde_json::json!({
        "job_name": "mounted",
        "run_id": "r",
        "model": {"location": model},
        "input": {"stage_location": stage.path("in")},
        "output": {"stage_location": stage.path("jobs/out")},
        "storage": {"local_writer": writer},
    });
    let file = scenario.path().join("job.json");
    std::fs::write(&file, document.to_string()).unwrap();
    floe(["run".as_ref(), file.as_os_str()])
}

/// The Parquet files of the stage's output.
pub fn output(stage: &Stage) -> BTreeMap<String, Vec<u8>> {
    let files = stage.objects().into_iter();
    files
        .filter_map(|(key, bytes)| Some((key.strip_prefix("jobs/out/")?.to_string(), bytes)))
        .filter(|(key, _)| key.ends_with(".parquet"))
        .collect()
}

#[track_caller]
pub fn is_sound(stage: &Stage) {
    finish(floe(["verify".as_ref(), stage.path("jobs/out").as_os_str()])).ok();
}

/// Keys of records and markers.
fn promises(stage: &Stage) -> Vec<String> {
    let keys = stage.objects().into_keys();
    keys.filter(|key| key.contains("/c/") || key.ends_with("_SUCCESS"))
        .collect()
}

/// Failure matrix: 69.
#[test]
fn a_job_whose_input_model_and_output_lie_on_a_stage_gives_what_a_local_one_gives() {
    let models = project().join("tests/fixtures/models");
    let (model, input) = (
        models.join("scored/classifier_zipmap_string"),
        models.join("inputs/iris"),
    );
    let scenario = Scenario::new();
    let mut local = floe(["run", "--run-id", "r", "--job-name", "mounted"]);
    local.arg("--model").arg(&model).arg("--input").arg(&input);
    finish({
        local.arg("--output").arg(scenario.output());
        local
    })
    .ok();
    for (writer, processes) in [("auto", 1), ("auto", 3), ("sequential", 3)] {
        let Some(stage) = Stage::mount(Rules::default()) else {
            return;
        };
        stage.put_folder("in", &input);
        stage.put_folder("model", &model);
        let mut command = job(&stage, &scenario, &stage.path("model"), writer);
        if processes > 1 {
            command.args(["--replicas", &processes.to_string()]);
        }
        let run = finish(command).ok();
        let said = format!("{writer}, {processes}: {}", run.stderr);
        assert!(
            said.contains("from beginning to end") && said.contains("store class B"),
            "{said}"
        );
        assert!(said.contains(r#""file_system":"fuse"#), "{said}");
        assert_eq!(output(&stage), contents_of(&scenario.output()), "{said}");
        is_sound(&stage);
        // One link is tried by each process that writes, to see whether links can be made; else nothing is.
        let refused = stage.refused();
        match writer {
            "auto" => {
                assert_eq!(refused.keys().collect::<Vec<_>>(), ["hard link"], "{said}");
                assert!(refused["hard link"] <= processes + 1, "{refused:?}");
            }
            _ => assert!(refused.is_empty(), "{refused:?}"),
        }
        let keys: Vec<_> = stage.objects().into_keys().collect();
        assert!(
            !keys.iter().any(|key| key.contains('#') || key.contains("probe-")),
            "{keys:?}"
        );
    }
}

/// The stage with an input of a few units, and a run over it.
fn small(rules: Rules) -> Option<(Stage, Scenario)> {
    let stage = Stage::mount(rules)?;
    let scenario = Scenario::with_long_rows(4);
    stage.put_folder("in", &scenario.input());
    Some((stage, scenario))
}

fn run(stage: &Stage, scenario: &Scenario) -> Run {
    finish(job(stage, scenario, Path::new("echo"), "auto"))
}

/// After the stage's trouble is over, the same command completes.
#[track_caller]
fn completes(stage: &Stage, scenario: &Scenario) {
    run(stage, scenario).ok();
    scenario.run(&["--run-id", "r"]).ok();
    assert_eq!(output(stage), scenario.contents());
    is_sound(stage);
}

/// Failure matrix: 44.
#[test]
fn a_close_that_fails_ends_the_job_without_a_record_and_the_same_command_goes_on() {
    let Some((stage, scenario)) = small(Rules::default()) else {
        return;
    };
    for closing in ["jobs/out/part-", "/c/", "_SUCCESS"] {
        stage.set_rules(Rules {
            close_fails: Some(closing.to_string()),
            ..Rules::default()
        });
        let run = run(&stage, &scenario).fails(8, &["Input/output error", "can't write"]);
        assert!(!run.stderr.contains("_SUCCESS is in place"), "{}", run.stderr);
        let broken = |key: &String| key.contains(closing) || closing == "jobs/out/part-";
        assert!(!promises(&stage).iter().any(broken), "{:?}", promises(&stage));
    }
    stage.set_rules(Rules::default());
    completes(&stage, &scenario);
}

/// Failure matrix: 50.
#[test]
fn objects_that_are_seen_late_are_waited_for() {
    let rules = Rules {
        shows_after: Duration::from_millis(150),
        ..Rules::default()
    };
    let Some((stage, scenario)) = small(rules) else {
        return;
    };
    completes(&stage, &scenario);
}

#[test]
fn a_stage_that_can_not_sync_is_written_to_all_the_same() {
    let rules = Rules {
        refuses_sync: true,
        ..Rules::default()
    };
    let Some((stage, scenario)) = small(rules) else {
        return;
    };
    completes(&stage, &scenario);
}

#[test]
fn a_stage_of_no_size_is_not_taken_for_full_and_a_job_that_fails_leaves_nothing_there() {
    let Some((stage, _scenario)) = small(Rules::default()) else {
        return;
    };
    let mut check = floe(["check", "--model", "echo", "--run-id", "r", "--input"]);
    check
        .arg(stage.path("in"))
        .arg("--output")
        .arg(stage.path("jobs/out"));
    let said = finish(check).ok();
    assert!(!said.stdout.contains("are free"), "{}", said.stdout);
    let mut broken = floe(["run", "--model", "/nothing/here", "--run-id", "r", "--input"]);
    broken
        .arg(stage.path("in"))
        .arg("--output")
        .arg(stage.path("jobs/out"));
    finish(broken).fails(2, &["/nothing/here"]);
    assert!(stage.objects().keys().all(|key| key.starts_with("in/")));
    assert!(!stage.path("jobs/out").exists());
}
