//! Foreign Parquet, good and bad: passed through as pyarrow reads it, or refused in words. Never a panic, never a hang.
//!
//! The files are Apache's parquet-testing, which is not part of the project: without `../shared/corpora` the test says
//! that it was left out (`.ci/run` fails instead).

use crate::support::{check_with, finish, floe, project};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Files that are not tried or not compared, each with its reason.
const LEFT_OUT: [(&str, &str); 2] = [
    (
        "large_string_map.brotli.parquet",
        "two gibibytes of text in one column: takes minutes without optimisation",
    ),
    (
        "int96_from_spark.parquet",
        "pyarrow reads its far dates as wrong instants; see docs/types.md",
    ),
];

/// What a file may take, in a build without optimisation, on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

fn corpus() -> Option<PathBuf> {
    let folder = project().parent()?.join("shared/corpora/parquet-testing");
    folder.is_dir().then_some(folder)
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        if path.is_dir() {
            files(&path, found);
        } else if name.contains(".parquet") && !LEFT_OUT.iter().any(|(left_out, _)| *left_out == name) {
            found.push(path);
        }
    }
}

/// Files that must be refused, whatever a later version of a library thinks of them.
fn must_be_refused(path: &str) -> bool {
    path.contains("corrupt-checksum") || path.ends_with(".encrypted")
}

/// Failure matrix: 21, 22, 23, 24, 25, 31.
#[test]
fn every_foreign_file_passes_as_pyarrow_reads_it_or_is_refused_in_words() {
    let Some(corpus) = corpus() else {
        println!("left out: no ../shared/corpora");
        return;
    };
    let mut all = Vec::new();
    files(&corpus, &mut all);
    assert!(all.len() > 80, "only {} files", all.len());
    let folder = tempfile::tempdir().unwrap();
    let (mut failures, mut pairs, mut refused) = (Vec::new(), Vec::<OsString>::new(), 0);
    for (index, file) in all.iter().enumerate() {
        let name = file.strip_prefix(&corpus).unwrap().display().to_string();
        let output = folder.path().join(format!("{index:03}"));
        let mut command = floe(["run", "--model", "echo"]);
        command.arg("--input").arg(file).arg("--output").arg(&output);
        let began = Instant::now();
        let run = finish(command);
        let has_words =
            run.stderr.contains("\"severity_text\":\"ERROR\"") && !run.stderr.contains("panicked");
        match run.code {
            Some(0) if !must_be_refused(&name) => pairs.extend([file.into(), output.into()]),
            Some(6) if has_words && !output.join("_SUCCESS").exists() => refused += 1,
            code => failures.push(format!("{name}: {code:?} {}", run.stderr)),
        }
        if began.elapsed() > LIMIT {
            failures.push(format!("{name}: took {:?}", began.elapsed()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let arguments: Vec<_> = pairs.iter().map(OsString::as_os_str).collect();
    let report = check_with("check_equal.py", &arguments);
    let compared = report["compared"].as_u64().unwrap();
    println!(
        "{} files: {compared} equal to pyarrow's, {refused} refused, {report}",
        all.len()
    );
    assert!(compared >= 60, "{report}");
}
