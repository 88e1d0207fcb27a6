//! Execution providers: plug-ins that compute what they can of a model, in place of ONNX Runtime's own kernels.
//!
//! A plug-in is loaded only when a job names it. It lies in a folder beside ONNX Runtime's library, where
//! `scripts/fetch-onnxruntime --with NAME` puts it, and nowhere else. Whatever was asked for and can't be had ends the
//! job: a plug-in that is not there, one that has no device on this machine, a precision that this processor lacks, a
//! model of which the plug-in takes nothing. What it can't compute of a model is left to ONNX Runtime, and said.

use ort::device::Device;
use ort::session::Session;
use ort::session::builder::SessionBuilder;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::api;
use super::gpus::OnGpus;
use super::runtime::Runtime;
use crate::config::{ExecutionProvider, Precision};
use crate::error::{Error, Result};

/// The version of OpenVINO's plug-in that `scripts/fetch-onnxruntime --with openvino` fetches.
pub const OPENVINO_VERSION: &str = "1.8.1";

/// Every plug-in that this build knows; GPUs are reported by [`crate::model::device::report`].
const KNOWN: &[ExecutionProvider] = &[ExecutionProvider::Openvino];

/// ONNX Runtime's own kernels.
const OWN_KERNELS: &str = "CPUExecutionProvider";

/// Who computes in the sessions of a model, and how exactly. The default is ONNX Runtime alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Providers {
    chosen: Vec<Plugged>,
    precision: Precision,
    gpus: Option<OnGpus>,
    /// Which of the models on GPUs these are for.
    model: usize,
}

/// A plug-in that was loaded and has a device here.
#[derive(Clone, Debug, PartialEq)]
struct Plugged {
    provider: ExecutionProvider,
    /// The plug-in's own version.
    version: String,
    /// What it computes on, e.g. the name of the processor.
    device: String,
    /// What the device computes in, in the plug-in's words, e.g. `FP32`, `BF16`.
    precisions: Vec<String>,
}

impl Providers {
    /// Loads the plug-ins that `wanted` names.
    ///
    /// # Errors
    /// `Config`, for one that is not there or has no device here, and for a precision that none of them has.
    pub fn load(runtime: &Runtime, wanted: &[ExecutionProvider], precision: Precision) -> Result<Providers> {
        let plugged = wanted.iter().map(|provider| plug_in(runtime, *provider));
        let providers = Providers {
            chosen: plugged.collect::<Result<_>>()?,
            precision,
            ..Providers::default()
        };
        providers.check_precision()?;
        Ok(providers)
    }

    /// Providers that compute on GPUs.
    pub fn on_gpus(gpus: OnGpus) -> Providers {
        Providers {
            gpus: Some(gpus),
            ..Providers::default()
        }
    }

    /// Whether sessions run on GPUs.
    pub fn are_on_gpus(&self) -> bool {
        self.gpus.is_some()
    }

    /// How many models workers take turns at.
    pub fn models(&self) -> usize {
        self.gpus.as_ref().map_or(1, OnGpus::models)
    }

    /// The GPU of the model that these are for.
    pub fn gpu(&self) -> Option<i32> {
        self.gpus.as_ref().map(|gpus| gpus.ordinal(self.model))
    }

    /// The same for the `model`th of them.
    pub fn of_model(&self, model: usize) -> Providers {
        Providers {
            model,
            ..self.clone()
        }
    }

    /// Whether ONNX Runtime is on its own.
    pub fn is_empty(&self) -> bool {
        self.chosen.is_empty() && self.gpus.is_none()
    }

    /// E.g. `, openvino 1.8.1 at bf16`; empty without a provider.
    pub fn describe(&self) -> String {
        if let Some(gpus) = &self.gpus {
            return gpus.describe();
        }
        let each = self.chosen.iter().map(|plugged| {
            let name = plugged.provider.as_str();
            format!(", {name} {} at {}", plugged.version, self.precision.as_str())
        });
        each.collect()
    }

    /// OpenVINO computes in f32 without a word where a processor has no bf16: so it is asked before.
    fn check_precision(&self) -> Result<()> {
        let wanted = match self.precision {
            Precision::F16 => "FP16",
            _ => "BF16",
        };
        let has_it = |plugged: &Plugged| plugged.precisions.iter().any(|word| word == wanted);
        if self.precision == Precision::F32 || self.chosen.iter().any(has_it) {
            return Ok(());
        }
        let had: Vec<String> = self.chosen.iter().map(Plugged::describe).collect();
        let had = if had.is_empty() {
            "no execution provider is named".to_string()
        } else {
            had.join("; ")
        };
        Err(Error::config(format!(
            "model.precision: {} can't be had: {had}, and ONNX Runtime's own kernels compute in f32",
            self.precision.as_str()
        ))
        .with_hint(match self.precision {
            Precision::F16 => "set model.precision to f32, or let TensorRT compute on a GPU (model.execution_providers: [tensorrt, cuda])",
            _ => "set model.precision to f32, or run on processors with bfloat16 (AMX or AVX-512 BF16)",
        }))
    }

    /// Lets the providers have what they can compute of the session that `builder` makes, on `threads` cores.
    pub fn apply(
        &self,
        mut builder: SessionBuilder,
        runtime: &Runtime,
        threads: usize,
    ) -> ort::Result<SessionBuilder> {
        if self.is_empty() {
            return Ok(builder);
        }
        builder = builder.with_config_entry("session.record_ep_graph_assignment_info", "1")?;
        if let Some(gpus) = &self.gpus {
            return gpus.apply(builder, self.model);
        }
        for plugged in &self.chosen {
            let options = [(
                format!("{}.load_config", ep_name(plugged.provider)),
                openvino_options(self.precision, threads),
            )];
            let device = device(runtime, plugged.provider);
            builder = builder.with_devices(device, Some(&options))?;
        }
        Ok(builder)
    }

    /// What the providers left to ONNX Runtime in `session`, in words; `None` when they took everything.
    ///
    /// # Errors
    /// `Config`, when one of them took nothing: the job would run as if it had not been named.
    pub fn left_over(&self, session: &Session) -> Result<Option<String>> {
        if self.is_empty() {
            return Ok(None);
        }
        let assigned = api::assigned(session)
            .map_err(|cause| Error::model("ONNX Runtime doesn't say who runs what").with_source(cause))?;
        let nodes_of = |name: &str| -> usize {
            let own = assigned.iter().filter(|(provider, _)| provider == name);
            own.map(|(_, nodes)| nodes).sum()
        };
        // Of TensorRT and CUDA one may take everything.
        if let Some(gpus) = &self.gpus
            && gpus.ep_names().iter().all(|name| nodes_of(name) == 0)
        {
            return Err(
                Error::config("model.device: cuda can't be had: GPUs take no part of this model")
                    .with_hint("set model.device to cpu: ONNX Runtime computes everything there anyway"),
            );
        }
        for plugged in &self.chosen {
            if nodes_of(ep_name(plugged.provider)) == 0 {
                let name = plugged.provider.as_str();
                return Err(Error::config(format!(
                    "model.execution_providers: {name} takes no part of this model"
                ))
                .with_hint("leave it out: ONNX Runtime computes everything anyway"));
            }
        }
        let left = nodes_of(OWN_KERNELS);
        let all: usize = assigned.iter().map(|(_, nodes)| nodes).sum();
        Ok((left > 0).then(|| {
            let precision = if self.gpus.is_some() { "" } else { ", in f32" };
            format!("{left} of {all} nodes of the model are left to ONNX Runtime's own kernels{precision}")
        }))
    }
}

impl Plugged {
    /// E.g. `openvino 1.8.1 on AMD EPYC computes in FP32 INT8`.
    fn describe(&self) -> String {
        format!(
            "{} {} on {} computes in {}",
            self.provider.as_str(),
            self.version,
            self.device,
            self.precisions.join(" ")
        )
    }
}

/// What can be had of every provider known to this build, one line each, for `floe inspect`.
pub fn report(runtime: &Runtime) -> Vec<String> {
    let line = |provider: &ExecutionProvider| match plug_in(runtime, *provider) {
        Ok(plugged) => plugged.describe(),
        Err(_) if !library(runtime, *provider).exists() => {
            format!("{} is not fetched", provider.as_str())
        }
        Err(error) => {
            let text = error.to_string();
            let text = text.strip_prefix("model.execution_providers: ").unwrap_or(&text);
            // What to do about it stands after the semicolon; nobody asked for it here.
            text.split("; ").next().unwrap_or(text).to_string()
        }
    };
    KNOWN.iter().map(line).collect()
}

/// Loads a plug-in, once per process, and finds its device.
fn plug_in(runtime: &Runtime, provider: ExecutionProvider) -> Result<Plugged> {
    static REGISTERED: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let name = provider.as_str();
    let path = library(runtime, provider);
    // Held while the library loads: two models must not both register it.
    let mut registered = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
    if !registered.contains(name) {
        if !path.exists() {
            return Err(Error::config(format!(
                "model.execution_providers: {name} is not here; looked at {}",
                path.display()
            ))
            .with_hint(format!(
                "fetch it with scripts/fetch-onnxruntime --with {name}, or leave it out: ONNX Runtime runs models itself"
            )));
        }
        let loaded = runtime.environment.register_ep_library(name, &path);
        loaded.map_err(|cause| {
            let text: String = cause.message().chars().take(300).collect();
            Error::config(format!(
                "model.execution_providers: {name} can't be loaded: {text}"
            ))
            .with("location", path.display())
            .with_hint(format!(
                "fetch it anew with scripts/fetch-onnxruntime --with {name}"
            ))
        })?;
        registered.insert(name);
    }
    let Some(device) = device(runtime, provider) else {
        return Err(Error::config(format!(
            "model.execution_providers: {name} has no device on this machine: its plug-in {OPENVINO_VERSION} takes \
             Intel's processors only"
        ))
        .with_hint("leave it out: ONNX Runtime runs models itself"));
    };
    let said = |key: &str| api::metadata(&device, key);
    let version = said("version").unwrap_or_default();
    let precisions = said("OPTIMIZATION_CAPABILITIES").unwrap_or_default();
    Ok(Plugged {
        provider,
        // What follows the plus sign names the build.
        version: version.split('+').next().unwrap_or_default().to_string(),
        device: said("FULL_DEVICE_NAME").unwrap_or_else(|| "a processor".to_string()),
        precisions: precisions
            .split_whitespace()
            .filter(|word| !matches!(*word, "BIN" | "EXPORT_IMPORT"))
            .map(String::from)
            .collect(),
    })
}

/// Beside ONNX Runtime's library, in a folder of its own: versions never mix.
fn library(runtime: &Runtime, provider: ExecutionProvider) -> PathBuf {
    debug_assert_eq!(provider, ExecutionProvider::Openvino, "the only plug-in");
    let folder = runtime.library.parent().unwrap_or(&runtime.library);
    folder
        .join(format!("openvino-{OPENVINO_VERSION}"))
        .join("libonnxruntime_providers_openvino_plugin.so")
}

/// ONNX Runtime's name for a provider.
fn ep_name(provider: ExecutionProvider) -> &'static str {
    match provider {
        ExecutionProvider::Openvino => "OpenVINOExecutionProvider",
        ExecutionProvider::Cuda => "CUDAExecutionProvider",
        ExecutionProvider::Tensorrt => "TensorrtExecutionProvider",
    }
}

/// The processor, as a provider offers it. OpenVINO's GPUs and NPUs, and its devices that choose by themselves, are
/// not asked for: what runs where must not depend on what else is in the machine.
fn device(runtime: &Runtime, provider: ExecutionProvider) -> Option<Device<'_>> {
    runtime.environment.devices().find(|device| {
        device.ep().is_ok_and(|name| name == ep_name(provider))
            && api::metadata(device, "ov_device").as_deref() == Some("CPU")
    })
}

/// OpenVINO's settings. Without a limit it takes all cores, and pins its threads, so that sessions side by side would
/// meet on the same one; by itself it may quantise what it multiplies.
fn openvino_options(precision: Precision, threads: usize) -> String {
    let options = serde_json::json!({
        "CPU": {
            "INFERENCE_PRECISION_HINT": precision.as_str(),
            "INFERENCE_NUM_THREADS": threads.max(1).to_string(),
            "NUM_STREAMS": "1",
            "ENABLE_CPU_PINNING": "NO",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
        }
    });
    options.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn openvino(precisions: &[&str]) -> Plugged {
        Plugged {
            provider: ExecutionProvider::Openvino,
            version: "1.8.1".into(),
            device: "Some Processor".into(),
            precisions: precisions.iter().map(|word| word.to_string()).collect(),
        }
    }

    fn check(precision: Precision, chosen: Vec<Plugged>) -> Result<()> {
        Providers {
            chosen,
            precision,
            ..Providers::default()
        }
        .check_precision()
    }

    #[test]
    fn bf16_is_refused_where_nobody_computes_in_it_and_the_message_says_who_computes_in_what() {
        check(Precision::F32, vec![]).unwrap();
        check(Precision::F32, vec![openvino(&["FP32"])]).unwrap();
        check(Precision::Bf16, vec![openvino(&["FP32", "BF16"])]).unwrap();
        let alone = check(Precision::Bf16, vec![]).unwrap_err();
        assert!(
            alone.to_string().contains("no execution provider is named"),
            "{alone}"
        );
        let half = check(Precision::F16, vec![openvino(&["FP32"])]).unwrap_err();
        assert!(
            half.to_string().contains("let TensorRT compute on a GPU"),
            "{half}"
        );
        let without = check(Precision::Bf16, vec![openvino(&["FP32", "INT8"])]).unwrap_err();
        assert_eq!(without.kind(), crate::error::ErrorKind::Config);
        assert!(
            without
                .to_string()
                .contains("bf16 can't be had: openvino 1.8.1 on Some Processor computes in FP32 INT8"),
            "{without}"
        );
    }

    #[test]
    fn a_provider_and_its_precision_are_part_of_what_a_model_is_called() {
        let providers = Providers {
            chosen: vec![openvino(&["BF16"])],
            precision: Precision::Bf16,
            ..Providers::default()
        };
        assert_eq!(providers.describe(), ", openvino 1.8.1 at bf16");
        assert_eq!(Providers::default().describe(), "");
    }

    #[test]
    fn openvino_is_told_its_threads_and_its_precision() {
        let options: serde_json::Value = serde_json::from_str(&openvino_options(Precision::Bf16, 3)).unwrap();
        assert_eq!(options["CPU"]["INFERENCE_NUM_THREADS"], "3");
        assert_eq!(options["CPU"]["INFERENCE_PRECISION_HINT"], "bf16");
    }
}
