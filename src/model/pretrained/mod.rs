//! Folders as `save_pretrained`, sentence-transformers and the model registry write them, understood as they are.
//!
//! [`find`] says what such a folder holds, as a [`Pretrained`]: an architecture with its configuration, the task it was
//! trained for, its tokenizer or image processor, its weights. `text` and `image` turn that into functions; `candle` and
//! `onnx` compute the network in the middle. Everything read here is untrusted: documents are bounded, and whatever names
//! a file names one in the folder.

use serde_json::{Map, Value};

use super::{ModelFiles, card, folder};
use crate::config::Backend;
use crate::error::{Error, Result};

mod documents;
mod hugging_face;
pub mod methods;
mod registry;
mod sentence_transformers;
#[cfg(test)]
mod tests;

pub use registry::{Feature, Method};

/// A folder of a pretrained model.
#[derive(Clone, Debug)]
pub struct Pretrained {
    /// Where it lies among the model's files: empty, or ending in `/`.
    pub root: String,
    /// `model_type` of `config.json`, e.g. `bert`: names the family of networks.
    pub model_type: String,
    /// First of `architectures` in `config.json`, e.g. `BertForSequenceClassification`.
    pub architecture: Option<String>,
    /// `config.json` as it is.
    pub config: Map<String, Value>,
    /// What it is used for.
    pub task: Task,
    /// The weights.
    pub weights: Weights,
    /// Sentence embedding: what comes after the network.
    pub sentence: Option<Sentence>,
    /// `preprocessor_config.json` as it is: how images become tensors.
    pub image_processor: Option<Map<String, Value>>,
    /// Its methods as the registry has them; empty for a folder that did not come from there.
    pub methods: Vec<Method>,
    /// Who wrote the folder.
    pub origin: Origin,
    /// Files that were read here and decide what comes out.
    pub documents: Vec<String>,
    /// Facts worth logging: what was chosen and what was left aside.
    pub notes: Vec<String>,
}

/// Who wrote a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `save_pretrained` of transformers, or a repository like it.
    HuggingFace,
    /// sentence-transformers.
    SentenceTransformers,
    /// The model registry's packager.
    Registry,
}

/// What a pretrained model is used for, by the names of Hugging Face's pipelines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Task {
    /// One vector per text, as sentence-transformers make it.
    SentenceEmbedding,
    /// One vector per token.
    FeatureExtraction,
    /// Labels of a text.
    TextClassification,
    /// Labels of words in a text.
    TokenClassification,
    /// What a masked word could be.
    FillMask,
    /// Where a text answers a question.
    QuestionAnswering,
    /// Labels that are only known when the job runs.
    ZeroShotClassification,
    /// Labels of an image.
    ImageClassification,
    /// One vector per image, or several.
    ImageFeatureExtraction,
    /// Vectors of texts and images in one space (CLIP).
    TextImageEmbedding,
}

impl Task {
    /// Every task.
    pub const ALL: &[Task] = &[
        Task::SentenceEmbedding,
        Task::FeatureExtraction,
        Task::TextClassification,
        Task::TokenClassification,
        Task::FillMask,
        Task::QuestionAnswering,
        Task::ZeroShotClassification,
        Task::ImageClassification,
        Task::ImageFeatureExtraction,
        Task::TextImageEmbedding,
    ];

    /// The pipeline's name, e.g. `text-classification`.
    pub fn as_str(self) -> &'static str {
        match self {
            Task::SentenceEmbedding => "sentence-embedding",
            Task::FeatureExtraction => "feature-extraction",
            Task::TextClassification => "text-classification",
            Task::TokenClassification => "token-classification",
            Task::FillMask => "fill-mask",
            Task::QuestionAnswering => "question-answering",
            Task::ZeroShotClassification => "zero-shot-classification",
            Task::ImageClassification => "image-classification",
            Task::ImageFeatureExtraction => "image-feature-extraction",
            Task::TextImageEmbedding => "text-image-embedding",
        }
    }

    /// The task of that name, or of one of the names that the registry takes for it.
    pub fn of_name(name: &str) -> Option<Task> {
        let name = match name {
            "ner" => "token-classification",
            "sentiment-analysis" => "text-classification",
            other => other,
        };
        Task::ALL.iter().copied().find(|task| task.as_str() == name)
    }

    /// Whether it takes images.
    pub fn takes_images(self) -> bool {
        matches!(
            self,
            Task::ImageClassification | Task::ImageFeatureExtraction | Task::TextImageEmbedding
        )
    }
}

/// Where the weights are: paths among the model's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Weights {
    /// One file or several shards.
    Safetensors(Vec<String>),
    /// An exported graph.
    Onnx(String),
}

/// What sentence-transformers do with the output of the network (`modules.json`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sentence {
    /// How vectors of tokens become one.
    pub pooling: Vec<Pooling>,
    /// Longest text in tokens; `None`: what the tokenizer and the network allow.
    pub max_tokens: Option<usize>,
    /// Whether texts are lower-cased first.
    pub lower_case: bool,
    /// Dense layers after pooling: folders among the model's files, each ending in `/`, with `config.json` and
    /// `model.safetensors`.
    pub dense: Vec<String>,
    /// Whether vectors are then scaled to length 1.
    pub normalize: bool,
    /// Vectors are cut to so many numbers last of all.
    pub truncate_dim: Option<usize>,
    /// Texts put before each input, by name.
    pub prompts: Vec<(String, String)>,
    /// The prompt of `encode`.
    pub default_prompt: Option<String>,
    /// Whether the prompt's tokens take part in pooling.
    pub include_prompt: bool,
}

/// How the vectors of a text's tokens become one; several are put side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Of the first token.
    Cls,
    /// Largest of each number.
    Max,
    /// Average.
    Mean,
    /// Sum, divided by the square root of the number of tokens.
    MeanSqrtLength,
    /// Average, in which later tokens count more.
    WeightedMean,
    /// Of the last token.
    LastToken,
}

/// What the folder holds, if it is one of a pretrained model; `backend` chooses among its weights.
///
/// A model card that names functions comes first: it says how a graph meets columns, and no task is needed.
///
/// # Errors
/// `Model`, for a folder that is one and can't be run: the message says what it is, why not, and the way out.
pub fn find(files: &ModelFiles, backend: Option<Backend>) -> Result<Option<Pretrained>> {
    let has_functions =
        files.files.contains_key(card::FILE_NAME) && folder::read_card(files)?.functions.is_some();
    if has_functions || matches!(backend, Some(Backend::Echo | Backend::Trees)) {
        return Ok(None);
    }
    if let Some(root) = registry::root(files)? {
        return registry::read(files, &root, backend);
    }
    let Some(root) = folder_of(files)? else {
        return Ok(None);
    };
    read(files, &root, None, backend)
}

/// The model in the folder `root`; `task` is what somebody said it is used for.
fn read(
    files: &ModelFiles,
    root: &str,
    task: Option<Task>,
    backend: Option<Backend>,
) -> Result<Option<Pretrained>> {
    if files.files.contains_key(&format!("{root}modules.json")) && task.is_none() {
        return sentence_transformers::read(files, root, backend);
    }
    hugging_face::read(files, root, task, backend)
}

/// The outermost folder that says what its model is.
fn folder_of(files: &ModelFiles) -> Result<Option<String>> {
    for name in ["modules.json", "config.json"] {
        let is_model = |path: &&str| name == "modules.json" || hugging_face::is_config(files, path);
        let found = files.files.keys().map(String::as_str);
        let found = found.filter(|path| *path == name || path.ends_with(&format!("/{name}")));
        let found: Vec<&str> = found.filter(is_model).collect();
        let depth = |path: &str| path.matches('/').count();
        let Some(least) = found.iter().map(|path| depth(path)).min() else {
            continue;
        };
        let outermost: Vec<&str> = found.into_iter().filter(|path| depth(path) == least).collect();
        match outermost.as_slice() {
            [only] => return Ok(Some(only.trim_end_matches(name).to_string())),
            several => {
                return Err(Error::model(format!(
                    "the folder has several pretrained models: {}",
                    folder::listed(several)
                ))
                .with_hint("give the folder of one of them as model.location"));
            }
        }
    }
    Ok(None)
}

impl Pretrained {
    /// What was found, fact by fact, for `floe inspect`.
    pub fn found(&self) -> Vec<(&'static str, String)> {
        let kind = match self.origin {
            Origin::HuggingFace => "Hugging Face folder",
            Origin::SentenceTransformers => "sentence-transformers folder",
            Origin::Registry => "model registry",
        };
        let architecture = match &self.architecture {
            Some(architecture) => format!("{architecture} ({})", self.model_type),
            None => self.model_type.clone(),
        };
        let weights = match &self.weights {
            Weights::Safetensors(paths) => match paths.as_slice() {
                [only] => only.clone(),
                several => format!("{} shards, the first {}", several.len(), several[0]),
            },
            Weights::Onnx(path) => path.clone(),
        };
        let mut found = vec![
            ("kind", kind.to_string()),
            ("architecture", architecture),
            ("task", self.task.as_str().to_string()),
            ("weights", weights),
        ];
        let tokenizer = self.documents.iter().find(|path| {
            let name = path.strip_prefix(&self.root);
            name.is_some_and(|name| hugging_face::TOKENIZERS.contains(&name))
        });
        if let Some(tokenizer) = tokenizer {
            found.push(("tokenizer", tokenizer.clone()));
        }
        if self.image_processor.is_some() {
            found.push((
                "image processor",
                format!("{}{}", self.root, hugging_face::PROCESSOR),
            ));
        }
        if let Some(sentence) = &self.sentence {
            let pooling: Vec<String> = sentence.pooling.iter().map(|way| format!("{way:?}")).collect();
            let mut steps = vec![format!("pooling {}", pooling.join(" and "))];
            steps.extend(sentence.dense.iter().map(|path| format!("dense {path}")));
            if sentence.normalize {
                steps.push("scaled to length 1".into());
            }
            if let Some(dim) = sentence.truncate_dim {
                steps.push(format!("cut to {dim} numbers"));
            }
            found.push(("after the network", steps.join(", ")));
        }
        found
    }
}
