//! Folders as `save_pretrained`, sentence-transformers and the model registry write them, understood as they are.
//!
//! [`Pretrained`] says what such a folder holds: an architecture with its configuration, the task it was trained for,
//! its tokenizer or image processor, its weights. `text` and `image` turn that into functions; `candle` and `onnx`
//! compute the network in the middle.

use serde_json::{Map, Value};

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
    /// Dense layers after pooling: folders with `config.json` and weights.
    pub dense: Vec<String>,
    /// Whether vectors are scaled to length 1.
    pub normalize: bool,
    /// Vectors are cut to so many numbers (before the scaling, if any).
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
