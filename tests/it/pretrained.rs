//! Pretrained models against the Python libraries: every folder of `tests/fixtures/pretrained`, every function and set of
//! params in its `expected.json`, over the backend that the folder is for.
//!
//! Numbers may differ by 1e-4, texts and labels not at all; a row alone, rows in the opposite order and rows in one batch
//! give the same. What Floe has no code for yet is in the table that the test prints, with the reason, and in [`NOT_YET`].

use arrow::array::{
    ArrayRef, BinaryArray, Float64Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
};
use floe::config::{Backend, OnOutOfRange};
use floe::decode::Decoder;
use floe::model::{self, Loaded, Model, ModelFiles, OpenOptions, files};
use floe::origin::Origin;
use floe::signature::{Function, OnNull, OutputFeature, OutputKind, Source, bind};
use floe::storage::Storage;
use floe::tensor::{Items, Tensor, TensorBatch, TensorData, Value};
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::support::{Scenario, finish, floe, project, read_parquet, write_parquet};

/// Largest difference from the Python library.
const TOLERANCE: f64 = 1e-4;
/// Largest difference between a row alone and the same row among others.
const ALONE: f64 = 1e-5;

/// What is not as it should be yet: folders, and the words of the refusal or of the difference. What is right must not be
/// here.
const NOT_YET: &[(&str, &str)] = &[];

fn fixtures() -> PathBuf {
    project().join("tests/fixtures/pretrained")
}

/// One line of the table.
struct Line {
    name: String,
    architecture: String,
    task: String,
    backend: String,
    outcome: Outcome,
}

/// What became of a folder's cases.
#[derive(Default)]
struct Outcome {
    largest: f64,
    largest_of_jpeg: f64,
    wrong: Vec<String>,
}

fn read(folder: &Path, backend: Option<Backend>) -> floe::error::Result<ModelFiles> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(files::read(&Storage::local(), folder.to_str().unwrap(), backend))
}

fn open(folder: &Path, backend: Option<Backend>) -> floe::error::Result<Arc<dyn Loaded>> {
    use floe::model::onnx::runtime;
    let cache = runtime::cache_dir(|name| std::env::var_os(name));
    let given = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    let options = OpenOptions {
        backend,
        onnxruntime_paths: runtime::default_candidates(None, cache.as_deref(), given.as_deref()),
        ..OpenOptions::default()
    };
    model::open(read(folder, backend)?, &options)
}

/// A case's inputs as columns: texts, numbers, lists of texts, or the bytes of the images that are named.
fn columns(inputs: &Map<String, Json>) -> RecordBatch {
    let column = |name: &str, values: &Vec<Json>| -> ArrayRef {
        if values[0].is_array() {
            let mut lists = ListBuilder::new(StringBuilder::new());
            for list in values {
                for text in list.as_array().unwrap() {
                    lists.values().append_value(text.as_str().unwrap());
                }
                lists.append(true);
            }
            return Arc::new(lists.finish());
        }
        if values[0].is_number() {
            return Arc::new(Float64Array::from_iter_values(
                values.iter().map(|value| value.as_f64().unwrap()),
            ));
        }
        let texts = values.iter().map(|value| value.as_str().unwrap());
        match name {
            "images" => {
                Arc::new(BinaryArray::from_iter_values(texts.map(|name| {
                    std::fs::read(fixtures().join("images").join(name)).unwrap()
                })))
            }
            _ => Arc::new(StringArray::from_iter_values(texts)),
        }
    };
    let columns = inputs
        .iter()
        .map(|(name, values)| (name, column(name, values.as_array().unwrap())));
    RecordBatch::try_from_iter(columns).unwrap()
}

/// Rows as a function takes them.
fn tensors(
    function: &Function,
    batch: &RecordBatch,
    params: &BTreeMap<String, Json>,
) -> floe::error::Result<TensorBatch> {
    let schema = batch.schema();
    let binding = bind(function, &schema, params)?;
    let decoder = Decoder::new(&binding, &schema, OnNull::Fail, OnOutOfRange::default())?;
    let origin = Origin::of(&Arc::from("case"), 0, 0, batch.num_rows());
    decoder.decode(batch, &origin)
}

/// What a function gives for rows, as one JSON object of columns per row.
fn rows(
    model: &mut dyn Model,
    function: &Function,
    batch: &RecordBatch,
    params: &BTreeMap<String, Json>,
) -> Result<Vec<Json>, String> {
    let values = tensors(function, batch, params).and_then(|batch| model.infer(&batch));
    let values = values.map_err(|error| error.to_string())?;
    Ok(cells(function, &values, batch.num_rows()))
}

/// The same by way of the batches that a model arranges itself; `None`, if it takes rows in their order.
fn arranged_rows(
    model: &mut dyn Model,
    function: &Function,
    batch: &RecordBatch,
    params: &BTreeMap<String, Json>,
) -> Result<Option<Vec<Json>>, String> {
    let Some(model) = model.arranging() else {
        return Ok(None);
    };
    let arranged = tensors(function, batch, params).and_then(|batch| model.arrange(batch));
    let arranged = arranged.map_err(|error| error.to_string())?;
    assert!(arranged.failed.is_empty());
    let mut found = vec![None; batch.num_rows()];
    // Nothing depends on who comes first.
    for (index, places) in arranged.batches.iter().enumerate().rev() {
        let values = model.infer_arranged(&arranged, index);
        let values = values.map_err(|error| error.to_string())?;
        for (&place, row) in std::iter::zip(places, cells(function, &values, places.len())) {
            assert!(
                found[place].replace(row).is_none(),
                "row {place} is in two batches"
            );
        }
    }
    Ok(Some(
        found
            .into_iter()
            .collect::<Option<_>>()
            .expect("every row is in a batch"),
    ))
}

fn cells(function: &Function, values: &[Value], count: usize) -> Vec<Json> {
    assert!(values.iter().all(|value| value.rows() == count));
    let one = |row: usize| {
        let pairs = std::iter::zip(&function.outputs, values);
        Json::Object(
            pairs
                .map(|(output, value)| (output.column.clone(), cell(output, value, row)))
                .collect(),
        )
    };
    (0..count).map(one).collect()
}

fn cell(output: &OutputFeature, value: &Value, row: usize) -> Json {
    match (value, output.kind) {
        (Value::Tensor(tensor), _) => element(tensor, row),
        (Value::Lists(lists), kind) => {
            let items = lists.offsets[row]..lists.offsets[row + 1];
            match (&lists.items, kind) {
                (Items::Tensor(tensor), _) => items.map(|item| element(tensor, item)).collect(),
                (Items::Records(columns), OutputKind::Records { fields }) => {
                    let record = |item: usize| -> Json {
                        let pairs = std::iter::zip(fields, columns);
                        let pairs = pairs.map(|((name, _), column)| (name.to_string(), scalar(column, item)));
                        Json::Object(pairs.collect())
                    };
                    items.map(record).collect()
                }
                (Items::Records(_), kind) => panic!("records came for {kind:?}"),
            }
        }
        (Value::Maps(_), _) => panic!("no pretrained model gives maps"),
    }
}

/// Row `row` of a tensor as nested lists.
fn element(tensor: &Tensor, row: usize) -> Json {
    fn nested(data: &TensorData, shape: &[usize], first: usize) -> Json {
        match shape.split_first() {
            None => scalar(data, first),
            Some((extent, inner)) => {
                let width: usize = inner.iter().product();
                (0..*extent)
                    .map(|index| nested(data, inner, first + index * width))
                    .collect()
            }
        }
    }
    nested(&tensor.data, &tensor.shape[1..], row * tensor.row_len())
}

fn scalar(data: &TensorData, index: usize) -> Json {
    match data {
        TensorData::F64(values) => json!(values[index]),
        TensorData::F32(values) => json!(values[index]),
        TensorData::I64(values) => json!(values[index]),
        TensorData::I32(values) => json!(values[index]),
        TensorData::String(values) => json!(values[index]),
        other => panic!("a column of {}", other.dtype().as_str()),
    }
}

/// The largest difference of numbers; anything else that differs is an error. `theirs` may leave out keys.
fn difference(ours: &Json, theirs: &Json, at: &str) -> Result<f64, String> {
    let differ = |ours: &dyn std::fmt::Display, theirs: &dyn std::fmt::Display| {
        Err(format!("{at}: {ours} here, {theirs} in Python"))
    };
    match (ours, theirs) {
        (Json::Number(ours), Json::Number(theirs)) => {
            let (ours, theirs) = (ours.as_f64().unwrap(), theirs.as_f64().unwrap());
            Ok((ours - theirs).abs())
        }
        (Json::Array(ours), Json::Array(theirs)) => {
            if ours.len() != theirs.len() {
                return differ(
                    &format!("{} items", ours.len()),
                    &format!("{} items", theirs.len()),
                );
            }
            let mut largest = 0f64;
            for (index, (ours, theirs)) in std::iter::zip(ours, theirs).enumerate() {
                largest = largest.max(difference(ours, theirs, &format!("{at}[{index}]"))?);
            }
            Ok(largest)
        }
        (Json::Object(ours), Json::Object(theirs)) => {
            let mut largest = 0f64;
            for (key, theirs) in theirs {
                // With aggregation Python calls the label of a group by another name.
                let ours = ours.get(key).or_else(|| ours.get(key.strip_suffix("_group")?));
                let Some(ours) = ours else {
                    return differ(&format!("no {key}"), theirs);
                };
                largest = largest.max(difference(ours, theirs, &format!("{at}.{key}"))?);
            }
            Ok(largest)
        }
        (ours, theirs) if ours == theirs => Ok(0.0),
        (ours, theirs) => differ(ours, theirs),
    }
}

/// The function `wanted`. Where Python gives other columns with a param, that param is a function here (`top_k`, `pool`),
/// and over the registry's signatures it is the one that gives their columns.
fn function_for<'a>(
    functions: &'a [Function],
    wanted: &str,
    params: &mut BTreeMap<String, Json>,
) -> Option<&'a Function> {
    let of_param = functions
        .iter()
        .find(|function| params.contains_key(&function.name));
    if let Some(function) = of_param {
        let takes = function.inputs.iter().any(|input| input.name == function.name);
        if !takes {
            params.remove(&function.name);
        }
        return Some(function);
    }
    functions
        .iter()
        .find(|function| function.name.eq_ignore_ascii_case(wanted))
}

/// All cases of a folder.
fn compare(model: &dyn Loaded, cases: &[Json]) -> Outcome {
    let mut outcome = Outcome::default();
    for (number, case) in cases.iter().enumerate() {
        if let Err(error) = compare_case(model, case, &mut outcome) {
            outcome.wrong.push(format!(
                "case {number} ({} {}) {error}",
                case["function"], case["params"]
            ));
        }
    }
    outcome
}

fn compare_case(model: &dyn Loaded, case: &Json, outcome: &mut Outcome) -> Result<(), String> {
    let wanted = case["function"].as_str().unwrap();
    let mut params: BTreeMap<String, Json> = serde_json::from_value(case["params"].clone()).unwrap();
    let function = function_for(model.functions(), wanted, &mut params)
        .ok_or_else(|| format!("there is no function {wanted}"))?;
    // `None` is what Python calls a parameter that is not given.
    params.retain(|_, value| !value.is_null());
    let mut worker = model.worker(function, 1).map_err(|error| error.to_string())?;
    let inputs = case["inputs"].as_object().unwrap();
    let batch = columns(inputs);
    let expected = case["outputs"].as_array().unwrap();
    let count = batch.num_rows();
    let mut alone = Vec::with_capacity(count);
    for row in 0..count {
        alone.extend(rows(worker.as_mut(), function, &batch.slice(row, 1), &params)?);
    }
    for (row, (ours, theirs)) in std::iter::zip(&alone, expected).enumerate() {
        let image = inputs.get("images").and_then(|names| names[row].as_str());
        // The table shows JPEG apart, whose pixels used to differ.
        let largest = match image.is_some_and(|name| name.ends_with(".jpg")) {
            true => &mut outcome.largest_of_jpeg,
            false => &mut outcome.largest,
        };
        *largest = largest.max(within(ours, theirs, TOLERANCE, &format!("alone, row {row}"))?);
    }
    // Lists of different lengths make no batch.
    if inputs.values().any(|values| values[0].is_array()) {
        return Ok(());
    }
    let together = rows(worker.as_mut(), function, &batch, &params)?;
    let backwards = arrow::array::UInt64Array::from_iter_values((0..count as u64).rev());
    let backwards = arrow::compute::take_record_batch(&batch, &backwards).unwrap();
    let mut turned = rows(worker.as_mut(), function, &backwards, &params)?;
    turned.reverse();
    assert_eq!((together.len(), turned.len()), (count, count));
    let arranged = arranged_rows(worker.as_mut(), function, &batch, &params)?;
    let mut texts = inputs
        .iter()
        .filter(|(name, values)| *name != "images" && values[0].is_string());
    assert_eq!(
        arranged.is_some(),
        texts.next().is_some(),
        "texts are arranged, others are not"
    );
    for (row, (arranged, alone)) in std::iter::zip(arranged.iter().flatten(), &alone).enumerate() {
        within(arranged, alone, ALONE, &format!("in arranged batches, row {row}"))?;
    }
    for (row, alone) in alone.iter().enumerate() {
        within(&together[row], alone, ALONE, &format!("in one batch, row {row}"))?;
        within(&turned[row], alone, ALONE, &format!("backwards, row {row}"))?;
    }
    Ok(())
}

/// The largest difference, if it is none too large.
fn within(ours: &Json, theirs: &Json, limit: f64, at: &str) -> Result<f64, String> {
    let difference = difference(ours, theirs, at)?;
    match difference <= limit {
        true => Ok(difference),
        false => Err(format!(
            "{at}: the difference is {difference}: {ours} here, {theirs} there"
        )),
    }
}

/// A row that its task can do nothing with fails, and no other row with it, whichever way rows come.
#[test]
fn a_text_without_a_mask_fails_alone() {
    let folder = fixtures().join("bert-fill-mask");
    let model = open(&folder.join("model"), None).unwrap();
    let function = &model.functions()[0];
    let mut worker = model.worker(function, 1).unwrap();
    let texts = [
        "[MASK] is here .",
        "nothing is here",
        "[MASK] a longer text begins like this .",
    ];
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
    let batch = RecordBatch::try_from_iter([("inputs", texts)]).unwrap();
    let tensors = tensors(function, &batch, &BTreeMap::new()).unwrap();
    let outcome = worker.infer_rows(&tensors).unwrap();
    assert_eq!(outcome.values[0].rows(), 2);
    let arranging = worker.arranging().unwrap();
    let arranged = arranging.arrange(tensors).unwrap();
    // Longest first.
    assert_eq!(arranged.batches, [[2, 0]]);
    let values = arranging.infer_arranged(&arranged, 0).unwrap();
    let (there, here) = (cells(function, &values, 2), cells(function, &outcome.values, 2));
    for (there, here) in std::iter::zip(there, here.into_iter().rev()) {
        within(&there, &here, ALONE, "arranged").unwrap();
    }
    for failed in [outcome.failed, arranged.failed] {
        let rows: Vec<usize> = failed.iter().map(|failed| failed.row).collect();
        assert_eq!(rows, [1]);
        let why = failed[0].error.to_string();
        assert_eq!(why, "a text has no [MASK], and so nothing to fill");
    }
}

#[test]
fn every_pretrained_model_gives_what_the_python_library_gives() {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let folder = entry.unwrap().path();
        let Ok(text) = std::fs::read(folder.join("expected.json")) else {
            continue;
        };
        let expected: Json = serde_json::from_slice(&text).unwrap();
        let name = folder.file_name().unwrap().to_str().unwrap().to_string();
        let text = |key: &str| expected[key].as_str().unwrap().to_string();
        let mut line = Line {
            architecture: text("architecture"),
            task: text("task"),
            backend: "-".into(),
            outcome: Outcome::default(),
            name,
        };
        line.outcome = match open(&folder.join("model"), None) {
            Ok(model) => {
                line.backend = model.describe();
                compare(model.as_ref(), expected["cases"].as_array().unwrap())
            }
            Err(error) => Outcome {
                wrong: vec![format!("can't be opened: {error}")],
                ..Outcome::default()
            },
        };
        lines.push(line);
    }
    lines.sort_by(|a, b| (&a.task, &a.name).cmp(&(&b.task, &b.name)));
    let (mut wrong, mut met) = (Vec::new(), 0);
    println!(
        "| folder | architecture | task | backend | largest difference | of JPEG |\n|---|---|---|---|---|---|"
    );
    for line in &lines {
        let outcome = &line.outcome;
        println!(
            "| {} | {} | {} | {} | {:.1e} | {:.1e} |",
            line.name, line.architecture, line.task, line.backend, outcome.largest, outcome.largest_of_jpeg
        );
        for error in &outcome.wrong {
            let short: String = error.chars().take(300).collect();
            let is_known = |(name, words): &&(&str, &str)| *name == line.name && error.contains(words);
            match NOT_YET.iter().find(is_known) {
                Some(_) => {
                    met += 1;
                    println!("| {} | | | skipped: {short} | | |", line.name);
                }
                None => wrong.push(format!("{}: {short}", line.name)),
            }
        }
    }
    assert_eq!(
        met,
        NOT_YET.len(),
        "what is right by now must not stand in NOT_YET"
    );
    assert!(lines.len() > 65, "{} folders", lines.len());
    assert!(
        wrong.is_empty(),
        "{} of {} folders:\n{}",
        wrong.len(),
        lines.len(),
        wrong.join("\n")
    );
}

/// What a folder says to params that it can't go by.
fn refusal(folder: &str, function: &str, inputs: Json, params: Json) -> String {
    let model = open(&fixtures().join(folder).join("model"), None).unwrap();
    let function = model.functions().iter().find(|own| own.name == function).unwrap();
    let mut worker = model.worker(function, 1).unwrap();
    let params = serde_json::from_value(params).unwrap();
    let batch = columns(inputs.as_object().unwrap());
    rows(worker.as_mut(), function, &batch, &params).unwrap_err()
}

#[test]
fn params_that_make_no_sense_together_are_refused_by_their_names() {
    let asked = json!({"question": ["Who was late?"], "context": ["The train from Paris was late."]});
    let error = refusal(
        "bert-question-answering",
        "__call__",
        asked.clone(),
        json!({"top_k": 2}),
    );
    assert!(
        error.contains("input.params.top_k") && error.contains("__call__"),
        "{error}"
    );
    let error = refusal("bert-question-answering", "top_k", asked, json!({"top_k": 0}));
    assert!(error.contains("input.params.top_k"), "{error}");
    for folder in ["bert-text-classification", "registry-text-classification"] {
        for top_k in [0, 2] {
            let texts = json!({"text": ["The train was late."]});
            let error = refusal(folder, "__call__", texts, json!({"top_k": top_k}));
            assert!(error.contains("input.params.top_k"), "{folder}: {error}");
        }
    }
    let masked = json!({"inputs": ["nobody [MASK] it"]});
    let error = refusal("bert-fill-mask", "__call__", masked, json!({"targets": [""]}));
    assert!(error.contains("input.params.targets"), "{error}");
}

/// A text's best label is `__call__` with `top_k: 1`, which the packager writes into model.yaml, and a list of labels if it was logged
/// with more: then the signature's default holds until a job asks for another number.
#[test]
fn top_k_of_text_classification_is_that_of_the_job_else_of_model_yaml() {
    let labels = |folder: &str, params: Json| {
        let model = open(&fixtures().join(folder).join("model"), None).unwrap();
        let function = &model.functions()[0];
        assert_eq!(function.name, "__call__", "{folder}");
        let default = function
            .inputs
            .iter()
            .find(|input| input.name == "top_k")
            .unwrap();
        assert_eq!(default.source, Source::Optional(json!(1)), "{folder}");
        let batch = columns(json!({"text": ["The train was late."]}).as_object().unwrap());
        let params = serde_json::from_value(params).unwrap();
        let mut worker = model.worker(function, 1).unwrap();
        rows(worker.as_mut(), function, &batch, &params)
            .unwrap()
            .remove(0)
    };
    for folder in ["bert-text-classification", "registry-text-classification"] {
        let best = labels(folder, json!({}));
        assert!(best["label"].is_string() && best["score"].is_number(), "{best}");
        assert_eq!(best, labels(folder, json!({"top_k": 1})));
    }
    let count = |params| {
        labels("registry-top-k", params)["labels"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!([count(json!({})), count(json!({"top_k": 2}))], [1, 2]);
}

/// A fixture's folder whose `config.json` says something else.
fn altered(folder: &str, changes: Json) -> String {
    let scenario = Scenario::new();
    let target = scenario.path().join("altered");
    std::fs::create_dir(&target).unwrap();
    for entry in std::fs::read_dir(fixtures().join(folder).join("model")).unwrap() {
        let file = entry.unwrap().path();
        if file.is_file() {
            std::fs::copy(&file, target.join(file.file_name().unwrap())).unwrap();
        }
    }
    let path = target.join("config.json");
    let mut config: Map<String, Json> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config.extend(changes.as_object().unwrap().clone());
    std::fs::write(&path, serde_json::to_vec(&config).unwrap()).unwrap();
    match open(&target, None) {
        Ok(_) => panic!("{folder} was opened with {changes}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn settings_that_change_what_a_network_computes_and_have_no_code_are_refused_by_their_names() {
    for (folder, changes, word) in [
        (
            "jina-feature-extraction",
            json!({"feed_forward_type": "original"}),
            "feed_forward_type",
        ),
        (
            "bert-feature-extraction",
            json!({"position_embedding_type": "relative_key"}),
            "position_embedding_type",
        ),
        (
            "nomic-feature-extraction",
            json!({"hidden_act": "gelu"}),
            "hidden_act",
        ),
        (
            "nomic-feature-extraction",
            json!({"rope_parameters": {"rope_type": "yarn"}}),
            "rope_type",
        ),
        (
            "nomic-feature-extraction",
            json!({"num_experts": 8}),
            "num_experts",
        ),
        ("nomic-feature-extraction", json!({"prenorm": true}), "prenorm"),
        (
            "nomic-feature-extraction",
            json!({"architectures": ["NomicBertForMaskedLM"]}),
            "NomicBertForMaskedLM",
        ),
        (
            "swin",
            json!({"use_absolute_embeddings": true}),
            "use_absolute_embeddings",
        ),
        ("swin", json!({"num_heads": [2, 3]}), "3 heads"),
        ("swin", json!({"window_size": 16}), "relative_position_bias_table"),
        ("efficientnet", json!({"strides": [1, 2]}), "different lengths"),
        ("efficientnet", json!({"pooling_type": "sum"}), "pooling_type"),
        ("mobilenet-v2", json!({"output_stride": 16}), "output_stride"),
        ("mobilenet-v2", json!({"hidden_act": "hardswish"}), "hidden_act"),
    ] {
        let error = altered(folder, changes.clone());
        assert!(error.contains(word), "{folder} {changes}: {error}");
    }
}

/// The vectors in the column `output` of a finished run.
fn vectors_of(scenario: &Scenario) -> Vec<Vec<f64>> {
    use arrow::array::AsArray;
    use arrow::datatypes::{DataType, Float64Type};
    let mut vectors = Vec::new();
    for file in scenario.files().iter().filter(|file| file.ends_with(".parquet")) {
        for batch in read_parquet(&scenario.output().join(file)) {
            let column = batch
                .column_by_name("output")
                .expect("the column of the signature");
            let lists = arrow::compute::cast(column, &DataType::new_list(DataType::Float64, true)).unwrap();
            for list in lists.as_list::<i32>().iter() {
                let list = list.unwrap();
                vectors.push(list.as_primitive::<Float64Type>().values().to_vec());
            }
        }
    }
    vectors
}

#[test]
fn a_registry_version_runs_through_the_whole_program_by_its_sql_name_from_any_column() {
    let folder = fixtures().join("registry-sentence-transformer");
    let expected: Json =
        serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
    let case = &expected["cases"][3];
    let named = case["inputs"].as_object().unwrap();
    let (name, values) = named.iter().next().unwrap();
    let theirs = case["outputs"].as_array().unwrap().iter();
    let theirs: Vec<Json> = theirs.map(|row| row["output"].clone()).collect();
    for column in [name.as_str(), "REVIEW_TEXT"] {
        let scenario = Scenario::new();
        let batch = columns(&Map::from_iter([(column.to_string(), values.clone())]));
        write_parquet(&scenario.input().join("a.parquet"), &batch, 4);
        let mut input = json!({"stage_location": scenario.input(), "params": case["params"]});
        if column != name {
            input["columns"] = json!({ name: column });
        }
        let job = json!({
            "model": {"location": folder.join("model"), "function_name": case["function"]},
            "input": input,
            "output": {"stage_location": scenario.output()},
        });
        let path = scenario.path().join("job.json");
        std::fs::write(&path, job.to_string()).unwrap();
        finish(floe(["run".as_ref(), path.as_os_str()])).ok();
        let difference = difference(&json!(vectors_of(&scenario)), &json!(theirs), "output").unwrap();
        assert!(difference <= TOLERANCE, "{column}: {difference}");
    }
}

#[test]
fn inspecting_a_folder_says_what_was_found_and_why_it_cant_be_run() {
    let inspect = |folder: &Path| finish(floe(["inspect".as_ref(), folder.as_os_str()]));
    let shown = inspect(&fixtures().join("registry-sentence-transformer/model")).ok();
    for words in [
        "kind: model registry",
        "architecture: BertModel (bert)",
        "task: sentence-embedding",
        "tokenizer: model/models/ST_BERT/model/tokenizer.json",
        "method: encode_query (ENCODE_QUERY in SQL)",
        "function encode",
        "batch_size int64",
    ] {
        assert!(shown.stdout.contains(words), "{words}: {}", shown.stdout);
    }
    let scenario = Scenario::new();
    let folder = scenario.path().join("pickled");
    std::fs::create_dir(&folder).unwrap();
    for name in ["config.json", "tokenizer.json"] {
        std::fs::copy(
            fixtures().join("bert-feature-extraction/model").join(name),
            folder.join(name),
        )
        .unwrap();
    }
    std::fs::write(folder.join("pytorch_model.bin"), b"\x80\x02}q\0.").unwrap();
    inspect(&folder).fails(
        floe::error::ErrorKind::Model.exit_code().into(),
        &["pytorch_model.bin alone", "save_pretrained"],
    );
}
