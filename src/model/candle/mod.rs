//! Networks whose weights lie in safetensors and whose code Floe brings along, computed by Candle.
//!
//! [`open`] is the one place that knows which `model_type` of a `config.json` is which [`Family`]. A family holds the
//! weights of one architecture and runs its operations in the order of the Python library, so that the numbers agree.
//! Weights are made once and shared by all workers; each worker computes on threads of its own.

use candle_core::{DType, Device, Tensor};
use std::sync::Arc;

use self::weights::Checkpoint;
use super::device::{CANDLE_CAPABILITY, Place};
use super::network::{Named, Network, Networks};
use super::pretrained::Pretrained;
use super::{ModelFiles, OpenOptions};
use crate::config::Precision;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::tensor;

mod attention;
mod beit;
mod bert;
mod clip;
mod convnext;
mod convolution;
mod dinov2;
mod distilbert;
mod efficientnet;
mod encoder;
mod gpus;
mod heads;
mod image_head;
mod jina_bert;
mod kernels;
mod mobilenet_v2;
mod modernbert;
mod mpnet;
mod nomic_bert;
mod ops;
mod patches;
mod resnet;
mod roberta;
mod settings;
mod siglip;
mod swin;
#[cfg(test)]
mod tests;
mod texts;
mod vit;
mod weights;

use self::settings::Settings;

/// The version of Candle that is built in.
const VERSION: &str = "0.11";

/// Every `model_type` that there is code for.
pub const MODEL_TYPES: &[&str] = &[
    "beit",
    "bert",
    "camembert",
    "clip",
    "convnext",
    "deit",
    "dinov2",
    "distilbert",
    "efficientnet",
    "mobilenet_v2",
    "modernbert",
    "mpnet",
    "nomic_bert",
    "resnet",
    "roberta",
    "siglip",
    "swin",
    "vit",
    "xlm-roberta",
];

/// One architecture with its weights.
trait Family: Send + Sync {
    /// The inputs it takes, by the names of the Python library.
    fn inputs(&self) -> &'static [&'static str];

    /// Runs a batch: outputs by the names of the Python library, each `[rows, ...]`.
    fn forward(&self, inputs: &Inputs) -> candle_core::Result<Vec<(&'static str, Tensor)>>;

    /// Whether it leaves padding out where it may ([`texts`]).
    fn leaves_padding_out(&self) -> bool {
        false
    }
}

/// The network of a pretrained model.
///
/// # Errors
/// `Model`, for an architecture without code, a wrong configuration, or weights that are missing or of another shape;
/// `Config`, for a device or precision that can't be had.
pub fn open(files: &ModelFiles, pretrained: &Pretrained, options: &OpenOptions) -> Result<Arc<dyn Networks>> {
    let checkpoint = Checkpoint::open(files, pretrained)?;
    let on = |device: Device| -> Result<Arc<CandleNetworks>> {
        let dtype = dtype(options.precision, &device)?;
        let weights = checkpoint.weights(dtype, &device);
        let family = family(pretrained, weights).map_err(|error| error.with("model", &files.location))?;
        let inputs = family.inputs().iter().map(|name| name.to_string()).collect();
        Ok(Arc::new(CandleNetworks {
            family,
            inputs,
            device,
            dtype,
        }))
    };
    match gpus::place(options)? {
        Place::Processor(_) => Ok(on(Device::Cpu)?),
        Place::Gpus(gpus) => Ok(Arc::new(gpus::OnGpus::open(gpus, options, on)?)),
    }
}

/// The one place that maps a `model_type` to its code.
fn family(pretrained: &Pretrained, weights: weights::Weights) -> Result<Box<dyn Family>> {
    let settings = Settings::of(pretrained);
    match pretrained.model_type.as_str() {
        "bert" if jina_bert::is_meant(&settings) => jina_bert::open(&settings, weights),
        "bert" => bert::open(&settings, weights),
        "distilbert" => distilbert::open(&settings, weights),
        "roberta" | "xlm-roberta" | "camembert" => roberta::open(&settings, weights),
        "modernbert" => modernbert::open(&settings, weights),
        "mpnet" => mpnet::open(&settings, weights),
        "nomic_bert" => nomic_bert::open(&settings, weights),
        "vit" | "deit" => vit::open(&settings, weights, &pretrained.model_type),
        "dinov2" => dinov2::open(&settings, weights),
        "beit" => beit::open(&settings, weights),
        "siglip" => siglip::open(pretrained, weights),
        "clip" => clip::open(pretrained, weights),
        "resnet" => resnet::open(&settings, weights),
        "convnext" => convnext::open(&settings, weights),
        "swin" => swin::open(&settings, weights),
        "efficientnet" => efficientnet::open(&settings, weights),
        "mobilenet_v2" => mobilenet_v2::open(&settings, weights),
        other => Err(Error::model(format!(
            "config.json says model_type {other}, which Floe has no code for; it has: {}",
            MODEL_TYPES.join(", ")
        ))
        .with_hint("export the model to ONNX (optimum-cli export onnx) and give the folder of the export")),
    }
}

fn dtype(precision: Precision, device: &Device) -> Result<DType> {
    match precision {
        Precision::F32 => Ok(DType::F32),
        Precision::Bf16 if device.is_cuda() && CANDLE_CAPABILITY < (8, 0) => Err(Error::config(
            "model.precision: bf16 can't be had: this build of Candle is for GPUs that have no bfloat16, too",
        )
        .with_hint("set model.precision to f16, or build with CUDA_COMPUTE_CAP=80")),
        Precision::Bf16 if device.is_cuda() => Ok(DType::BF16),
        Precision::F16 if device.is_cuda() => Ok(DType::F16),
        half => Err(Error::config(format!(
            "model.precision: {} can't be had: Candle computes in half precision on GPUs only",
            half.as_str()
        ))
        .with_hint("leave model.precision out")),
    }
}

/// Whether the kernels compute, which can do without padding.
fn may_be_ragged(device: &Device, dtype: DType) -> bool {
    device.is_cpu() && dtype == DType::F32
}

/// Weights and code, shared by the workers.
struct CandleNetworks {
    family: Box<dyn Family>,
    inputs: Vec<String>,
    device: Device,
    dtype: DType,
}

impl Networks for CandleNetworks {
    fn describe(&self) -> String {
        let device = match self.device.location() {
            candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
            _ => "cpu".to_string(),
        };
        format!("candle {VERSION} on {device}")
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn network(self: Arc<Self>, threads: usize) -> Result<Box<dyn Network>> {
        // Candle's loops run on the threads of the pool that they are called in; outside of one, on all cores.
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.max(1))
            .thread_name(|index| format!("candle-{index}"))
            .build()
            .context(ErrorKind::Internal, "can't start threads for a model")?;
        Ok(Box::new(CandleNetwork {
            shared: self,
            threads,
        }))
    }
}

struct CandleNetwork {
    shared: Arc<CandleNetworks>,
    threads: rayon::ThreadPool,
}

impl Network for CandleNetwork {
    fn run(&mut self, inputs: Vec<Named>) -> Result<Vec<Named>> {
        let shared = &self.shared;
        let inputs = Inputs {
            named: inputs,
            device: shared.device.clone(),
            dtype: shared.dtype,
            is_ragged: may_be_ragged(&shared.device, shared.dtype),
        };
        let computed = self.threads.install(|| -> candle_core::Result<Vec<Named>> {
            let outputs = shared.family.forward(&inputs)?;
            outputs
                .into_iter()
                .map(|(name, tensor)| to_host(name, &tensor))
                .collect()
        });
        computed.map_err(|cause| {
            Error::model(format!("Candle fails on a batch of {}", inputs.shapes())).with_source(cause)
        })
    }

    fn pads(&self) -> bool {
        let CandleNetworks {
            family,
            device,
            dtype,
            ..
        } = &*self.shared;
        !(may_be_ragged(device, *dtype) && family.leaves_padding_out())
    }
}

fn to_host(name: &str, tensor: &Tensor) -> candle_core::Result<Named> {
    let shape = tensor.dims().to_vec();
    let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    Ok(Named {
        name: name.to_string(),
        tensor: tensor::Tensor {
            shape,
            data: values.into(),
        },
    })
}

/// The tensors of a batch, still on the host.
struct Inputs {
    named: Vec<Named>,
    device: Device,
    dtype: DType,
    /// Whether texts may do without their padding, as the kernels can.
    is_ragged: bool,
}

impl Inputs {
    fn find(&self, name: &str) -> candle_core::Result<&tensor::Tensor> {
        let found = self.named.iter().find(|input| input.name == name);
        match found {
            Some(input) => Ok(&input.tensor),
            None => candle_core::bail!("the input {name} is missing"),
        }
    }

    /// An input of whole numbers, and its shape `[rows, tokens]`.
    fn ids(&self, name: &str) -> candle_core::Result<(&[i64], (usize, usize))> {
        let tensor = self.find(name)?;
        match (&tensor.data, tensor.shape.as_slice()) {
            (tensor::TensorData::I64(ids), &[rows, tokens]) => Ok((ids, (rows, tokens))),
            _ => candle_core::bail!("the input {name} is no int64 [rows, tokens]"),
        }
    }

    /// The same on the device.
    fn id_tensor(&self, name: &str) -> candle_core::Result<Tensor> {
        let (ids, shape) = self.ids(name)?;
        self.whole_numbers(ids.iter().copied(), shape)
    }

    /// Whole numbers that are not negative, on the device.
    fn whole_numbers(
        &self,
        numbers: impl Iterator<Item = i64>,
        shape: (usize, usize),
    ) -> candle_core::Result<Tensor> {
        let numbers: Vec<u32> = numbers
            .map(|id| u32::try_from(id).map_err(|_| candle_core::Error::Msg(format!("the id {id}"))))
            .collect::<candle_core::Result<_>>()?;
        Tensor::from_vec(numbers, shape, &self.device)
    }

    /// An input of numbers, on the device and of the type that the network computes in.
    fn numbers(&self, name: &str) -> candle_core::Result<Tensor> {
        let tensor = self.find(name)?;
        match &tensor.data {
            tensor::TensorData::F32(values) => {
                Tensor::from_slice(values, tensor.shape.as_slice(), &self.device)?.to_dtype(self.dtype)
            }
            _ => candle_core::bail!("the input {name} is not float32"),
        }
    }

    fn shapes(&self) -> String {
        let shapes: Vec<String> = self
            .named
            .iter()
            .map(|input| {
                format!(
                    "{} {}{:?}",
                    input.name,
                    input.tensor.dtype().as_str(),
                    input.tensor.shape
                )
            })
            .collect();
        shapes.join(", ")
    }
}
