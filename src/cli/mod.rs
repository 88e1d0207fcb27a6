//! The command line: what can be asked, as clap sees it.

pub mod head;
pub mod look;
pub mod run;
pub mod say;
pub mod store_check;

use clap::{Args, Parser, Subcommand};
use std::path::{Path, PathBuf};

use floe::config::StorageOptions;
use floe::config::document::is_document;
use floe::config::overrides::Overrides;
use floe::config::resolve::{self, Resolved};
use floe::error::{Error, ErrorKind, Result};
use floe::redact::redact;
use floe::storage::Storage;

use crate::environment;

/// Batch inference for Parquet: reads a folder, runs an ONNX model, writes Parquet and a _SUCCESS marker, exactly once
#[derive(Parser)]
#[command(name = "floe", version, max_term_width = 100, args_override_self = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// How log lines look on stderr: auto (text on a terminal, else json), text, json
    #[arg(long, global = true, value_name = "FORMAT", default_value = "auto")]
    pub log_format: String,
    /// Which log lines to show, e.g. warn or info,floe::commit=debug [env: FLOE_LOG] [default: info]
    #[arg(long, global = true, value_name = "FILTER")]
    pub log: Option<String>,
    /// How progress is shown: auto (bar on a terminal, else a log line every 10 s), bar, line, json (on stdout), none
    #[arg(long, global = true, value_name = "MODE", default_value = "auto")]
    pub progress: String,
}

#[derive(Subcommand)]
pub enum Command {
    /// Run the job: this replica's part, or all replicas on this machine with --replicas N
    Run(JobArgs),
    /// Print who would do what, without doing it
    Plan(JobArgs),
    /// Do every check a run would do, and stop
    Check(JobArgs),
    /// Show a model's functions, inputs and outputs, or say why it can't be run
    Inspect(InspectArgs),
    /// Check a finished output against its records: marker, files, sizes, checksums, rows
    Verify(VerifyArgs),
    /// Print the first rows of a Parquet folder or file
    Head(HeadArgs),
    /// Find out what a folder or URL really does as a store, and what Floe can promise there
    StoreCheck(store_check::StoreCheckArgs),
    /// Print a JSON schema: of the job file, or of the model card
    Schema(SchemaArgs),
}

impl Command {
    /// Whether stdout is read by a program.
    pub fn wants_json(&self) -> bool {
        match self {
            Command::Run(args) | Command::Plan(args) | Command::Check(args) => args.json,
            Command::Inspect(args) => args.json,
            Command::Verify(args) => args.json,
            Command::Head(args) => args.json,
            Command::StoreCheck(args) => args.json,
            Command::Schema(_) => true,
        }
    }
}

/// A job: a file, flags, or both (flags win).
#[derive(Args, Clone)]
#[command(args_override_self = true)]
pub struct JobArgs {
    /// Job file, YAML or JSON [env: FLOE_JOB holds the document itself or its path]
    #[arg(value_name = "JOBFILE")]
    pub job_file: Option<PathBuf>,
    /// Model: folder, file or URL; `echo` is the built-in test model
    #[arg(long)]
    pub model: Option<String>,
    /// Input folder, file or URL
    #[arg(long)]
    pub input: Option<String>,
    /// Output folder or URL
    #[arg(long)]
    pub output: Option<String>,
    /// What to do with an output that is not empty: error (default) or overwrite
    #[arg(long)]
    pub mode: Option<String>,
    /// Which input files to read, a glob [default: **/*.parquet]
    #[arg(long, value_name = "GLOB")]
    pub pattern: Option<String>,
    /// Function of the model, when it has several
    #[arg(long, value_name = "NAME")]
    pub function_name: Option<String>,
    /// Who runs the model: onnx, echo [default: by what the folder holds]
    #[arg(long)]
    pub backend: Option<String>,
    /// Where it runs: auto, cpu, cuda (every GPU) or cuda:N
    #[arg(long)]
    pub device: Option<String>,
    /// How exactly it computes: f32 (default); bf16 or f16 where an execution provider or a GPU can do it
    #[arg(long)]
    pub precision: Option<String>,
    /// Plug-ins of ONNX Runtime that compute what they can: openvino, cuda, tensorrt [default: none]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub execution_providers: Option<Vec<String>>,
    /// Worker threads, each with a model of its own [default: one per core]
    #[arg(long, value_name = "N")]
    pub num_workers: Option<u64>,
    /// Most rows handed to the model at once [default: by the width of its inputs]
    #[arg(long, value_name = "N")]
    pub max_batch_rows: Option<u64>,
    /// Input columns that become key=value folders of the output
    #[arg(long, value_name = "COL,…", value_delimiter = ',')]
    pub partition_by: Option<Vec<String>>,
    /// Compression of the output: zstd, snappy, gzip, lz4, none [default: the input's own]
    #[arg(long)]
    pub compression: Option<String>,
    /// Number of replicas; without an index, all run on this machine
    #[arg(long, value_name = "N")]
    pub replicas: Option<u64>,
    /// Which replica this process is, from 0
    #[arg(long, value_name = "I")]
    pub replica_index: Option<u64>,
    /// Name of the job
    #[arg(long, value_name = "NAME")]
    pub job_name: Option<String>,
    /// The run this process belongs to; restarts with the same id go on where the last one stopped
    #[arg(long, value_name = "ID")]
    pub run_id: Option<String>,
    /// With --mode overwrite: supersede a run that has not finished
    #[arg(long)]
    pub take_over: bool,
    #[command(flatten)]
    pub stages: StageArgs,
    /// Cores to use [default: all that the container has]
    #[arg(long, value_name = "CPUS")]
    pub cpus: Option<String>,
    /// Memory to use, e.g. 8GiB [default: all that the container has]
    #[arg(long, value_name = "BYTES")]
    pub memory: Option<String>,
    /// How long a unit in hand may still take after SIGTERM [default: 25]
    #[arg(long, value_name = "SECS")]
    pub grace_secs: Option<f64>,
    /// End when the own units are done, instead of going on with those of replicas that are slow or gone
    #[arg(long)]
    pub no_help: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// How Snowflake stages are reached.
#[derive(Args, Clone)]
pub struct StageArgs {
    /// Connection of connections.toml that reaches Snowflake stages [default: the default connection]
    #[arg(long, short, value_name = "NAME")]
    pub connection: Option<String>,
}

#[derive(Args)]
pub struct InspectArgs {
    /// Model: folder, file or URL
    pub model: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub stages: StageArgs,
}

#[derive(Args)]
pub struct VerifyArgs {
    /// Output folder or URL
    pub output: String,
    /// Check presence and sizes only, do not read the files
    #[arg(long)]
    pub shallow: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub stages: StageArgs,
}

#[derive(Args)]
pub struct HeadArgs {
    /// Folder, file or URL
    pub location: String,
    /// How many rows
    #[arg(long, default_value_t = 10)]
    pub rows: usize,
    /// Which columns [default: all]
    #[arg(long, value_name = "COL,…", value_delimiter = ',')]
    pub columns: Option<Vec<String>>,
    /// Print one JSON object per row
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub stages: StageArgs,
}

#[derive(Args)]
pub struct SchemaArgs {
    /// job or model-card
    #[arg(default_value = "job", value_parser = ["job", "model-card"])]
    pub of: String,
}

impl JobArgs {
    /// The job these arguments, the job file and the environment make together.
    pub fn resolve(&self) -> Result<Resolved> {
        let document = self.document()?;
        let document = document
            .as_ref()
            .map(|(text, origin)| (text.as_str(), origin.as_str()));
        resolve::resolve(document, &self.overrides(), &environment::platform())
    }

    /// The job document and where it came from: the file named, else `FLOE_JOB`.
    fn document(&self) -> Result<Option<(String, String)>> {
        if let Some(path) = &self.job_file {
            return read(path).map(Some);
        }
        match environment::job() {
            None => Ok(None),
            Some(text) if is_document(&text) => Ok(Some((text, "FLOE_JOB".to_string()))),
            Some(path) => read(Path::new(path.trim())).map(Some),
        }
    }

    fn overrides(&self) -> Overrides {
        let args = self.clone();
        Overrides {
            model: args.model,
            backend: args.backend,
            function_name: args.function_name,
            device: args.device,
            precision: args.precision,
            execution_providers: args.execution_providers,
            input: args.input,
            pattern: args.pattern,
            output: args.output,
            mode: args.mode,
            partition_by: args.partition_by,
            compression: args.compression,
            take_over: args.take_over.then_some(true),
            num_workers: args.num_workers,
            max_batch_rows: args.max_batch_rows,
            grace_secs: args.grace_secs,
            help: args.no_help.then_some(false),
            connection: args.stages.connection,
            cpus: args.cpus,
            memory: args.memory,
            replicas: args.replicas,
            replica_index: args.replica_index,
            job_name: args.job_name,
            run_id: args.run_id,
        }
    }
}

/// The stores that a command without a job can reach.
fn storage(stages: StageArgs) -> Result<Storage> {
    let options = StorageOptions {
        connection: stages.connection,
        ..StorageOptions::default()
    };
    Storage::new(options, environment::variables())
}

/// Says what is wrong with the command line, as clap says it, and ends the program.
///
/// clap quotes what was given, which may be a location with a password in it, in the wrong place.
pub fn refuse(error: &clap::Error) -> ! {
    let said = error.render().to_string();
    let clean = redact(&said);
    if !error.use_stderr() || *clean == said {
        error.exit();
    }
    eprint!("{clean}");
    std::process::exit(ErrorKind::Config.exit_code().into());
}

fn read(path: &Path) -> Result<(String, String)> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::config("can't read the job file")
            .with("file", path.display())
            .with_source(error)
    })?;
    Ok((text, path.display().to_string()))
}
