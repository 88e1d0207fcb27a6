//! Every architecture and task against the answers of the Python libraries (`tests/fixtures/pretrained`).

use bytes::Bytes;
use serde_json::Value as Json;
use std::path::{Path, PathBuf};

use super::*;

/// Numbers may differ by this much from Python's.
const TOLERANCE: f64 = 1e-4;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pretrained")
}

fn read_folder(root: &Path, folder: &Path, files: &mut ModelFiles) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_folder(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_string();
            files.files.insert(name, Bytes::from(std::fs::read(&path).unwrap()));
        }
    }
}

fn task(name: &str) -> Option<Task> {
    Some(match name {
        "sentence-embedding" => Task::SentenceEmbedding,
        "feature-extraction" => Task::FeatureExtraction,
        "text-classification" => Task::TextClassification,
        "token-classification" => Task::TokenClassification,
        "fill-mask" => Task::FillMask,
        "question-answering" => Task::QuestionAnswering,
        "zero-shot-classification" => Task::ZeroShotClassification,
        _ => return None,
    })
}

fn options() -> OpenOptions {
    use crate::model::onnx::runtime;
    let cache = runtime::cache_dir(|name| std::env::var_os(name));
    let given = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    OpenOptions {
        onnxruntime_paths: runtime::default_candidates(None, cache.as_deref(), given.as_deref()),
        ..OpenOptions::default()
    }
}

/// The rows `rows` of a case as a batch of `function`.
fn batch(function: &Function, case: &Json, rows: &[usize]) -> TensorBatch {
    let input = |input: &InputFeature| {
        if let Source::Optional(otherwise) = &input.source {
            let given = case["params"].get(&input.name).filter(|value| !value.is_null());
            return params::of_default(input, given.unwrap_or(otherwise)).unwrap();
        }
        let column = case["inputs"][&input.name].as_array().unwrap();
        let mut shape = vec![rows.len()];
        let mut texts = Vec::new();
        for &row in rows {
            match &column[row] {
                Json::String(text) => texts.push(text.clone()),
                Json::Array(items) => texts.extend(items.iter().map(|item| item.as_str().unwrap().to_string())),
                other => panic!("{other}"),
            }
        }
        if !input.shape.is_empty() {
            shape.push(texts.len() / rows.len());
        }
        Tensor::new(shape, texts).unwrap()
    };
    TensorBatch {
        rows: rows.len(),
        inputs: function.inputs.iter().map(input).collect(),
    }
}

fn scalar(data: &TensorData, at: usize) -> Json {
    match data {
        TensorData::F64(values) => values[at].into(),
        TensorData::I64(values) => values[at].into(),
        TensorData::String(values) => values[at].clone().into(),
        other => panic!("{other:?}"),
    }
}

fn row_of_tensor(tensor: &Tensor, row: usize) -> Json {
    match tensor.shape.len() {
        1 => scalar(&tensor.data, row),
        _ => {
            let width = tensor.row_len();
            (row * width..(row + 1) * width).map(|at| scalar(&tensor.data, at)).collect()
        }
    }
}

/// Row `row` of each output by the name of its column.
fn answer(function: &Function, values: &[Value], row: usize) -> Json {
    let one = |(output, value): (&OutputFeature, &Value)| {
        let value = match value {
            Value::Tensor(tensor) => row_of_tensor(tensor, row),
            Value::Lists(Lists { offsets, items }) => (offsets[row]..offsets[row + 1])
                .map(|item| match (items, output.kind) {
                    (Items::Tensor(tensor), _) => row_of_tensor(tensor, item),
                    (Items::Records(columns), OutputKind::Records { fields }) => {
                        let each = std::iter::zip(fields, columns);
                        each.map(|((name, _), column)| (name.to_string(), scalar(column, item))).collect()
                    }
                    other => panic!("{other:?}"),
                })
                .collect(),
            Value::Maps(_) => panic!("maps"),
        };
        (output.column.clone(), value)
    };
    Json::Object(std::iter::zip(&function.outputs, values).map(one).collect())
}

/// The greatest difference of two numbers; an error for anything that is not equal but for numbers. What Python does not
/// say is not compared.
fn difference(ours: &Json, theirs: &Json, at: &str) -> std::result::Result<f64, String> {
    match (ours, theirs) {
        (Json::Number(ours), Json::Number(theirs)) => {
            let (a, b) = (ours.as_f64().unwrap(), theirs.as_f64().unwrap());
            let is_count = ours.is_i64() && theirs.is_i64() && a != b;
            if is_count { Err(format!("{at}: {ours} and {theirs}")) } else { Ok((a - b).abs()) }
        }
        (Json::Array(ours), Json::Array(theirs)) if ours.len() == theirs.len() => {
            let each = std::iter::zip(ours, theirs).enumerate();
            each.map(|(index, (ours, theirs))| difference(ours, theirs, &format!("{at}[{index}]")))
                .try_fold(0f64, |most, next| Ok(most.max(next?)))
        }
        (Json::Object(ours), Json::Object(theirs)) => {
            let each = theirs.iter().map(|(name, theirs)| {
                // One field holds what the library has two names for.
                let name = if name == "entity_group" { "entity" } else { name };
                let found = ours.get(name).ok_or_else(|| format!("{at}.{name} is missing"))?;
                difference(found, theirs, &format!("{at}.{name}"))
            });
            each.into_iter().try_fold(0f64, |most, next| Ok(most.max(next?)))
        }
        (ours, theirs) if ours == theirs => Ok(0.0),
        (ours, theirs) => Err(format!("{at}: {ours} and {theirs}")),
    }
}

/// All cases of a fixture, row by row: the greatest difference, or what differs.
fn compare(name: &str) -> std::result::Result<Option<(String, f64)>, String> {
    let folder = fixtures().join(name);
    let expected: Json = serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
    let kind = expected["task"].as_str().unwrap();
    let Some(task) = task(kind) else { return Ok(None) };
    if name.starts_with("registry") {
        return Ok(None);
    }
    let mut files = ModelFiles {
        location: name.into(),
        ..ModelFiles::default()
    };
    read_folder(&folder.join("model"), &folder.join("model"), &mut files);
    let found = crate::model::pretrained::find(&files, None).map_err(|error| error.to_string())?;
    let pretrained = found.ok_or("no pretrained model was found")?;
    assert_eq!(pretrained.task, task, "{name}");
    let model = open(&files, &pretrained, &options()).map_err(|error| error.to_string())?;
    let mut most = 0f64;
    for case in expected["cases"].as_array().unwrap() {
        let params = &case["params"];
        let function = match params.get("top_k") {
            Some(_) if task == Task::TextClassification => "top_k",
            _ => case["function"].as_str().unwrap(),
        };
        let function = model.functions().iter().find(|known| known.name == function).unwrap();
        let mut worker = model.worker(function, 1).unwrap();
        let answers = case["outputs"].as_array().unwrap();
        let mut check = |rows: &[usize], what: &str| -> std::result::Result<(), String> {
            let values = worker.infer(&batch(function, case, rows)).map_err(|error| format!("{error}"))?;
            for (place, &row) in rows.iter().enumerate() {
                let at = format!("{name} {params} row {row} {what}");
                let ours = answer(function, &values, place);
                let found = difference(&ours, &answers[row], &at)?;
                if found > TOLERANCE {
                    return Err(format!("{at}: differs by {found}: {ours} and {}", answers[row]));
                }
                most = most.max(found);
            }
            Ok(())
        };
        let all: Vec<usize> = (0..answers.len()).collect();
        for &row in &all {
            check(&[row], "alone")?;
        }
        if task != Task::ZeroShotClassification {
            check(&all, "among all")?;
            let turned: Vec<usize> = all.iter().rev().copied().collect();
            check(&turned, "in another order")?;
        }
    }
    Ok(Some((format!("{} {kind}", pretrained.model_type), most)))
}

#[test]
fn every_architecture_and_task_gives_the_answers_of_the_python_libraries() {
    let mut names: Vec<String> = std::fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("expected.json").exists())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    let (mut compared, mut faults) = (0, Vec::new());
    for name in names {
        match compare(&name) {
            Ok(None) => {}
            Ok(Some((what, most))) => {
                compared += 1;
                println!("{name}: {what}, greatest difference {most:.1e}");
            }
            Err(fault) => faults.push(fault),
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(compared >= 30, "only {compared} fixtures were compared");
}
