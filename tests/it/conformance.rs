//! Every model of tests/fixtures/models: predictions equal to Python's onnxruntime, or a refusal that touches nothing.

use crate::support::{Run, check_with, finish, floe, project};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn cases() -> Vec<Value> {
    let path = fixtures().join("cases.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn fixtures() -> PathBuf {
    project().join("tests/fixtures/models")
}

/// Runs one case into `output`.
fn run(case: &Value, output: &Path, job: &Path) -> Run {
    let text = |key: &str| case[key].as_str().unwrap().to_string();
    let mut document = serde_json::json!({
        "job_name": "conformance",
        "model": {"location": fixtures().join(text("model"))},
        "input": {"stage_location": fixtures().join(text("input"))},
        "output": {"stage_location": output},
    });
    if let Some(params) = case.get("params").filter(|params| !params.is_null()) {
        document["input"]["params"] = params.clone();
    }
    if let Some(function) = case.get("function").filter(|name| !name.is_null()) {
        document["model"]["function_name"] = function.clone();
    }
    std::fs::write(job, document.to_string()).unwrap();
    finish(floe(["run".as_ref(), job.as_os_str()]))
}

/// Failure matrix: 30.
#[test]
fn every_model_is_scored_as_onnxruntime_scores_it_or_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let mut failures = Vec::new();
    let cases = cases();
    assert!(cases.len() >= 60, "only {} cases", cases.len());
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let output = folder.path().join(name);
        let run = run(case, &output, &folder.path().join("job.json"));
        match (case["expect"].as_str().unwrap(), run.code) {
            ("ok", Some(0)) => {}
            ("refused", Some(2 | 6 | 7)) => {
                let is_in_words = run.stderr.contains("\"body\":") && !run.stderr.contains("panicked");
                if !is_in_words {
                    failures.push(format!("{name}: refused without a word: {}", run.stderr));
                }
            }
            (expected, code) => {
                failures.push(format!(
                    "{name}: expected {expected}, got {code:?}: {}",
                    run.stderr
                ));
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} cases:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
    // All at once: the checker starts Python once.
    check_with(
        "check_predictions.py",
        &["ALL".as_ref(), "--output".as_ref(), folder.path().as_os_str()],
    );
}

#[test]
fn onnxruntime_collects_no_telemetry() {
    let home = tempfile::tempdir().unwrap();
    let model = project().join("examples/flights/model");
    let mut command = floe(["inspect".as_ref(), model.as_os_str()]);
    // The library is found in the real cache; what it would write goes to this home.
    let cache = std::env::var_os("FLOE_CACHE_DIR")
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
            cache
                .unwrap_or_else(|| Path::new(&std::env::var_os("HOME").unwrap()).join(".cache"))
                .join("floe")
        });
    command
        .env("FLOE_CACHE_DIR", cache)
        .env("HOME", home.path())
        .env_remove("XDG_CACHE_HOME");
    command.env_remove("ORT_DISABLE_TELEMETRY");
    finish(command).ok();
    let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}
