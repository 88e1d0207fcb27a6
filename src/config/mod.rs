//! The job: what the user asked for, as the program uses it.
//!
//! What a user writes ([`job_file`], flags, environment) and what the program uses ([`Job`]) are two types.
//! [`resolve`](resolve::resolve) turns the one into the other, or says which key is wrong, what was given and what
//! is allowed.
//! Nothing here does I/O or reads the environment: both are handed in.

pub mod aliases;
pub mod check;
pub mod document;
pub mod faults;
pub mod job_file;
pub mod markdown;
pub mod naming;
pub mod nesting;
pub mod overrides;
pub mod quantity;
pub mod replica;
pub mod resolve;
pub mod schema;
pub mod sections;
pub mod storage;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub use replica::Replica;
pub use storage::{LocalWriter, Settings, StorageOptions};

use crate::signature::OnNull;

/// A checked job, with every default filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// `job_name`; `BATCH_INFERENCE_<UUID>` or the platform's service name when the user gave none.
    pub name: String,
    /// The user gave the name. A name that was not given must not decide which run this is.
    pub name_given: bool,
    /// `run_id` as given by the launcher; `None` leaves it to be derived (see `commit::run_id`).
    pub run_id: Option<String>,
    /// The platform's own name for this launch (SPCS service name), part of a derived run id.
    pub platform_job: Option<String>,
    /// What to run.
    pub model: ModelOptions,
    /// What to run it over.
    pub input: InputOptions,
    /// Where results go.
    pub output: OutputOptions,
    /// How stores are reached.
    pub storage: StorageOptions,
    /// What the container was promised.
    pub resources: Resources,
    /// How the worker pool is set up.
    pub inference: InferenceOptions,
    /// Which part of the job this process does.
    pub replica: Replica,
    /// Things the user should know about their job file, e.g. a key that has no effect here.
    pub notes: Vec<String>,
}

/// Section `model`.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelOptions {
    /// Folder, file or URL; `echo` for the built-in test model.
    pub location: String,
    /// `None`: by what the location holds.
    pub backend: Option<Backend>,
    /// Needed only when the model has several functions.
    pub function_name: Option<String>,
    /// Where it runs.
    pub device: Device,
    /// How exactly it computes.
    pub precision: Precision,
    /// Who computes before ONNX Runtime's own kernels do, best first.
    pub execution_providers: Vec<ExecutionProvider>,
    /// At which scale JPEG images are decoded; `None`: as the model card says.
    pub jpeg_scale: Option<JpegScale>,
}

impl ModelOptions {
    /// The model at `location`, with nothing else said.
    pub fn at(location: impl Into<String>) -> ModelOptions {
        ModelOptions {
            location: location.into(),
            backend: None,
            function_name: None,
            device: Device::default(),
            precision: Precision::default(),
            execution_providers: Vec::new(),
            jpeg_scale: None,
        }
    }
}

/// Who runs the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// ONNX Runtime.
    Onnx,
    /// Floe's own evaluation of tree ensembles.
    Trees,
    /// Candle.
    Candle,
    /// The built-in test model: adds a hash of each row.
    Echo,
}

/// How exactly a model computes what its file says in float32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// As the model says.
    #[default]
    F32,
    /// Products of matrices may be taken in bfloat16: 8 bits of mantissa instead of 24.
    Bf16,
    /// The same in float16: 11 bits of mantissa, and nothing above 65504.
    F16,
}

impl Precision {
    /// The word in the job file.
    pub fn as_str(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::F16 => "f16",
        }
    }
}

/// At which scale JPEG images are decoded that are resized to less anyway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JpegScale {
    /// At their own.
    #[default]
    Full,
    /// At the smallest of a half, a quarter and an eighth that is no less than what they are resized to, as Pillow's `draft`.
    Reduced,
}

/// An execution provider of ONNX Runtime that is loaded at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExecutionProvider {
    /// Intel's OpenVINO, on the processor.
    Openvino,
    /// NVIDIA's CUDA, on GPUs; what `model.device: cuda` stands for.
    Cuda,
    /// NVIDIA's TensorRT, on GPUs.
    Tensorrt,
}

impl ExecutionProvider {
    /// The word in the job file.
    pub fn as_str(self) -> &'static str {
        match self {
            ExecutionProvider::Openvino => "openvino",
            ExecutionProvider::Cuda => "cuda",
            ExecutionProvider::Tensorrt => "tensorrt",
        }
    }
}

impl ExecutionProvider {
    /// Whether it computes on GPUs.
    pub fn is_on_gpus(self) -> bool {
        matches!(self, ExecutionProvider::Cuda | ExecutionProvider::Tensorrt)
    }
}

/// Where the model runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Device {
    /// The best device of this build and machine.
    #[default]
    Auto,
    /// Processor cores.
    Cpu,
    /// Every NVIDIA GPU that the job may use.
    Gpus,
    /// One NVIDIA GPU, by its ordinal.
    Cuda(u32),
}

/// Section `input`.
#[derive(Clone, Debug, PartialEq)]
pub struct InputOptions {
    /// Folder, file or URL.
    pub location: String,
    /// Glob over paths relative to the location.
    pub file_pattern: String,
    /// Values for model inputs that are the same for every row.
    pub params: BTreeMap<String, serde_json::Value>,
    /// Columns that feed the model, by the names that the model has for them.
    pub columns: BTreeMap<String, String>,
    /// Nulls in columns that feed the model, where the model card does not say.
    pub on_null: OnNull,
    /// Numbers that the model's type cannot hold.
    pub on_out_of_range: OnOutOfRange,
    /// Rows that the model can't be given, or that it fails on.
    pub on_row_error: OnRowError,
    /// Columns of paths, by name: the model gets the files' contents.
    pub column_handling: BTreeMap<String, ColumnHandling>,
}

/// What a column of paths stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ColumnHandling {
    /// What the cells hold: `full_stage_path`, the path of a file. Full stage paths (`@db.schema.stage/folder/file`), URLs and
    /// paths below `location`, and paths relative to it will do.
    pub input_format: InputFormat,
    /// What the model gets instead of the path: the file's bytes, or text that holds them.
    pub convert_to: FileEncoding,
    /// Folder or URL below which the files lie. Nothing outside of it is read, except from stages that cells name.
    ///
    /// Default: the input's.
    #[serde(default)]
    pub location: Option<String>,
}

/// `InputFormat` of `snowflake.ml.model.batch_inference`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InputFormat {
    /// The path of a file.
    FullStagePath,
}

/// `FileEncoding` of `snowflake.ml.model.batch_inference`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileEncoding {
    /// The bytes, for an input of bytes.
    RawBytes,
    /// Base64 text.
    Base64,
    /// `data:<type>;base64,<text>`
    Base64DataUrl,
}

/// What to do with a row that can't be scored while others can: a damaged image, a file that is missing, a null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnRowError {
    /// End the job, naming file, row group and row.
    #[default]
    Fail,
    /// Leave the model's columns null in this row and say why in a column of its own.
    Null,
}

/// What to do with a number that the model's input type cannot hold. It never wraps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnOutOfRange {
    /// End the job, naming file, row group, row and column.
    #[default]
    Fail,
    /// The nearest value that fits.
    Saturate,
}

/// Section `output`.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputOptions {
    /// The folder or URL that will hold `_SUCCESS`.
    pub location: String,
    /// What to do with what is there already.
    pub mode: SaveMode,
    /// Input columns whose values become `key=value` folders.
    pub partition_by: Vec<String>,
    /// `None`: the input's own, column by column.
    pub compression: Option<Compression>,
    /// Output columns to keep; `None` keeps all.
    pub columns: Option<Vec<String>>,
    /// New names for output columns.
    pub rename: BTreeMap<String, String>,
    /// Put before the name of every output column that `rename` does not name.
    pub prefix: String,
    /// In overwrite mode: supersede a run that has not finished.
    pub take_over: bool,
}

/// `SaveMode` of `snowflake.ml.model.batch_inference`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SaveMode {
    /// Refuse an output that is not empty.
    #[default]
    Error,
    /// Remove existing files, then write new results.
    Overwrite,
}

/// Parquet compression of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Zstandard, level 3.
    Zstd,
    /// Snappy.
    Snappy,
    /// Gzip, level 6.
    Gzip,
    /// LZ4 (`LZ4_RAW`).
    Lz4,
    /// No compression.
    None,
}

/// Section `resources`, in machine units. `None`: what the machine or its cgroup allows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Resources {
    /// Cores.
    pub cpus: Option<f64>,
    /// Bytes.
    pub memory_bytes: Option<u64>,
    /// GPUs.
    pub gpus: Option<u32>,
}

/// Section `inference`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct InferenceOptions {
    /// Worker threads; `None`: one per core.
    pub num_workers: Option<usize>,
    /// Most rows handed to the model at once; `None`: chosen from model and row width.
    pub max_batch_rows: Option<usize>,
    /// How long a unit in hand may still take after SIGTERM.
    pub grace_secs: f64,
    /// Go on with units of other replicas when the own ones are done.
    pub help: bool,
}
