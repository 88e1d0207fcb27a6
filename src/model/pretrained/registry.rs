//! The files of a version in Snowflake's model registry, as its packager (snowflake-ml-python 1.x and 2.x) writes them.
//!
//! `model/model.yaml` says what the model is, where its files are and which methods it has, with inputs, outputs and
//! params; `MANIFEST.yml` says what the methods are called in SQL. Most kinds of models are stored as pickles, which run
//! code when they are read and are not; a pickle beside weights that can be read is left aside.

use serde_json::{Map, Value};

use super::documents::{self, count, text, yaml_mapping};
use super::{Origin, Pretrained, Task};
use crate::config::Backend;
use crate::error::{Error, Result};
use crate::model::{ModelFiles, foreign};

/// Most methods of a model, and most inputs, outputs or params of one.
const MAX_NAMES: usize = 10_000;

/// A method as its signature in `model.yaml` has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Method {
    /// The name of the method in Python, e.g. `encode` or `__call__`: the target method.
    pub name: String,
    /// What SQL calls it, e.g. `ENCODE`.
    pub sql_name: String,
    /// Columns that it takes.
    pub inputs: Vec<Feature>,
    /// Columns that it gives.
    pub outputs: Vec<Feature>,
    /// Parameters and their defaults; null where there is none.
    pub params: Vec<(String, Value)>,
}

/// A column of a signature.
#[derive(Clone, Debug, PartialEq)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// `STRING`, `DOUBLE`, …; empty for a group.
    pub dtype: String,
    /// Whether each row has a list of them.
    pub is_list: bool,
    /// The fields of a group; empty for a plain column.
    pub fields: Vec<Feature>,
}

/// The folder with `model.yaml`, if the files are those of a version in the registry: all of them, or the folder `model`.
///
/// # Errors
/// `Model`, for a `model.yaml` that can't be read.
pub fn root(files: &ModelFiles) -> Result<Option<String>> {
    for root in ["model/", ""] {
        let Some(document) = yaml_mapping(files, &format!("{root}model.yaml"))? else {
            continue;
        };
        if document.contains_key("model_type") && document.contains_key("models") {
            return Ok(Some(root.to_string()));
        }
    }
    Ok(None)
}

/// The model in the folder `root`; nothing, if another backend reads what is there.
///
/// # Errors
/// `Model`, for a kind of model that is stored in a way that can't be run.
pub fn read(files: &ModelFiles, root: &str, backend: Option<Backend>) -> Result<Option<Pretrained>> {
    let path = format!("{root}model.yaml");
    let in_yaml = |error: Error| error.with("file", &path);
    let document = yaml_mapping(files, &path)?.unwrap_or_default();
    let entry = Entry::of(&document).map_err(in_yaml)?;
    let folder =
        documents::within(root, &format!("models/{}/{}", entry.name, entry.path)).map_err(in_yaml)?;
    let folder = format!("{folder}/");
    let found = match entry.model_type {
        "sentence_transformers" => {
            let found =
                inner(files, &folder, None, backend).map_err(|error| not_there(files, &folder, error))?;
            let truncate_dim = count(&entry.options, "truncate_dim").map_err(in_yaml)?;
            found.map(|mut found| {
                if let (Some(sentence), Some(dim)) = (&mut found.sentence, truncate_dim) {
                    sentence.truncate_dim = Some(dim);
                }
                found
            })
        }
        "huggingface_pipeline" => {
            let task = text(&entry.options, "task").map_err(in_yaml)?;
            let task = task.ok_or_else(|| in_yaml(Error::model("options.task is missing")))?;
            let known = Task::of_name(task).ok_or_else(|| unknown_task(task))?;
            inner(files, &folder, Some(known), backend).map_err(|error| not_there(files, &folder, error))?
        }
        _ if reads_otherwise(files) => None,
        other => return Err(refused(other)),
    };
    let Some(mut found) = found else {
        return Ok(None);
    };
    found.methods = methods(files, root)?;
    found.origin = Origin::Registry;
    found.documents.push(path);
    for (path, bytes) in &files.files {
        if path.starts_with(&folder) && foreign::by_bytes(bytes) == Some(foreign::PICKLE) {
            found.notes.push(format!(
                "{path} is a Python pickle and left aside: nothing in it is needed"
            ));
        }
    }
    Ok(Some(found))
}

fn inner(
    files: &ModelFiles,
    folder: &str,
    task: Option<Task>,
    backend: Option<Backend>,
) -> Result<Option<Pretrained>> {
    super::read(files, folder, task, backend)
}

/// What `model.yaml` says about the one model in it.
struct Entry<'a> {
    name: &'a str,
    path: &'a str,
    model_type: &'a str,
    options: Map<String, Value>,
}

impl<'a> Entry<'a> {
    fn of(document: &'a Map<String, Value>) -> Result<Entry<'a>> {
        let models = document.get("models").and_then(Value::as_object);
        let models = models.ok_or_else(|| Error::model("models is missing"))?;
        let name = text(document, "name")?.ok_or_else(|| Error::model("name is missing"))?;
        let entry = models.get(name).and_then(Value::as_object);
        let entry = entry.ok_or_else(|| Error::model(format!("models has no entry {name:?}")))?;
        Ok(Entry {
            name,
            path: text(entry, "path")?.ok_or_else(|| Error::model("path is missing"))?,
            model_type: text(entry, "model_type")?.ok_or_else(|| Error::model("model_type is missing"))?,
            options: entry
                .get("options")
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default(),
        })
    }
}

/// Whether there is a model that needs nothing of the registry's: trees, or ONNX among the artifacts.
fn reads_otherwise(files: &ModelFiles) -> bool {
    files
        .files
        .iter()
        .any(|(path, bytes)| path.to_ascii_lowercase().ends_with(".onnx") || foreign::is_ensemble(bytes))
}

/// Nothing but the wrapper's pickle: the repository was to be fetched when the model is run.
fn not_there(files: &ModelFiles, folder: &str, error: Error) -> Error {
    let has = |name: &str| files.files.contains_key(&format!("{folder}{name}"));
    if has("config.json") || has("modules.json") {
        return error;
    }
    let pickle = files
        .files
        .iter()
        .find(|(path, bytes)| {
            path.starts_with(folder.trim_end_matches('/'))
                && foreign::by_bytes(bytes) == Some(foreign::PICKLE)
        })
        .map(|(path, _)| path);
    match pickle {
        Some(pickle) => Error::model(format!(
            "the registry stored only {pickle}, a Python pickle that fetches the model when it is run; pickles are not read"
        ))
        .with_hint("log the model itself: load it, then log_model(model) with its weights, or give the folder that save_pretrained writes"),
        None => error,
    }
}

fn unknown_task(task: &str) -> Error {
    let known: Vec<&str> = Task::ALL.iter().map(|task| task.as_str()).collect();
    let task: String = task.chars().take(60).collect();
    Error::model(format!(
        "the model is for the task {task:?}, which Floe does not know; it knows {}",
        known.join(", ")
    ))
}

/// For kinds that are stored as pickles or in formats of their own.
fn refused(model_type: &str) -> Error {
    let way_out = match model_type {
        "sklearn" | "snowml" => "load it in Python and export to ONNX with skl2onnx",
        "lightgbm" => {
            "load it in Python and save it as text (booster.save_model('model.txt')), or export to ONNX"
        }
        "catboost" => "load it in Python and save it with model.save_model('model.onnx', format='onnx')",
        "pytorch" | "torchscript" => "load it in Python and export it with torch.onnx.export(…, dynamo=True)",
        "tensorflow" | "keras" => {
            "load it in Python and export it with model.export('model.onnx', format='onnx') or tf2onnx"
        }
        "peft_adapter" => {
            "merge it in Python and save that: model.merge_and_unload().save_pretrained(folder)"
        }
        _ => "export what it computes to ONNX in Python, and give that file",
    };
    let model_type: String = model_type.chars().take(60).collect();
    Error::model(format!(
        "the registry stores a model of type {model_type} as code or in a format that is not read; {}",
        foreign::READS
    ))
    .with_hint(way_out)
}

/// The methods of the model in the folder `root`.
///
/// # Errors
/// `Model`, for signatures that are damaged.
pub fn methods(files: &ModelFiles, root: &str) -> Result<Vec<Method>> {
    let path = format!("{root}model.yaml");
    let document = yaml_mapping(files, &path)?.unwrap_or_default();
    let manifest = format!("{}MANIFEST.yml", root.strip_suffix("model/").unwrap_or("../"));
    let manifest = yaml_mapping(files, &manifest)?.unwrap_or_default();
    signatures(&document, &manifest).map_err(|error| error.with("file", &path))
}

fn signatures(document: &Map<String, Value>, manifest: &Map<String, Value>) -> Result<Vec<Method>> {
    let Some(signatures) = document.get("signatures").and_then(Value::as_object) else {
        return Ok(Vec::new());
    };
    let options = document.get("method_options").and_then(Value::as_object);
    let mut methods = Vec::new();
    for (name, signature) in signatures {
        let nothing = Map::new();
        let signature = signature.as_object().unwrap_or(&nothing);
        let option = options.and_then(|options| options.get(name));
        let is_case_sensitive =
            option.and_then(|option| option.get("case_sensitive")) == Some(&Value::Bool(true));
        let in_method = |error: Error| error.with("method", name);
        methods.push(Method {
            name: name.clone(),
            sql_name: sql_name(manifest, name).unwrap_or_else(|| match is_case_sensitive {
                true => name.clone(),
                false => name.to_ascii_uppercase(),
            }),
            inputs: features(signature.get("inputs"), 0).map_err(in_method)?,
            outputs: features(signature.get("outputs"), 0).map_err(in_method)?,
            params: params(signature.get("params")).map_err(in_method)?,
        });
        if methods.len() > MAX_NAMES {
            return Err(too_many());
        }
    }
    Ok(methods)
}

/// What the manifest calls the method whose handler is `functions.<name>.infer`.
fn sql_name(manifest: &Map<String, Value>, name: &str) -> Option<String> {
    let methods = manifest.get("methods")?.as_array()?;
    let handler = format!("functions.{name}.infer");
    let method = methods
        .iter()
        .find(|method| method.get("handler").and_then(Value::as_str) == Some(&handler))?;
    method.get("name")?.as_str().map(str::to_string)
}

fn features(list: Option<&Value>, depth: usize) -> Result<Vec<Feature>> {
    let list = match list {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) if list.len() <= MAX_NAMES => list,
        Some(Value::Array(_)) => return Err(too_many()),
        Some(_) => return Err(Error::model("inputs and outputs are to be lists")),
    };
    if depth > 8 {
        return Err(Error::model("groups of columns are nested more than 8 deep"));
    }
    let one = |feature: &Value| {
        let feature = feature
            .as_object()
            .ok_or_else(|| Error::model("a column is to be a mapping"))?;
        Ok(Feature {
            name: named(feature)?,
            dtype: text(feature, "type")?.unwrap_or_default().to_string(),
            is_list: feature.get("shape").is_some_and(|shape| !shape.is_null()),
            fields: features(feature.get("specs"), depth + 1)?,
        })
    };
    list.iter().map(one).collect()
}

fn params(list: Option<&Value>) -> Result<Vec<(String, Value)>> {
    let list = match list {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) if list.len() <= MAX_NAMES => list,
        Some(Value::Array(_)) => return Err(too_many()),
        Some(_) => return Err(Error::model("params are to be a list")),
    };
    let one = |param: &Value| {
        let param = param
            .as_object()
            .ok_or_else(|| Error::model("a param is to be a mapping"))?;
        let default = param.get("default_value").cloned().unwrap_or(Value::Null);
        Ok((named(param)?, default))
    };
    list.iter().map(one).collect()
}

fn named(object: &Map<String, Value>) -> Result<String> {
    match text(object, "name")? {
        Some(name) if !name.is_empty() => Ok(name.to_string()),
        _ => Err(Error::model("a column or param has no name")),
    }
}

fn too_many() -> Error {
    Error::model(format!("the signatures name more than {MAX_NAMES} things"))
}
