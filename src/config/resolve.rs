//! From what was said (job file, flags, environment) to the [`Job`] that the program uses.
//!
//! Aliases are moved, the document and the flags are checked against the schema, flags are laid over the document,
//! and what only makes sense together is checked together. The user sees every mistake of a step at once, and
//! nothing later has to ask again: a [`Job`] is complete and possible as far as its text tells.

use serde_json::{Map, Value};

use crate::config::aliases::{self, ALIASES};
use crate::config::check::{self, given};
use crate::config::document;
use crate::config::faults::Faults;
use crate::config::job_file::{
    InferenceSection, InputSection, JobFile, ModelSection, NullPolicy, OutputSection,
    ResourcesSection,
};
use crate::config::naming::{self, Name};
use crate::config::nesting::{Nesting, below, nesting, shown};
use crate::config::overrides::{self, Environment, Overrides, lay_over};
use crate::config::quantity::{self, Quantity};
use crate::config::replica::{self, Launch, Replica, Wanted};
use crate::config::schema::{NO_EFFECT, NOT_YET, inline_schema};
use crate::config::{
    Backend, Device, InferenceOptions, InputOptions, Job, ModelOptions, OutputOptions, Resources,
};
use crate::error::{Error, ErrorKind, Result};
use crate::signature::OnNull;

/// `input.file_pattern` when nothing is said.
pub const DEFAULT_PATTERN: &str = "**/*.parquet";

/// `inference.grace_secs` when nothing is said: SPCS kills 30 s after SIGTERM.
pub const DEFAULT_GRACE_SECS: f64 = 25.0;

/// What is allowed for `model.device`.
pub const DEVICES: &str = "auto, cpu, cuda or cuda:<number>";

/// The location that means the built-in test model.
pub const ECHO: &str = "echo";

/// A checked job and what this process is to do about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The job; its `replica` is this process's, or the first one when all are to be started here.
    pub job: Job,
    /// Be one replica, or start all of them.
    pub launch: Launch,
}

/// Resolves a job. `document` is the job file's text and where it came from (a path, or a variable's name).
///
/// # Errors
/// `Config`, naming every mistake found: the key's path or the flag, what was given, what is allowed.
pub fn resolve(
    document: Option<(&str, &str)>,
    overrides: &Overrides,
    environment: &Environment,
) -> Result<Resolved> {
    let origin = document.map(|(_, origin)| origin);
    let mut notes = Vec::new();
    let job_file = merge(document, overrides, &mut notes)?;

    let flags = overrides.given();
    let mut faults = Faults::new(flags.iter().map(|(key, _)| *key).collect());
    check_required(&job_file, origin)?;
    let wanted = Wanted {
        index: overrides.replica_index,
        count: job_file.replicas,
    };
    let launch = replica::launch(wanted, environment, &mut faults, &mut notes);
    let name = naming::name(&job_file, environment, &mut faults);
    let run_id = naming::run_id(&job_file, overrides, environment, &mut faults, &mut notes);
    let output = job_file.output.unwrap_or_default();
    let location = output_location(&output, &name, launch, &mut faults);
    let job = Job {
        model: model(job_file.model.unwrap_or_default(), &mut faults),
        input: input(job_file.input.unwrap_or_default(), &mut faults),
        output: output_options(output, location, &mut faults),
        resources: resources(job_file.resources.unwrap_or_default(), &mut faults),
        inference: inference(job_file.inference.unwrap_or_default()),
        name: name.text,
        name_given: name.given,
        run_id,
        platform_job: naming::platform_job(environment),
        replica: match launch {
            Launch::Replica(replica) => replica,
            Launch::Local { count } => Replica { index: 0, count },
        },
        notes,
    };
    check_places(&job, &mut faults);
    faults.into_result(origin)?;
    Ok(Resolved { job, launch })
}

/// The document with aliases moved, checked, and flags laid over it.
fn merge(
    document: Option<(&str, &str)>,
    overrides: &Overrides,
    notes: &mut Vec<String>,
) -> Result<JobFile> {
    let origin = document.map(|(_, origin)| origin);
    let mut merged = match document {
        Some((text, origin)) => document::parse(text, origin)?,
        None => Map::new(),
    };
    let mut faults = Faults::default();
    aliases::settle(&mut merged, &mut faults);
    let aliases: Vec<&str> = ALIASES.iter().map(|alias| alias.from).collect();
    check::check(inline_schema(), &merged, &aliases, &mut faults);
    say_what_has_no_effect(&merged, notes, &mut faults);
    faults.into_result(origin)?;

    let flags = overrides.given();
    let mut only_flags = Map::new();
    for (key, value) in &flags {
        overrides::put(&mut only_flags, key, value.clone());
    }
    let mut faults = Faults::new(flags.iter().map(|(key, _)| *key).collect());
    check::check(inline_schema(), &only_flags, &[], &mut faults);
    faults.into_result(origin)?;

    lay_over(&mut merged, &flags);
    serde_path_to_error::deserialize(Value::Object(merged)).map_err(|error| {
        let path = error.path().to_string();
        Error::new(
            ErrorKind::Config,
            format!("{path}: not as the job file's schema says"),
        )
        .with_source(error.into_inner())
    })
}

fn say_what_has_no_effect(
    document: &Map<String, Value>,
    notes: &mut Vec<String>,
    faults: &mut Faults,
) {
    check::marked(
        inline_schema(),
        document,
        NO_EFFECT,
        &mut |key, reason, _| {
            notes.push(format!("{key} has no effect: {reason}"));
        },
    );
    check::marked(
        inline_schema(),
        document,
        NOT_YET,
        &mut |key, reason, value| {
            let asks_for_nothing = match value {
                Value::Object(map) => map.is_empty(),
                Value::Array(items) => items.is_empty(),
                Value::String(text) => text.is_empty(),
                _ => false,
            };
            if !asks_for_nothing && !faults.has(key) {
                faults.push(
                    key,
                    format!("{} given, but {reason}; leave it out", given(value)),
                );
            }
        },
    );
    let engine = document
        .get("inference")
        .and_then(|inference| inference.get("engine_options")?.get("engine")?.as_str());
    if let Some(engine) = engine
        && !engine.eq_ignore_ascii_case("PYTHON_GENERIC")
    {
        faults.push(
            "inference.engine_options.engine",
            format!("{engine:?} given, only PYTHON_GENERIC or nothing allowed; this worker runs models itself"),
        );
    }
}

fn check_required(job_file: &JobFile, origin: Option<&str>) -> Result<()> {
    let model = job_file.model.clone().unwrap_or_default();
    let input = job_file.input.clone().unwrap_or_default();
    let output = job_file.output.clone().unwrap_or_default();
    let has_model = model.location.is_some() || model.backend == Some(Backend::Echo);
    let has_output = output.stage_location.is_some() || output.base_stage_location.is_some();
    let missing: Vec<String> = [
        (has_model, "model.location", "what to run"),
        (
            input.stage_location.is_some(),
            "input.stage_location",
            "what to run it over",
        ),
        (has_output, "output.stage_location", "where results go"),
    ]
    .into_iter()
    .filter(|(is_there, _, _)| !is_there)
    .map(|(_, key, meaning)| match overrides::flag_of(key) {
        Some(flag) => format!("{key} or {flag} ({meaning})"),
        None => format!("{key} ({meaning})"),
    })
    .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let place = origin.map_or(String::new(), |origin| format!("{origin}: "));
    Err(Error::config(format!(
        "{place}missing {}",
        missing.join(", ")
    )))
}

fn model(section: ModelSection, faults: &mut Faults) -> ModelOptions {
    let device = match section.device.as_deref().map(parse_device) {
        None => Device::Auto,
        Some(Some(device)) => device,
        Some(None) => {
            let text = section.device.clone().unwrap_or_default();
            faults.push("model.device", format!("{text:?} given, {DEVICES} allowed"));
            Device::Auto
        }
    };
    let location = section.location.unwrap_or_else(|| ECHO.to_string());
    let backend = match section.backend {
        None if location == ECHO => Some(Backend::Echo),
        chosen => chosen,
    };
    if backend == Some(Backend::Echo) && location != ECHO {
        faults.push(
            "model.location",
            format!(
                "{:?} given, but the backend echo is built in; leave the location or the backend out",
                shown(&location)
            ),
        );
    }
    if backend == Some(Backend::Echo) && matches!(device, Device::Cuda(_)) {
        faults.push(
            "model.device",
            "a GPU given, but the backend echo runs on the cpu only",
        );
    }
    ModelOptions {
        location,
        backend,
        function_name: section.function_name,
        device,
    }
}

fn parse_device(text: &str) -> Option<Device> {
    match text {
        "auto" => Some(Device::Auto),
        "cpu" => Some(Device::Cpu),
        "cuda" => Some(Device::Cuda(0)),
        other => {
            let ordinal = other.strip_prefix("cuda:")?;
            // `parse` alone would take a sign.
            let digits = ordinal.chars().all(|c| c.is_ascii_digit());
            digits.then(|| ordinal.parse().ok())?.map(Device::Cuda)
        }
    }
}

fn input(section: InputSection, faults: &mut Faults) -> InputOptions {
    let on_null = match (
        section.on_null.unwrap_or(NullPolicy::Fail),
        section.fill_value,
    ) {
        (NullPolicy::Fill, Some(value)) => OnNull::Fill(value),
        (NullPolicy::Fill, None) => {
            faults.push(
                "input.fill_value",
                "missing; on_null: fill needs a number to fill with",
            );
            OnNull::Fail
        }
        (_, Some(value)) => {
            faults.push(
                "input.fill_value",
                format!("{value} given, only allowed with on_null: fill"),
            );
            OnNull::Fail
        }
        (NullPolicy::Nan, None) => OnNull::Nan,
        (NullPolicy::Fail, None) => OnNull::Fail,
    };
    InputOptions {
        location: section.stage_location.unwrap_or_default(),
        file_pattern: section
            .file_pattern
            .unwrap_or_else(|| DEFAULT_PATTERN.to_string()),
        params: section.params.unwrap_or_default(),
        on_null,
        on_out_of_range: section.on_out_of_range.unwrap_or_default(),
    }
}

fn output_location(
    section: &OutputSection,
    name: &Name,
    launch: Launch,
    faults: &mut Faults,
) -> String {
    match (&section.stage_location, &section.base_stage_location) {
        (Some(location), None) => location.clone(),
        (Some(_), Some(base)) => {
            faults.push(
                "output.base_stage_location",
                format!(
                    "{:?} given beside output.stage_location; give one of them",
                    shown(base)
                ),
            );
            String::new()
        }
        (None, Some(base)) => {
            // Replicas that each invent a name would each write to a folder of their own.
            let invented =
                name.is_random && matches!(launch, Launch::Replica(_)) && launch.count() > 1;
            if invented {
                faults.push(
                    "output.base_stage_location",
                    format!(
                        "{:?} given, but the {} replicas share no job name; set job_name",
                        shown(base),
                        launch.count()
                    ),
                );
            }
            below(base, &name.text)
        }
        (None, None) => String::new(),
    }
}

fn output_options(section: OutputSection, location: String, faults: &mut Faults) -> OutputOptions {
    let partition_by = section.partition_by.unwrap_or_default();
    for (index, column) in partition_by.iter().enumerate() {
        if partition_by[..index].contains(column) {
            faults.push(
                format!("output.partition_by[{index}]"),
                format!("{column:?} given twice, each column once allowed"),
            );
        }
    }
    let options = OutputOptions {
        location,
        mode: section.mode.unwrap_or_default(),
        partition_by,
        compression: section.compression,
        columns: section.columns,
        rename: section.rename.unwrap_or_default(),
        prefix: section.prefix.unwrap_or_default(),
        take_over: section.take_over.unwrap_or(false),
    };
    if options.take_over && options.mode != crate::config::SaveMode::Overwrite {
        faults.push(
            "output.take_over",
            "true given, only allowed with mode: overwrite",
        );
    }
    naming::check_columns(&options, faults);
    options
}

fn resources(section: ResourcesSection, faults: &mut Faults) -> Resources {
    fn read<T>(
        key: &str,
        quantity: Option<Quantity>,
        parse: fn(&Quantity) -> Result<T, String>,
        faults: &mut Faults,
    ) -> Option<T> {
        let quantity = quantity?;
        match parse(&quantity) {
            Ok(amount) => Some(amount),
            Err(allowed) => {
                let text = match &quantity {
                    Quantity::Number(_) => quantity.to_string(),
                    Quantity::Text(text) => given(&Value::from(text.as_str())),
                };
                faults.push(key, format!("{text} given, {allowed}"));
                None
            }
        }
    }
    Resources {
        cpus: read(
            "resources.cpu_requests",
            section.cpu_requests,
            quantity::cores,
            faults,
        ),
        memory_bytes: read(
            "resources.memory_requests",
            section.memory_requests,
            quantity::bytes,
            faults,
        ),
        gpus: read(
            "resources.gpu_requests",
            section.gpu_requests,
            quantity::gpus,
            faults,
        ),
    }
}

fn inference(section: InferenceSection) -> InferenceOptions {
    InferenceOptions {
        num_workers: section.num_workers.map(|count| count as usize),
        max_batch_rows: section.max_batch_rows.map(|rows| rows as usize),
        grace_secs: section.grace_secs.unwrap_or(DEFAULT_GRACE_SECS),
    }
}

fn check_places(job: &Job, faults: &mut Faults) {
    if job.output.location.is_empty() {
        return;
    }
    let key = "output.stage_location";
    let (output, input) = (shown(&job.output.location), shown(&job.input.location));
    match nesting(&job.output.location, &job.input.location) {
        Nesting::Apart => {}
        Nesting::Same => faults.push(key, format!("{output:?} given, which is the input too; choose another folder")),
        Nesting::Inside => faults.push(
            key,
            format!("{output:?} given, which lies inside the input {input:?}; results would be read as input"),
        ),
        Nesting::Around => faults.push(
            key,
            format!("{output:?} given, which holds the input {input:?}; overwriting would remove it"),
        ),
    }
    let is_echo = job.model.backend == Some(Backend::Echo);
    let held = nesting(&job.output.location, &job.model.location);
    if !is_echo && matches!(held, Nesting::Same | Nesting::Around) {
        let model = shown(&job.model.location);
        faults.push(
            key,
            format!(
                "{output:?} given, which holds the model {model:?}; overwriting would remove it"
            ),
        );
    }
}
