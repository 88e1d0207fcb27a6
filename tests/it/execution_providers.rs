//! Execution providers, as far as this machine has them: results beside ONNX Runtime's own, or the words about what is
//! missing. `scripts/what-was-left-out` says which of the two it was.

use arrow::array::{ArrayRef, AsArray, Float32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Float32Type, Schema};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::onnx_bytes::*;
use crate::support::{Run, finish, floe, project, read_parquet, write_parquet};

/// Exit code of a job that asks for what can't be had.
const CONFIG: i32 = 2;
const ROWS: usize = 3000;
const HIDDEN: usize = 32;

/// What `floe inspect` says about OpenVINO here.
enum Openvino {
    NotFetched,
    NoDevice,
    Computes { bf16: bool },
}

fn openvino() -> Openvino {
    let model = project().join("examples/flights/model");
    let said = finish(floe([Path::new("inspect"), Path::new("--json"), &model]))
        .ok()
        .json();
    let lines = said["execution_providers"].as_array().unwrap().clone();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let line = lines[0].as_str().unwrap();
    if line == "openvino is not fetched" {
        Openvino::NotFetched
    } else if line.contains("has no device on this machine") {
        Openvino::NoDevice
    } else {
        assert!(
            line.starts_with("openvino 1.8.1 on ") && line.contains(" computes in FP32"),
            "{line}"
        );
        Openvino::Computes {
            bf16: line.contains("BF16"),
        }
    }
}

/// A network of two layers, and rows for it.
struct Trial {
    folder: tempfile::TempDir,
}

impl Trial {
    fn new() -> Trial {
        let trial = Trial {
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::write(trial.model(), network()).unwrap();
        let input = trial.folder.path().join("in");
        std::fs::create_dir(&input).unwrap();
        let names = ["sepal_length", "sepal_width", "petal_length", "petal_width"];
        let fields = names
            .map(|name| Field::new(name, DataType::Float32, false))
            .to_vec();
        let columns = (0..4).map(|column| -> ArrayRef {
            let value = |row: usize| ((row * 31 + column * 17) % 101) as f32 / 20.0 - 2.5;
            Arc::new(Float32Array::from_iter_values((0..ROWS).map(value)))
        });
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.collect()).unwrap();
        write_parquet(&input.join("rows.parquet"), &rows, 1000);
        trial
    }

    fn model(&self) -> PathBuf {
        self.folder.path().join("model.onnx")
    }

    fn run(&self, output: &str, arguments: &[&str]) -> Run {
        let mut command = floe(["run", "--model"]);
        command.arg(self.model());
        command.arg("--input").arg(self.folder.path().join("in"));
        command.arg("--output").arg(self.folder.path().join(output));
        finish_with(command, arguments)
    }

    fn scores(&self, output: &str) -> Vec<f32> {
        let folder = self.folder.path().join(output);
        let files = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut data: Vec<_> = files
            .filter(|path| path.extension().is_some_and(|ext| ext == "parquet"))
            .collect();
        data.sort();
        let batches = data.iter().flat_map(|path| read_parquet(path));
        let scores: Vec<f32> = batches
            .flat_map(|rows| {
                let column = rows.column_by_name("y").unwrap();
                column.as_primitive::<Float32Type>().values().to_vec()
            })
            .collect();
        assert_eq!(scores.len(), ROWS);
        scores
    }
}

fn finish_with(mut command: std::process::Command, arguments: &[&str]) -> Run {
    command.args(arguments);
    finish(command)
}

fn network() -> Vec<u8> {
    let weights = |count: usize| -> Vec<u8> {
        let value = |index: usize| ((index * 37 % 61) as f32 - 30.0) / 40.0;
        (0..count).flat_map(|index| value(index).to_le_bytes()).collect()
    };
    let mut graph = [
        node("MatMul", &["X", "W"], &["a"], &[]),
        node("Tanh", &["a"], &["b"], &[]),
        node("MatMul", &["b", "V"], &["y"], &[]),
        field(5, tensor("W", FLOAT, &[4, HIDDEN as i64], &weights(4 * HIDDEN))),
        field(5, tensor("V", FLOAT, &[HIDDEN as i64, 1], &weights(HIDDEN))),
    ]
    .concat();
    graph.extend(field(2, "graph"));
    graph.extend(field(11, value("X", FLOAT, &[-1, 4])));
    graph.extend(field(12, value("y", FLOAT, &[-1, 1])));
    model(&graph, &[])
}

/// Mean of |a - b| over the mean of |b|.
fn relative_error(ours: &[f32], theirs: &[f32]) -> f32 {
    let error: f32 = std::iter::zip(ours, theirs).map(|(a, b)| (a - b).abs()).sum();
    error / theirs.iter().map(|b| b.abs()).sum::<f32>()
}

#[test]
fn openvino_gives_onnx_runtimes_results_or_the_job_says_why_it_cannot_be_had() {
    let trial = Trial::new();
    let asked = ["--execution-providers", "openvino", "--num-workers", "2"];
    match openvino() {
        Openvino::NotFetched => {
            let hint = "scripts/fetch-onnxruntime --with openvino";
            trial
                .run("out", &asked)
                .fails(CONFIG, &["openvino is not here", hint]);
        }
        Openvino::NoDevice => {
            let texts = [
                "openvino has no device on this machine",
                "Intel's processors only",
            ];
            trial.run("out", &asked).fails(CONFIG, &texts);
        }
        Openvino::Computes { .. } => {
            trial.run("own", &[]).ok();
            let run = trial.run("out", &asked).ok();
            assert!(!run.stderr.contains("left to ONNX Runtime"), "{}", run.stderr);
            let error = relative_error(&trial.scores("out"), &trial.scores("own"));
            assert!(error < 1e-5, "{error}");
        }
    }
    let there = trial.folder.path().join("out/_SUCCESS").exists();
    assert_eq!(there, matches!(openvino(), Openvino::Computes { .. }));
}

#[test]
fn bf16_is_computed_where_the_processor_has_it_and_refused_where_f32_would_be_computed_in_silence() {
    let trial = Trial::new();
    let asked = ["--execution-providers", "openvino", "--precision", "bf16"];
    let run = trial.run("out", &asked);
    match openvino() {
        Openvino::Computes { bf16: true } => {
            run.ok();
            trial.run("own", &[]).ok();
            let (ours, own) = (trial.scores("out"), trial.scores("own"));
            let error = relative_error(&ours, &own);
            assert!(error < 2e-2, "{error}");
            assert_ne!(ours, own, "nothing was computed in bf16");
        }
        Openvino::Computes { bf16: false } => {
            let texts = [
                "model.precision: bf16 can't be had: openvino 1.8.1 on ",
                "computes in FP32",
            ];
            run.fails(CONFIG, &texts);
        }
        Openvino::NoDevice => drop(run.fails(CONFIG, &["openvino has no device on this machine"])),
        Openvino::NotFetched => drop(run.fails(CONFIG, &["openvino is not here"])),
    }
}

#[test]
fn a_provider_that_takes_nothing_of_a_model_is_refused_where_it_can_be_had_at_all() {
    let trial = Trial::new();
    std::fs::copy(
        std::fs::read_dir(project().join("examples/flights/model"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.extension().is_some_and(|ext| ext == "onnx"))
            .unwrap(),
        trial.model(),
    )
    .unwrap();
    let run = trial.run("out", &["--execution-providers", "openvino"]);
    match openvino() {
        Openvino::Computes { .. } => run.fails(CONFIG, &["openvino takes no part of this model"]),
        _ => run.fails(CONFIG, &["model.execution_providers: openvino"]),
    };
}

#[test]
fn a_restart_of_the_run_with_another_precision_or_provider_is_another_job() {
    let trial = Trial::new();
    let Openvino::Computes { .. } = openvino() else {
        // Without a provider no two settings can both be had: `job::digest` shows that they would differ.
        return;
    };
    trial.run("out", &["--run-id", "1"]).ok();
    trial
        .run("out", &["--run-id", "1", "--execution-providers", "openvino"])
        .fails(CONFIG, &["another"]);
}

#[test]
fn a_model_that_runs_by_itself_takes_no_provider() {
    let trial = Trial::new();
    let mut command = floe(["run", "--model", "echo", "--execution-providers", "openvino"]);
    command.arg("--input").arg(trial.folder.path().join("in"));
    command.arg("--output").arg(trial.folder.path().join("out"));
    finish(command).fails(CONFIG, &["the backend echo computes by itself"]);
}
