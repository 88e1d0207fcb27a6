//! A folder as `save_pretrained` writes it: `config.json`, weights, the files of a tokenizer or an image processor.
//!
//! The task follows from the class that was saved (`BertForSequenceClassification`), unless somebody said it, as the
//! model registry does. Names of files and keys are those of transformers 4 and 5.

use serde_json::{Map, Value};

use super::documents::{self, json_object, text};
use super::{Origin, Pretrained, Task, Weights};
use crate::config::Backend;
use crate::error::{Error, Result};
use crate::model::{ModelFiles, foreign};

/// How images become tensors.
pub const PROCESSOR: &str = "preprocessor_config.json";

/// What a tokenizer can be read from, best first.
pub const TOKENIZERS: &[&str] = &["tokenizer.json", "vocab.txt", "vocab.json"];

/// Other files that decide what a tokenizer does.
const BESIDE_TOKENIZERS: &[&str] = &[
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
];

/// Where exporters put the graph, best first.
const GRAPHS: &[&str] = &["onnx/model.onnx", "model.onnx"];

/// Shards of weights and what lies in each.
const INDEX: &str = "model.safetensors.index.json";

/// Files with weights that are not read, and whose.
const OTHER_WEIGHTS: &[&str] = &[
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "tf_model.h5",
    "flax_model.msgpack",
];

/// Whether the file says what a pretrained model is: other programs have a `config.json`, too.
pub fn is_config(files: &ModelFiles, path: &str) -> bool {
    let Ok(Some(config)) = json_object(files, path) else {
        return false;
    };
    config.contains_key("model_type") || config.contains_key("architectures")
}

/// The model in the folder `root`; nothing, if it is a bare graph that tells its inputs itself.
///
/// # Errors
/// `Model`, for a folder that can't be run.
pub fn read(
    files: &ModelFiles,
    root: &str,
    task: Option<Task>,
    backend: Option<Backend>,
) -> Result<Option<Pretrained>> {
    let has = |name: &str| files.files.contains_key(&format!("{root}{name}"));
    let config_path = format!("{root}config.json");
    let Some(config) = json_object(files, &config_path)? else {
        if has("adapter_config.json") {
            return Err(Error::model(format!(
                "{root}adapter_config.json belongs to an adapter (LoRA), which is no model alone"
            ))
            .with_hint(
                "merge it in Python and save that: model.merge_and_unload().save_pretrained(folder)",
            ));
        }
        return Err(Error::model(format!(
            "there is no {config_path}, so nothing says what the weights are of"
        ))
        .with_hint("give the folder that save_pretrained wrote"));
    };
    let in_config = |error: Error| error.with("file", &config_path);
    let tokenizer = TOKENIZERS.iter().find(|name| has(name));
    let image_processor = json_object(files, &format!("{root}{PROCESSOR}"))?;
    if tokenizer.is_none() && image_processor.is_none() && only_graph(files, root) {
        return Ok(None);
    }
    let model_type = text(&config, "model_type").map_err(in_config)?;
    let architecture = config.get("architectures").and_then(Value::as_array);
    let architecture = architecture
        .and_then(|names| names.first())
        .and_then(Value::as_str);
    let Some(model_type) = model_type else {
        return Err(in_config(Error::model(
            "model_type is missing, so the family of networks is not known",
        )));
    };
    for name in [Some(model_type), architecture].into_iter().flatten() {
        if name.len() > 100
            || !name
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || "_-.".contains(letter))
        {
            return Err(in_config(Error::model(
                "model_type and architectures are to be plain names",
            )));
        }
    }
    let mut notes = Vec::new();
    let task = match task {
        Some(task) => task,
        None => task_of(
            model_type,
            architecture,
            &config,
            image_processor.is_some(),
            &mut notes,
        )
        .map_err(in_config)?,
    };
    if tokenizer.is_none() && !matches!(task, Task::ImageClassification | Task::ImageFeatureExtraction) {
        return Err(no_tokenizer(files, root, task));
    }
    let weights = weights(files, root, backend, &mut notes)?;
    let mut documents = vec![config_path];
    let beside = tokenizer.into_iter().chain(BESIDE_TOKENIZERS).chain(&[PROCESSOR]);
    documents.extend(
        beside
            .filter(|name| has(name))
            .map(|name| format!("{root}{name}")),
    );
    Ok(Some(Pretrained {
        root: root.to_string(),
        model_type: model_type.to_string(),
        architecture: architecture.map(str::to_string),
        config,
        task,
        weights,
        sentence: None,
        image_processor,
        methods: Vec::new(),
        origin: Origin::HuggingFace,
        documents,
        notes,
    }))
}

/// Whether the folder has a graph and no other weights.
fn only_graph(files: &ModelFiles, root: &str) -> bool {
    let has = |name: &&str| files.files.contains_key(&format!("{root}{name}"));
    let any_graph = files.files.keys().any(|path| path.ends_with(".onnx"));
    any_graph && !["model.safetensors", INDEX].iter().any(has)
}

/// What the class is for that was saved.
fn task_of(
    model_type: &str,
    architecture: Option<&str>,
    config: &Map<String, Value>,
    has_images: bool,
    notes: &mut Vec<String>,
) -> Result<Task> {
    let two_towers = config.contains_key("text_config") && config.contains_key("vision_config");
    let bare = || match (two_towers, has_images) {
        (true, _) => Task::TextImageEmbedding,
        (_, true) => Task::ImageFeatureExtraction,
        _ => Task::FeatureExtraction,
    };
    let Some(architecture) = architecture else {
        notes.push(format!(
            "config.json does not say which class was saved: taken for the bare {model_type} network"
        ));
        return Ok(bare());
    };
    let head = architecture.split_once("For").map_or("", |(_, head)| head);
    Ok(match head {
        "SequenceClassification" if is_entailment(config) => {
            notes.push(
                "one of its labels is entailment: taken for a model of zero-shot classification".into(),
            );
            Task::ZeroShotClassification
        }
        "SequenceClassification" => Task::TextClassification,
        "TokenClassification" => Task::TokenClassification,
        "QuestionAnswering" => Task::QuestionAnswering,
        "MaskedLM" | "PreTraining" => Task::FillMask,
        "ImageClassification" | "ImageClassificationWithTeacher" => Task::ImageClassification,
        "" if architecture.ends_with("Model") && !architecture.contains("Head") => bare(),
        _ => {
            let names: Vec<&str> = Task::ALL.iter().map(|task| task.as_str()).collect();
            return Err(Error::model(format!(
                "{architecture} is for a task that Floe does not know; it knows {}",
                names.join(", ")
            )));
        }
    })
}

/// Whether the labels are those of natural language inference.
fn is_entailment(config: &Map<String, Value>) -> bool {
    let labels = config.get("label2id").and_then(Value::as_object);
    labels.is_some_and(|labels| {
        labels
            .keys()
            .any(|label| label.to_lowercase().starts_with("entail"))
    })
}

fn no_tokenizer(files: &ModelFiles, root: &str, task: Task) -> Error {
    let sentence_piece = ["spiece.model", "sentencepiece.bpe.model", "tokenizer.model"];
    let found = sentence_piece
        .iter()
        .find(|name| files.files.contains_key(&format!("{root}{name}")));
    let error = match found {
        Some(name) => Error::model(format!(
            "the tokenizer is there as {root}{name} alone, which is not read"
        )),
        None => Error::model(format!("{} needs a tokenizer, and there is none", task.as_str())),
    };
    error.with_hint(
        "write tokenizer.json in Python: AutoTokenizer.from_pretrained(folder, use_fast=True).save_pretrained(folder)",
    )
}

/// The weights: safetensors before graphs, unless the job says `backend: onnx`.
fn weights(
    files: &ModelFiles,
    root: &str,
    backend: Option<Backend>,
    notes: &mut Vec<String>,
) -> Result<Weights> {
    let has = |path: &str| files.files.contains_key(path);
    let safetensors = safetensors(files, root)?;
    let graph = GRAPHS
        .iter()
        .map(|name| format!("{root}{name}"))
        .find(|path| has(path));
    let others = OTHER_WEIGHTS
        .iter()
        .map(|name| format!("{root}{name}"))
        .find(|path| has(path));
    match (safetensors, graph, backend) {
        (_, Some(graph), Some(Backend::Onnx)) => Ok(Weights::Onnx(graph)),
        (Some(_), None, Some(Backend::Onnx)) => Err(Error::model(format!(
            "the folder has safetensors and no ONNX graph, and model.backend is onnx; graphs are looked for as {}",
            GRAPHS.join(", ")
        ))
        .with_hint("leave model.backend out, or export the model: optimum-cli export onnx --model FOLDER FOLDER/onnx")),
        (Some(paths), graph, _) => {
            if let Some(other) = graph.iter().chain(&others).next() {
                notes.push(format!("{other} is left aside: safetensors come first (model.backend chooses)"));
            }
            Ok(Weights::Safetensors(paths))
        }
        (None, Some(_), Some(Backend::Candle)) => {
            Err(Error::model("the folder has an ONNX graph and no safetensors, and model.backend is candle")
                .with_hint("leave model.backend out"))
        }
        (None, Some(graph), _) => Ok(Weights::Onnx(graph)),
        (None, None, _) => Err(no_weights(files, root, others)),
    }
}

fn safetensors(files: &ModelFiles, root: &str) -> Result<Option<Vec<String>>> {
    let index_path = format!("{root}{INDEX}");
    let in_index = |error: Error| error.with("file", &index_path);
    let Some(index) = json_object(files, &index_path)? else {
        let whole = format!("{root}model.safetensors");
        let Some(bytes) = files.files.get(&whole) else {
            return Ok(None);
        };
        check_safetensors(bytes, &whole)?;
        return Ok(Some(vec![whole]));
    };
    let map = index.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| in_index(Error::model("weight_map is missing")))?;
    let mut shards = std::collections::BTreeSet::new();
    for shard in map.values() {
        let name = shard.as_str().unwrap_or_default();
        if name.is_empty() {
            return Err(in_index(Error::model("weight_map names a shard that is no text")));
        }
        shards.insert(documents::within(root, name).map_err(in_index)?);
    }
    if shards.is_empty() {
        return Err(in_index(Error::model("weight_map names no shards")));
    }
    for shard in &shards {
        let bytes = files.files.get(shard).ok_or_else(|| {
            in_index(Error::model(format!("it names {shard}, which is not there")))
                .with_hint("copy the folder again, all of it")
        })?;
        check_safetensors(bytes, shard)?;
    }
    Ok(Some(shards.into_iter().collect()))
}

/// Tells what else bears the name, before anybody takes it for weights.
fn check_safetensors(bytes: &[u8], path: &str) -> Result<()> {
    match foreign::by_bytes(bytes) {
        Some(foreign::SAFETENSORS) => Ok(()),
        Some(format) => Err(foreign::refused(format, path)),
        None => Err(Error::model(format!("{path} is no safetensors, or cut off")).with_hint("copy it again")),
    }
}

fn no_weights(files: &ModelFiles, root: &str, others: Option<String>) -> Error {
    let saving = "load it in Python and save it again: AutoModel.from_pretrained(folder).save_pretrained(folder, \
                  safe_serialization=True), with the class that config.json names";
    if let Some(path) = others {
        let format = files.files.get(&path).and_then(|bytes| foreign::by_bytes(bytes));
        let format = format.or_else(|| foreign::by_name(&path));
        let what = format.map_or("weights that are not read".to_string(), |format| {
            format.name.to_string()
        });
        return Error::model(format!(
            "the weights are there as {path} alone: {what}; safetensors and ONNX are read"
        ))
        .with_hint(saving);
    }
    let gguf = files
        .files
        .keys()
        .find(|path| path.starts_with(root) && path.ends_with(".gguf"));
    match gguf {
        Some(path) => foreign::refused(foreign::GGUF, path),
        None => Error::model(format!(
            "there are no weights: neither {root}model.safetensors, nor {root}{INDEX}, nor {}",
            GRAPHS
                .iter()
                .map(|name| format!("{root}{name}"))
                .collect::<Vec<_>>()
                .join(", nor ")
        ))
        .with_hint(saving),
    }
}
