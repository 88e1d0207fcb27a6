//! Models of trees against the libraries that made them: sums equal to the last bit, results within a millionth.
//!
//! `tests/peers/tree_models.py` trains the models and asks the libraries; rows lie at thresholds and beside them, and hold
//! what is missing, infinite or barely there.

use bytes::Bytes;
use floe::config::Backend;
use floe::model::onnx::runtime;
use floe::model::{self, Engine, Loaded, ModelFiles, OpenOptions};
use floe::tensor::{DType, Tensor, TensorBatch, TensorData, Value};
use serde_json::Value as Json;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::dice::Dice;
use crate::support::{project, python};

/// Models of a family, made by Python.
fn make(family: &str) -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let done = std::process::Command::new(python())
        .arg(project().join("tests/peers/tree_models.py"))
        .args([family.as_ref(), folder.path().as_os_str()])
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    (folder, cases)
}

fn files(case: &Path) -> ModelFiles {
    let mut files = ModelFiles {
        location: case.to_string_lossy().into_owned(),
        ..ModelFiles::default()
    };
    for entry in std::fs::read_dir(case).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        if name.starts_with("model.") || name.ends_with(".onnx") || name == "floe.yaml" {
            files
                .files
                .insert(name, Bytes::from(std::fs::read(path).unwrap()));
        }
    }
    files
}

fn open(files: ModelFiles) -> Arc<dyn Loaded> {
    open_as(files, None).unwrap_or_else(|error| panic!("{error}"))
}

fn open_as(files: ModelFiles, backend: Option<Backend>) -> floe::error::Result<Arc<dyn Loaded>> {
    let cache = runtime::cache_dir(|name| std::env::var_os(name));
    let given = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    let options = OpenOptions {
        backend,
        onnxruntime_paths: runtime::default_candidates(None, cache.as_deref(), given.as_deref()),
        ..OpenOptions::default()
    };
    model::open(files, &options)
}

fn numbers<const N: usize, T>(path: &Path, from: fn([u8; N]) -> T) -> Vec<T> {
    let bytes = std::fs::read(path).unwrap();
    let (chunks, rest) = bytes.as_chunks::<N>();
    assert!(rest.is_empty());
    chunks.iter().copied().map(from).collect()
}

/// The rows of a case as the batch that `function` takes.
fn batch(case: &Path, function: &floe::signature::Function, rows: usize) -> TensorBatch {
    let values = numbers(&case.join("rows.bin"), f64::from_le_bytes);
    let shape = vec![rows, values.len() / rows];
    let [input] = function.inputs.as_slice() else {
        panic!("one input")
    };
    let data = match input.dtype {
        DType::F32 => TensorData::F32(values.iter().map(|&value| value as f32).collect()),
        DType::F64 => TensorData::F64(values),
        other => panic!("{other:?}"),
    };
    TensorBatch {
        rows,
        inputs: vec![Tensor { shape, data }],
    }
}

/// How far two results are apart: of numbers the greatest difference, relative above 1; infinite where they do not match.
fn distance(ours: &TensorData, theirs: &TensorData) -> f64 {
    let apart = |a: f64, b: f64| match () {
        () if a == b || a.is_nan() && b.is_nan() => 0.0,
        () if a.is_finite() && b.is_finite() => (a - b).abs() / a.abs().max(b.abs()).max(1.0),
        () => f64::INFINITY,
    };
    let all =
        |pairs: &mut dyn Iterator<Item = (f64, f64)>| pairs.map(|(a, b)| apart(a, b)).fold(0.0, f64::max);
    if ours.len() != theirs.len() {
        return f64::INFINITY;
    }
    match (ours, theirs) {
        (TensorData::F32(a), TensorData::F32(b)) => all(&mut a
            .iter()
            .map(|&a| f64::from(a))
            .zip(b.iter().map(|&b| f64::from(b)))),
        (TensorData::F64(a), TensorData::F64(b)) => all(&mut a.iter().copied().zip(b.iter().copied())),
        (a, b) if a == b => 0.0,
        _ => f64::INFINITY,
    }
}

fn expected(case: &Path, output: &Json) -> TensorData {
    let file = || case.join(output["file"].as_str().unwrap());
    match output["dtype"].as_str().unwrap() {
        "f32" => numbers(&file(), f32::from_le_bytes).into(),
        "f64" => numbers(&file(), f64::from_le_bytes).into(),
        "i64" => numbers(&file(), i64::from_le_bytes).into(),
        "text" => {
            let texts = output["values"].as_array().unwrap().iter();
            texts
                .map(|text| text.as_str().unwrap().to_string())
                .collect::<Vec<_>>()
                .into()
        }
        other => panic!("{other}"),
    }
}

/// Runs every function of a case. A line of the table, and what is wrong.
fn check(case: &Path) -> (String, Vec<String>) {
    let document: Json = serde_json::from_slice(&std::fs::read(case.join("case.json")).unwrap()).unwrap();
    let rows = document["rows"].as_u64().unwrap() as usize;
    let name = case.file_name().unwrap().to_string_lossy();
    let (mut line, mut wrong) = (format!("{name:<44}"), Vec::new());
    for (function_name, function) in document["functions"].as_object().unwrap() {
        let mut files = files(case);
        if function_name == "margin" {
            let card = b"functions: {margin: {outputs: [margin]}}";
            files.files.insert("floe.yaml".into(), Bytes::from_static(card));
        }
        let model = open(files);
        let Some(known) = model
            .functions()
            .iter()
            .find(|known| known.name == *function_name)
        else {
            wrong.push(format!("{name}: there is no function {function_name}"));
            continue;
        };
        if name.starts_with("onnx_") && model.engines(known) != [Engine::Trees, Engine::OnnxRuntime] {
            wrong.push(format!("{name}: {}", model.notes().join("; ")));
            continue;
        }
        let values = model
            .worker(known, 1)
            .unwrap()
            .infer(&batch(case, known, rows))
            .unwrap();
        let outputs = function["outputs"].as_array().unwrap();
        if values.len() != outputs.len() {
            wrong.push(format!(
                "{name}: {function_name} returns {} outputs",
                values.len()
            ));
            continue;
        }
        let mut most = 0.0f64;
        for (value, output) in values.iter().zip(outputs) {
            let data = match value {
                Value::Tensor(tensor) => &tensor.data,
                Value::Maps(maps) => &maps.values,
                Value::Lists(_) => panic!("trees give no lists"),
            };
            most = most.max(distance(data, &expected(case, output)));
        }
        let bound = if function["exact"] == true { 0.0 } else { 1e-6 };
        if most > bound {
            wrong.push(format!("{name}: {function_name} is off by {most:e}"));
        }
        let _ = write!(line, " {function_name} {most:<8.1e}");
    }
    (line, wrong)
}

fn check_family(family: &str, at_least: usize) {
    let (_folder, cases) = make(family);
    assert!(cases.len() >= at_least, "only {} cases", cases.len());
    let (mut table, mut wrong) = (String::new(), Vec::new());
    for case in &cases {
        let (line, faults) = check(case);
        let _ = writeln!(table, "{}", line.trim_end());
        wrong.extend(faults);
    }
    println!("greatest difference, by model and function\n{table}");
    assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn models_of_xgboost_score_as_xgboost_does() {
    check_family("xgboost", 75);
}

#[test]
fn models_of_lightgbm_score_as_lightgbm_does() {
    check_family("lightgbm", 55);
}

#[test]
fn onnx_graphs_of_trees_score_as_onnxruntime_does_without_it() {
    check_family("onnx", 120);
}

fn fixture(name: &str) -> Bytes {
    let path = project().join("tests/fixtures/models/trees").join(name);
    Bytes::from(std::fs::read(path).unwrap())
}

fn refusal(path: &str, bytes: impl Into<Bytes>, card: Option<&'static str>) -> String {
    let mut files = ModelFiles {
        location: "models/x".into(),
        ..ModelFiles::default()
    };
    files.files.insert(path.into(), bytes.into());
    if let Some(card) = card {
        files
            .files
            .insert("floe.yaml".into(), Bytes::from_static(card.as_bytes()));
    }
    match model::open(files, &OpenOptions::default()) {
        Ok(model) => panic!("{path} is accepted: {}", model.notes().join("; ")),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_a_model_of_trees_may_not_be_is_said_in_words_with_a_way_out() {
    let json = String::from_utf8(fixture("dart.json").to_vec()).unwrap();
    let text = String::from_utf8(fixture("categories.txt").to_vec()).unwrap();
    let with = |text: &str, from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    };
    for (path, bytes, words) in [
        (
            "m.json",
            with(&json, "\"dart\"", "\"gblinear\""),
            "a linear one of XGBoost's (gblinear)",
        ),
        (
            "m.json",
            with(&json, "multi:softprob", "multi:magic"),
            "the objective \"multi:magic\"",
        ),
        (
            "m.json",
            with(&json, "\"split_indices\":[", "\"split_indices\":[9999,"),
            "split_indices has",
        ),
        (
            "m.json",
            with(&json, "\"left_children\":[1", "\"left_children\":[0"),
            "lead back",
        ),
        (
            "m.json",
            with(&json, "\"left_children\":[1", "\"left_children\":[77"),
            "node 0 of a tree of",
        ),
        (
            "m.json",
            with(
                &json,
                "\"num_class\":\"3\",\"num_feature\":\"4\"",
                "\"num_class\":\"3\",\"num_feature\":\"1\"",
            ),
            "of a tree asks for feature",
        ),
        (
            "m.json",
            with(&json, "\"tree_info\":[0", "\"tree_info\":[7"),
            "trees[0]: tree_info has no class",
        ),
        ("m.json", json[..json.len() / 2].to_string(), "of the JSON file"),
        (
            "m.txt",
            with(&text, "objective=multiclass", "objective=magic"),
            "the objective \"magic\"",
        ),
        (
            "m.txt",
            with(&text, "is_linear=0", "is_linear=1"),
            "linear_tree=false",
        ),
        (
            "m.txt",
            with(
                &text,
                "pandas_categorical:null",
                "pandas_categorical:[[\"red\",\"blue\"]]",
            ),
            "train it on the codes",
        ),
        (
            "m.txt",
            with(&text, "leaf_value=", "leaf_value=1 "),
            "leaf_value has 7 (tree 0, line",
        ),
        ("m.txt", text[..text.len() / 2].to_string(), "end of trees"),
    ] {
        let error = refusal(path, bytes, None);
        assert!(error.contains(words), "{error}\nwithout {words}");
        assert!(error.contains("models/x/m."), "{error}");
    }
    let old = refusal("m.model", &b"binf\0\0\0\x3f"[..], None);
    assert!(old.contains("save_model('model.ubj')"), "{old}");
    for (card, words) in [
        (
            "functions: {f: {inputs: {x: {columns: [a]}}}}",
            "a model of trees has one input, features",
        ),
        (
            "functions: {f: {inputs: {features: {columns: [a]}}}}",
            "names 1 columns, and the model takes 4",
        ),
        (
            "functions: {f: {outputs: [score]}}",
            "its outputs are label, probabilities, prediction, margin",
        ),
        ("functions: {f: {model: other.ubj}}", "there is no file other.ubj"),
    ] {
        let error = refusal("m.ubj", fixture("dart.ubj"), Some(card));
        assert!(error.contains(words), "{error}\nwithout {words}");
    }
}

#[test]
fn a_model_cut_short_anywhere_is_refused_and_never_half_read() {
    for (name, last) in [
        ("dart.ubj", 1),
        ("vectors.ubj", 1),
        ("dart.json", 1),
        ("categories.txt", 0),
    ] {
        let whole = fixture(name);
        // Behind its trees a LightGBM model has nothing that is needed but the categories of pandas.
        let end = match last {
            0 => whole
                .windows(12)
                .position(|window| window == b"end of trees")
                .unwrap(),
            _ => whole.len(),
        };
        for length in 40..end {
            let error = refusal("m", whole.slice(..length), None);
            assert!(error.contains("models/x"), "{name} cut to {length}: {error}");
        }
    }
}

#[test]
fn the_vendors_registry_folder_is_read_as_it_is_and_columns_go_by_the_models_names() {
    let files = ModelFiles {
        location: "models/x".into(),
        files: [
            ("MANIFEST.yml", Bytes::from_static(b"manifest_version: '1.0'")),
            ("functions/predict.py", Bytes::from_static(b"import os")),
            ("model/model.yaml", Bytes::from_static(b"name: m")),
            ("model/models/m/model.ubj", fixture("dart.ubj")),
        ]
        .into_iter()
        .map(|(path, bytes)| (path.to_string(), bytes))
        .collect(),
    };
    let model = model::open(files, &OpenOptions::default()).unwrap();
    let names: Vec<&str> = model
        .functions()
        .iter()
        .map(|function| function.name.as_str())
        .collect();
    assert_eq!(names, ["predict", "predict_proba"]);
    assert_eq!(
        model.default_function().map(|function| function.name.as_str()),
        Some("predict")
    );
    let predict = &model.functions()[0];
    let source = floe::signature::Source::Columns(["a", "b", "c", "d"].map(String::from).to_vec());
    assert_eq!(predict.inputs[0].source, source);
    let outputs: Vec<_> = predict
        .outputs
        .iter()
        .map(|output| output.column.as_str())
        .collect();
    assert_eq!(
        outputs,
        ["output_feature_0", "output_feature_1", "output_feature_2"]
    );
    let shown = floe::model::inspect::to_text(model.as_ref());
    assert!(shown.starts_with("trees (XGBoost 3.2.0, UBJSON)\n"), "{shown}");
    assert!(
        shown.contains("model/models/m/model.ubj: multi:softprob, 6 trees, "),
        "{shown}"
    );
    assert!(shown.contains(" leaves, depth 3, 4 features"), "{shown}");
}

#[test]
fn damaged_models_of_trees_are_read_or_refused_within_bounds() {
    let (mut read, mut refused) = (0, 0);
    for name in ["dart.ubj", "vectors.ubj", "dart.json", "categories.txt"] {
        let whole = fixture(name);
        let mut dice = Dice::new(whole.len() as u64);
        for _ in 0..1500 {
            let mut bytes = whole.to_vec();
            for _ in 0..1 + dice.below(3) {
                let at = dice.below(bytes.len());
                bytes[at] = match dice.below(4) {
                    0 => bytes[at] ^ 1 << dice.below(8),
                    1 => b"0123456789-[]{},\"#$LlUidDSTFZN"[dice.below(30)],
                    2 => [0, 1, 0x7f, 0x80, 0xff][dice.below(5)],
                    _ => bytes[dice.below(bytes.len())],
                };
            }
            match floe::model::trees::backend::read(&Bytes::from(bytes), name) {
                Ok(ensemble) => {
                    let forest = &ensemble.forest;
                    let kept: usize = forest.trees.iter().map(|tree| tree.nodes.len()).sum();
                    assert!(kept < whole.len(), "{name}: {kept} nodes");
                    read += 1;
                }
                Err(error) => {
                    assert_eq!(error.kind(), floe::error::ErrorKind::Model, "{error}");
                    refused += 1;
                }
            }
        }
    }
    println!("{read} read, {refused} refused");
    assert!(read > 500 && refused > 500, "{read} read, {refused} refused");
}

/// A fixture of the ONNX conformance cases.
fn scored(name: &str) -> ModelFiles {
    files(&project().join("tests/fixtures/models/scored").join(name))
}

#[test]
fn engines_are_listed_best_first_chosen_by_the_backend_and_give_the_same() {
    let model = open(scored("lightgbm_classifier"));
    let function = &model.functions()[0];
    assert_eq!(model.engines(function), [Engine::Trees, Engine::OnnxRuntime]);
    assert!(
        model.notes().join("\n").contains("on 512 trial rows it agrees"),
        "{:?}",
        model.notes()
    );
    let rows: Vec<f32> = (0..400).map(|at| at as f32 / 50.0).collect();
    let batch = TensorBatch {
        rows: 100,
        inputs: vec![Tensor::new(vec![100, 4], rows).unwrap()],
    };
    let results = [Engine::Trees, Engine::OnnxRuntime].map(|engine| {
        let mut worker = model.worker_on(function, 1, engine).unwrap();
        worker.infer(&batch).unwrap()
    });
    floe::model::engine::agree(&results[0], &results[1], 1e-6).unwrap();
    assert_eq!(
        model.worker(function, 1).unwrap().infer(&batch).unwrap(),
        results[0]
    );
    let error = model.worker_on(function, 1, Engine::Echo).err().unwrap();
    assert!(error.to_string().contains("is not for echo"), "{error}");

    let by_onnxruntime = open_as(scored("lightgbm_classifier"), Some(Backend::Onnx)).unwrap();
    assert_eq!(by_onnxruntime.engines(function), [Engine::OnnxRuntime]);
    let by_trees = open_as(scored("lightgbm_classifier"), Some(Backend::Trees)).unwrap();
    assert_eq!(by_trees.engines(function), [Engine::Trees]);
    let error = open_as(scored("card_two_functions"), Some(Backend::Trees))
        .err()
        .unwrap();
    let text = error.to_string();
    assert!(
        text.contains("model.backend: trees can't run this model: "),
        "{text}"
    );
    assert!(text.contains("set it to onnx"), "{text}");
}
