//! Tasks over texts: what comes before the network (tokens, batches of like length) and after it (pooling, labels,
//! entities, answers), as the Python pipelines and sentence-transformers do it.
//!
//! ```text
//! rows of a block ─▶ tokenizer ─▶ batches: by length ─▶ whoever has time: network ─▶ task: values of these rows
//! ```
//!
//! A task does not know who computes the network: Candle from safetensors, or ONNX Runtime from an exported graph. Its
//! functions and columns are those that Snowflake's registry gives such a model.

use std::sync::Arc;

use self::batches::Limits;
use self::run::{Rows, Runner, Sequence};
use self::tokenizer::Tokenizer;
use self::worker::TextWorker;
use super::network::{self, Networks};
use super::opened::{Opened, Tasks};
use super::pretrained::{Pretrained, Task, Weights};
use super::{Engine, Loaded, Model, ModelFiles, OpenOptions, digest};
use crate::error::{Error, Result};
use crate::signature::{Dim, Function, InputFeature, OutputFeature, OutputKind, Source};
use crate::tensor::{DType, Items, Lists, Tensor, TensorBatch, TensorData, Value};

mod answers;
mod batches;
mod dense;
mod entities;
mod features;
mod labels;
mod mask;
mod params;
mod pooling;
mod records;
mod run;
mod scores;
mod sentence;
mod tokenizer;
mod towers;
mod worker;
mod zero_shot;

pub use self::towers::open as open_towers;

/// The function of a pipeline.
const CALL: &str = "__call__";

/// Names of the vectors of tokens: the library's, and those of exported graphs.
const VECTORS: &[&str] = &["last_hidden_state", "token_embeddings"];

/// Most rows of a batch that nobody asked for: enough for any processor, if the texts are short.
const BATCH_ROWS: usize = 64;

/// Most tokens of a batch on a CPU. Half a dozen short texts keep its kernels busy; more of them leave the caches and differ
/// more in length.
const BATCH_TOKENS: usize = 256;

/// The text of the trial run.
const TRIAL: &str = "A text to try the model on.";

/// Texts through a network: one function of a model.
trait Job: Send + Sync {
    /// What the network is to read for a row. Adds 1 to `cut` for each text that is too long.
    ///
    /// # Errors
    /// `Data` for what is wrong with this row alone.
    fn read(&self, batch: &TensorBatch, row: usize, cut: &mut u64) -> Result<Vec<Sequence>>;

    /// One value per output of the function, for these rows.
    fn infer(&self, rows: &Rows, runner: &mut Runner) -> Result<Vec<Value>>;

    /// The text of the trial run.
    fn trial(&self) -> String {
        TRIAL.to_string()
    }

    /// Most tokens of a batch, given what suits networks in general.
    fn most_tokens(&self, usual: usize) -> usize {
        usual
    }
}

/// The functions of a model of texts.
struct Texts {
    padding: i64,
    parts: Vec<Arc<dyn Job>>,
}

/// Opens a pretrained model of texts and tries it on one.
///
/// # Errors
/// `Model`, for an architecture or a task that Floe has no code for, and files that are missing or damaged; `Config`, for a
/// device or precision that can't be had.
pub fn open(files: &ModelFiles, pretrained: &Pretrained, options: &OpenOptions) -> Result<Arc<dyn Loaded>> {
    let (networks, engine) = network::open(files, pretrained, options)?;
    Ok(Arc::new(Texts::open(files, pretrained, networks, engine)?))
}

impl Texts {
    fn open(
        files: &ModelFiles,
        pretrained: &Pretrained,
        networks: Arc<dyn Networks>,
        engine: Engine,
    ) -> Result<Opened<Texts>> {
        let tokenizer = Tokenizer::open(files, pretrained)?;
        let padding = tokenizer.padding;
        let most = tokenizer.most_tokens;
        let made = match pretrained.task {
            Task::SentenceEmbedding => sentence::functions(tokenizer, files, pretrained)?,
            Task::FeatureExtraction => features::functions(tokenizer)?,
            Task::TextClassification => labels::functions(tokenizer, pretrained)?,
            Task::TokenClassification => entities::functions(tokenizer, pretrained)?,
            Task::FillMask => mask::functions(tokenizer)?,
            Task::QuestionAnswering => answers::functions(tokenizer)?,
            Task::ZeroShotClassification => zero_shot::functions(tokenizer, pretrained)?,
            Task::TextImageEmbedding => towers::functions(tokenizer, pretrained)?,
            Task::ImageClassification | Task::ImageFeatureExtraction => {
                return Err(Error::internal("a task of images is not for texts"));
            }
        };
        let (mut functions, parts): (Vec<_>, _) = made.into_iter().unzip();
        let tasks = Texts { padding, parts };
        tasks.try_out(&networks, &mut functions)?;
        Ok(Opened {
            networks,
            engine,
            functions,
            digest: digest_of(files, pretrained),
            notes: vec![format!("texts of more than {most} tokens are cut")],
            tasks,
        })
    }
}

/// Of weights and whatever else of the folder may decide an output.
fn digest_of(files: &ModelFiles, pretrained: &Pretrained) -> String {
    let weights: Vec<&str> = match &pretrained.weights {
        Weights::Safetensors(paths) => paths.iter().map(String::as_str).collect(),
        Weights::Onnx(path) => vec![path],
    };
    let decides = |path: &str| {
        let is_text = [".json", ".txt", ".yaml", ".yml"]
            .iter()
            .any(|end| path.ends_with(end));
        let is_dense = pretrained.sentence.iter().flat_map(|sentence| &sentence.dense);
        let is_dense = is_dense
            .into_iter()
            .any(|folder| path.starts_with(folder.as_str()));
        path.starts_with(&pretrained.root) && (is_text || is_dense) || weights.contains(&path)
    };
    let decisive = files.files.iter().filter(|(path, _)| decides(path));
    digest(decisive.map(|(path, bytes)| (path.as_str(), bytes)))
}

impl Texts {
    /// Runs each function on one text, and learns how long its vectors are.
    fn try_out(&self, networks: &Arc<dyn Networks>, functions: &mut [Function]) -> Result<()> {
        let Some(first) = self.parts.first() else {
            return Err(Error::internal("a model without functions"));
        };
        let mut runner = self.runner(networks, first.as_ref(), 1)?;
        for (function, part) in std::iter::zip(functions, &self.parts) {
            let input = |input| trial_input(input, &part.trial());
            let batch = TensorBatch {
                rows: 1,
                inputs: function.inputs.iter().map(input).collect::<Result<_>>()?,
            };
            let sequences = [part.read(&batch, 0, &mut 0)?];
            let rows = Rows {
                batch: &batch,
                rows: &[0],
                sequences: &sequences,
            };
            let values = part.infer(&rows, &mut runner)?;
            for (output, value) in std::iter::zip(&mut function.outputs, &values) {
                let fixed = |shape: &[usize]| shape.iter().map(|extent| Dim::Fixed(*extent)).collect();
                match value {
                    // A column of vectors stays one, even of vectors of one number.
                    Value::Tensor(tensor) if tensor.shape != [1, 1] => {
                        output.shape = fixed(&tensor.shape[1..])
                    }
                    Value::Lists(Lists {
                        items: Items::Tensor(items),
                        ..
                    }) => output.shape = fixed(&items.shape[1..]),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn runner(&self, networks: &Arc<dyn Networks>, part: &dyn Job, threads: usize) -> Result<Runner> {
        let network = Arc::clone(networks).network(threads)?;
        let limits = Limits {
            tokens: part.most_tokens(BATCH_TOKENS),
            pads: network.pads(),
            rows: BATCH_ROWS,
        };
        // A model of two towers takes images as well, but not with texts.
        let inputs = networks.inputs().iter();
        let wanted: Vec<String> = inputs.filter(|name| *name != "pixel_values").cloned().collect();
        Ok(Runner::new(network, &wanted, self.padding, limits))
    }
}

fn trial_input(input: &InputFeature, text: &str) -> Result<Tensor> {
    match (&input.source, input.dtype) {
        (Source::Optional(otherwise), _) => params::of_default(input, otherwise),
        (_, DType::String) => Tensor::new(vec![1; 1 + input.shape.len()], vec![text.to_string()]),
        (_, other) => Err(Error::internal(format!(
            "texts have no input of {}",
            other.as_str()
        ))),
    }
}

impl Tasks for Texts {
    fn worker(&self, networks: &Arc<dyn Networks>, place: usize, threads: usize) -> Result<Box<dyn Model>> {
        let part = &self.parts[place];
        let runner = self.runner(networks, part.as_ref(), threads)?;
        Ok(Box::new(TextWorker::new(Arc::clone(part), runner)))
    }

    fn own_batch_rows(&self, _place: usize) -> Option<usize> {
        Some(BATCH_ROWS)
    }
}

/// What a classifier's numbers stand for.
fn names_of_labels(config: &serde_json::Map<String, serde_json::Value>) -> Vec<String> {
    let named = config.get("id2label").and_then(serde_json::Value::as_object);
    let count = match named {
        Some(named) => named.len(),
        None => config
            .get("num_labels")
            .and_then(serde_json::Value::as_u64)
            .unwrap_or(2) as usize,
    };
    let name = |id: usize| {
        let name = named.and_then(|named| named.get(&id.to_string()));
        name.and_then(serde_json::Value::as_str)
            .map_or_else(|| format!("LABEL_{id}"), str::to_string)
    };
    (0..count).map(name).collect()
}

/// The text of a row.
fn text(tensor: &Tensor, row: usize) -> Result<&str> {
    let text = texts(tensor)?.get(row).map(String::as_str);
    text.ok_or_else(|| Error::internal("there are fewer texts than rows"))
}

/// The texts of a column.
fn texts(tensor: &Tensor) -> Result<&[String]> {
    match &tensor.data {
        TensorData::String(texts) => Ok(texts),
        other => Err(Error::internal(format!(
            "texts came as {}",
            other.dtype().as_str()
        ))),
    }
}

fn text_input(name: &str) -> InputFeature {
    InputFeature {
        name: name.into(),
        dtype: DType::String,
        shape: vec![],
        source: Source::Column(name.into()),
        on_null: None,
        affine: (1.0, 0.0),
    }
}

fn output(name: &str, dtype: DType, shape: &[Dim], kind: OutputKind) -> OutputFeature {
    OutputFeature {
        name: name.into(),
        column: name.into(),
        dtype,
        shape: shape.to_vec(),
        kind,
    }
}
