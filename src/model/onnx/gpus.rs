//! ONNX Runtime on NVIDIA's GPUs: which library, which providers, and sessions that workers take turns at.
//!
//! ONNX Runtime for GPUs is a build of its own. `scripts/fetch-onnxruntime --with cuda` puts it, its providers and CUDA's
//! libraries into a folder beside the one for processors, which stays who computes there: another build rounds
//! differently. A job that gets GPUs (see [`device::place`]) loads the one for GPUs, and no other.

use ort::ep;
use ort::session::builder::SessionBuilder;
use std::path::PathBuf;

use super::providers::Providers;
use super::runtime::{self, Runtime};
use crate::config::{Device, ExecutionProvider, Precision};
use crate::error::{Error, Result};
use crate::model::OpenOptions;
use crate::model::device::{self, Gpu, Needs, Place, libraries};

/// What CUDA's provider is linked with, and what it loads by name while it works; then, from [`CUDA_LIBRARIES`] on, what
/// TensorRT's, which stands on it, needs beside that and nothing here fetches.
const LIBRARIES: [&str; CUDA_LIBRARIES + 2] = [
    // cuDNN's; the only one that is not NVIDIA's.
    "libz.so.1",
    "libcudart.so.13",
    "libnvJitLink.so.13",
    "libcublasLt.so.13",
    "libcublas.so.13",
    "libnvrtc.so.13",
    "libcurand.so.10",
    "libcufft.so.12",
    "libcudnn.so.9",
    "libnvinfer.so.10",
    "libnvonnxparser.so.10",
];
const CUDA_LIBRARIES: usize = 9;

const CUDA: Needs = Needs {
    backend: "ONNX Runtime's CUDA provider",
    capability: (7, 5),
    libraries: LIBRARIES.split_at(CUDA_LIBRARIES).0,
};

const TENSORRT: Needs = Needs {
    backend: "ONNX Runtime's TensorRT provider",
    capability: (7, 5),
    libraries: &LIBRARIES,
};

/// The provider's library, which tells a build for GPUs from one for processors.
const PROVIDER: &str = "libonnxruntime_providers_cuda.so";

/// The GPUs of a model and how it computes on them.
#[derive(Clone, Debug, PartialEq)]
pub struct OnGpus {
    gpus: Vec<Gpu>,
    models: usize,
    tensorrt: bool,
    precision: Precision,
}

/// Loads ONNX Runtime as the job needs it: for GPUs if it gets some, else for processors, with the plug-ins it names.
///
/// # Errors
/// `Config`, for GPUs, providers and precisions that were asked for and can't be had; `Model`, for a library that can't be
/// found or loaded.
pub fn load(options: &OpenOptions) -> Result<(Runtime, Providers)> {
    let wanted = &options.execution_providers;
    let tensorrt = wanted.contains(&ExecutionProvider::Tensorrt);
    let names_gpus = wanted.iter().any(|provider| provider.is_on_gpus());
    let mut asked = options.clone();
    if names_gpus && asked.device == Device::Auto {
        asked.device = Device::Gpus;
    } else if !names_gpus && !wanted.is_empty() {
        if asked.device != Device::Auto && asked.device != Device::Cpu {
            return Err(Error::config(format!(
                "model.device: a GPU can't be had with the execution provider {}, which computes on processors",
                wanted[0].as_str()
            ))
            .with_hint("leave one of them out"));
        }
        asked.device = Device::Cpu;
    }
    let library = library(&options.onnxruntime_paths);
    let needs = match (&library, tensorrt) {
        (Some(_), true) => Ok(&TENSORRT),
        (Some(_), false) => Ok(&CUDA),
        (None, _) => Err(not_fetched(&options.onnxruntime_paths)),
    };
    let (Place::Gpus(gpus), Some(library)) = (device::place(&asked, needs)?, library) else {
        let runtime = runtime::load(&options.onnxruntime_paths)?;
        let providers = Providers::load(&runtime, wanted, options.precision)?;
        return Ok((runtime, providers));
    };
    let on_gpus = OnGpus {
        models: device::turns::models(options.gpus.models, gpus.len()),
        gpus,
        tensorrt,
        precision: options.precision,
    };
    on_gpus.check_precision()?;
    let runtime = runtime::load(std::slice::from_ref(&library))?;
    if runtime.library != library {
        return Err(Error::config(format!(
            "model.device: a GPU can't be had: {}, which computes on processors, is in use in this process already",
            runtime.library.display()
        )));
    }
    Ok((runtime, Providers::on_gpus(on_gpus)))
}

/// The first of ONNX Runtime's libraries that is a build for GPUs: as it was given, else in the folder beside it.
fn library(paths: &[PathBuf]) -> Option<PathBuf> {
    let candidates = paths.iter().filter_map(|path| {
        let (folder, name) = (path.parent()?, path.file_name()?);
        Some([path.clone(), folder.join(libraries::FOLDER).join(name)])
    });
    candidates.flatten().find(|path| {
        let provider = path.with_file_name(PROVIDER);
        path.exists() && provider.exists()
    })
}

fn not_fetched(paths: &[PathBuf]) -> (String, String) {
    let looked: Vec<_> = libraries::folders(paths)
        .iter()
        .map(|folder| folder.display().to_string())
        .collect();
    (
        format!(
            "ONNX Runtime's CUDA provider is not here; looked in {}",
            looked.join(", ")
        ),
        "fetch it with scripts/fetch-onnxruntime --with cuda, or set model.device to cpu".to_string(),
    )
}

impl OnGpus {
    /// Kernels of CUDA's provider compute in the types that the graph declares; only TensorRT chooses others.
    fn check_precision(&self) -> Result<()> {
        if self.precision == Precision::F32 || self.tensorrt {
            return Ok(());
        }
        let precision = self.precision.as_str();
        Err(Error::config(format!(
            "model.precision: {precision} can't be had: ONNX Runtime computes on GPUs in the types that the model declares"
        ))
        .with_hint(
            "export the model in float16 and leave model.precision out, or set model.execution_providers to [tensorrt, cuda]",
        ))
    }

    /// E.g. `, cuda on cuda:0 (NVIDIA A10G, 22.5 GiB, compute capability 8.6)`.
    pub fn describe(&self) -> String {
        let gpus: Vec<_> = self.gpus.iter().map(Gpu::to_string).collect();
        let name = if self.tensorrt {
            "tensorrt and cuda"
        } else {
            "cuda"
        };
        let precision = match self.precision {
            Precision::F32 => String::new(),
            other => format!(" at {}", other.as_str()),
        };
        format!(", {name}{precision} on {}", gpus.join(", "))
    }

    /// ONNX Runtime's names of the providers, best first.
    pub fn ep_names(&self) -> &'static [&'static str] {
        match self.tensorrt {
            true => &["TensorrtExecutionProvider", "CUDAExecutionProvider"],
            false => &["CUDAExecutionProvider"],
        }
    }

    /// Registers the providers with the session that `builder` makes, as the `model`th on these GPUs.
    pub fn apply(&self, builder: SessionBuilder, model: usize) -> ort::Result<SessionBuilder> {
        let ordinal = self.ordinal(model);
        let cuda = ep::CUDA::default()
            .with_device_id(ordinal)
            // Memory grows by what is needed instead of in powers of two: what is left is for larger batches.
            .with_arena_extend_strategy(ep::ArenaExtendStrategy::SameAsRequested)
            // Trying every algorithm, the default, is done anew for each number of rows.
            .with_conv_algorithm_search(ep::cuda::ConvAlgorithmSearch::Heuristic)
            // float32 is float32: by default products are taken in TensorFloat-32, with 10 bits of mantissa.
            .with_tf32(false);
        let mut providers = Vec::new();
        if self.tensorrt {
            let tensorrt = ep::TensorRT::default()
                .with_device_id(ordinal)
                .with_fp16(self.precision == Precision::F16)
                .with_bf16(self.precision == Precision::Bf16);
            providers.push(tensorrt.build().error_on_failure());
        }
        providers.push(cuda.build().error_on_failure());
        Ok(builder.with_execution_providers(providers)?)
    }

    /// The GPU of the `model`th model, as ONNX Runtime counts them.
    pub fn ordinal(&self, model: usize) -> i32 {
        self.gpus[model % self.gpus.len()].ordinal as i32
    }

    /// How many sessions there are to be.
    pub fn models(&self) -> usize {
        self.models
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_gpus(tensorrt: bool, precision: Precision) -> OnGpus {
        let gpu = |ordinal| Gpu {
            ordinal,
            name: "NVIDIA A10G".into(),
            memory_bytes: 24 << 30,
            capability: (8, 6),
        };
        OnGpus {
            gpus: vec![gpu(0), gpu(1)],
            models: 2,
            tensorrt,
            precision,
        }
    }

    #[test]
    fn half_precision_is_tensorrts_and_refused_in_words_of_cudas_provider() {
        on_gpus(false, Precision::F32).check_precision().unwrap();
        on_gpus(true, Precision::F16).check_precision().unwrap();
        let refused = on_gpus(false, Precision::Bf16).check_precision().unwrap_err();
        assert_eq!(refused.kind(), crate::error::ErrorKind::Config);
        let text = refused.to_string();
        assert!(
            text.contains("model.precision: bf16 can't be had: ONNX Runtime computes on GPUs in the types"),
            "{text}"
        );
    }

    #[test]
    fn a_model_is_called_by_providers_precision_and_devices() {
        assert_eq!(
            on_gpus(true, Precision::F16).describe(),
            ", tensorrt and cuda at f16 on cuda:0 (NVIDIA A10G, 24.0 GiB, compute capability 8.6), cuda:1 (NVIDIA A10G, \
             24.0 GiB, compute capability 8.6)"
        );
    }

    #[test]
    fn the_library_for_gpus_is_the_one_with_its_provider_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libonnxruntime.so.1.31.1");
        std::fs::write(&path, b"").unwrap();
        assert_eq!(library(std::slice::from_ref(&path)), None);
        let beside = folder.path().join(libraries::FOLDER);
        std::fs::create_dir(&beside).unwrap();
        std::fs::write(beside.join("libonnxruntime.so.1.31.1"), b"").unwrap();
        assert_eq!(library(std::slice::from_ref(&path)), None);
        std::fs::write(beside.join(PROVIDER), b"").unwrap();
        assert_eq!(
            library(std::slice::from_ref(&path)),
            Some(beside.join("libonnxruntime.so.1.31.1"))
        );
        // Given by its own path, it is the one.
        let given = beside.join("libonnxruntime.so.1.31.1");
        assert_eq!(library(std::slice::from_ref(&given)), Some(given));
    }
}
