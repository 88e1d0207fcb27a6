//! A folder as sentence-transformers write it: `modules.json` names what a text goes through, in folders of their own.
//!
//! Read are the modules Transformer, Pooling, Dense and Normalize, in that order, and CLIPModel alone, by the names that
//! versions 1 to 6 of the library gave them.

use serde_json::{Map, Value};

use super::documents::{self, count, flag, json_list, json_object, text};
use super::{Origin, Pooling, Pretrained, Sentence, Task, hugging_face};
use crate::config::Backend;
use crate::error::{Error, Result};
use crate::model::ModelFiles;

/// Most modules: real folders have two to five.
const MAX_MODULES: usize = 32;

/// `max_seq_length` and `do_lower_case` stand in a file that was once named by the network.
const SETTINGS: &[&str] = &[
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

/// What each key of `1_Pooling/config.json` switches on, in the order in which vectors are put side by side.
const POOLINGS: &[(&str, &str, Pooling)] = &[
    ("pooling_mode_cls_token", "cls", Pooling::Cls),
    ("pooling_mode_max_tokens", "max", Pooling::Max),
    ("pooling_mode_mean_tokens", "mean", Pooling::Mean),
    (
        "pooling_mode_mean_sqrt_len_tokens",
        "mean_sqrt_len_tokens",
        Pooling::MeanSqrtLength,
    ),
    (
        "pooling_mode_weightedmean_tokens",
        "weightedmean",
        Pooling::WeightedMean,
    ),
    ("pooling_mode_lasttoken", "lasttoken", Pooling::LastToken),
];

/// The model in the folder `root`.
///
/// # Errors
/// `Model`, for a folder that can't be run.
pub fn read(files: &ModelFiles, root: &str, backend: Option<Backend>) -> Result<Option<Pretrained>> {
    let list = format!("{root}modules.json");
    let in_list = |error: Error| error.with("file", &list);
    let modules = modules(files, root, &list).map_err(in_list)?;
    let kinds: Vec<&str> = modules.iter().map(|module| module.kind.as_str()).collect();
    let (first, rest) = modules
        .split_first()
        .ok_or_else(|| in_list(Error::model("it names no modules")))?;
    let transformer = match first.path.as_str() {
        "" => String::new(),
        path => format!("{path}/"),
    };
    if kinds == ["CLIPModel"] {
        let clip = hugging_face::read(files, &transformer, Some(Task::TextImageEmbedding), backend)?;
        return Ok(clip.map(|clip| Pretrained {
            origin: Origin::SentenceTransformers,
            ..clip
        }));
    }
    if first.kind != "Transformer" {
        return Err(in_list(not_read(&first.kind)));
    }
    let mut sentence = Sentence {
        include_prompt: true,
        ..Sentence::default()
    };
    let mut documents = vec![list.clone()];
    for module in rest {
        let config_path = format!("{}/config.json", module.path);
        let config = json_object(files, &config_path)?;
        let in_config = |error: Error| error.with("file", &config_path);
        match module.kind.as_str() {
            "Pooling" if sentence.pooling.is_empty() && sentence.dense.is_empty() && !sentence.normalize => {
                let config = config.ok_or_else(|| in_list(missing(&config_path)))?;
                sentence.pooling = poolings(&config).map_err(in_config)?;
                sentence.include_prompt = flag(&config, "include_prompt")
                    .map_err(in_config)?
                    .unwrap_or(true);
            }
            "Dense" if !sentence.pooling.is_empty() && !sentence.normalize => {
                let config = config.ok_or_else(|| in_list(missing(&config_path)))?;
                check_dense(files, &module.path, &config).map_err(in_config)?;
                sentence.dense.push(format!("{}/", module.path));
            }
            "Normalize" if !sentence.pooling.is_empty() => {
                sentence.normalize = true;
                continue;
            }
            "Pooling" | "Dense" | "Normalize" => {
                return Err(in_list(Error::model(format!(
                    "the modules come in an order that is not read: {}; Transformer, Pooling, Dense and Normalize may \
                     follow each other",
                    kinds.join(", ")
                ))));
            }
            other => return Err(in_list(not_read(other))),
        }
        documents.push(config_path);
    }
    if sentence.pooling.is_empty() {
        return Err(in_list(Error::model(
            "there is no Pooling among the modules, so nothing says how vectors of tokens become one",
        )));
    }
    let settings = SETTINGS.iter().map(|name| format!("{transformer}{name}"));
    for path in settings {
        if let Some(settings) = json_object(files, &path)? {
            let in_settings = |error: Error| error.with("file", &path);
            sentence.max_tokens = count(&settings, "max_seq_length").map_err(in_settings)?;
            sentence.lower_case = flag(&settings, "do_lower_case")
                .map_err(in_settings)?
                .unwrap_or(false);
            documents.push(path);
            break;
        }
    }
    let prompts_path = format!("{root}config_sentence_transformers.json");
    if let Some(config) = json_object(files, &prompts_path)? {
        read_prompts(&config, &mut sentence).map_err(|error| error.with("file", &prompts_path))?;
        documents.push(prompts_path);
    }
    let Some(mut found) = hugging_face::read(files, &transformer, Some(Task::SentenceEmbedding), backend)?
    else {
        return Err(missing_tokenizer(&transformer));
    };
    found.documents.extend(documents);
    found.sentence = Some(sentence);
    found.origin = Origin::SentenceTransformers;
    Ok(Some(found))
}

struct Module {
    /// Last word of its type, e.g. `Pooling`.
    kind: String,
    /// Its folder among the model's files, without a `/` at its end.
    path: String,
}

fn modules(files: &ModelFiles, root: &str, path: &str) -> Result<Vec<Module>> {
    let list = json_list(files, path)?.unwrap_or_default();
    if list.len() > MAX_MODULES {
        return Err(Error::model(format!("it names more than {MAX_MODULES} modules")));
    }
    let one = |module: &Value| {
        let nothing = Map::new();
        let module = module.as_object().unwrap_or(&nothing);
        let kind = text(module, "type")?.ok_or_else(|| Error::model("a module has no type"))?;
        let kind = kind.rsplit('.').next().unwrap_or(kind);
        let inner = documents::within("", text(module, "path")?.unwrap_or_default())?;
        let path = match inner.as_str() {
            "" => root.trim_end_matches('/').to_string(),
            inner => format!("{root}{inner}"),
        };
        Ok(Module {
            kind: kind.chars().take(60).collect(),
            path,
        })
    };
    list.iter().map(one).collect()
}

fn poolings(config: &Map<String, Value>) -> Result<Vec<Pooling>> {
    let named = |name: &str| {
        let found = POOLINGS.iter().find(|(_, known, _)| *known == name);
        found.map(|(_, _, way)| *way).ok_or_else(|| {
            let known: Vec<&str> = POOLINGS.iter().map(|(_, known, _)| *known).collect();
            let name: String = name.chars().take(60).collect();
            Error::model(format!(
                "pooling_mode: {name} is not known; known are {}",
                known.join(", ")
            ))
        })
    };
    let ways: Vec<Pooling> = match config.get("pooling_mode") {
        Some(Value::String(name)) => vec![named(name)?],
        Some(Value::Array(names)) if names.len() <= POOLINGS.len() => names
            .iter()
            .map(|name| named(name.as_str().unwrap_or_default()))
            .collect::<Result<_>>()?,
        _ => {
            let mut ways = Vec::new();
            for (key, _, way) in POOLINGS {
                if flag(config, key)?.unwrap_or(false) {
                    ways.push(*way);
                }
            }
            ways
        }
    };
    match ways.is_empty() {
        true => Err(Error::model("no way of pooling is switched on")),
        false => Ok(ways),
    }
}

fn check_dense(files: &ModelFiles, path: &str, config: &Map<String, Value>) -> Result<()> {
    for key in ["in_features", "out_features"] {
        count(config, key)?.ok_or_else(|| Error::model(format!("{key} is missing")))?;
    }
    if !files.files.contains_key(&format!("{path}/model.safetensors")) {
        return Err(
            Error::model(format!("the weights of {path} are not there as safetensors"))
                .with_hint("save the model again in Python: SentenceTransformer(folder).save(folder)"),
        );
    }
    Ok(())
}

fn read_prompts(config: &Map<String, Value>, sentence: &mut Sentence) -> Result<()> {
    if let Some(prompts) = config.get("prompts").and_then(Value::as_object) {
        for name in prompts.keys() {
            if let Some(prompt) = text(prompts, name)? {
                sentence.prompts.push((name.clone(), prompt.to_string()));
            }
        }
    }
    sentence.default_prompt = text(config, "default_prompt_name")?.map(str::to_string);
    match &sentence.default_prompt {
        Some(name) if !sentence.prompts.iter().any(|(known, _)| known == name) => Err(Error::model(
            "default_prompt_name: there is no prompt of that name among prompts",
        )),
        _ => Ok(()),
    }
}

fn missing(path: &str) -> Error {
    Error::model(format!("it names a module whose {path} is not there"))
        .with_hint("copy the folder again, all of it")
}

fn missing_tokenizer(root: &str) -> Error {
    Error::model(format!("there is no tokenizer beside {root}config.json"))
        .with_hint("save the model again in Python: SentenceTransformer(folder).save(folder)")
}

fn not_read(kind: &str) -> Error {
    Error::model(format!(
        "the module {kind} is not read; read are Transformer, Pooling, Dense, Normalize, and CLIPModel alone"
    ))
    .with_hint("export the whole model to ONNX and write a model card for it")
}
