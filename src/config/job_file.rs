//! The job file as the user writes it.
//!
//! These types are the one place that names the keys of a job. The doc comment of a key is its documentation; from
//! types and comments come the JSON schema, the tables of `docs/job-file.md`, the check of every document and
//! its messages. A key marked `x-no-effect` is accepted and said to do nothing; one marked `x-not-yet` is
//! refused when it asks for something, since ignoring it would change results. `x-takes` says in words what types
//! and limits cannot.
//!
//! Nothing is filled in or checked against anything else here: that is [`resolve`](super::resolve)'s work.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

use crate::config::naming;
use crate::config::quantity::{self, Quantity};
use crate::config::sections;
use crate::config::{
    Backend, ColumnHandling, Compression, ExecutionProvider, JpegScale, LocalWriter, OnOutOfRange,
    OnRowError, Precision, SaveMode,
};

/// A Floe job: a model, the Parquet files to run it over, and where results go. YAML or JSON.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Floe job")]
pub struct JobFile {
    /// The job's name.
    ///
    /// Default: the platform's service name, else `BATCH_INFERENCE_<UUID>`.
    #[schemars(
        example = &"score_flights",
        regex(pattern = "^[A-Za-z_][A-Za-z0-9_]{0,254}$"),
        extend("x-takes" = naming::NAME)
    )]
    pub job_name: Option<String>,
    /// Names the job `<prefix>_<UUID>`. Not together with `job_name`; the platform's service name goes first.
    ///
    /// Default: `BATCH_INFERENCE`.
    #[schemars(example = &"nightly")]
    pub job_name_prefix: Option<String>,
    /// Names one launch of the job. Restarts and all replicas of a launch share it; another launch has another.
    /// Usually the launcher sets it, through `FLOE_RUN_ID` or `--run-id`.
    ///
    /// Default: derived from job, model, output and the platform's service name.
    #[schemars(example = &"0b9f6c1e-7a52-4d0e-9f4e-2f6d1a3c5b70", length(min = 1, max = 255))]
    pub run_id: Option<String>,
    /// What to run.
    pub model: Option<ModelSection>,
    /// What to run it over.
    pub input: Option<InputSection>,
    /// Where results go.
    pub output: Option<OutputSection>,
    /// How stores are reached. Needed only where the environment does not say it.
    pub storage: Option<StorageSection>,
    /// What each replica's container was promised.
    pub resources: Option<ResourcesSection>,
    /// How the worker pool is set up.
    pub inference: Option<InferenceSection>,
    /// How many replicas share the work. Where the platform gives each container an index and a count, those are
    /// taken; without an index, more than one means: run all of them on this machine.
    ///
    /// Default: `1`.
    #[schemars(example = 3, range(min = 1, max = 10_000))]
    pub replicas: Option<u32>,
    /// How Snowflake's own worker image is built.
    #[schemars(extend("x-no-effect" = "this worker's image is built beforehand"))]
    pub image_build: Option<ImageBuildSection>,
    /// Warehouse of the job.
    #[schemars(extend("x-no-effect" = "this worker runs no SQL"))]
    pub warehouse: Option<Value>,
    /// Compute pool of the job.
    #[schemars(extend("x-no-effect" = "the launcher chooses the compute pool"))]
    pub compute_pool: Option<Value>,
    /// Whether the client waits for the job.
    #[schemars(extend("x-no-effect" = "waiting is the launcher's business"))]
    pub block: Option<Value>,
}

/// What to run.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// Folder, file, URL or stage path of the model; `echo` is the built-in test model.
    ///
    /// Required.
    #[schemars(example = &"models/flights", length(min = 1))]
    pub location: Option<String>,
    /// Who runs the model. A backend that this build lacks ends the job; there is no fallback.
    ///
    /// Default: by what the location holds.
    #[schemars(example = &"onnx")]
    pub backend: Option<Backend>,
    /// The model's function to call; needed only when it has several.
    ///
    /// Default: the model's only function.
    #[schemars(example = &"predict", length(min = 1))]
    pub function_name: Option<String>,
    /// Where the model runs; `cuda` is the first GPU, `cuda:1` the one with that number.
    ///
    /// Default: `auto`, the best device of this build and machine.
    #[schemars(
        example = &"cpu",
        example = &"cuda:1",
        regex(pattern = "^(auto|cpu|cuda(:[0-9]+)?)$"),
        extend("x-takes" = sections::DEVICES)
    )]
    pub device: Option<String>,
    /// How exactly the model computes. `bf16` is several times as fast on processors that have it, changes results a
    /// little, and needs an execution provider that can do it; on GPUs there is `f16`, too. What can't be had ends the job.
    ///
    /// Default: `f32`.
    #[schemars(example = &"bf16")]
    pub precision: Option<Precision>,
    /// Plug-ins of ONNX Runtime that compute what they can, best first; the rest its own kernels do. They are fetched
    /// apart: `docs/models.md` says how, and `docs/gpu.md` for `cuda` and `tensorrt`.
    ///
    /// Default: none.
    #[schemars(example = ["openvino"])]
    pub execution_providers: Option<Vec<ExecutionProvider>>,
    /// At which scale JPEG images are decoded that the model takes in a smaller size. `reduced` decodes them at a half, a quarter
    /// or an eighth where that is still enough, as Pillow's `draft` does: faster, and not what Python's pipelines see.
    ///
    /// Default: what the model card says, and that is `full`.
    #[schemars(example = &"reduced")]
    pub jpeg_scale: Option<JpegScale>,
}

/// What to run it over.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputSection {
    /// Folder, file, URL or stage path of the Parquet input.
    ///
    /// Required.
    #[schemars(example = &"data/flights", length(min = 1))]
    pub stage_location: Option<String>,
    /// Which files below the location are read: a glob over their relative paths.
    ///
    /// Default: `**/*.parquet`.
    #[schemars(example = &"2013/**/*.parquet", length(min = 1))]
    pub file_pattern: Option<String>,
    /// Values for model inputs that are the same for every row, by the input's name.
    ///
    /// Default: none.
    #[schemars(example = example_params())]
    pub params: Option<BTreeMap<String, Value>>,
    /// Columns that feed the model under another name than the model's own: the model's name, then the column's.
    ///
    /// Default: none.
    #[schemars(example = example_columns())]
    pub columns: Option<BTreeMap<String, String>>,
    /// Nulls in columns that feed the model, where the model card does not say.
    ///
    /// Default: `fail`.
    #[schemars(example = &"nan")]
    pub on_null: Option<NullPolicy>,
    /// The number that takes the place of a null; only with `on_null: fill`.
    ///
    /// Default: none.
    #[schemars(example = 0.0)]
    pub fill_value: Option<f64>,
    /// Numbers that the model's input type cannot hold. They never wrap around.
    ///
    /// Default: `fail`.
    #[schemars(example = &"saturate")]
    pub on_out_of_range: Option<OnOutOfRange>,
    /// Rows that can't be scored while others can: an image that is damaged, a file that is missing, a null or a number that
    /// `on_null` and `on_out_of_range` don't let through. `null` leaves the model's columns null there, says why in a
    /// further column, `error` (after `output.prefix`), and counts them.
    ///
    /// Default: `fail`.
    #[schemars(example = &"null")]
    pub on_row_error: Option<OnRowError>,
    /// Columns that hold paths of files: the model gets the files' content in their place, the output keeps the paths.
    /// `docs/files.md` says which paths are followed.
    ///
    /// Default: none.
    #[schemars(example = example_column_handling())]
    pub column_handling: Option<BTreeMap<String, ColumnHandling>>,
    /// Column whose equal values must reach the model in one call.
    #[schemars(extend("x-not-yet" = "partitioned model functions are not in this version"))]
    pub partition_column: Option<String>,
    /// How Snowflake's client laid out the staged input.
    #[schemars(extend("x-no-effect" = "the layout is seen from the files"))]
    pub layout: Option<Value>,
}

/// What to do with a null in a column that feeds the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NullPolicy {
    /// End the job, naming file, row group, row and column.
    Fail,
    /// Not-a-number; only for floating-point inputs.
    Nan,
    /// `fill_value`.
    Fill,
}

/// Where results go.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputSection {
    /// Folder or URL that will hold the results and `_SUCCESS`.
    ///
    /// Required, this or `base_stage_location`.
    #[schemars(example = &"out/flights", length(min = 1))]
    pub stage_location: Option<String>,
    /// Results go to `<base_stage_location>/<job_name>/`. Not together with `stage_location`.
    ///
    /// Default: none.
    #[schemars(example = &"out", length(min = 1))]
    pub base_stage_location: Option<String>,
    /// What to do when the output holds something already.
    ///
    /// Default: `error`.
    #[schemars(example = &"overwrite")]
    pub mode: Option<SaveMode>,
    /// In overwrite mode: supersede another run that has not finished.
    ///
    /// Default: `false`.
    #[schemars(example = true)]
    pub take_over: Option<bool>,
    /// Input columns whose values become `key=value` folders, outermost first.
    ///
    /// Default: none.
    #[schemars(example = ["ORIGIN"], inner(length(min = 1)))]
    pub partition_by: Option<Vec<String>>,
    /// Parquet compression of the results.
    ///
    /// Default: the input's own, column by column.
    #[schemars(example = &"zstd")]
    pub compression: Option<Compression>,
    /// The model's output columns to keep, by the model's names for them. Input columns always pass through.
    ///
    /// Default: all.
    #[schemars(example = ["label"], length(min = 1), inner(length(min = 1)))]
    pub columns: Option<Vec<String>>,
    /// New names for output columns, by the model's names for them.
    ///
    /// Default: none.
    #[schemars(example = example_rename())]
    pub rename: Option<BTreeMap<String, String>>,
    /// Put before the name of every output column that `rename` does not name.
    ///
    /// Default: none.
    #[schemars(example = &"predicted_")]
    pub prefix: Option<String>,
}

/// What each replica's container was promised.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourcesSection {
    /// Cores, whole, as a fraction or in thousandths.
    ///
    /// Default: what the container or machine has.
    #[schemars(
        example = 1.5, example = &"2", example = &"500m",
        extend("x-takes" = quantity::CORES)
    )]
    pub cpu_requests: Option<Quantity>,
    /// Memory with its unit. Everything in flight is kept below it.
    ///
    /// Default: what the container or machine has.
    #[schemars(
        example = &"8GiB", example = &"512Mi",
        extend("x-takes" = quantity::MEMORY)
    )]
    pub memory_requests: Option<Quantity>,
    /// Whole GPUs: so many of those that are there are used. Fewer than that end the job.
    ///
    /// Default: what the container or machine has.
    #[schemars(example = 1, example = &"1", extend("x-takes" = quantity::GPUS))]
    pub gpu_requests: Option<Quantity>,
}

/// How stores are reached: settings, limits and patience. Nothing here changes results.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StorageSection {
    /// Settings of the object store clients, under the names that the `object_store` crate gives them. The same names
    /// in upper case are read from the environment, which is the better place for secrets.
    ///
    /// Default: what the environment says (`AWS_…`, `AZURE_…`, `GOOGLE_…`), else the machine's own identity.
    #[schemars(example = example_storage())]
    pub options: Option<BTreeMap<String, Value>>,
    /// Settings for locations that begin with a URL, laid over `options`: input and output may need different ones.
    ///
    /// Default: none.
    #[schemars(example = example_by_location())]
    pub by_location: Option<BTreeMap<String, BTreeMap<String, Value>>>,
    /// Requests in flight at once, to each store. Where a store says that it is busy, fewer are made by themselves.
    ///
    /// Default: `64`.
    #[schemars(example = 64, range(min = 1, max = 4096))]
    pub max_requests: Option<u32>,
    /// Seconds for which a request that fails for the moment is repeated, with growing pauses.
    ///
    /// Default: `180`.
    #[schemars(example = 180, range(min = 0, max = 3600))]
    pub retry_secs: Option<f64>,
    /// Seconds without a byte after which a request counts as stalled and is made again.
    ///
    /// Default: `30`.
    #[schemars(example = 30, range(min = 1, max = 3600))]
    pub stall_secs: Option<f64>,
    /// How files of the local file system are written.
    ///
    /// Default: `auto`.
    #[schemars(example = &"sequential")]
    pub local_writer: Option<LocalWriter>,
    /// Which connection of `connections.toml` reaches Snowflake stages. Inside SPCS none is needed.
    ///
    /// Default: `SNOWFLAKE_DEFAULT_CONNECTION_NAME`, else `default`.
    #[schemars(example = &"prod", length(min = 1))]
    pub connection: Option<String>,
}

/// How the worker pool is set up.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InferenceSection {
    /// Worker threads, each with a model of its own. Snowflake's own worker takes 2·vCPU+1 on a CPU and 1 on a GPU,
    /// which asks for more threads than there are cores; any number is taken here. On GPUs it is the number of models, dealt
    /// out in turn; threads that read, decode and write stay one per core.
    ///
    /// Default: one per core; on GPUs one per GPU.
    #[schemars(example = 4, range(min = 1, max = 4096))]
    pub num_workers: Option<u32>,
    /// Most rows handed to the model at once.
    ///
    /// Default: by trial, when the run is planned, if the model will need long enough for it to pay; else by the number of
    /// rows and the width of the model's inputs.
    #[schemars(example = 8192, range(min = 1, max = 16_777_216))]
    pub max_batch_rows: Option<u32>,
    /// Seconds that a unit in hand may still take after SIGTERM. SPCS kills 30 s after SIGTERM.
    ///
    /// Default: `25`.
    #[schemars(example = 25, range(min = 0, max = 3600))]
    pub grace_secs: Option<f64>,
    /// Whether a replica that is done with its own units goes on with units of replicas that are slow or gone, so that
    /// the job ends as long as one replica lives.
    ///
    /// Default: `true`.
    #[schemars(example = false)]
    pub help: Option<bool>,
    /// Which of Snowflake's engines serves the model. `VLLM` is refused.
    #[schemars(extend("x-no-effect" = "this worker is the engine"))]
    pub engine_options: Option<EngineSection>,
    /// LoRA adapters.
    #[schemars(extend("x-not-yet" = "adapters are not in this version"))]
    pub adapters: Option<Value>,
}

/// Which of Snowflake's engines serves the model.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EngineSection {
    /// `PYTHON_GENERIC` or nothing; any case.
    #[schemars(example = &"PYTHON_GENERIC")]
    pub engine: Option<String>,
    /// Arguments for that engine.
    #[schemars(example = ["--max-model-len=4096"])]
    pub engine_args_override: Option<Vec<String>>,
}

/// How Snowflake's own worker image is built.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageBuildSection {
    /// Where that image is stored.
    #[schemars(example = &"db.schema.images")]
    pub image_repo: Option<Value>,
    /// Whether it is built anew.
    #[schemars(example = false)]
    pub force_rebuild: Option<Value>,
}

fn example_params() -> BTreeMap<String, f64> {
    BTreeMap::from([("threshold".to_string(), 0.5)])
}

fn example_columns() -> BTreeMap<String, String> {
    BTreeMap::from([("sentence".into(), "REVIEW_TEXT".into())])
}

fn example_column_handling() -> BTreeMap<String, BTreeMap<String, String>> {
    let pair = |key: &str, value: &str| (key.to_string(), value.to_string());
    let handling = [
        pair("input_format", "full_stage_path"),
        pair("convert_to", "raw_bytes"),
    ];
    BTreeMap::from([("IMAGE".to_string(), BTreeMap::from(handling))])
}

fn example_storage() -> BTreeMap<String, Value> {
    BTreeMap::from([
        ("aws_region".to_string(), "eu-central-1".into()),
        ("aws_endpoint".to_string(), "http://localhost:9000".into()),
        ("aws_allow_http".to_string(), true.into()),
    ])
}

fn example_by_location() -> BTreeMap<String, BTreeMap<String, Value>> {
    let settings = BTreeMap::from([("aws_region".to_string(), "us-west-2".into())]);
    BTreeMap::from([("s3://results".to_string(), settings)])
}

fn example_rename() -> BTreeMap<String, String> {
    BTreeMap::from([("variable".to_string(), "ARR_DELAY_PREDICTED".to_string())])
}
