//! Each section of the job file, from what the user wrote to what the program uses: defaults filled in, words and
//! amounts read, and what contradicts itself within the section told.

use serde_json::Value;

use crate::config::check::given;
use crate::config::faults::Faults;
use crate::config::job_file::{
    InferenceSection, InputSection, ModelSection, NullPolicy, OutputSection, ResourcesSection,
};
use crate::config::naming;
use crate::config::nesting::shown;
use crate::config::quantity::{self, Quantity};
use crate::config::{
    Backend, Device, ExecutionProvider, InferenceOptions, InputOptions, ModelOptions, OutputOptions,
    Precision, Resources, SaveMode,
};
use crate::signature::OnNull;

/// What is allowed for `model.device`.
pub const DEVICES: &str = "auto, cpu, cuda or cuda:<number>";

/// `input.file_pattern` when nothing is said.
pub const DEFAULT_PATTERN: &str = "**/*.parquet";

/// `inference.grace_secs` when nothing is said: SPCS kills 30 s after SIGTERM.
pub const DEFAULT_GRACE_SECS: f64 = 25.0;

/// The location that means the built-in test model.
pub const ECHO: &str = "echo";

/// Section `model`.
pub fn model(section: ModelSection, faults: &mut Faults) -> ModelOptions {
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
    if backend == Some(Backend::Echo) && matches!(device, Device::Gpus | Device::Cuda(_)) {
        faults.push(
            "model.device",
            "a GPU given, but the backend echo runs on the cpu only",
        );
    }
    let precision = section.precision.unwrap_or_default();
    let execution_providers = section.execution_providers.unwrap_or_default();
    for (index, provider) in execution_providers.iter().enumerate() {
        if execution_providers[..index].contains(provider) {
            faults.push(
                format!("model.execution_providers[{index}]"),
                format!("{} given twice, each provider once allowed", provider.as_str()),
            );
        }
    }
    let on_gpus = matches!(device, Device::Gpus | Device::Cuda(_));
    if precision != Precision::F32 && execution_providers.is_empty() && !on_gpus {
        let who = match precision {
            Precision::Bf16 => "execution_providers: [openvino] or device: cuda",
            _ => "device: cuda",
        };
        faults.push(
            "model.precision",
            format!(
                "{} given, but on processors ONNX Runtime's own kernels and Candle compute in f32 only; name who can do it, \
                 {who}, or leave the precision out",
                precision.as_str()
            ),
        );
    }
    gpu_providers(device, &execution_providers, faults);
    ModelOptions {
        location,
        backend,
        function_name: section.function_name,
        device,
        precision,
        execution_providers,
        jpeg_scale: section.jpeg_scale,
    }
}

/// Execution providers for GPUs go with GPUs, and with no others.
fn gpu_providers(device: Device, providers: &[ExecutionProvider], faults: &mut Faults) {
    let Some(on_gpus) = providers.iter().find(|provider| provider.is_on_gpus()) else {
        return;
    };
    let name = on_gpus.as_str();
    if device == Device::Cpu {
        faults.push(
            "model.execution_providers",
            format!("{name} given, but model.device is cpu; leave one of them out"),
        );
    }
    if let Some(other) = providers.iter().find(|provider| !provider.is_on_gpus()) {
        faults.push(
            "model.execution_providers",
            format!(
                "{name} and {} given, but one computes on GPUs and the other on processors; leave one of them out",
                other.as_str()
            ),
        );
    }
}

fn parse_device(text: &str) -> Option<Device> {
    match text {
        "auto" => Some(Device::Auto),
        "cpu" => Some(Device::Cpu),
        "cuda" => Some(Device::Gpus),
        other => {
            let ordinal = other.strip_prefix("cuda:")?;
            // `parse` alone would take a sign.
            let digits = ordinal.chars().all(|c| c.is_ascii_digit());
            digits.then(|| ordinal.parse().ok())?.map(Device::Cuda)
        }
    }
}

/// Section `input`.
pub fn input(section: InputSection, faults: &mut Faults) -> InputOptions {
    let on_null = match (section.on_null.unwrap_or(NullPolicy::Fail), section.fill_value) {
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
        columns: section.columns.unwrap_or_default(),
        on_null,
        on_out_of_range: section.on_out_of_range.unwrap_or_default(),
        on_row_error: section.on_row_error.unwrap_or_default(),
        column_handling: section.column_handling.unwrap_or_default(),
    }
}

/// Section `output`; `location` is where results go by now.
pub fn output(section: OutputSection, location: String, faults: &mut Faults) -> OutputOptions {
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
    if options.take_over && options.mode != SaveMode::Overwrite {
        faults.push(
            "output.take_over",
            "true given, only allowed with mode: overwrite",
        );
    }
    naming::check_columns(&options, faults);
    options
}

/// Section `resources`.
pub fn resources(section: ResourcesSection, faults: &mut Faults) -> Resources {
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

/// Section `inference`.
pub fn inference(section: InferenceSection) -> InferenceOptions {
    InferenceOptions {
        num_workers: section.num_workers.map(|count| count as usize),
        max_batch_rows: section.max_batch_rows.map(|rows| rows as usize),
        grace_secs: section.grace_secs.unwrap_or(DEFAULT_GRACE_SECS),
        help: section.help.unwrap_or(true),
    }
}
