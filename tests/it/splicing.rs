//! Columns that only pass through are copied: other readers find the same values and the same rows in them.

use std::ffi::OsStr;

use crate::support::{Run, check_with, finish, floe, project};

/// Files that are written, each in its own way.
const SEEDS: u32 = 7;

/// Writes a file, lets it through, and has it compared; what was written, and the report.
fn pass(seed: u32, flags: &[&str]) -> (serde_json::Value, serde_json::Value) {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.parquet"), folder.path().join("out"));
    let seed_text = seed.to_string();
    let arguments = [&["write", "--seed", &seed_text], flags, &["--file"]].concat();
    let arguments: Vec<&OsStr> = arguments.into_iter().map(OsStr::new).collect();
    let written = check_with("splicing.py", &[&arguments[..], &[input.as_os_str()]].concat());
    // One model takes four columns, the other all.
    let model = match seed % 3 {
        0 => "echo".into(),
        _ => project().join("tests/fixtures/models/scored/regressor_matrix"),
    };
    let mut command = floe(["run", "--model"]);
    command
        .arg(model)
        .arg("--input")
        .arg(&input)
        .arg("--output")
        .arg(&output);
    let _: Run = finish(command).ok();
    let mut verify = floe(["verify"]);
    verify.arg(&output);
    finish(verify).ok();
    let files: Vec<_> = std::fs::read_dir(&output)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "parquet"))
        .collect();
    let [file] = files.as_slice() else {
        panic!("one unit has one file: {files:?}")
    };
    let report = check_with(
        "splicing.py",
        &[
            OsStr::new("check"),
            OsStr::new("--input"),
            input.as_os_str(),
            OsStr::new("--output"),
            file.as_os_str(),
        ],
    );
    (written, report)
}

#[test]
fn what_was_copied_is_read_and_filtered_by_pyarrow_and_duckdb_as_before() {
    let (mut copied, mut bounds, mut filters) = (0, 0, 0);
    for seed in 0..SEEDS {
        let (written, report) = pass(seed, &[]);
        assert_eq!(report["ok"], true, "{written}: {report}");
        let count = |name: &str| report[name].as_u64().unwrap();
        copied += count("copied");
        bounds += count("bounds");
        filters += count("filters");
    }
    assert!(
        copied > 30 && bounds > 10 && filters > 150,
        "{copied} {bounds} {filters}"
    );
}

#[test]
fn what_was_joined_is_read_and_filtered_by_pyarrow_and_duckdb_as_before() {
    let mut filters = 0;
    for seed in 0..SEEDS {
        let (written, report) = pass(seed, &["--tiny"]);
        assert_eq!(report["ok"], true, "{written}: {report}");
        filters += report["filters"].as_u64().unwrap();
    }
    assert!(filters > 150, "{filters}");
}
