//! Devices: which GPUs there are, what is missing to use them, and which of them a model gets.
//!
//! Backends ask [`place`] before they touch a GPU. It looks at the driver ([`driver`]), which is found at run time, so that
//! one program runs on machines with and without GPUs; at the libraries that the backend computes with ([`libraries`]);
//! and at what the job asked for. What was asked for and can't be had is an error that names driver, devices and what is
//! missing; `auto` takes the GPUs that can be used, and says why those that are there can't. On a GPU there is one model, or
//! a few: the pipeline's workers take turns at them ([`turns`]), so that some decode while another computes.

use std::fmt;
use std::path::{Path, PathBuf};

use super::OpenOptions;
use crate::config::Device;
use crate::error::{Error, Result};

pub mod driver;
#[cfg(all(feature = "cuda", target_os = "linux"))]
mod forward;
pub mod libraries;
pub mod turns;

use self::driver::{DRIVER, Survey};

/// What a backend needs of a GPU.
#[derive(Clone, Debug)]
pub struct Needs {
    /// Its name in messages, e.g. `Candle`.
    pub backend: &'static str,
    /// The compute capability that its kernels were built for: earlier GPUs can't run them.
    pub capability: (u32, u32),
    /// The libraries it loads or is linked with, dependencies first.
    pub libraries: &'static [&'static str],
}

/// Where a model runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// On processor cores; and what to say about GPUs that are there, but are not used.
    Processor(Option<String>),
    /// On these GPUs; never none.
    Gpus(Vec<Gpu>),
}

/// What a job asks for where it gets GPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// So many of them; `None`: those that are there.
    pub count: Option<u32>,
    /// So many models on them; `None`: one on each.
    pub models: Option<usize>,
}

/// A GPU that the driver offers to this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// As in `cuda:<ordinal>`: the driver's order, of those that `CUDA_VISIBLE_DEVICES` leaves.
    pub ordinal: u32,
    /// Its maker's name for it.
    pub name: String,
    /// Its memory.
    pub memory_bytes: u64,
    /// Major and minor.
    pub capability: (u32, u32),
}

impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = self.memory_bytes as f64 / (1u64 << 30) as f64;
        write!(
            f,
            "cuda:{} ({}, {gib:.1} GiB, compute capability {})",
            self.ordinal,
            self.name,
            capability(self.capability)
        )
    }
}

/// Where a model is to run by what the job asks for, what the machine has, and what the backend needs: `Err` for a backend
/// that can't compute on GPUs as it is, with the reason and the way out.
///
/// # Errors
/// `Config`, for GPUs that were asked for and can't be had.
pub fn place(options: &OpenOptions, needs: std::result::Result<&Needs, (String, String)>) -> Result<Place> {
    let placed = place_with(options, needs, Path::new(DRIVER))?;
    if let Place::Processor(Some(why)) = &placed {
        tracing::info!("{why}");
    }
    Ok(placed)
}

fn place_with(
    options: &OpenOptions,
    needs: std::result::Result<&Needs, (String, String)>,
    driver: &Path,
) -> Result<Place> {
    if options.device == Device::Cpu {
        return Ok(Place::Processor(None));
    }
    if options.gpus.count == Some(0) && options.device == Device::Auto {
        return Ok(Place::Processor(None));
    }
    let is_asked_for = options.device != Device::Auto || options.gpus.count.is_some();
    let found = find(options, needs, driver);
    match found {
        Ok(gpus) => Ok(Place::Gpus(gpus)),
        Err(refusal) if is_asked_for => Err(refusal.error(options)),
        // Without a driver there is nothing to speak of.
        Err(Refusal { seen: None, .. }) => Ok(Place::Processor(None)),
        Err(Refusal { why, seen, .. }) => Ok(Place::Processor(Some(format!(
            "the model runs on the processor, not on a GPU: {why}; {}",
            seen.unwrap_or_default()
        )))),
    }
}

/// Why GPUs can't be had.
struct Refusal {
    why: String,
    hint: String,
    /// Driver and devices, if there is a driver.
    seen: Option<String>,
}

impl Refusal {
    fn error(self, options: &OpenOptions) -> Error {
        let asked = match (options.device, options.gpus.count) {
            (Device::Cuda(ordinal), _) => format!("model.device: cuda:{ordinal}"),
            (Device::Auto, Some(gpus)) => format!("resources.gpu_requests: {gpus}"),
            _ => "model.device: cuda".to_string(),
        };
        let seen = self.seen.map(|seen| format!("; {seen}")).unwrap_or_default();
        Error::config(format!("{asked} can't be had: {}{seen}", self.why)).with_hint(self.hint)
    }
}

fn find(
    options: &OpenOptions,
    needs: std::result::Result<&Needs, (String, String)>,
    driver: &Path,
) -> std::result::Result<Vec<Gpu>, Refusal> {
    let survey = driver::survey(driver);
    let seen = survey.as_ref().ok().map(Survey::describe);
    let refused = |why: String, hint: String| Refusal {
        why,
        hint,
        seen: seen.clone(),
    };
    // What the program lacks comes first: no machine can make up for it.
    let needs = needs.map_err(|(why, hint)| refused(why, hint))?;
    let survey = survey.map_err(|missing| Refusal {
        why: missing.why(),
        hint: missing.hint(),
        seen: missing.seen(),
    })?;
    let gpus = chosen(options, survey.gpus).map_err(|(why, hint)| refused(why, hint))?;
    if let Some(gpu) = gpus.iter().find(|gpu| gpu.capability < needs.capability) {
        return Err(refused(
            format!(
                "{gpu} is older than what {} is built for, compute capability {}",
                needs.backend,
                capability(needs.capability)
            ),
            "name another GPU, or set model.device to cpu".to_string(),
        ));
    }
    libraries::load(needs.libraries, &folders(options)).map_err(|missing| {
        refused(
            format!("{} needs {missing}", needs.backend),
            "fetch the CUDA libraries with scripts/fetch-onnxruntime --with cuda, or set model.device to cpu"
                .to_string(),
        )
    })?;
    // The backend calls CUDA through functions that have to be found first.
    #[cfg(all(feature = "cuda", target_os = "linux"))]
    forward::resolve(driver).map_err(|missing| {
        refused(
            missing,
            "install an NVIDIA driver that goes with CUDA 13".to_string(),
        )
    })?;
    Ok(gpus)
}

/// Those of `gpus` that a job gets.
fn chosen(options: &OpenOptions, gpus: Vec<Gpu>) -> std::result::Result<Vec<Gpu>, (String, String)> {
    if let Device::Cuda(ordinal) = options.device {
        let found = gpus.into_iter().find(|gpu| gpu.ordinal == ordinal);
        return found.map(|gpu| vec![gpu]).ok_or_else(|| {
            (
                "there is no such device".to_string(),
                "name one of the devices, or set model.device to auto".to_string(),
            )
        });
    }
    let wanted = options.gpus.count.map_or(gpus.len(), |gpus| gpus as usize);
    if wanted == 0 || gpus.len() < wanted {
        return Err((
            format!("{wanted} GPUs were asked for, and there are {}", gpus.len()),
            "set resources.gpu_requests to what a replica has, or leave it out".to_string(),
        ));
    }
    Ok(gpus.into_iter().take(wanted).collect())
}

/// Where CUDA's libraries may lie: beside each place for ONNX Runtime's library.
fn folders(options: &OpenOptions) -> Vec<PathBuf> {
    libraries::folders(&options.onnxruntime_paths)
}

/// Driver and devices of this machine, and what CUDA libraries lie beside ONNX Runtime: one line each, for `floe inspect`.
pub fn report(onnxruntime_paths: &[PathBuf]) -> Vec<String> {
    report_with(onnxruntime_paths, Path::new(DRIVER))
}

fn report_with(onnxruntime_paths: &[PathBuf], driver: &Path) -> Vec<String> {
    let mut lines = match driver::survey(driver) {
        Ok(survey) => {
            let mut lines = vec![survey.driver_words()];
            lines.extend(survey.gpus.iter().map(Gpu::to_string));
            lines
        }
        Err(missing) => {
            let seen = missing.seen().map(|seen| format!("{seen}; ")).unwrap_or_default();
            return vec![format!("no GPU: {seen}{}", missing.why())];
        }
    };
    let folders = libraries::folders(onnxruntime_paths);
    lines.push(match folders.iter().find(|folder| folder.is_dir()) {
        Some(folder) => format!("CUDA libraries in {}", folder.display()),
        None => "CUDA libraries are not fetched (scripts/fetch-onnxruntime --with cuda)".to_string(),
    });
    lines.push(match cfg!(feature = "cuda") {
        true => format!(
            "Candle is built for compute capability {} and newer",
            capability(CANDLE_CAPABILITY)
        ),
        false => "Candle is built without the feature cuda: it computes on processors".to_string(),
    });
    lines
}

/// What Candle's kernels in this build were compiled for; that is its build's own default, where nothing is set.
pub const CANDLE_CAPABILITY: (u32, u32) = match option_env!("CUDA_COMPUTE_CAP") {
    Some(text) => parsed(text),
    None => (8, 0),
};

/// `86` is 8.6, `120` is 12.0.
const fn parsed(text: &str) -> (u32, u32) {
    let bytes = text.as_bytes();
    let (mut number, mut at) = (0, 0);
    while at < bytes.len() && bytes[at].is_ascii_digit() {
        number = number * 10 + (bytes[at] - b'0') as u32;
        at += 1;
    }
    (number / 10, number % 10)
}

fn capability((major, minor): (u32, u32)) -> String {
    format!("{major}.{minor}")
}

#[cfg(test)]
pub(in crate::model) mod tests;
